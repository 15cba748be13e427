// flags: -O1 -g -pthread
/*
 * The program has a handler for SIGUSR2 (argument 1: `siginfo` or `plain`) before it installs the manhole through the
 * C API with the options of argument 2. The handler must be called once a signal, with the kernel's arguments and the
 * mask that it asked for.
 */
#include "sentinel.h"
#include <dlfcn.h>
#include <errno.h>

static volatile int calls;

static void check_mask(void)
{
    sigset_t now;
    sigprocmask(SIG_BLOCK, 0, &now);
    if (!sigismember(&now, SIGUSR2) || !sigismember(&now, SIGHUP) || sigismember(&now, SIGTERM))
        finish("FAIL the handler's mask is not what it asked for");
    calls++;
}

static void on_siginfo(int number, siginfo_t *information, void *context)
{
    if (number != SIGUSR2 || information->si_code != SI_QUEUE || information->si_value.sival_int != 4711 || !context)
        finish("FAIL wrong arguments");
    check_mask();
}

static void on_plain(int number)
{
    if (number != SIGUSR2)
        finish("FAIL wrong argument");
    check_mask();
}

int main(int argc, char **argv)
{
    if (argc < 3)
        finish("FAIL usage: oneshot_chain siginfo|plain OPTIONS");
    struct sigaction action = {.sa_flags = SA_RESTART};
    if (strcmp(argv[1], "siginfo") == 0) {
        action.sa_sigaction = on_siginfo;
        action.sa_flags |= SA_SIGINFO;
    } else {
        action.sa_handler = on_plain;
    }
    sigaddset(&action.sa_mask, SIGHUP);
    struct sigaction before, now;
    sigaction(SIGUSR2, &action, 0);
    sigaction(SIGUSR2, 0, &before);
    int (*install)(const char *) = (int (*)(const char *))dlsym(RTLD_DEFAULT, "manhole_install");
    int (*release)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "manhole_release");
    if (!install || !release || install(argv[2]) != 0)
        finish("FAIL install");
    say("ready");
    errno = 78;
    sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 4711});
    if (errno != 78)
        finish("FAIL errno was changed");
    if (calls != 1)
        finish("FAIL the handler before ours was not called once");
    say("went on");
    if (release() != 0)
        finish("FAIL release");
    sigaction(SIGUSR2, 0, &now);
    if (now.sa_handler != before.sa_handler || now.sa_flags != before.sa_flags || !sigismember(&now.sa_mask, SIGHUP))
        finish("FAIL the handler was not put back");
    start_ender();
    sleep_for_ever();
}
