// flags: -std=c99 -Wall -Wextra -Werror -pedantic -O1 -g -pthread -Iinclude
/* A program that runs with and without the library: preloaded, it finds the functions by weak symbols. */
#include "sentinel.h"
#include <manhole.h>
#pragma weak manhole_version
#pragma weak manhole_register_command
#pragma weak manhole_write
#pragma weak manhole_install

static int hello(struct manhole_call *call, int argc, const char *const *argv, void *user)
{
    (void)argv;
    return manhole_printf(call, "%s, %d words\n", (const char *)user, argc) != 0;
}

int main(void)
{
    static char user[] = "hello";
    start_ender();
    if (!manhole_register_command) {
        say("absent");
    } else {
        if (manhole_version() != MANHOLE_VERSION || manhole_register_command("hello", "", "Greet.", hello, user) ||
            manhole_register_command("hello", "", "Again.", hello, user) != -EEXIST)
            finish("FAIL register");
        say("present");
        /* MANHOLE says thread=False; its other options are kept for us. */
        if (manhole_install(NULL) != 0)
            finish("FAIL install");
    }
    say("ready");
    sleep_for_ever();
}
