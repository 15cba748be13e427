// flags: -O1 -pthread
/* The main thread runs in user space for ever and makes no system call. */
#include "sentinel.h"

static volatile uint64_t counter;

__attribute__((noinline, noreturn)) static void stuck_here(void)
{
    say("ready");
    for (;;)
        counter++;
}

__attribute__((noinline)) static void middle(void)
{
    stuck_here();
}

int main(void)
{
    start_ender();
    middle();
}
