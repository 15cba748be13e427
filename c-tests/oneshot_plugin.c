// flags: -O1 -g -shared -fPIC
/* A library whose constructor is interrupted by SIGUSR2. See oneshot_inside.c. */
#include <signal.h>

__attribute__((constructor, noinline)) static void interrupted_here(void)
{
    raise(SIGUSR2);
}
