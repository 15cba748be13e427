// flags: -O2 -pthread
/*
 * bench_count THREADS: threads that count as fast as they can. A line on standard input is answered by the sum of all
 * counts so far and the nanoseconds of CPU time that they took; its end ends the program. For the benchmark of a profile's cost.
 */
#include "sentinel.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MOST 64

/* Each in a cache line of its own. */
static struct {
    _Alignas(64) volatile uint64_t count;
} counters[MOST];

__attribute__((noinline)) static void count_here(volatile uint64_t *count)
{
    for (;;)
        ++*count;
}

static void *work(void *count)
{
    count_here(count);
    return 0;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 4;
    clockid_t clocks[MOST];
    if (threads < 1 || threads > MOST)
        finish("FAIL how many threads?");
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, work, (void *)&counters[i].count) != 0)
            finish("FAIL pthread_create");
        if (pthread_getcpuclockid(thread, &clocks[i]) != 0)
            finish("FAIL pthread_getcpuclockid");
    }
    say("ready");
    char line[8], answer[64];
    while (read(0, line, sizeof line) > 0) {
        uint64_t sum = 0, time = 0;
        for (int i = 0; i < threads; i++) {
            struct timespec used;
            sum += counters[i].count;
            clock_gettime(clocks[i], &used);
            time += used.tv_sec * 1000000000ull + used.tv_nsec;
        }
        snprintf(answer, sizeof answer, "%llu %llu", (unsigned long long)sum, (unsigned long long)time);
        say(answer);
    }
    finish("PASS");
}
