// flags: -O1 -pthread
/* Closes descriptors 0 to 1023 after start, as daemons do. */
#include "sentinel.h"
#include <fcntl.h>
#include <sys/resource.h>

__attribute__((noinline, noreturn)) static void stuck_here(void)
{
    for (int descriptor = 0; descriptor < 1024; descriptor++)
        close(descriptor);
    if (open("/dev/null", O_RDWR) != 0)
        finish("FAIL descriptor 0 is not free");
    say("ready");
    sleep_for_ever();
}

int main(void)
{
    /* The dialogue with the driver moves above what is closed. */
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 2048) {
        limit.rlim_cur = 2048;
        if (limit.rlim_max < 2048)
            limit.rlim_max = 2048;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    sentinel_in = fcntl(0, F_DUPFD, 1500);
    sentinel_out = fcntl(1, F_DUPFD, 1500);
    if (sentinel_in < 0 || sentinel_out < 0)
        finish("FAIL cannot move the dialogue");
    start_ender();
    stuck_here();
}
