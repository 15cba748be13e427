// flags: -O2 -pthread
/*
 * For the benchmark: what does a dump cost a thread that never leaves user space? For each line of standard input
 * a thread looks at the clock without a pause for 100 ms, and the longest time between two looks is printed, in
 * microseconds. It runs on the last processor and, where it may, with real-time priority (for less than the 950 of
 * 1000 ms that the kernel allows), so that only interrupts and stops show. Prints `ready`; ends with PASS.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static pthread_barrier_t begin, end;
static long longest;

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

__attribute__((noinline)) static long spin(void)
{
    long start = now(), before = start, gap = 0;
    while (before - start < 100000000L) {
        long time = now();
        if (time - before > gap)
            gap = time - before;
        before = time;
    }
    return gap;
}

static void *work(void *unused)
{
    (void)unused;
    cpu_set_t last;
    CPU_ZERO(&last);
    CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &last);
    sched_setaffinity(0, sizeof last, &last);
    struct sched_param priority = { .sched_priority = 1 };
    sched_setscheduler(0, SCHED_FIFO, &priority);
    for (;;) {
        pthread_barrier_wait(&begin);
        longest = spin();
        pthread_barrier_wait(&end);
    }
    return NULL;
}

int main(void)
{
    pthread_t thread;
    char line[16];
    pthread_barrier_init(&begin, NULL, 2);
    pthread_barrier_init(&end, NULL, 2);
    if (pthread_create(&thread, NULL, work, NULL) != 0) {
        puts("FAIL pthread_create");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        pthread_barrier_wait(&begin);
        pthread_barrier_wait(&end);
        printf("%.1f\n", longest / 1e3);
        fflush(stdout);
    }
    puts("PASS");
    fflush(stdout);
    _exit(0);
}
