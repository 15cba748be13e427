// flags: -O1 -pthread
/* RLIMIT_NOFILE is used up: no open, socket or pipe of this process succeeds any more. */
#include "sentinel.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

__attribute__((noinline, noreturn)) static void stuck_here(void)
{
    struct rlimit few = { 64, 64 };
    if (setrlimit(RLIMIT_NOFILE, &few) != 0)
        finish("FAIL setrlimit");
    while (open("/dev/null", O_RDONLY) >= 0)
        continue;
    if (errno != EMFILE)
        finish("FAIL expected EMFILE");
    say("ready");
    sleep_for_ever();
}

int main(void)
{
    start_ender();
    stuck_here();
}
