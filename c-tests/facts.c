// flags: -O0 -g -pthread
/*
 * A process of many facts: signal handlers, blocked and pending signals, timers of every kind, an environment that it
 * changed; and a needle of 19 bytes that stands in six places of its own memory, one shared one, and nowhere else.
 * With the argument `title` it writes a title over its arguments.
 */
#include "sentinel.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

struct node {
    long number;
    struct node *next;
};

struct node anchor_node = {7, 0};
struct node *node_pointer = &anchor_node;
char planted_data[64] = "x";

/* `needle-4711-planted` with every byte changed: the needle itself stands in no file and no register. */
static const unsigned char hidden[] = {0x34, 0x3f, 0x3f, 0x3e, 0x36, 0x3f, 0x77, 0x6e, 0x6d,
                                       0x6b, 0x6b, 0x77, 0x2a, 0x36, 0x3b, 0x34, 0x2e, 0x3f, 0x3e};

static void plant(volatile char *to)
{
    for (unsigned at = 0; at < sizeof hidden; at++)
        to[at] = hidden[at] ^ 0x5a;
}

static void tell(const char *name, const volatile void *address)
{
    char line[128];
    snprintf(line, sizeof line, "planted %s %p", name, (void *)address);
    say(line);
}

static void on_usr1(int number, siginfo_t *information, void *context)
{
    (void)number, (void)information, (void)context;
}
static void on_winch(int number) { (void)number; }
static void on_timer(union sigval value) { (void)value; }

static void handle(void)
{
    struct sigaction action = {.sa_sigaction = on_usr1, .sa_flags = SA_RESTART | SA_SIGINFO};
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaction(SIGUSR1, &action, 0);
    struct sigaction once = {.sa_handler = on_winch, .sa_flags = SA_RESETHAND | SA_NODEFER};
    sigaction(SIGWINCH, &once, 0);
    signal(SIGHUP, SIG_IGN);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGURG);
    sigaddset(&blocked, SIGRTMIN + 2);
    pthread_sigmask(SIG_BLOCK, &blocked, 0);
    signal(SIGURG, on_winch);
    pthread_kill(pthread_self(), SIGURG);
    kill(getpid(), SIGRTMIN + 2);
    kill(getpid(), SIGRTMIN + 2);
}

static void arm(void)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
    event.sigev_value.sival_ptr = (void *)0x4242;
    struct itimerspec when = {.it_value = {1000, 0}, .it_interval = {7, 500000000}};
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &when, 0);
    timer_create(CLOCK_REALTIME, &event, &timer);
    struct sigevent thread = {.sigev_notify = SIGEV_THREAD};
    thread.sigev_notify_function = on_timer;
    struct itimerspec once = {.it_value = {2000, 0}};
    timer_create(CLOCK_BOOTTIME, &thread, &timer);
    timer_settime(timer, 0, &once, 0);
    struct itimerval virtual = {.it_value = {500, 0}, .it_interval = {5, 0}};
    setitimer(ITIMER_VIRTUAL, &virtual, 0);
    alarm(3000);
    int descriptor = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec every = {.it_value = {4000, 0}, .it_interval = {60, 0}};
    timerfd_settime(descriptor, 0, &every, 0);
    char line[64];
    snprintf(line, sizeof line, "timerfd %d", descriptor);
    say(line);
}

static void *sleeper(void *unused)
{
    volatile char here[32];
    plant(here);
    tell("thread", here);
    (void)unused;
    say("ready");
    sleep_for_ever();
}

int main(int argc, char **argv)
{
    setenv("FACTS_ADDED", "new\n\033[31m\"value\"", 1);
    setenv("FACTS_CHANGED", "after", 1);
    unsetenv("FACTS_REMOVED");
    static char put[] = "FACTS_PUT=put";
    putenv(put);
    if (argc > 1 && strcmp(argv[1], "title") == 0) {
        /* What setproctitle does: the arguments move away, and their place takes the title. */
        char *area = argv[0];
        size_t size = argv[argc - 1] + strlen(argv[argc - 1]) + 1 - area;
        for (int at = 0; at < argc; at++)
            argv[at] = strdup(argv[at]);
        memset(area, 0, size);
        strncpy(area, "facts: a title", size - 1);
    }
    prctl(PR_SET_NAME, "the first");
    handle();
    arm();

    char *heap = malloc(100);
    plant(heap);
    tell("heap", heap);
    struct node **cell = malloc(sizeof *cell);
    *cell = &anchor_node;
    tell("pointer", cell);
    plant(planted_data + 3);
    tell("data", planted_data + 3);
    volatile char here[32];
    plant(here + 1);
    tell("stack", here + 1);
    int private = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *border = mmap(0, 8192, PROT_READ | PROT_WRITE, private, -1, 0);
    plant(border + 4096 - 5);
    tell("border", border + 4096 - 5);
    char *sparse = mmap(0, 64ul << 30, PROT_READ | PROT_WRITE, private, -1, 0);
    if (sparse == MAP_FAILED)
        finish("FAIL mmap");
    plant(sparse + (37ul << 30) + 123);
    tell("sparse", sparse + (37ul << 30) + 123);
    char *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    plant(shared + 9);
    tell("shared", shared + 9);
    start_ender();
    pthread_t thread;
    pthread_create(&thread, 0, sleeper, 0);
    pthread_join(thread, 0);
}
