// flags: -O2 -pthread
/*
 * bench_count THREADS: threads that count as fast as they can. A line on standard input is answered by the sum of all
 * counts so far; its end ends the program. For the benchmark of a profile's cost.
 */
#include "sentinel.h"

#include <stdio.h>
#include <stdlib.h>

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
    for (int i = 0; i < threads && i < MOST; i++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, work, (void *)&counters[i].count) != 0)
            finish("FAIL pthread_create");
    }
    say("ready");
    char line[8], answer[32];
    while (read(0, line, sizeof line) > 0) {
        uint64_t sum = 0;
        for (int i = 0; i < MOST; i++)
            sum += counters[i].count;
        snprintf(answer, sizeof answer, "%llu", (unsigned long long)sum);
        say(answer);
    }
    finish("PASS");
}
