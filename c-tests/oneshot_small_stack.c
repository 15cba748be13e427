// flags: -O1 -g -pthread
/*
 * SIGUSR2 interrupts a thread with a stack of 16 KB (argument `stack`), or one that has, besides, an alternate
 * signal stack only two kilobytes larger than the kernel's own frame (argument `alternate`). What lies around either
 * stack must be as it was.
 */
#include "sentinel.h"
#include <sys/auxv.h>
#include <sys/mman.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

static int with_alternate;

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
    with_alternate = argc > 1 && strcmp(argv[1], "alternate") == 0;
    start_ender();
    size_t size = 16384;
    void *stack = mmap(0, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(stack, 4096, PROT_NONE);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (pthread_attr_setstack(&attributes, (char *)stack + 4096, size) != 0)
        finish("FAIL pthread_attr_setstack");
    pthread_t thread;
    if (pthread_create(&thread, &attributes, small, 0) != 0)
        finish("FAIL pthread_create");
    pthread_setname_np(thread, "small");
    say("ready");
    pthread_join(thread, 0);
    sleep_for_ever();
}
