// flags: -O1 -pthread
/*
 * A thread runs code that was made at run time and has no call frame information. Its frame pointer
 * leads to a frame record that names itself as its caller: whoever follows the chain without looking
 * goes round for ever.
 */
#include "sentinel.h"
#include <sched.h>
#include <sys/mman.h>

static volatile int looping;

#if defined(__x86_64__)
static const unsigned char code[] = {
    0x55,                               /* push %rbp            */
    0x48, 0x89, 0xfd,                   /* mov  %rdi,%rbp       */
    0xc7, 0x06, 1, 0, 0, 0,             /* movl $1,(%rsi)       */
    0xb8, 34, 0, 0, 0,                  /* mov  $SYS_pause,%eax */
    0x0f, 0x05,                         /* syscall              */
    0xeb, 0xf7,                         /* jmp  back to mov     */
};
#elif defined(__aarch64__)
static const uint32_t code[] = {
    0xaa0003fd, /* mov x29, x0           */
    0x52800022, /* mov w2, #1            */
    0xb9000022, /* str w2, [x1]          */
    0xd2800000, /* mov x0, #0            */
    0xd2800001, /* mov x1, #0            */
    0xd2800002, /* mov x2, #0            */
    0xd2800003, /* mov x3, #0            */
    0xd2800928, /* mov x8, #73 (ppoll)   */
    0xd4000001, /* svc #0                */
    0x17fffffa, /* b   back to mov x0    */
};
#endif

static void *run(void *page)
{
    /* The frame record: caller's frame pointer, return address. On this thread's stack, above `code`'s frame. */
    volatile uintptr_t record[2];
    record[0] = (uintptr_t)record;
    record[1] = (uintptr_t)page + 8;
    ((void (*)(volatile uintptr_t *, volatile int *))page)(record, &looping);
    return 0;
}

__attribute__((noinline, noreturn)) static void stuck_here(void)
{
    while (!looping)
        sched_yield();
    say("ready");
    sleep_for_ever();
}

int main(void)
{
    pthread_t thread;
    void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, sizeof code);
    if (mprotect(page, 4096, PROT_READ | PROT_EXEC) != 0)
        finish("FAIL mprotect");
    __builtin___clear_cache(page, (char *)page + sizeof code);
    start_ender();
    if (pthread_create(&thread, 0, run, page) != 0)
        finish("FAIL pthread_create");
    pthread_setname_np(thread, "looping");
    stuck_here();
}
