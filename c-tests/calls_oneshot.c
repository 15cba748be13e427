// flags: -O1 -g -pthread
/*
 * The C function manhole_oneshot(). Argument `twice`: it serves a client called from `asks_here`, and another thread
 * that asks meanwhile is told EBUSY. Argument `release`: another thread releases the manhole while the client is
 * there. Argument `none`: there is no manhole.
 */
#include "sentinel.h"
#include <dlfcn.h>
#include <errno.h>

static int (*oneshot)(void);
static int (*release)(void);

__attribute__((noinline)) static void asks_here(int expected)
{
    errno = 80;
    int result = oneshot();
    if (result != expected)
        finish("FAIL an unexpected result");
    if (errno != 80)
        finish("FAIL errno was changed");
}

static void await_line(void)
{
    char byte;
    while (syscall(SYS_read, 0, &byte, 1) < 0)
        continue;
}

static void *other(void *releases)
{
    await_line();
    if (!releases)
        asks_here(-EBUSY);
    else if (release() != 0)
        finish("FAIL release");
    say("other is done");
    return 0;
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "";
    oneshot = (int (*)(void))dlsym(RTLD_DEFAULT, "manhole_oneshot");
    release = (int (*)(void))dlsym(RTLD_DEFAULT, "manhole_release");
    if (!oneshot || !release)
        finish("FAIL no C functions");
    if (strcmp(way, "none") == 0) {
        asks_here(-ENOENT);
        finish("PASS");
    }
    pthread_t thread;
    if (pthread_create(&thread, 0, other, strcmp(way, "release") == 0 ? (void *)1 : 0) != 0)
        finish("FAIL pthread_create");
    say("ready");
    asks_here(0);
    say("went on");
    pthread_join(thread, 0);
    finish("PASS");
}
