// flags: -O1 -g -pthread -Iinclude -L{library} -lmanhole -Wl,-rpath,{library}
/* A timer whose handler forks, while the manhole is installed and released over and over. */
#include "manhole.h"
#include "sentinel.h"
#include <sys/time.h>
#include <sys/wait.h>

static volatile sig_atomic_t forks;

static void handler(int unused)
{
    (void)unused;
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        _exit(7);
    if (child < 0 || waitpid(child, &status, 0) != child || status != 7 << 8)
        finish("FAIL child");
    forks++;
}

int main(void)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &often, 0);
    for (int round = 0; round < 300 || forks < 100; round++)
        if (manhole_install("verbose=False, locals={'a': 'b', 'c': 'd'}") != 0 || manhole_release() != 0)
            finish("FAIL manhole");
    setitimer(ITIMER_REAL, &never, 0);
    say("ready");
    char byte;
    (void)!read(0, &byte, 1);
    finish("PASS");
}
