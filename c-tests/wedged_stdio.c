// flags: -O1 -pthread
/* The main thread holds the locks of stderr and stdout for ever. */
#include "sentinel.h"
#include <stdio.h>

__attribute__((noinline, noreturn)) static void stuck_here(void)
{
    flockfile(stderr);
    flockfile(stdout);
    say("ready");
    sleep_for_ever();
}

int main(void)
{
    start_ender();
    stuck_here();
}
