// flags: -O1 -shared -fPIC
/* A library whose constructor never returns. See wedged_loader.c. */
#include "sentinel.h"

__attribute__((constructor, noinline)) static void stuck_here(void)
{
    say("ready");
    sleep_for_ever();
}
