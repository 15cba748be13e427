// flags: -O1 -pthread
/*
 * fork_storm THREADS CHILDREN HOW: each thread forks and waits, CHILDREN times in all together. HOW a child ends:
 *   _exit  after a look that nothing of a dump that may be under way in its parent is left on it
 *   exec   as /bin/true
 * It begins at a line on standard input; `ends` is its last line but one.
 */
#include "sentinel.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

static int rounds, execs;
static char *no_environment[] = { 0 }, *arguments[] = { "true", 0 };
static struct sigaction before[65];

/* What a child must not inherit: 0 when all is well. */
static int marks(void)
{
    struct sigaction action;
    sigset_t blocked;
    if (prctl(PR_GET_DUMPABLE) != 1)
        return 2;
    for (int number = 1; number < 65; number++)
        if (sigaction(number, 0, &action) == 0 && action.sa_handler != before[number].sa_handler)
            return 3;
    sigprocmask(SIG_BLOCK, 0, &blocked);
    for (int number = 1; number < 65; number++)
        if (sigismember(&blocked, number) == 1)
            return 4;
    return syscall(SYS_close, 3) == 0 ? 5 : 0;
}

static void *storm(void *unused)
{
    (void)unused;
    for (int round = 0; round < rounds; round++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            if (execs)
                execve("/bin/true", arguments, no_environment);
            _exit(execs ? 127 : marks());
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            char line[64];
            snprintf(line, sizeof line, "FAIL child %d, status %#x, round %d", (int)child, status, round);
            finish(line);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    pthread_t threads[64];
    char byte;
    int count = argc > 3 ? atoi(argv[1]) : 0;
    if (count < 1 || count > 64)
        finish("FAIL usage");
    rounds = atoi(argv[2]) / count;
    execs = strcmp(argv[3], "exec") == 0;
    for (int number = 1; number < 65; number++)
        sigaction(number, 0, &before[number]);
    say("ready");
    while (read(0, &byte, 1) < 0)
        continue;
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], 0, storm, 0) != 0)
            finish("FAIL pthread_create");
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], 0);
    say("ends");
    while (read(0, &byte, 1) < 0)
        continue;
    finish("PASS");
}
