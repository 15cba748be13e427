// flags: -O2 -pthread
/*
 * Eight calls with a timeout of 100 ms, each in a loop of its own thread. On a line (or the end) of
 * standard input it prints `NAME runs=N min_us=N max_us=N eintr=N` a call, and PASS when no call was
 * interrupted or came back early. How late is too late is the driver's to judge: it has a control run.
 */
#include "janitor.h"
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

enum { TIMEOUT_US = 100 * 1000 };
static const struct timespec timeout = { 0, TIMEOUT_US * 1000L };

static int epoll, pair[2], semaphores;

static long time_epoll_wait(void)
{
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, TIMEOUT_US / 1000);
}
static long time_sigtimedwait(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    return sigtimedwait(&set, 0, &timeout);
}
static long time_ppoll(void) { return ppoll(0, 0, &timeout, 0); }
static long time_select(void) { return select(0, 0, 0, 0, &(struct timeval){ 0, TIMEOUT_US }); }
static long time_nanosleep(void) { return nanosleep(&timeout, 0); }
static long time_futex(void)
{
    static int word;
    return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &timeout, 0, 0);
}
static long time_semtimedop(void) { return semtimedop(semaphores, &(struct sembuf){ 0, -1, 0 }, 1, &timeout); }
static long time_recv(void)
{
    char byte;
    return recv(pair[0], &byte, 1, 0);
}

struct timed {
    const char *name;
    long (*call)(void);
    atomic_long runs, shortest, longest, eintr;
};

static struct timed calls[] = {
    { "epoll_wait", time_epoll_wait }, { "sigtimedwait", time_sigtimedwait }, { "ppoll", time_ppoll },
    { "select", time_select }, { "nanosleep", time_nanosleep }, { "futex", time_futex },
    { "semtimedop", time_semtimedop }, { "recv", time_recv },
};
enum { CALLS = sizeof calls / sizeof *calls };

static long now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

static void *run(void *argument)
{
    struct timed *timed = argument;
    pthread_setname_np(pthread_self(), timed->name);
    for (;;) {
        long start = now_us();
        errno = 0;
        long result = timed->call();
        int interrupted = result < 0 && errno == EINTR;
        long took = now_us() - start;
        timed->eintr += interrupted;
        if (took > timed->longest)
            timed->longest = took;
        if (timed->runs == 0 || took < timed->shortest)
            timed->shortest = took;
        timed->runs++;
    }
    return 0;
}

/* What the janitor removes. */
static void remove_objects(void)
{
    semctl(semaphores, 0, IPC_RMID);
}

int main(void)
{
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGRTMIN + 3);
    pthread_sigmask(SIG_BLOCK, &awaited, 0);
    epoll = epoll_create1(0);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    if (epoll < 0 || semaphores < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair)
        || setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ 0, TIMEOUT_US }, sizeof(struct timeval)))
        finish("FAIL set-up");
    pid_t parent = getpid();
    if (fork() == 0)
        janitor(parent, remove_objects);
    for (int i = 0; i < CALLS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, run, &calls[i]) != 0)
            finish("FAIL pthread_create");
    }
    for (int i = 0; i < CALLS; i++)
        while (calls[i].runs == 0)
            syscall(SYS_ppoll, 0, 0, &(struct timespec){ 0, 1000000 }, 0, 8);
    say("ready");

    char byte;
    while (read(0, &byte, 1) < 0)
        continue;

    int harmed = 0;
    for (int i = 0; i < CALLS; i++) {
        printf("%s runs=%ld min_us=%ld max_us=%ld eintr=%ld\n", calls[i].name, calls[i].runs, calls[i].shortest,
               calls[i].longest, calls[i].eintr);
        /* A millisecond of grace: recv's timeout is counted in jiffies. */
        harmed += calls[i].eintr != 0 || calls[i].shortest < TIMEOUT_US - 1000;
    }
    fflush(stdout);
    finish(harmed ? "FAIL a timed call was interrupted or came back early" : "PASS");
}
