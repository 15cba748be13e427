// flags: -O2 -pthread
/* Twelve threads that lock six mutexes and a rwlock in order, all the time: contention, and never a deadlock. */
#include "waiting.h"

enum { LOCKS = 6, THREADS = 12 };
static pthread_mutex_t locks[LOCKS];
static pthread_rwlock_t table = PTHREAD_RWLOCK_INITIALIZER;
static volatile int counter[LOCKS];

static void *work(void *seed)
{
    unsigned state = (unsigned)(uintptr_t)seed * 2654435761u + 1;
    for (;;) {
        state = state * 1103515245 + 12345;
        int first = state >> 16 & 3, last = first + 1 + (state >> 20 & 1);
        if (state >> 24 & 7)
            pthread_rwlock_rdlock(&table);
        else
            pthread_rwlock_wrlock(&table);
        for (int i = first; i <= last; i++)
            pthread_mutex_lock(&locks[i]);
        for (int i = first; i <= last; i++)
            counter[i]++;
        /* While it holds them, so that others come to wait. */
        if (state >> 31)
            sched_yield();
        for (int i = last; i >= first; i--)
            pthread_mutex_unlock(&locks[i]);
        pthread_rwlock_unlock(&table);
    }
    return 0;
}

int main(void)
{
    for (int i = 0; i < LOCKS; i++)
        pthread_mutex_init(&locks[i], 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        start_named("busy", work, (void *)i, 0);
    rest();
}
