// flags: -O1 -g
/* Forks; the child waits in `child_waits_here`. Ready when it is there. */
#include "sentinel.h"

static int ends[2];

__attribute__((noinline)) static void child_waits_here(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)!write(ends[1], "", 1);
    for (;;)
        pause();
}

int main(void)
{
    char byte;
    if (pipe(ends) != 0)
        finish("FAIL pipe");
    pid_t child = fork();
    if (child < 0)
        finish("FAIL fork");
    if (child == 0)
        child_waits_here();
    if (read(ends[0], &byte, 1) != 1)
        finish("FAIL the child is not there");
    start_ender();
    say("ready");
    sleep_for_ever();
}
