// flags: -O1 -pthread
/*
 * One child that lives, made at the first line of standard input in the way of the first argument:
 *   fork     by the first thread
 *   thread   by another thread
 *   forkpty  with a terminal of its own, whose text the parent copies to standard error
 *   twice    a grandchild; its parent is gone
 *   daemon   by daemon(3): the first process is gone
 *   daemon-twice  in the manner of System V: the first two processes are gone
 * It prints `child PID` and `forked`. The child waits in `child_waits_here` until SIGTERM, and ends by exit(3);
 * the parent collects it, prints `child ended STATUS`, and waits for its second line.
 */
#include "sentinel.h"
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#define NOINLINE __attribute__((noinline))

static volatile int sink;

NOINLINE static void child_waits_here(void)
{
    sigset_t term;
    int number;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    while (sigwait(&term, &number) != 0)
        continue;
    sink = number;
}

__attribute__((noreturn)) static void be_the_child(void)
{
    char line[32];
    alarm(120); /* whatever becomes of the test */
    snprintf(line, sizeof line, "child %d", (int)getpid());
    say(line);
    say("forked");
    child_waits_here();
    exit(3);
}

NOINLINE static void parent_waits_here(pid_t child)
{
    int status = -1;
    char line[48];
    while (child > 0 && waitpid(child, &status, 0) != child)
        continue;
    snprintf(line, sizeof line, "child ended %#x", status);
    say(line);
    sleep_for_ever();
}

static void *fork_here(void *result)
{
    pid_t child = fork();
    if (child == 0)
        be_the_child();
    *(pid_t *)result = child;
    return 0;
}

static void *copy_terminal(void *terminal)
{
    char text[512];
    for (ssize_t length; (length = read(*(int *)terminal, text, sizeof text)) > 0;)
        (void)!write(2, text, length);
    return 0;
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "fork";
    pid_t child = -1;
    pthread_t thread;
    static int terminal;
    char byte;
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, 0);
    alarm(120);
    say("ready");
    while (read(0, &byte, 1) < 0)
        continue;
    if (strcmp(way, "thread") == 0) {
        pthread_create(&thread, 0, fork_here, &child);
        pthread_join(thread, 0);
    } else if (strcmp(way, "forkpty") == 0) {
        sentinel_out = dup(1);
        child = forkpty(&terminal, 0, 0, 0);
        if (child == 0)
            be_the_child();
        pthread_create(&thread, 0, copy_terminal, &terminal);
    } else if (strcmp(way, "twice") == 0) {
        child = fork();
        if (child == 0) {
            if (fork() == 0)
                be_the_child();
            _exit(0);
        }
    } else if (strcmp(way, "daemon") == 0) {
        if (daemon(1, 1) != 0)
            finish("FAIL daemon");
        be_the_child();
    } else if (strcmp(way, "daemon-twice") == 0) {
        for (int times = 0; times < 2; times++)
            if (fork() != 0)
                _exit(0);
        be_the_child();
    } else {
        fork_here(&child);
    }
    if (child < 0)
        finish("FAIL fork");
    start_ender();
    parent_waits_here(child);
}
