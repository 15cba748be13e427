// flags: -O1 -fno-optimize-sibling-calls -pthread
/* A thread 100,000 frames deep. */
#include "sentinel.h"

static volatile int released;

/* Not a noreturn function in the compiler's eyes, or there would be no frames to keep. */
__attribute__((noinline)) static void stuck_here(void)
{
    say("ready");
    while (!released)
        syscall(SYS_ppoll, 0, 0, 0, 0, 8);
}

__attribute__((noinline)) static int recurse(int depth)
{
    if (depth == 0) {
        stuck_here();
        return 0;
    }
    int below = recurse(depth - 1);
    __asm__ volatile("" : "+r"(below));
    return below + 1;
}

static void *run(void *unused)
{
    recurse(100000);
    return unused;
}

int main(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    start_ender();
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 20);
    if (pthread_create(&thread, &attributes, run, 0) != 0)
        finish("FAIL pthread_create");
    pthread_setname_np(thread, "deep");
    sleep_for_ever();
}
