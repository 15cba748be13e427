// flags: -O1 -pthread
/*
 * written: held by writer, for which reader1, reader2 and writer2 wait. being_read: held by two threads that sleep, for
 * which writer3 waits. writers_first: likewise, and reader3 waits because writers go first.
 */
#include "waiting.h"

pthread_rwlock_t written = PTHREAD_RWLOCK_INITIALIZER;
pthread_rwlock_t being_read = PTHREAD_RWLOCK_INITIALIZER;
pthread_rwlock_t writers_first = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

static void *hold_to_write(void *lock)
{
    pthread_rwlock_wrlock(lock);
    holding++;
    sleep_for_ever();
}

static void *hold_to_read(void *unused)
{
    (void)unused;
    pthread_rwlock_rdlock(&being_read);
    pthread_rwlock_rdlock(&writers_first);
    holding++;
    sleep_for_ever();
}

static void *read_it(void *lock)
{
    pthread_rwlock_rdlock(lock);
    finish("FAIL it could be read");
}

static void *write_it(void *lock)
{
    pthread_rwlock_wrlock(lock);
    finish("FAIL it could be written");
}

int main(void)
{
    print_address("written", &written);
    print_address("being_read", &being_read);
    print_address("writers_first", &writers_first);
    start_named("writer", hold_to_write, &written, 0);
    start_named("holder1", hold_to_read, 0, 0);
    start_named("holder2", hold_to_read, 0, 0);
    wait_for_holders(3);
    wait_until_waiting(start_named("reader1", read_it, &written, 0));
    wait_until_waiting(start_named("reader2", read_it, &written, 0));
    wait_until_waiting(start_named("writer2", write_it, &written, 0));
    wait_until_waiting(start_named("writer3", write_it, &being_read, 0));
    wait_until_waiting(start_named("writer4", write_it, &writers_first, 0));
    wait_until_waiting(start_named("reader3", read_it, &writers_first, 0));
    rest();
}
