// flags: -O1 -pthread
/*
 * The main thread has exited and the others live on. The kernel keeps it as a zombie: /proc/PID/maps,
 * /proc/PID/fd and /proc/PID/exe of its pid, and hence of /proc/self, no longer answer.
 */
#include "sentinel.h"
#include <fcntl.h>
#include <sched.h>

__attribute__((noinline, noreturn)) static void stuck_here(void)
{
    char map;
    for (;;) {
        int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
        ssize_t got = maps < 0 ? -1 : read(maps, &map, 1);
        close(maps);
        if (got <= 0)
            break;
        sched_yield();
    }
    say("ready");
    sleep_for_ever();
}

static void *run(void *unused)
{
    (void)unused;
    stuck_here();
}

int main(void)
{
    pthread_t thread;
    start_ender();
    if (pthread_create(&thread, 0, run, 0) != 0)
        finish("FAIL pthread_create");
    pthread_setname_np(thread, "survivor");
    pthread_exit(0);
}
