// flags: -O1 -g -pthread -rdynamic -fno-stack-protector -ldl -lm
/*
 * Functions to call from outside, of each kind of argument and result, and of each way to crash. A SIGSEGV handler of
 * its own counts: it must run for a crash of its own thread, and for no crash of a call.
 */
#include "sentinel.h"
#include <errno.h>
#include <fenv.h>
#include <setjmp.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

static char said[256];

static void tell(const char *format, ...)
{
    __builtin_va_list arguments;
    __builtin_va_start(arguments, format);
    vsnprintf(said, sizeof said, format, arguments);
    __builtin_va_end(arguments);
    say(said);
}

struct pair {
    long first, second;
} table = {7, 9};
const char *kept;

NOINLINE int add(int a, int b)
{
    return a + b;
}
NOINLINE long twelve(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l)
{
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + 11 * k + 12 * l;
}
NOINLINE double mix(int n, double a, float b, const char *text)
{
    tell("mix %d %g %g %s", n, a, b, text);
    return n * a + b;
}
NOINLINE float half(float a)
{
    return a / 2;
}
NOINLINE void keep(const char *text)
{
    kept = text;
}
NOINLINE const char *get_kept(void)
{
    return kept;
}
NOINLINE struct pair *where(void)
{
    return &table;
}
NOINLINE long second_of(struct pair *pair)
{
    return pair->second;
}
NOINLINE void *fill(size_t size)
{
    return memset(malloc(size), 1, size);
}
NOINLINE int is_big(unsigned value)
{
    return value > 1000;
}
NOINLINE signed char letter(int offset)
{
    return (signed char)('a' + offset);
}
NOINLINE int fails(void)
{
    errno = ENOENT;
    return -1;
}
NOINLINE int errno_now(void)
{
    return errno;
}
int (*hook)(int, int) = add;

/* Crashes, each one frame deeper so that the caller is seen. */
NOINLINE int deep_write(volatile int *at)
{
    *at = 1;
    return *at + 1;
}
NOINLINE int segfaults(void)
{
    return deep_write((int *)16) + 1;
}
NOINLINE int aborts(void)
{
    abort();
}
NOINLINE int divides(int by)
{
    return 100 / by + 1;
}
NOINLINE int illegal(void)
{
    __builtin_trap();
}
NOINLINE int buses(void)
{
    FILE *file = tmpfile();
    char *at = mmap(0, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
    return *(volatile char *)at + 1;
}
NOINLINE int overflows(volatile char *above)
{
    volatile char here[512];
    if (above == said)
        return 0;
    here[0] = above ? above[0] : 0;
    return overflows(here) + here[0];
}
int (*volatile nowhere)(void);
NOINLINE int jumps_to_null(void)
{
    return nowhere() + 1;
}
NOINLINE int double_free(void)
{
    void *volatile block = malloc(100);
    void *volatile other = malloc(100);
    free(block);
    free(other);
    free(block);
    return 0;
}
NOINLINE int blocked_segfault(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    return segfaults() + 1;
}
/* Writes far beyond its frame, over whatever called it. */
NOINLINE int smashes(size_t count)
{
    char here[16];
    memset(*(char *volatile[]){here}, 0x41, count);
    return here[3];
}
NOINLINE int jumps_wildly(void)
{
    nowhere = (int (*)(void))0x4141414141414141;
    return nowhere() + 1;
}
NOINLINE void ends_thread(void)
{
    syscall(SYS_exit, 3);
}
NOINLINE int rounds_up(void)
{
    return fesetround(FE_UPWARD) | feenableexcept(FE_DIVBYZERO | FE_INEXACT);
}
NOINLINE double third(double of)
{
    return of / 3;
}
NOINLINE void checks_alignment(void)
{
#ifdef __x86_64__
    __asm__ volatile("pushfq\n orq $0x40000, (%%rsp)\n popfq" ::: "memory", "cc");
#endif
}
/* As glibc does for the time of some functions. */
NOINLINE int sealed_segfault(void)
{
    sigset_t set;
    sigfillset(&set);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    return segfaults() + 1;
}
NOINLINE void exits_thread(void)
{
    pthread_exit(0);
}
NOINLINE void exits(void)
{
    exit(3);
}
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
NOINLINE int locks_and_crashes(void)
{
    pthread_mutex_lock(&mutex);
    return segfaults() + 1;
}
NOINLINE int try_lock(void)
{
    return pthread_mutex_trylock(&mutex);
}
NOINLINE int forks(void)
{
    pid_t child = fork();
    if (child == 0)
        segfaults();
    int status;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}
NOINLINE void execs(void)
{
    execl("/bin/sh", "sh", "-c", "echo executed; echo PASS", (char *)0);
}
static volatile int turning = 1;
NOINLINE int spins(void)
{
    while (turning)
        ;
    return 4;
}
NOINLINE void stop_spinning(void)
{
    turning = 0;
}
static int gate[2];
NOINLINE int hangs(void)
{
    char byte;
    return (int)read(gate[0], &byte, 1);
}

/* Its own crashes: a thread that faults, is caught by its handler, and tells. */
static volatile int handled;
static __thread sigjmp_buf back;
static void handler(int signal)
{
    handled++;
    siglongjmp(back, signal);
}
static void *crasher(void *unused)
{
    if (!sigsetjmp(back, 1))
        segfaults();
    return unused;
}
NOINLINE int count_handled(void)
{
    return handled;
}
static int rounds;

int main(void)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, 0);
    signal(SIGFPE, SIG_IGN);
    if (pipe(gate))
        finish("FAIL pipe");
    setvbuf(stdout, 0, _IOLBF, 0);
    say("ready");
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        if (line[0] == '\n')
            finish("PASS");
        if (!strcmp(line, "open\n")) {
            if (write(gate[1], "x", 1) != 1)
                finish("FAIL write");
        } else if (!strcmp(line, "crash\n")) {
            pthread_t thread;
            pthread_create(&thread, 0, crasher, 0);
            pthread_join(thread, 0);
            tell("handled %d", handled);
        } else if (!strcmp(line, "heap\n")) {
            struct mallinfo2 info = mallinfo2();
            tell("heap %zu %zu", info.uordblks + info.hblkhd, info.arena + info.hblkhd);
        } else if (!strcmp(line, "look\n")) {
            struct sigaction segv, fpe;
            sigaction(SIGSEGV, 0, &segv);
            sigaction(SIGFPE, 0, &fpe);
            struct sigaction abrt;
            sigaction(SIGABRT, 0, &abrt);
            tell("look %d %d %d %d", segv.sa_handler == handler && segv.sa_flags & SA_NODEFER,
                 fpe.sa_handler == SIG_IGN, abrt.sa_handler == SIG_DFL, rounds++);
        }
    }
    finish("PASS");
}
