// flags: -O1 -pthread
/*
 * Started as root, it has become another user for good (argument 1: uid, default 65534), as servers do.
 * The kernel then calls it non-dumpable: its /proc files belong to root and ptrace refuses it.
 */
#include "sentinel.h"
#include <grp.h>
#include <stdlib.h>

__attribute__((noinline, noreturn)) static void stuck_here(unsigned id)
{
    if (setgroups(0, 0) != 0 || setresgid(id, id, id) != 0 || setresuid(id, id, id) != 0)
        finish("FAIL cannot drop privileges");
    if (prctl(PR_GET_DUMPABLE) == 1)
        finish("FAIL still dumpable");
    say("ready");
    sleep_for_ever();
}

int main(int argc, char **argv)
{
    unsigned id = argc > 1 ? (unsigned)strtoul(argv[1], 0, 10) : 65534;
    start_ender();
    stuck_here(id);
}
