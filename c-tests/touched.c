// flags: -O1 -g -pthread
/*
 * Something to touch: variables of each size, handlers that say what came and where, threads that block in a read,
 * and one that looks whether it ever sees half of a write to `word`. Lines on standard input make it say what there
 * is (`show`) or write to a descriptor (`write FD`); an empty one ends it.
 */
#include "sentinel.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

volatile unsigned config_level = 1;
volatile signed char flag = -1;
volatile short width = 2;
volatile long long counter = 3;
volatile float ratio = 0.5f;
volatile double scale = 0.25;
char name[8] = "old";
volatile int four[4] = {1, 2, 3, 4};
struct node { struct node *next; } first_node;
struct node *volatile head;
extern const int fixed;
const int fixed = 5;
__thread int mine = 6;
/* Both halves are always the same, unless a write is seen in part. */
volatile unsigned long long word;
unsigned char *readonly_page, *code_page, *beyond_page;

static int pair[2];
static volatile int torn;

static void on_signal(int number, siginfo_t *information, void *context)
{
    (void)context;
    char line[128];
    snprintf(line, sizeof line, "got %d from %d in %d", number, information->si_pid, (int)syscall(SYS_gettid));
    say(line);
}

static void *block(void *title)
{
    char byte, line[64];
    pthread_setname_np(pthread_self(), title);
    ssize_t count = recv(pair[0], &byte, 1, 0);
    snprintf(line, sizeof line, "%s read %zd", (char *)title, count);
    say(line);
    sleep_for_ever();
}

static void *watch(void *unused)
{
    (void)unused;
    pthread_setname_np(pthread_self(), "watcher");
    for (;;) {
        for (int turn = 0; turn < 100000; turn++) {
            unsigned long long now = word;
            if (now >> 32 != (now & 0xffffffff))
                torn = 1;
        }
        syscall(SYS_sched_yield);
    }
    return unused;
}

static void answer(const char *command)
{
    char line[256];
    int number;
    if (strcmp(command, "show") == 0)
        snprintf(line, sizeof line, "%u %d %d %lld %g %g %s %d,%d %d", config_level, flag, width, counter, ratio, scale,
                 name, four[0], four[1], head == &first_node);
    else if (sscanf(command, "write %d", &number) == 1)
        snprintf(line, sizeof line, "wrote %d %zd", number, write(number, "hello\n", 6));
    else
        snprintf(line, sizeof line, "FAIL %.100s", command);
    say(line);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGUSR1, &action, 0);
    sigaction(SIGRTMIN + 3, &action, 0);
    signal(SIGPIPE, SIG_IGN);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &blocked, 0);
    char path[] = "/tmp/manhole-touched-XXXXXX";
    int file = mkstemp(path);
    unlink(path);
    readonly_page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    code_page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    beyond_page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (beyond_page == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        finish("FAIL preparation");
    pthread_t thread;
    pthread_create(&thread, 0, block, "worker_a");
    pthread_create(&thread, 0, block, "worker_b");
    pthread_create(&thread, 0, watch, 0);
    char line[256];
    snprintf(line, sizeof line, "sockets %d %d file %d", pair[0], pair[1], file);
    say(line);
    say("ready");
    for (;;) {
        size_t length = 0;
        for (;;) {
            ssize_t count = read(0, line + length, 1);
            if (count < 0 && errno == EINTR)
                continue;
            if (count <= 0 || line[length] == '\n' || length == sizeof line - 2)
                break;
            length++;
        }
        line[length] = 0;
        if (length == 0)
            finish(torn ? "FAIL a word was seen in part" : "PASS");
        answer(line);
    }
}
