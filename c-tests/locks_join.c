// flags: -O1 -pthread
/* A cycle through a join: joiner holds needed and joins needy, which waits for needed. */
#include "waiting.h"

pthread_mutex_t needed = PTHREAD_MUTEX_INITIALIZER;
static pthread_t needy_thread;

static void *needy(void *unused)
{
    wait_for_holders(1);
    pthread_mutex_lock(&needed);
    finish("FAIL locked");
    return unused;
}

static void *joiner(void *unused)
{
    pthread_mutex_lock(&needed);
    holding++;
    pthread_join(needy_thread, 0);
    finish("FAIL joined");
    return unused;
}

int main(void)
{
    print_address("needed", &needed);
    int needs = start_named("needy", needy, 0, &needy_thread);
    wait_until_waiting(start_named("joiner", joiner, 0, 0));
    wait_until_waiting(needs);
    rest();
}
