// flags: -O1 -g
/* The program installs its own handler for SIGUSR2 when the manhole is there already, gets the signal, and returns. */
#include "sentinel.h"

static volatile int calls;

static void on_signal(int number)
{
    (void)number;
    calls++;
}

int main(void)
{
    signal(SIGUSR2, on_signal);
    raise(SIGUSR2);
    say(calls == 1 ? "PASS" : "FAIL the handler was not called once");
    return 0;
}
