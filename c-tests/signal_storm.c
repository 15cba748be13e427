// flags: -O1 -g -pthread
/* The thread `storm` sends SIGUSR2 to the process 1,000 times, and stays, while the main thread allocates and frees. */
#include "sentinel.h"
#include <stdlib.h>

static void *storm(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++) {
        kill(getpid(), SIGUSR2);
        usleep(300);
    }
    say("storm over");
    sleep_for_ever();
}

int main(void)
{
    start_ender();
    pthread_t thread;
    sigset_t all, before;
    say("ready");
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    if (pthread_create(&thread, 0, storm, 0) != 0)
        finish("FAIL pthread_create");
    pthread_setname_np(thread, "storm");
    pthread_sigmask(SIG_SETMASK, &before, 0);
    for (;;)
        free(malloc(100));
}
