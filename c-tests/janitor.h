/*
 * For fixtures that make System V objects, which outlive their process: a child that removes them when the
 * fixture dies, however it dies.
 */
#ifndef JANITOR_H
#define JANITOR_H

#include "sentinel.h"

/* Runs in the child: waits for the death of `parent`, removes what it made, and ends. */
__attribute__((noreturn)) static inline void janitor(pid_t parent, void (*remove)(void))
{
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() == parent)
        while (sigwaitinfo(&term, 0) < 0)
            continue;
    remove();
    _exit(0);
}

#endif
