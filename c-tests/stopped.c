// flags: -O1 -pthread
/* The whole process is stopped by SIGSTOP (state T). It goes on when the driver sends SIGCONT. */
#include "sentinel.h"

__attribute__((noinline)) static void stuck_here(void)
{
    say("ready");
    raise(SIGSTOP);
    sleep_for_ever();
}

int main(void)
{
    start_ender();
    stuck_here();
}
