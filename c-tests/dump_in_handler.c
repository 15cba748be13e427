// flags: -O1 -g -pthread
/*
 * A crash handler on an alternate stack of 8 KB writes the stacks of all threads to a pipe's end, which the thread
 * `reader` copies to standard output. Argument `crash`: the fault is an ordinary one. Argument `malloc`: it is in the
 * program's own malloc, whose one lock is held. Argument `broken`: nobody reads the pipe, and no SIGPIPE may come.
 */
#include "sentinel.h"
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

static int (*dump)(int);
static int ends[2];
static int broken;
static volatile int in_malloc;
static pthread_mutex_t heap_lock = PTHREAD_MUTEX_INITIALIZER;
static char arena[16 << 20] __attribute__((aligned(16)));
static size_t arena_used;
static char alternate[8192 + 4096] __attribute__((aligned(16)));

__attribute__((noinline)) static void faulting_here(volatile int *where)
{
    *where = 1;
    __asm__ volatile("");
}

void *malloc(size_t size)
{
    pthread_mutex_lock(&heap_lock);
    if (in_malloc)
        faulting_here((volatile int *)16);
    void *block = arena + arena_used;
    arena_used += (size + 15) & ~15ul;
    pthread_mutex_unlock(&heap_lock);
    return arena_used <= sizeof arena ? block : 0;
}
void *calloc(size_t count, size_t size) { return malloc(count * size); /* the arena is zero and never reused */ }
void *realloc(void *old, size_t size)
{
    char *block = malloc(size);
    if (block && old)
        memcpy(block, old, size);
    return block;
}
void free(void *block) { (void)block; }

static void *reader(void *unused)
{
    (void)unused;
    char buffer[4096];
    ssize_t count;
    while ((count = syscall(SYS_read, ends[0], buffer, sizeof buffer)) > 0)
        (void)!syscall(SYS_write, 1, buffer, count);
    finish("PASS");
}

__attribute__((noinline)) static void crash_handler(int number)
{
    (void)number;
    errno = 79;
    int threads = dump(ends[1]);
    if (errno != 79)
        finish("FAIL errno was changed");
    if (broken) {
        sigset_t pending;
        sigpending(&pending);
        finish(threads == -EPIPE && !sigismember(&pending, SIGPIPE) ? "PASS" : "FAIL no EPIPE, or a SIGPIPE");
    }
    if (threads != 2)
        finish("FAIL not two threads");
    close(ends[1]);
    sleep_for_ever();
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "crash";
    dump = (int (*)(int))dlsym(RTLD_DEFAULT, "manhole_dump_stacks");
    if (!dump || pipe(ends) != 0)
        finish("FAIL no manhole_dump_stacks, or no pipe");
    broken = strcmp(way, "broken") == 0;
    pthread_t thread;
    if (broken)
        close(ends[0]);
    else if (pthread_create(&thread, 0, reader, 0) == 0)
        pthread_setname_np(thread, "reader");
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, 0);
    struct sigaction action = {.sa_handler = crash_handler, .sa_flags = SA_ONSTACK};
    sigaction(SIGSEGV, &action, 0);
    say("ready");
    if (strcmp(way, "malloc") == 0) {
        in_malloc = 1;
        char *volatile block = malloc(1);
        (void)block;
    }
    faulting_here((volatile int *)16);
    finish("FAIL went on");
}
