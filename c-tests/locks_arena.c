// flags: -O1 -pthread
/*
 * The thread starved waits for the lock of glibc's main arena, which a handler interrupted in the main thread (as in
 * wedged_arena.c). Started with GLIBC_TUNABLES=glibc.malloc.arena_max=1 it cannot go to another arena.
 */
#include "waiting.h"
#include <sys/time.h>

enum { UNSORTED_BIN_OFFSET = 96 };
static volatile int *arena_lock;
static volatile int is_wedged;
static int starved_tid;

static void on_tick(int number)
{
    (void)number;
    if (*arena_lock == 0)
        return;
    is_wedged = 1;
    wait_until_waiting(starved_tid);
    rest();
}

static void *starved(void *unused)
{
    while (!is_wedged)
        sched_yield();
    for (;;) {
        void *block = malloc(100000);
        __asm__ volatile("" : : "r"(block) : "memory");
        free(block);
    }
    return unused;
}

int main(void)
{
    void **volatile chunk = malloc(4000);
    void *fence = malloc(4000);
    free(chunk);
    __asm__ volatile("" : "+m"(chunk));
    arena_lock = (volatile int *)((char *)chunk[0] - UNSORTED_BIN_OFFSET);
    if (*arena_lock != 0)
        finish("FAIL this is not the arena lock");
    __asm__ volatile("" : : "r"(fence) : "memory");
    print_address("arena", arena_lock);
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, 0);
    starved_tid = start_named("starved", starved, 0, 0);
    pthread_sigmask(SIG_UNBLOCK, &alarm, 0);
    struct sigaction action = { .sa_handler = on_tick };
    sigaction(SIGALRM, &action, 0);
    struct itimerval interval = { { 0, 500 }, { 0, 500 } };
    setitimer(ITIMER_REAL, &interval, 0);
    for (size_t size = 2000;; size = size > 60000 ? 2000 : size + 48) {
        void *block = malloc(size);
        __asm__ volatile("" : : "r"(block) : "memory");
        free(block);
    }
}
