// flags: -O1 -g
/* One thread that forks; the driver has strace send it a signal in the middle of that, whose handler forks. */
#include "sentinel.h"
#include <sys/wait.h>

static volatile sig_atomic_t handled;

static void fork_and_wait(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(7);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 7 << 8)
        finish("FAIL child");
}

static void handler(int unused)
{
    (void)unused;
    fork_and_wait();
    handled++;
}

int main(void)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    char byte;
    sigaction(SIGUSR1, &action, 0);
    say("ready");
    (void)!read(0, &byte, 1);
    fork_and_wait();
    say(handled == 1 ? "forked twice" : "FAIL no signal");
    (void)!read(0, &byte, 1);
    finish("PASS");
}
