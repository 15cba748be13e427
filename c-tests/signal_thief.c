// flags: -O1 -pthread
/*
 * signal_thief pending|taken: the application blocks SIGUSR1 in every thread of its own, as those do that read a
 * signalfd, and sends it to itself. Either no thread takes it (`pending`), or one of somebody else's runs the
 * handler (`taken`); whose, is told.
 */
#include "sentinel.h"
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

static char thief[16];
static volatile sig_atomic_t taken;

static void on_signal(int number)
{
    (void)number;
    prctl(PR_GET_NAME, thief);
    taken = 1;
}

int main(int argc, char **argv)
{
    sigset_t set, waiting;
    if (argc != 2)
        return 2;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    start_ender();
    signal(SIGUSR1, on_signal);
    say("ready");
    kill(getpid(), SIGUSR1);
    if (strcmp(argv[1], "taken") == 0) {
        while (!taken)
            sched_yield();
        if (strncmp(thief, "Manhole", 7) == 0)
            strcpy(thief, "a manhole's");
    } else {
        /* Whoever wants it has had its time by then. */
        for (int turn = 0; turn < 1000; turn++)
            sched_yield();
        sigpending(&waiting);
        strcpy(thief, !taken && sigismember(&waiting, SIGUSR1) ? "nobody" : "somebody");
    }
    say(thief);
    sleep_for_ever();
}
