// flags: -O1 -fno-omit-frame-pointer -fno-stack-protector -pthread
/*
 * Two threads: `smashed` overwrote everything above its innermost frame, return address included, with
 * garbage; `main` is whole. The innermost function of the first can still be told; nothing above it can.
 */
#include "sentinel.h"
#include <sched.h>

static volatile int smashed;

__attribute__((noinline, noreturn)) static void stuck_here(void)
{
    volatile unsigned char *above = __builtin_frame_address(0);
    for (int i = 0; i < 2048; i++)
        above[i] = (unsigned char)(0xa5 ^ i);
    smashed = 1;
    sleep_for_ever();
}

__attribute__((noinline)) static void *run(void *unused)
{
    /* Room for the garbage: the thread's control block further up stays whole. */
    volatile char room[4096];
    room[0] = 0;
    (void)unused;
    stuck_here();
    room[1] = 1;
    return (void *)&room[1] == unused ? unused : 0;
}

__attribute__((noinline, noreturn)) static void main_waits_here(void)
{
    while (!smashed)
        sched_yield();
    say("ready");
    sleep_for_ever();
}

int main(void)
{
    pthread_t thread;
    start_ender();
    if (pthread_create(&thread, 0, run, 0) != 0)
        finish("FAIL pthread_create");
    pthread_setname_np(thread, "smashed");
    main_waits_here();
}
