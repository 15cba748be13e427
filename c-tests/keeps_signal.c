// flags: -O1 -g
/* Forks; the child writes its process id as a line `child N` and waits in `child_waits_here`. */
#include "sentinel.h"
#include <stdio.h>

__attribute__((noinline)) static void child_waits_here(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        pause();
}

int main(void)
{
    pid_t child = fork();
    if (child < 0)
        finish("FAIL fork");
    if (child == 0) {
        char line[32];
        snprintf(line, sizeof line, "child %d", (int)getpid());
        say(line);
        child_waits_here();
    }
    start_ender();
    say("ready");
    sleep_for_ever();
}
