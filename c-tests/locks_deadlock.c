// flags: -O1 -pthread
/* Three threads in a circle: a holds lock_a and waits for lock_b, b for lock_c, c for lock_a; d waits for lock_a, too. */
#include "waiting.h"

pthread_mutex_t lock_a = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t lock_b = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t lock_c = PTHREAD_MUTEX_INITIALIZER;

struct pair { pthread_mutex_t *first, *second; };

__attribute__((noinline)) static void lock_second(pthread_mutex_t *second)
{
    pthread_mutex_lock(second);
    finish("FAIL there is no deadlock");
}

static void *in_circle(void *argument)
{
    struct pair *pair = argument;
    pthread_mutex_lock(pair->first);
    holding++;
    wait_for_holders(3);
    lock_second(pair->second);
    return 0;
}

static void *outside(void *unused)
{
    lock_second(&lock_a);
    return unused;
}

int main(void)
{
    static struct pair pairs[] = { { &lock_a, &lock_b }, { &lock_b, &lock_c }, { &lock_c, &lock_a } };
    print_address("lock_a", &lock_a);
    print_address("lock_b", &lock_b);
    print_address("lock_c", &lock_c);
    int a = start_named("a", in_circle, &pairs[0], 0);
    int b = start_named("b", in_circle, &pairs[1], 0);
    int c = start_named("c", in_circle, &pairs[2], 0);
    wait_for_holders(3);
    int d = start_named("d", outside, 0, 0);
    for (int i = 0; i < 4; i++)
        wait_until_waiting((int[]){ a, b, c, d }[i]);
    rest();
}
