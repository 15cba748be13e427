// flags: -O1 -g -pthread
/* SIGUSR2 interrupts the main thread. At a line of input another thread forks a child, which stays until it is killed. */
#include "sentinel.h"

static void *forker(void *unused)
{
    (void)unused;
    char byte;
    while (syscall(SYS_read, 0, &byte, 1) < 0)
        continue;
    pid_t child = fork();
    if (child < 0)
        finish("FAIL fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        say("forked");
        sleep_for_ever();
    }
    /* The child dies with the thread that forked it. */
    sleep_for_ever();
}

int main(void)
{
    pthread_t thread;
    if (pthread_create(&thread, 0, forker, 0) != 0)
        finish("FAIL pthread_create");
    raise(SIGUSR2);
    say("went on");
    start_ender();
    sleep_for_ever();
}
