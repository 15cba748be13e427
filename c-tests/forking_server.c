// flags: -O2 -g -pthread
/*
 * A server in the shape of PostgreSQL: a parent that listens, waits for children in sigsuspend-like fashion and
 * never serves, and children forked (not executed) from it that wait for work, each at a depth of its own kind. It
 * prints `children PID…` and `ready`.
 */
#include "sentinel.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define NOINLINE __attribute__((noinline))
enum { CHILDREN = 3 };

static volatile sig_atomic_t wanted_down;
static int wake_pipe[2];
static volatile int sink;

static void on_signal(int number)
{
    wanted_down = number;
    (void)!write(wake_pipe[1], "", 1);
}

/* PostgreSQL's latch: an epoll set with the pipe that signal handlers write to. */
NOINLINE static int wait_event_set_wait(int epoll)
{
    struct epoll_event event;
    while (!wanted_down)
        sink = epoll_wait(epoll, &event, 1, -1);
    return wanted_down;
}

NOINLINE static int wait_latch(int listener)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN };
    epoll_ctl(epoll, EPOLL_CTL_ADD, wake_pipe[0], &event);
    if (listener >= 0)
        epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    int result = wait_event_set_wait(epoll);
    close(epoll);
    return result;
}

NOINLINE static int checkpointer_main(void) { return wait_latch(-1) + 1; }

NOINLINE static int backend_main(int listener)
{
    int client = accept(listener, 0, 0);
    return wait_latch(client) + 2;
}

NOINLINE static int worker_main(void)
{
    char byte;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return 1;
    while (!wanted_down)
        sink = (int)recv(pair[0], &byte, 1, 0);
    return 0;
}

/* Children get their own pipe and die with the parent. */
NOINLINE static pid_t start_child(int kind, int listener)
{
    pid_t parent = getpid(), child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || pipe(wake_pipe) != 0)
        _exit(1);
    int status = kind == 0 ? checkpointer_main() : kind == 1 ? backend_main(listener) : worker_main();
    _exit(status);
}

NOINLINE static int server_loop(int listener)
{
    int status = wait_latch(listener);
    return status;
}

int main(void)
{
    struct sockaddr_un any = { .sun_family = AF_UNIX };
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGTERM, &action, 0);
    if (pipe(wake_pipe) || bind(listener, (struct sockaddr *)&any, sizeof(sa_family_t)) || listen(listener, 8))
        finish("FAIL set-up");
    start_ender();
    printf("children");
    for (int kind = 0; kind < CHILDREN; kind++) {
        fflush(stdout);
        printf(" %d", start_child(kind, listener));
    }
    printf("\n");
    fflush(stdout);
    say("ready");
    server_loop(listener);
    finish("FAIL the server loop returned");
}
