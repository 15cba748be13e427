// flags: -O0 -pthread
/*
 * The control of abort_on_our_malloc: a thread named like ours allocates. Without that guard preloaded it
 * ends with PASS; with it, it must die of SIGABRT, or the guard guards nothing.
 */
#include "sentinel.h"
#include <stdlib.h>

static void *run(void *unused)
{
    pthread_setname_np(pthread_self(), "Manhole control");
    void *volatile block = malloc(100);
    free(block);
    return unused;
}

int main(void)
{
    pthread_t thread;
    say("ready");
    if (pthread_create(&thread, 0, run, 0) != 0)
        finish("FAIL pthread_create");
    pthread_join(thread, 0);
    finish("PASS");
}
