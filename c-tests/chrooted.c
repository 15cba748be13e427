// flags: -O1 -pthread
/* The process has changed its root to an empty directory (argument 1): no /proc, no libraries, no /tmp. Needs root. */
#include "sentinel.h"

__attribute__((noinline, noreturn)) static void stuck_here(const char *directory)
{
    if (chroot(directory) != 0 || chdir("/") != 0)
        finish("FAIL chroot");
    if (access("/proc/self/maps", F_OK) == 0)
        finish("FAIL /proc is still there");
    say("ready");
    sleep_for_ever();
}

int main(int argc, char **argv)
{
    if (argc < 2)
        finish("FAIL usage: chrooted DIRECTORY");
    start_ender();
    stuck_here(argv[1]);
}
