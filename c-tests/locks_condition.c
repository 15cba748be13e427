// flags: -O1 -pthread
/*
 * idle and timed wait for the condition work with the mutex work_lock, in both groups of signals. woken was signalled and
 * waits inside pthread_cond_wait for its mutex held_lock, which signaller holds and never gives back.
 */
#include "waiting.h"
#include <time.h>

pthread_cond_t work = PTHREAD_COND_INITIALIZER;
pthread_mutex_t work_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t signalled = PTHREAD_COND_INITIALIZER;
pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;

static void *idle(void *unused)
{
    pthread_mutex_lock(&work_lock);
    for (;;)
        pthread_cond_wait(&work, &work_lock);
    return unused;
}

static void *timed(void *unused)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 3600;
    pthread_mutex_lock(&work_lock);
    pthread_cond_timedwait(&work, &work_lock, &end);
    finish("FAIL the hour is over");
    return unused;
}

static void *woken(void *unused)
{
    pthread_mutex_lock(&held_lock);
    holding++;
    pthread_cond_wait(&signalled, &held_lock);
    finish("FAIL held_lock was given back");
    return unused;
}

static void *signaller(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&held_lock);
    pthread_cond_signal(&signalled);
    holding++;
    sleep_for_ever();
}

/* What the word of the thread's futex call is. */
static unsigned long word_of(int tid)
{
    char path[64], text[128];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    close(file);
    text[length < 0 ? 0 : length] = 0;
    const char *word = strchr(text, ' ');
    return word ? strtoul(word, 0, 16) : 0;
}

int main(void)
{
    print_address("work", &work);
    print_address("work_lock", &work_lock);
    print_address("signalled", &signalled);
    print_address("held_lock", &held_lock);
    wait_until_waiting(start_named("idle", idle, 0, 0));
    /* The groups change places with a signal to somebody. */
    pthread_mutex_lock(&work_lock);
    pthread_cond_signal(&work);
    pthread_mutex_unlock(&work_lock);
    wait_until_waiting(start_named("timed", timed, 0, 0));
    int tid = start_named("woken", woken, 0, 0);
    wait_for_holders(1);
    while (word_of(tid) < (unsigned long)&signalled || word_of(tid) >= (unsigned long)(&signalled + 1))
        sched_yield();
    start_named("signaller", signaller, 0, 0);
    wait_for_holders(2);
    while (word_of(tid) != (unsigned long)&held_lock)
        sched_yield();
    rest();
}
