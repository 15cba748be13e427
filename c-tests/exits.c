// flags: -O1 -pthread
/*
 * Ends, at a line on standard input, in the way of its first argument:
 *   return, exit, quick_exit, _exit, abort, kill
 *   thread        exit by a thread that is not the first
 *   atexit        exit, whose handlers say `exiting` and wait for another line
 *   pthread_exit  the first thread ends, then the last one does: the process ends with status 0
 * A worker sleeps meanwhile, but with pthread_exit. Status 7 where it can be chosen.
 */
#include "sentinel.h"
#include <stdlib.h>

static void wait_for_line(void)
{
    char byte;
    while (read(0, &byte, 1) < 0)
        continue;
}

static void on_exit_wait(void)
{
    say("exiting");
    wait_for_line();
}

static void *exit_here(void *unused)
{
    exit(7);
    return unused;
}

static void *sleep_here(void *unused)
{
    (void)unused;
    sleep_for_ever();
}

static void *outlive_main(void *first)
{
    pthread_join(*(pthread_t *)first, 0);
    say("the first thread has ended");
    return 0;
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "return";
    static pthread_t first;
    pthread_t thread;
    alarm(120);
    first = pthread_self();
    if (strcmp(way, "pthread_exit") != 0)
        pthread_create(&thread, 0, sleep_here, 0);
    say("ready");
    wait_for_line();
    if (strcmp(way, "exit") == 0)
        exit(7);
    if (strcmp(way, "quick_exit") == 0)
        quick_exit(7);
    if (strcmp(way, "_exit") == 0)
        _exit(7);
    if (strcmp(way, "abort") == 0)
        abort();
    if (strcmp(way, "kill") == 0)
        raise(SIGKILL);
    if (strcmp(way, "thread") == 0) {
        pthread_create(&thread, 0, exit_here, 0);
        sleep_for_ever();
    }
    if (strcmp(way, "atexit") == 0) {
        atexit(on_exit_wait);
        exit(7);
    }
    if (strcmp(way, "pthread_exit") == 0) {
        pthread_create(&thread, 0, outlive_main, &first);
        pthread_exit(0);
    }
    return 7;
}
