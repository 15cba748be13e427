// flags: -O1 -g -pthread
/*
 * SIGUSR2 interrupts a thread with a stack of 16 KB (argument `stack`), or one that has, besides, an alternate
 * signal stack only two kilobytes larger than the kernel's own frame (argument `alternate`). What lies around either
 * stack must be as it was. With argument `late`, at a line of input, another thread installs a handler for SIGUSR1 that
 * wants the alternate stack, and sends that signal: it must not run on top of what lies there.
 */
#include "sentinel.h"
#include <sys/auxv.h>
#include <sys/mman.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

static int with_alternate;
static pthread_t small_thread;

static void on_late(int number)
{
    (void)number;
    say("late");
}

static void *late(void *unused)
{
    (void)unused;
    char byte;
    while (syscall(SYS_read, 0, &byte, 1) < 0)
        continue;
    struct sigaction action = {.sa_handler = on_late, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, 0);
    pthread_kill(small_thread, SIGUSR1);
    start_ender();
    return 0;
}

__attribute__((noinline)) static void interrupted_here(void)
{
    pthread_kill(pthread_self(), SIGUSR2);
    __asm__ volatile("");
}

static void *small(void *unused)
{
    (void)unused;
    char *page = 0;
    size_t size = 0;
    if (with_alternate) {
        size = getauxval(AT_MINSIGSTKSZ);
        if (size < 2048)
            size = 2048;
        size = (size + 2048 + 15) & ~15ul;
        /* Below it lies a page that faults, above it a pattern. */
        page = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(page, 4096, PROT_NONE);
        memset(page + 4096 + size, 0x5a, 4096);
        stack_t stack = {.ss_sp = page + 4096, .ss_size = size};
        if (sigaltstack(&stack, 0) != 0)
            finish("FAIL sigaltstack");
    }
    interrupted_here();
    if (with_alternate) {
        stack_t now;
        sigaltstack(0, &now);
        if (now.ss_sp != page + 4096 || now.ss_size != size || now.ss_flags != 0)
            finish("FAIL the alternate stack is not what it was");
        for (int i = 0; i < 4096; i++)
            if (page[4096 + size + i] != 0x5a)
                finish("FAIL memory above the alternate stack was changed");
    }
    say("went on");
    return 0;
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "";
    pthread_t other;
    with_alternate = strcmp(way, "stack") != 0;
    if (strcmp(way, "late") != 0)
        start_ender();
    else if (pthread_create(&other, 0, late, 0) != 0)
        finish("FAIL pthread_create");
    size_t size = 16384;
    void *stack = mmap(0, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(stack, 4096, PROT_NONE);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (pthread_attr_setstack(&attributes, (char *)stack + 4096, size) != 0)
        finish("FAIL pthread_attr_setstack");
    if (pthread_create(&small_thread, &attributes, small, 0) != 0)
        finish("FAIL pthread_create");
    pthread_setname_np(small_thread, "small");
    say("ready");
    pthread_join(small_thread, 0);
    sleep_for_ever();
}
