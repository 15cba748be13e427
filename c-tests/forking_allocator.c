// flags: -O1 -pthread
/*
 * forking_allocator CHILDREN: forks while three threads allocate and free without pause. Every child allocates,
 * starts a thread that allocates too, and ends well; the last one stays: `child PID`, `ready`.
 */
#include "sentinel.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

static void churn(unsigned seed, int times)
{
    void *blocks[128] = { 0 };
    for (int i = 0; i < times; i++) {
        seed = seed * 1103515245 + 12345;
        void **slot = &blocks[seed >> 16 & 127];
        free(*slot);
        *slot = malloc(1 + (seed >> 8) % ((seed >> 24) % 16 ? 512 : 100000));
        if (*slot)
            memset(*slot, 1, 1);
    }
    for (int i = 0; i < 128; i++)
        free(blocks[i]);
}

static void *allocate_for_ever(void *seed)
{
    for (;;)
        churn((unsigned)(uintptr_t)seed, 10000);
    return 0;
}

static void *allocate(void *unused)
{
    churn(7, 300);
    return unused;
}

/* Whether a child can allocate, on both its threads. */
static int child_works(void)
{
    pthread_t thread;
    alarm(15); /* a child that hangs ends, and its status tells */
    churn(5, 300);
    return pthread_create(&thread, 0, allocate, 0) == 0 && pthread_join(thread, 0) == 0;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    int children = argc > 1 ? atoi(argv[1]) : 1;
    for (uintptr_t i = 1; i <= 3; i++)
        pthread_create(&thread, 0, allocate_for_ever, (void *)i);
    for (int i = 0; i < children; i++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0)
            _exit(child_works() ? 0 : 1);
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            char line[64];
            snprintf(line, sizeof line, "FAIL child %d of %d: status %#x", i, children, status);
            finish(line);
        }
    }
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        char line[32];
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || !child_works())
            _exit(1);
        alarm(0);
        snprintf(line, sizeof line, "child %d", (int)getpid());
        say(line);
        say("ready");
        sleep_for_ever();
    }
    start_ender();
    sleep_for_ever();
}
