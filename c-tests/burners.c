// flags: -O1 -g -fno-omit-frame-pointer -pthread
/*
 * Threads whose use of the processors is known: `burner` works three parts in burn_a and one in burn_b, by its own CPU
 * clock; `waker` naps 10 ms at a time in the same place; `sleeper` and `reader` wait for ever, `early` until told.
 *
 * Lines of standard input: `?` answers `used A B` (nanoseconds of CPU time in burn_a and burn_b so far), `-` ends `early`,
 * `+` starts `late`; each answers. Any other line ends with PASS, or FAIL if a waiting call was disturbed.
 */
#include "sentinel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Nanoseconds of CPU time; parts have changing lengths, so that no sampler runs in step with them. */
#define PART 400000

static volatile uint64_t used[2];
static volatile uint64_t sink;
static const char *volatile disturbed;
static int silent[2], early_pipe[2];
static pthread_t early;

static uint64_t cpu_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

__attribute__((noinline)) static void burn_a(uint64_t until)
{
    do
        for (int i = 0; i < 20000; i++)
            sink += i;
    while (cpu_time() < until);
}

__attribute__((noinline)) static void burn_b(uint64_t until)
{
    do
        for (int i = 0; i < 20000; i++)
            sink ^= i;
    while (cpu_time() < until);
}

static void *burner(void *unused)
{
    uint64_t length = PART;
    for (uint64_t before = cpu_time(), after;; before = after) {
        length = PART + (length * 1103515245 + 12345) % PART * 4;
        burn_a(before + 3 * length);
        after = cpu_time();
        used[0] += after - before;
        before = after;
        burn_b(before + length);
        after = cpu_time();
        used[1] += after - before;
    }
    return unused;
}

__attribute__((noinline)) static void nap_here(void)
{
    struct timespec nap = {0, 10000000};
    if (nanosleep(&nap, 0) != 0)
        disturbed = "FAIL nanosleep";
}

static void *waker(void *unused)
{
    for (;;)
        nap_here();
    return unused;
}

static void *sleeper(void *unused)
{
    struct timespec year = {31536000, 0};
    for (;;)
        if (nanosleep(&year, 0) != 0)
            disturbed = "FAIL a long nanosleep";
    return unused;
}

static void *reader(void *pipe)
{
    char byte;
    ssize_t count = read(*(int *)pipe, &byte, 1);
    if (pipe != early_pipe)
        disturbed = count < 0 ? "FAIL read" : "FAIL read returned";
    return 0;
}

static pthread_t start(const char *name, void *(*run)(void *), void *argument)
{
    pthread_t thread;
    if (pthread_create(&thread, 0, run, argument) != 0)
        finish("FAIL pthread_create");
    pthread_setname_np(thread, name);
    return thread;
}

int main(void)
{
    if (pipe(silent) != 0 || pipe(early_pipe) != 0)
        finish("FAIL pipe");
    start("burner", burner, 0);
    start("waker", waker, 0);
    start("sleeper", sleeper, 0);
    start("reader", reader, silent);
    early = start("early", reader, early_pipe);
    say("ready");
    char line[8], answer[128];
    for (;;) {
        ssize_t count = read(0, line, sizeof line);
        if (count < 0)
            finish("FAIL read of the main thread");
        if (count == 2 && line[0] == '?') {
            snprintf(answer, sizeof answer, "used %llu %llu", (unsigned long long)used[0], (unsigned long long)used[1]);
            say(answer);
        } else if (count == 2 && line[0] == '-') {
            (void)!write(early_pipe[1], "x", 1);
            pthread_join(early, 0);
            say("ended");
        } else if (count == 2 && line[0] == '+') {
            start("late", reader, silent);
            say("started");
        } else {
            finish(disturbed ? disturbed : "PASS");
        }
    }
}
