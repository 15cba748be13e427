// flags: -O1 -g
/*
 * Forks a child into a pid namespace of its own, in which the parent has no number, when it reads a line, and says so
 * once the child has run for a while.
 */
#include "sentinel.h"
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    say("ready");
    char line;
    if (read(0, &line, 1) != 1 || unshare(CLONE_NEWPID))
        return 1;
    if (fork() == 0) {
        sleep(2);
        _exit(0);
    }
    wait(0);
    say("child over");
    pause();
}
