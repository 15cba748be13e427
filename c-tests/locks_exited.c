// flags: -O1 -pthread
/*
 * gone locked left_locked and exited; heir waits for it. dead did so with a robust mutex: second got it with EOWNERDEAD
 * and sleeps, third waits for second.
 */
#include "waiting.h"
#include <errno.h>

pthread_mutex_t left_locked = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t robust;

static void *lock_and_exit(void *mutex)
{
    pthread_mutex_lock(mutex);
    return 0;
}

static void *wait_for_it(void *mutex)
{
    pthread_mutex_lock(mutex);
    finish("FAIL it was unlocked");
}

static void *inherit(void *mutex)
{
    if (pthread_mutex_lock(mutex) != EOWNERDEAD)
        finish("FAIL no EOWNERDEAD");
    holding++;
    sleep_for_ever();
}

int main(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attributes);
    print_address("left_locked", &left_locked);
    print_address("robust", &robust);
    pthread_t thread;
    wait_until_gone(start_named("gone", lock_and_exit, &left_locked, &thread));
    wait_until_gone(start_named("dead", lock_and_exit, &robust, &thread));
    start_named("second", inherit, &robust, 0);
    wait_for_holders(1);
    int third = start_named("third", wait_for_it, &robust, 0);
    int heir = start_named("heir", wait_for_it, &left_locked, 0);
    wait_until_waiting(third);
    wait_until_waiting(heir);
    rest();
}
