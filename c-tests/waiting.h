/*
 * What the fixtures of `locks` share: threads with names, whose ids and whose locks' addresses are printed as lines
 * `NAME VALUE`, and a wait until a thread has come to rest in futex(2).
 */
#ifndef WAITING_H
#define WAITING_H

#include "sentinel.h"
#include <fcntl.h>
#include <sched.h>
#ifdef __cplusplus
#include <atomic>
using std::atomic_int;
#else
#include <stdatomic.h>
#endif
#include <stdio.h>
#include <stdlib.h>

/* How many threads hold what they are meant to hold. */
static atomic_int holding;

static inline void print_number(const char *name, unsigned long value, const char *format)
{
    char line[128], number[32];
    snprintf(number, sizeof number, format, value);
    snprintf(line, sizeof line, "%s %s", name, number);
    say(line);
}

static inline void print_address(const char *name, const volatile void *address)
{
    print_number(name, (unsigned long)address, "%#lx");
}

struct starting {
    const char *name;
    void *(*body)(void *);
    void *argument;
    atomic_int tid;
};

static void *waiting_begin(void *argument)
{
    struct starting *starting = (struct starting *)argument;
    pthread_setname_np(pthread_self(), starting->name);
    void *(*body)(void *) = starting->body;
    void *passed = starting->argument;
    starting->tid = (int)syscall(SYS_gettid);
    return body(passed);
}

/* Starts a thread, prints its name and id, and gives its id; its pthread_t too, if there is room for it. */
static inline int start_named(const char *name, void *(*body)(void *), void *argument, pthread_t *thread)
{
    pthread_t own;
    struct starting *starting = (struct starting *)calloc(1, sizeof *starting);
    starting->name = name;
    starting->body = body;
    starting->argument = argument;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    if (pthread_create(thread ? thread : &own, &attributes, waiting_begin, starting) != 0)
        finish("FAIL pthread_create");
    while (starting->tid == 0)
        sched_yield();
    print_number(name, starting->tid, "%lu");
    return starting->tid;
}

/* Waits until so many threads hold what they are meant to. */
static inline void wait_for_holders(int count)
{
    while (holding < count)
        sched_yield();
}

/* Waits until thread `tid` sleeps in futex(2). */
static inline void wait_until_waiting(int tid)
{
    char path[64], text[64], prefix[16];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    snprintf(prefix, sizeof prefix, "%d ", SYS_futex);
    for (;;) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
        close(file);
        text[length < 0 ? 0 : length] = 0;
        if (strncmp(text, prefix, strlen(prefix)) == 0)
            return;
        sched_yield();
    }
}

/* Waits until thread `tid` has exited. */
static inline void wait_until_gone(int tid)
{
    while (syscall(SYS_tgkill, getpid(), tid, 0) == 0)
        sched_yield();
}

/* Says that all is as claimed, and ends when the driver says so. */
__attribute__((noreturn)) static inline void rest(void)
{
    say("ready");
    char byte;
    while (syscall(SYS_read, sentinel_in, &byte, 1) < 0)
        continue;
    finish("PASS");
}

#endif
