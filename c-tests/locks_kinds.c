// flags: -O1 -pthread
/* The thread holder holds one of every kind and sleeps; one thread waits for each, named after it. */
#include "waiting.h"
#include <errno.h>
#include <semaphore.h>
#include <time.h>

pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
pthread_mutex_t errorcheck = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
pthread_mutex_t inheriting, shared;
sem_t semaphore;
pthread_barrier_t barrier;
/* In the middle of something. */
struct { long other[5]; pthread_mutex_t lock; } table[4];
static pthread_mutex_t *on_heap;
static pthread_t holder_thread;

static void *holder(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&plain);
    for (int i = 0; i < 3; i++)
        pthread_mutex_lock(&recursive);
    pthread_mutex_lock(&errorcheck);
    pthread_mutex_lock(&inheriting);
    pthread_mutex_lock(&shared);
    pthread_mutex_lock(&table[2].lock);
    pthread_mutex_lock(on_heap);
    flockfile(stdout);
    holding++;
    sleep_for_ever();
}

static void *lock(void *mutex)
{
    pthread_mutex_lock(mutex);
    finish("FAIL locked");
}

static void *lock_for_an_hour(void *mutex)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 3600;
    pthread_mutex_timedlock(mutex, &end);
    finish("FAIL locked");
}

static void *wait_semaphore(void *unused)
{
    while (sem_wait(&semaphore) != 0)
        continue;
    finish("FAIL posted");
    return unused;
}

static void *wait_barrier(void *unused)
{
    pthread_barrier_wait(&barrier);
    finish("FAIL all have come");
    return unused;
}

static void *join_holder(void *unused)
{
    pthread_join(holder_thread, 0);
    finish("FAIL joined");
    return unused;
}

static void *print(void *unused)
{
    puts("never seen");
    finish("FAIL printed");
    return unused;
}

static void *relock(void *unused)
{
    static pthread_mutex_t twice = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&twice);
    pthread_mutex_lock(&twice);
    finish("FAIL locked twice");
    return unused;
}

int main(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&inheriting, &attributes);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared, &attributes);
    sem_init(&semaphore, 0, 0);
    pthread_barrier_init(&barrier, 0, 3);
    on_heap = calloc(1, sizeof *on_heap);
    start_named("holder", holder, 0, &holder_thread);
    wait_for_holders(1);
    print_address("plain", &plain);
    print_address("recursive", &recursive);
    print_address("errorcheck", &errorcheck);
    print_address("inheriting", &inheriting);
    print_address("shared", &shared);
    print_address("in_table", &table[2].lock);
    print_address("on_heap", on_heap);
    print_address("semaphore", &semaphore);
    print_address("barrier", &barrier);
    wait_until_waiting(start_named("w_plain", lock, &plain, 0));
    wait_until_waiting(start_named("w_timed", lock_for_an_hour, &plain, 0));
    wait_until_waiting(start_named("w_recursive", lock, &recursive, 0));
    wait_until_waiting(start_named("w_errorcheck", lock, &errorcheck, 0));
    wait_until_waiting(start_named("w_inheriting", lock, &inheriting, 0));
    wait_until_waiting(start_named("w_shared", lock, &shared, 0));
    wait_until_waiting(start_named("w_in_table", lock, &table[2].lock, 0));
    wait_until_waiting(start_named("w_on_heap", lock, on_heap, 0));
    wait_until_waiting(start_named("w_semaphore", wait_semaphore, 0, 0));
    wait_until_waiting(start_named("w_barrier", wait_barrier, 0, 0));
    wait_until_waiting(start_named("w_join", join_holder, 0, 0));
    wait_until_waiting(start_named("w_stdio", print, 0, 0));
    wait_until_waiting(start_named("w_itself", relock, 0, 0));
    rest();
}
