// flags: -O2 -pthread
/*
 * One thread in each of 20 blocking system calls, for ever or for an hour. Whatever looks at this
 * process must not be felt by it: every return of a call is counted, those with EINTR by themselves.
 * On a line (or the end) of standard input it prints a table `NAME early=N eintr=N` and PASS when all are 0.
 */
#include "janitor.h"
#include <sched.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

enum { HOUR = 3600 };

static int silent_pipe[2], silent_pair[2], timed_pair[2], listener, semaphores, queue;
static pid_t child;

static long block_poll(void) { return poll(&(struct pollfd){ silent_pipe[0], POLLIN, 0 }, 1, -1); }
static long block_ppoll(void)
{
    return ppoll(&(struct pollfd){ silent_pipe[0], POLLIN, 0 }, 1, &(struct timespec){ HOUR, 0 }, 0);
}
static long block_select(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(silent_pipe[0], &set);
    return select(silent_pipe[0] + 1, &set, 0, 0, &(struct timeval){ HOUR, 0 });
}
static long block_epoll_wait(void)
{
    static int epoll = -1;
    if (epoll < 0) {
        epoll = epoll_create1(0);
        struct epoll_event event = { .events = EPOLLIN };
        epoll_ctl(epoll, EPOLL_CTL_ADD, silent_pipe[0], &event);
    }
    struct epoll_event got;
    return epoll_wait(epoll, &got, 1, HOUR * 1000);
}
static long block_nanosleep(void) { return nanosleep(&(struct timespec){ HOUR, 0 }, 0); }
static long block_sem_wait(void)
{
    static sem_t semaphore;
    return sem_wait(&semaphore);
}
static long block_semop(void) { return semop(semaphores, &(struct sembuf){ 0, -1, 0 }, 1); }
static long block_msgrcv(void)
{
    struct { long type; char text[16]; } message;
    return msgrcv(queue, &message, sizeof message.text, 0, 0);
}
static long block_sigtimedwait(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    return sigtimedwait(&set, 0, &(struct timespec){ HOUR, 0 });
}
static long block_sigwaitinfo(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 4);
    return sigwaitinfo(&set, 0);
}
static long block_recv(void)
{
    char byte;
    return recv(silent_pair[0], &byte, 1, 0);
}
static long block_recv_timeo(void)
{
    char byte;
    return recv(timed_pair[0], &byte, 1, 0);
}
static long block_accept(void) { return accept(listener, 0, 0); }
static long block_inotify(void)
{
    static int inotify = -1;
    if (inotify < 0)
        inotify = inotify_init1(0);
    char event[512];
    return read(inotify, event, sizeof event);
}
static long block_eventfd(void)
{
    static int event = -1;
    if (event < 0)
        event = eventfd(0, 0);
    uint64_t value;
    return read(event, &value, sizeof value);
}
static long block_futex_timed(void)
{
    static int word;
    return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &(struct timespec){ HOUR, 0 }, 0, 0);
}
static long block_condition(void)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    pthread_mutex_lock(&mutex);
    errno = pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
    return 0;
}
static long block_pause(void) { return pause(); }
static long block_waitid(void)
{
    siginfo_t info;
    return waitid(P_PID, child, &info, WEXITED);
}
static long block_pipe_read(void)
{
    char byte;
    return read(silent_pipe[0], &byte, 1);
}

struct blocked {
    const char *name;
    long (*call)(void);
    atomic_int tid, early, eintr;
};

static struct blocked calls[] = {
    { "poll", block_poll }, { "ppoll", block_ppoll }, { "select", block_select },
    { "epoll_wait", block_epoll_wait }, { "nanosleep", block_nanosleep }, { "sem_wait", block_sem_wait },
    { "semop", block_semop }, { "msgrcv", block_msgrcv }, { "sigtimedwait", block_sigtimedwait },
    { "sigwaitinfo", block_sigwaitinfo }, { "recv", block_recv }, { "recv_timeo", block_recv_timeo },
    { "accept", block_accept }, { "inotify", block_inotify }, { "eventfd", block_eventfd },
    { "futex_timed", block_futex_timed }, { "condition", block_condition }, { "pause", block_pause },
    { "waitid", block_waitid }, { "pipe_read", block_pipe_read },
};
enum { CALLS = sizeof calls / sizeof *calls };
_Static_assert(CALLS == 20, "the issue names 20 calls");

static void *run(void *argument)
{
    struct blocked *blocked = argument;
    pthread_setname_np(pthread_self(), blocked->name);
    blocked->tid = (int)syscall(SYS_gettid);
    for (;;) {
        errno = 0;
        long result = blocked->call();
        if (result < 0 && errno == EINTR)
            blocked->eintr++;
        else
            blocked->early++;
    }
    return 0;
}

/* The state letter of a thread of this process. */
static char state_of(int tid)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0)
        return '?';
    text[length] = 0;
    const char *end = strrchr(text, ')');
    return end ? end[2] : '?';
}

/* The child that waitid waits for removes these. */
static void remove_objects(void)
{
    semctl(semaphores, 0, IPC_RMID);
    msgctl(queue, IPC_RMID, 0);
}

int main(void)
{
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGRTMIN + 3);
    sigaddset(&awaited, SIGRTMIN + 4);
    pthread_sigmask(SIG_BLOCK, &awaited, 0);

    struct sockaddr_un any = { .sun_family = AF_UNIX };
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    queue = msgget(IPC_PRIVATE, 0600);
    if (pipe(silent_pipe) || socketpair(AF_UNIX, SOCK_STREAM, 0, silent_pair)
        || socketpair(AF_UNIX, SOCK_STREAM, 0, timed_pair) || listener < 0 || semaphores < 0 || queue < 0
        || bind(listener, (struct sockaddr *)&any, sizeof(sa_family_t)) || listen(listener, 1)
        || setsockopt(timed_pair[0], SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ HOUR, 0 }, sizeof(struct timeval)))
        finish("FAIL set-up");
    pid_t parent = getpid();
    child = fork();
    if (child == 0)
        janitor(parent, remove_objects);

    for (int i = 0; i < CALLS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, run, &calls[i]) != 0)
            finish("FAIL pthread_create");
    }
    for (int i = 0; i < CALLS; i++)
        while (calls[i].tid == 0 || state_of(calls[i].tid) != 'S')
            sched_yield();
    say("ready");

    char byte;
    ssize_t got;
    int own_eintr = 0;
    while ((got = read(0, &byte, 1)) < 0)
        own_eintr += errno == EINTR;

    int disturbed = own_eintr;
    for (int i = 0; i < CALLS; i++) {
        printf("%s early=%d eintr=%d\n", calls[i].name, calls[i].early, calls[i].eintr);
        disturbed += calls[i].early + calls[i].eintr;
    }
    fflush(stdout);
    kill(child, SIGTERM);
    finish(disturbed ? "FAIL a blocked call was disturbed" : "PASS");
}
