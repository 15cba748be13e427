/* Stacks of many kinds, for the tests in live.rs: `run` blocks in `leaf`, in read(2). */
#include <alloca.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

typedef void hook(void *);
static hook *volatile the_hook;
static void *volatile the_argument;
static volatile int the_pipe;
volatile int sink;

__attribute__((noinline)) int leaf(int depth) {
    char byte[64];
    the_hook(the_argument);
    long count = read(the_pipe, byte, 1);
    sink += (int)count + depth;
    return sink;
}

/* Fixed frames of several kinds: saved registers, large arrays, a jump table, early exits. */
__attribute__((noinline)) int fixed(int depth) {
    volatile int room[30];
    int a = sink, b = sink + 1, c = sink + 2, d = sink + 3;
    if (depth < 0) return 1;
    for (int i = 0; i < 30; i++) room[i] = a * i;
    int inner = depth ? fixed(depth - 1) : leaf(depth);
    switch (sink & 7) {
    case 0: sink = a; break;
    case 1: sink = b * 3; break;
    case 2: sink = c * d; break;
    case 3: sink = room[3]; break;
    case 4: leaf(-1); break;
    case 5: sink = 9 * a; break;
    }
    return inner + room[depth & 7] + a * b - c + d;
}

/* Eight arguments: two are pushed around the call. */
__attribute__((noinline)) int many(int a, int b, int c, int d, int e, int f, int g, int h) {
    int inner = fixed(2);
    return inner + a + b * c + d + e + f * g + h;
}

__attribute__((noinline)) int pushing(int depth) {
    if (sink == 77) return many(1, 2, 3, 4, 5, 6, 7, depth);
    int inner = many(depth, 2, sink, 4, 5, 6, sink, 8);
    return inner + many(1, inner, 1, 1, 1, 1, 1, 1) * 0;
}

__attribute__((noinline)) int variable(int size) {
    volatile char *room = alloca(size);
    room[0] = 1;
    int inner = leaf(size);
    return inner + room[size - 1];
}

__attribute__((noinline)) int realigned(int depth) {
    volatile __attribute__((aligned(64))) char room[64];
    room[depth] = 1;
    return fixed(1) + room[depth];
}

__attribute__((noinline)) int indirect(int depth) {
    int (*volatile function)(int) = fixed;
    int result = function(depth);
    return result + 1;
}

/* In the handler of a signal, on an alternate stack. */
static void handler(int number) { sink += fixed(1) + number; }

__attribute__((noinline)) int signalled(int depth) {
    stack_t stack = { .ss_sp = malloc(1 << 17), .ss_size = 1 << 17 }, old;
    struct sigaction action = { .sa_handler = handler, .sa_flags = depth ? SA_ONSTACK : 0 };
    sigaltstack(&stack, &old);
    sigaction(SIGURG, &action, NULL);
    raise(SIGURG);
    sigaltstack(&old, NULL);
    free(stack.ss_sp);
    return sink + depth;
}

static ucontext_t outer, inner;
static void coroutine(void) { sink += fixed(1); }

__attribute__((noinline)) int switched(int depth) {
    getcontext(&inner);
    inner.uc_stack.ss_sp = malloc(1 << 17);
    inner.uc_stack.ss_size = 1 << 17;
    inner.uc_link = &outer;
    makecontext(&inner, coroutine, 0);
    swapcontext(&outer, &inner);
    return sink + depth;
}

int run(const char *kind, hook *hook, void *argument, int pipe) {
    the_hook = hook; the_argument = argument; the_pipe = pipe;
    int result = -1;
    if (!strcmp(kind, "fixed")) result = fixed(5);
    if (!strcmp(kind, "pushing")) result = pushing(5);
    if (!strcmp(kind, "variable")) result = variable(100);
    if (!strcmp(kind, "realigned")) result = realigned(5);
    if (!strcmp(kind, "indirect")) result = indirect(3);
    if (!strcmp(kind, "signalled")) result = signalled(0);
    if (!strcmp(kind, "alternate")) result = signalled(1);
    if (!strcmp(kind, "switched")) result = switched(1);
    return result + 1;
}
