// flags: -O1 -pthread
/*
 * The main thread holds the lock of glibc's main arena for ever: a signal handler interrupted it inside
 * malloc, lock in hand, and does not return. Its frames: stuck_here, on_tick, the signal frame, glibc's
 * allocator, churn_here, main.
 */
#include "sentinel.h"
#include <stdlib.h>
#include <sys/time.h>

/* `struct malloc_state` starts with its lock; the unsorted bin's head, which a free chunk's `fd` points
 * to, lies 96 bytes further (glibc 2.27 and later, 64 bits: lock, flags, have_fastchunks, ten fast bins). */
enum { UNSORTED_BIN_OFFSET = 96 };
static volatile int *arena_lock;
static volatile int ticks;

__attribute__((noinline, noreturn)) static void stuck_here(void)
{
    say("ready");
    sleep_for_ever();
}

static void on_tick(int number)
{
    (void)number;
    if (*arena_lock != 0)
        stuck_here();
    if (++ticks > 20000)
        finish("FAIL the arena lock was never seen held");
}

__attribute__((noinline)) static void churn_here(void)
{
    /* Too large for the thread cache, which takes no lock. */
    for (size_t size = 2000;; size = size > 60000 ? 2000 : size + 48) {
        void *block = malloc(size);
        __asm__ volatile("" : : "r"(block) : "memory");
        free(block);
    }
}

int main(void)
{
    /* A second thread, or glibc takes no lock at all. */
    start_ender();
    void **volatile chunk = malloc(4000);
    void *fence = malloc(4000);
    free(chunk);
    __asm__ volatile("" : "+m"(chunk));
    arena_lock = (volatile int *)((char *)chunk[0] - UNSORTED_BIN_OFFSET);
    if (*arena_lock != 0)
        finish("FAIL this is not the arena lock");
    __asm__ volatile("" : : "r"(fence) : "memory");

    struct sigaction action = { .sa_handler = on_tick };
    sigaction(SIGALRM, &action, 0);
    struct itimerval interval = { { 0, 500 }, { 0, 500 } };
    setitimer(ITIMER_REAL, &interval, 0);
    churn_here();
}
