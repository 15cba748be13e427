// flags: -O2 -g -pthread
/*
 * The shapes of stack that C code makes, one thread each, all blocked at their innermost frame: the
 * driver compiles this file by several compilers and at several settings and compares with gdb. Three
 * threads (`altstack`, `fault`, `nested`) sit above a signal frame.
 */
#include "sentinel.h"
#include <alloca.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#define NOINLINE __attribute__((noinline))

static atomic_int arrived;
static int silent_pipe[2];
static volatile int zero;
static volatile int sink;

/* The innermost function: one of several blocking calls, so that libc's own frames differ too. Never returns,
 * but its callers must not know: they keep their frames. */
NOINLINE static int block(int how)
{
    arrived++;
    while (!zero) {
        char byte;
        switch (how % 5) {
        case 0: pause(); break;
        case 1: sink = read(silent_pipe[0], &byte, 1) > 0; break;
        case 2: poll(0, 0, -1); break;
        case 3: sleep(3600); break;
        default: sleep_for_ever();
        }
    }
    return how;
}

NOINLINE static int with_alloca(int size)
{
    volatile char *room = alloca(size);
    room[0] = 1;
    int result = block(room[0]);
    return result + room[size - 1];
}

NOINLINE static int with_vla(int size)
{
    volatile long room[size];
    room[size - 1] = block(2);
    return (int)room[size - 1];
}

NOINLINE static int with_aligned_local(int how)
{
    volatile char room[100] __attribute__((aligned(64)));
    room[0] = (char)how;
    int result = block(room[0]);
    return result + room[1];
}

#if defined(__x86_64__)
__attribute__((force_align_arg_pointer))
#endif
NOINLINE static int with_realigned_stack(int how)
{
    volatile char room[40] __attribute__((aligned(32)));
    room[0] = (char)how;
    int result = with_alloca(room[0] + 64);
    return result + room[0];
}

NOINLINE static int with_aligned_vla(int size)
{
    volatile char fixed[64] __attribute__((aligned(128)));
    volatile char room[size];
    fixed[0] = room[0] = 4;
    int result = block(fixed[0]);
    return result + room[0];
}

NOINLINE static int with_large_frame(int how)
{
    volatile char room[200000];
    room[0] = (char)how;
    int result = block(room[0]);
    return result + room[100000];
}

/* Every callee-saved register is live across the call. */
NOINLINE static long with_many_values(long a, long b, long c, long d, long e, long f, long g, long h)
{
    long p = a * b, q = c * d, r = e * f, s = g * h, t = a + h, u = b + g, v = c + f;
    long result = block((int)a);
    return result + p + q + r + s + t + u + v + (a ^ b ^ c ^ d ^ e ^ f ^ g ^ h);
}

static int compare_and_block(const void *left, const void *right)
{
    return block(3) + *(const int *)left - *(const int *)right;
}

NOINLINE static int in_qsort(void)
{
    int values[] = { 3, 1, 2 };
    qsort(values, 3, sizeof *values, compare_and_block);
    return values[0];
}

