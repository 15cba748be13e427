// flags: -O2 -g -pthread
/*
 * threads_deep THREADS [DEPTH]: THREADS threads, each DEPTH frames deep (25 unless told) and blocked in one of
 * pause, futex and read, a third of them each. For the benchmark. Prints `ready` when all are about to block;
 * ends with PASS on a line, or the end, of standard input.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t everybody;
static int silent[2];
static int depth = 25;

/* A frame that stays: work after the call, so that it is no tail call. */
#define AFTER __asm__ volatile("" ::: "memory")

__attribute__((noinline)) static void block(long kind)
{
    char byte;
    pthread_barrier_wait(&everybody);
    if (kind == 0)
        pause();
    else if (kind == 1)
        pthread_mutex_lock(&held);
    else if (read(silent[0], &byte, 1) < 0)
        abort();
    AFTER;
}

__attribute__((noinline)) static void descend(long kind, int left);

__attribute__((noinline)) static void step_one(long kind, int left)
{
    descend(kind, left);
    AFTER;
}

__attribute__((noinline)) static void step_two(long kind, int left)
{
    /* A larger frame, which the compiler must believe in. */
    char room[96];
    __asm__ volatile("" ::"r"(room) : "memory");
    descend(kind, left);
    AFTER;
}

__attribute__((noinline)) static void descend(long kind, int left)
{
    if (left <= 0)
        block(kind);
    else if (left & 1)
        step_one(kind, left - 2);
    else
        step_two(kind, left - 2);
    AFTER;
}

static void *work(void *kind)
{
    /* Above `descend` are start_thread and clone3 of libc and this function; `block` and its call below it. */
    descend((long)kind, depth - 6);
    return NULL;
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 1000;
    if (argc > 2)
        depth = atoi(argv[2]);
    if (pipe(silent) != 0 || pthread_mutex_lock(&held) != 0 || pthread_barrier_init(&everybody, NULL, count + 1) != 0) {
        perror("FAIL setting up");
        return 1;
    }
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN + 65536);
    for (long number = 0; number < count; number++) {
        pthread_t thread;
        int error = pthread_create(&thread, &small, work, (void *)(number % 3));
        if (error != 0) {
            printf("FAIL thread %ld: %s\n", number, strerror(error));
            return 1;
        }
    }
    pthread_barrier_wait(&everybody);
    puts("ready");
    fflush(stdout);
    char byte;
    if (read(0, &byte, 1) < 0)
        perror("read");
    puts("PASS");
    fflush(stdout);
    _exit(0);
}
