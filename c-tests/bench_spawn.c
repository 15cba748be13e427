// flags: -O2
/*
 * bench_spawn ROUNDS PROGRAM PRELOAD…: starts PROGRAM once a round with each PRELOAD as its LD_PRELOAD (`-` for
 * none) and prints the median time from posix_spawn to the end, in microseconds, a line each. The variants take
 * turns, so that what else the machine does hits all of them. Ends with PASS.
 */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    int rounds = atoi(argv[1]), variants = argc - 3;
    double *times = calloc((size_t)rounds * variants, sizeof *times);
    if (rounds < 1 || times == NULL)
        return 2;
    for (int round = 0; round < rounds; round++) {
        for (int variant = 0; variant < variants; variant++) {
            char quiet[] = "MANHOLE=verbose=False", library[4096];
            char *environment[] = { quiet, NULL, NULL };
            if (strcmp(argv[3 + variant], "-") != 0) {
                snprintf(library, sizeof library, "LD_PRELOAD=%s", argv[3 + variant]);
                environment[1] = library;
            }
            char *arguments[] = { argv[2], NULL };
            pid_t child;
            int status;
            double start = now();
            if (posix_spawn(&child, argv[2], NULL, NULL, arguments, environment) != 0 ||
                waitpid(child, &status, 0) != child || status != 0) {
                printf("FAIL %s with %s\n", argv[2], argv[3 + variant]);
                return 1;
            }
            times[variant * rounds + round] = now() - start;
        }
    }
    for (int variant = 0; variant < variants; variant++) {
        qsort(times + variant * rounds, rounds, sizeof *times, ascending);
        printf("%.1f %s\n", times[variant * rounds + rounds / 2], argv[3 + variant]);
    }
    puts("PASS");
    return 0;
}
