// flags: -O1 -fPIC -shared
/* To be preloaded behind the library: has an _exit of its own in front of libc's, too, which says so. */
#include "sentinel.h"

void _exit(int status)
{
    say("neighbour's _exit");
    for (;;)
        syscall(SYS_exit_group, status);
}
