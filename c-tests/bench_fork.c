// flags: -O2
/*
 * bench_fork ROUNDS: forks and waits; prints the median of fork+exec+wait of /bin/true with an empty environment, so
 * that only the side that forks is measured, and that of fork+_exit+wait, in microseconds. Ends with PASS. Run it
 * with the library preloaded and without.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

static double one(int execs)
{
    static char *arguments[] = { "true", NULL }, *environment[] = { NULL };
    int status = -1;
    double start = now();
    pid_t child = fork();
    if (child == 0) {
        if (execs)
            execve("/bin/true", arguments, environment);
        _exit(execs);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        printf("FAIL status %#x\n", status);
        exit(1);
    }
    return now() - start;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 0;
    double *times = calloc(rounds > 0 ? rounds : 1, sizeof *times);
    if (rounds < 1 || times == NULL)
        return 2;
    for (int i = 0; i < 20; i++)
        one(1);
    for (int execs = 1; execs >= 0; execs--) {
        for (int i = 0; i < rounds; i++)
            times[i] = one(execs);
        qsort(times, rounds, sizeof *times, ascending);
        printf("%.1f\n", times[rounds / 2]);
    }
    puts("PASS");
    return 0;
}
