// flags: -O1 -pthread
/*
 * Fork handlers of the application around the library's: its own, registered after, and those of
 * `atfork_neighbour`, registered before, if that is preloaded. They allocate, start a thread and fork once more. At a
 * line it forks; the child prints `child PID` and `forked`, and waits. A handler that ran too often or too seldom
 * is a FAIL.
 */
#include "sentinel.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

/* Whether a handler of the neighbour's ran once, or there is no neighbour. */
static int neighbour_is_well(const char *counter)
{
    int *count = dlsym(RTLD_DEFAULT, counter);
    return count == 0 || *count == 1;
}

static int prepared, in_parent, in_child;

static void *nothing(void *unused) { return unused; }

static void start_thread(void)
{
    pthread_t thread;
    if (pthread_create(&thread, 0, nothing, 0) != 0 || pthread_join(thread, 0) != 0)
        finish("FAIL a thread in a fork handler");
}

static void prepare(void) { prepared++; }

static void parent(void)
{
    in_parent++;
    start_thread();
}

static void child(void)
{
    int status = -1;
    if (in_child++ == 0) {
        start_thread();
        /* A fork within a fork handler: the handlers run once more. */
        pid_t grandchild = fork();
        if (grandchild == 0)
            _exit(in_child == 2 ? 5 : 6);
        if (waitpid(grandchild, &status, 0) != grandchild || status != 5 << 8)
            finish("FAIL the fork in a fork handler");
    }
}

int main(void)
{
    char byte, line[32];
    pthread_atfork(prepare, parent, child);
    alarm(120);
    say("ready");
    while (read(0, &byte, 1) < 0)
        continue;
    pid_t own = getpid(), forked = fork();
    if (forked == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != own || in_child != 1 || prepared != 2 || !neighbour_is_well("neighbour_child"))
            finish("FAIL the child's handlers");
        snprintf(line, sizeof line, "child %d", (int)getpid());
        say(line);
        say("forked");
        sleep_for_ever();
    }
    if (in_parent != 1 || prepared != 1 || !neighbour_is_well("neighbour_parent"))
        finish("FAIL the parent's handlers");
    start_ender();
    sleep_for_ever();
}
