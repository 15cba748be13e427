// flags: -O1 -g -pthread
/* Dies of SIGSEGV: `faulting_here` writes to address 16, three calls below `main`. */
#include "sentinel.h"

__attribute__((noinline)) static void faulting_here(volatile int *where)
{
    *where = 1;
    say("FAIL went on");
}

__attribute__((noinline)) static void middle(volatile int *where)
{
    faulting_here(where);
    __asm__ volatile("");
}

int main(void)
{
    say("ready");
    middle((volatile int *)16);
    return 1;
}
