// flags: -shared -fPIC -O1 -g
/*
 * A plugin: its constructor registers a command, its function says a number. The library is there already, preloaded.
 */
#include <stddef.h>

struct manhole_call;
extern int manhole_register_command(const char *, const char *, const char *,
                                    int (*)(struct manhole_call *, int, const char *const *, void *), void *)
    __attribute__((weak));
extern int manhole_write(struct manhole_call *, const void *, size_t) __attribute__((weak));

static int greet(struct manhole_call *call, int argc, const char *const *argv, void *user)
{
    (void)argc, (void)argv, (void)user;
    return manhole_write(call, "hello\n", 6) != 0;
}

static int crash(struct manhole_call *call, int argc, const char *const *argv, void *user)
{
    (void)call, (void)argc, (void)argv;
    return *(volatile int *)user;
}

__attribute__((constructor)) static void load(void)
{
    if (manhole_register_command) {
        manhole_register_command("greet", "", "Says hello.", greet, NULL);
        manhole_register_command("crash", "", "Reads what is not there.", crash, (void *)16);
    }
}

int start(void)
{
    return 42;
}
