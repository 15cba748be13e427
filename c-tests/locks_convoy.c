// flags: -O1 -pthread
/* As many threads as the argument says wait for the mutex crowded, which slow holds while it sleeps. */
#include "waiting.h"

pthread_mutex_t crowded = PTHREAD_MUTEX_INITIALIZER;

static void *slow(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&crowded);
    holding++;
    sleep_for_ever();
}

static void *lock(void *unused)
{
    pthread_mutex_lock(&crowded);
    finish("FAIL locked");
    return unused;
}

int main(int count, char **arguments)
{
    int waiters = count > 1 ? atoi(arguments[1]) : 10;
    print_address("crowded", &crowded);
    start_named("slow", slow, 0, 0);
    wait_for_holders(1);
    int *tids = calloc(waiters, sizeof *tids);
    for (int i = 0; i < waiters; i++)
        tids[i] = start_named("crowd", lock, 0, 0);
    for (int i = 0; i < waiters; i++)
        wait_until_waiting(tids[i]);
    rest();
}