NOINLINE static int in_bsearch(void)
{
    int values[] = { 1, 2, 3 }, key = 2;
    return bsearch(&key, values, 3, sizeof *values, compare_and_block) != 0;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void block_once(void) { sink = block(0); }
NOINLINE static int in_pthread_once(void) { return pthread_once(&once, block_once); }

__attribute__((always_inline)) static inline int inlined_innermost(int how) { return block(how) + 1; }
__attribute__((always_inline)) static inline int inlined_middle(int how) { return inlined_innermost(how + 1) * 2; }
__attribute__((always_inline)) static inline int inlined_outermost(int how) { return inlined_middle(how + 1) + 3; }
NOINLINE static int with_inlining(int how) { return inlined_outermost(how) + inlined_outermost(how + 1); }

NOINLINE static int tail_target(int how) { return block(how) + 1; }
NOINLINE static int tail_middle(int how) { return tail_target(how + 1); }
NOINLINE static int with_tail_calls(int how) { return tail_middle(how + 1); }

NOINLINE static int recurse(int depth)
{
    volatile int local = depth;
    if (depth == 0)
        return block(1);
    return recurse(depth - 1) + local;
}

/* The call is the last instruction: the return address lies in the next function. */
__attribute__((noreturn)) NOINLINE static void never_returns(void)
{
    sink = block(2);
    _exit(3);
}
NOINLINE static void ends_with_a_call(void)
{
    sink = 1;
    never_returns();
}

static void handler(int number) { sink = block(number); }

NOINLINE static int on_alternate_stack(void)
{
    stack_t stack = { .ss_size = 256 << 10 };
    stack.ss_sp = mmap(0, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
    sigaltstack(&stack, 0);
    sigaction(SIGUSR1, &action, 0);
    return raise(SIGUSR1) + 1;
}

static void info_handler(int number, siginfo_t *info, void *context)
{
    sink = block(number) + (info != 0) + (context != 0);
}

static volatile int *volatile nowhere;

NOINLINE static int in_fault(void)
{
    struct sigaction action = { .sa_sigaction = info_handler, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &action, 0);
    *nowhere = 1;
    return sink;
}

NOINLINE static int nested_signals(void)
{
    struct sigaction action = { .sa_sigaction = info_handler, .sa_flags = SA_SIGINFO };
    sigaction(SIGUSR2, &action, 0);
    return raise(SIGUSR2) + 1;
}

/* A shape is a function of no argument and its thread's name. */
static void *shape_alloca(void *unused) { sink = with_alloca(1000); return unused; }
static void *shape_vla(void *unused) { sink = with_vla(100); return unused; }
static void *shape_aligned(void *unused) { sink = with_aligned_local(1); return unused; }
static void *shape_realigned(void *unused) { sink = with_realigned_stack(1); return unused; }
static void *shape_aligned_vla(void *unused) { sink = with_aligned_vla(77); return unused; }
static void *shape_large(void *unused) { sink = with_large_frame(1); return unused; }
static void *shape_values(void *unused) { sink = (int)with_many_values(1, 2, 3, 4, 5, 6, 7, 8); return unused; }
static void *shape_qsort(void *unused) { sink = in_qsort(); return unused; }
static void *shape_bsearch(void *unused) { sink = in_bsearch(); return unused; }
static void *shape_once(void *unused) { sink = in_pthread_once(); return unused; }
static void *shape_inlined(void *unused) { sink = with_inlining(1); return unused; }
static void *shape_tail(void *unused) { sink = with_tail_calls(1); return unused; }
static void *shape_recursion(void *unused) { sink = recurse(25); return unused; }
static void *shape_noreturn(void *unused) { ends_with_a_call(); return unused; }
static void *shape_altstack(void *unused) { sink = on_alternate_stack(); return unused; }
static void *shape_fault(void *unused) { sink = in_fault(); return unused; }
static void *shape_nested(void *unused) { sink = nested_signals(); return unused; }

static const struct {
    const char *name;
    void *(*run)(void *);
} shapes[] = {
    { "alloca", shape_alloca }, { "vla", shape_vla }, { "aligned", shape_aligned },
    { "realigned", shape_realigned }, { "aligned_vla", shape_aligned_vla }, { "large", shape_large },
    { "values", shape_values }, { "qsort", shape_qsort }, { "bsearch", shape_bsearch }, { "once", shape_once },
    { "inlined", shape_inlined }, { "tail", shape_tail }, { "recursion", shape_recursion },
    { "noreturn", shape_noreturn }, { "altstack", shape_altstack }, { "fault", shape_fault },
    { "nested", shape_nested },
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

NOINLINE static void main_waits_here(void)
{
    while (arrived < SHAPES)
        sched_yield();
    say("ready");
    char byte;
    while (read(0, &byte, 1) < 0)
        continue;
}

int main(void)
{
    if (pipe(silent_pipe) != 0)
        finish("FAIL pipe");
    for (int i = 0; i < SHAPES; i++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, shapes[i].run, 0) != 0)
            finish("FAIL pthread_create");
        pthread_setname_np(thread, shapes[i].name);
    }
    main_waits_here();
    finish("PASS");
}
