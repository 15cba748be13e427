// flags: -O1 -g
/*
 * SIGUSR2 comes when the process may map three megabytes more: enough for a stack, too little for an answer. It goes
 * on all the same, and registers and the signal mask are what they were.
 */
#include "sentinel.h"
#include <stdio.h>
#include <sys/resource.h>

static void await_line(void)
{
    char byte;
    while (syscall(SYS_read, 0, &byte, 1) < 0)
        continue;
}

int main(void)
{
    say("ready");
    await_line();
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (!statm || fscanf(statm, "%lu", &pages) != 1)
        finish("FAIL statm");
    fclose(statm);
    rlim_t limit = pages * sysconf(_SC_PAGESIZE) + (3 << 20);
    if (setrlimit(RLIMIT_AS, &(struct rlimit){limit, RLIM_INFINITY}) != 0)
        finish("FAIL setrlimit");
    sigset_t before, after;
    sigprocmask(SIG_BLOCK, 0, &before);
    raise(SIGUSR2);
    sigprocmask(SIG_BLOCK, 0, &after);
    if (memcmp(&before, &after, 8) != 0) /* the kernel knows 64 signals */
        finish("FAIL the signal mask is not what it was");
    say("went on");
    await_line();
    finish("PASS");
}
