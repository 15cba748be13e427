// flags: -O2 -g -pthread
/*
 * The shapes of stack that C++ code makes, one thread each, all blocked at their innermost frame. See
 * unwind_matrix.c.
 */
#include "sentinel.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <sched.h>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#define NOINLINE __attribute__((noinline))

static std::atomic<int> arrived;
static volatile int zero;
static volatile int sink;

NOINLINE static int block(int how)
{
    arrived++;
    while (!zero)
        pause();
    return how;
}

namespace outer {
namespace {

struct Shape {
    virtual ~Shape() = default;
    virtual int area(int factor) const = 0;
};

struct Named {
    virtual ~Named() = default;
    virtual int name_length() const = 0;
};

struct Square : Shape, Named {
    int side = 2;
    NOINLINE int area(int factor) const override { return block(factor) + side; }
    NOINLINE int name_length() const override { return block(side) + 1; }
};

/* Called through a base that is not the first: a thunk that adjusts `this` and jumps. */
NOINLINE int through_second_base(const Named &named) { return named.name_length() + 1; }
NOINLINE int through_virtual(const Shape &shape) { return shape.area(3) + 1; }

template <typename T, int N> struct Table {
    T values[N] = {};
    NOINLINE T visit(T start) { return block(static_cast<int>(start)) + values[0]; }
    template <typename F> NOINLINE T apply(F function) { return function(values[N - 1]) + 1; }
};

template <typename T> NOINLINE T generic(const std::vector<T> &values)
{
    return static_cast<T>(block(static_cast<int>(values.size()))) + values[0];
}

struct BlocksInDestructor {
    NOINLINE ~BlocksInDestructor() { sink = block(1); }
};

struct BlocksInConstructor {
    int value;
    NOINLINE explicit BlocksInConstructor(int start) : value(block(start)) {}
};

struct Callable {
    NOINLINE bool operator()(int left, int right) const { return block(left) < right; }
    NOINLINE Callable &operator<<(int value)
    {
        sink = block(value);
        return *this;
    }
};

NOINLINE void throws(int value)
{
    if (!zero)
        throw std::runtime_error("number " + std::to_string(value));
}

NOINLINE int in_catch()
{
    try {
        throws(1);
    } catch (const std::runtime_error &error) {
        return block(static_cast<int>(error.what()[0]));
    }
    return 0;
}

NOINLINE int unwinding()
{
    BlocksInDestructor guard;
    throws(2);
    return sink;
}

NOINLINE int in_unwinding()
{
    try {
        return unwinding() + 1;
    } catch (const std::exception &) {
        return 1;
    }
}

NOINLINE int in_noexcept(int how) noexcept { return block(how) + 1; }

NOINLINE int in_static_guard()
{
    static int value = block(5);
    return value + 1;
}

NOINLINE int in_function(const std::function<int(int)> &function) { return function(4) + 1; }

} // namespace
} // namespace outer

using namespace outer;

static void *shape_catch(void *unused) { sink = in_catch(); return unused; }
static void *shape_destructor(void *unused) { sink = in_unwinding(); return unused; }
static void *shape_virtual(void *unused) { sink = through_virtual(Square()); return unused; }
static void *shape_thunk(void *unused) { sink = through_second_base(Square()); return unused; }
static void *shape_template(void *unused) { sink = static_cast<int>(Table<long, 7>().visit(1)); return unused; }
static void *shape_lambda(void *unused)
{
    int captured = sink;
    sink = Table<int, 3>().apply([captured](int value) { return block(value) + captured; });
    return unused;
}
static void *shape_generic(void *unused) { sink = static_cast<int>(generic(std::vector<double>{ 1, 2 })); return unused; }
static void *shape_constructor(void *unused) { sink = BlocksInConstructor(2).value; return unused; }
static void *shape_sort(void *unused)
{
    std::vector<int> values{ 3, 1, 2 };
    std::sort(values.begin(), values.end(), Callable());
    sink = values[0];
    return unused;
}
static void *shape_operator(void *unused)
{
    Callable callable;
    callable << 3 << 4;
    return unused;
}
static void *shape_noexcept(void *unused) { sink = in_noexcept(1); return unused; }
static void *shape_guard(void *unused) { sink = in_static_guard(); return unused; }
static void *shape_function(void *unused)
{
    sink = in_function([](int value) { return block(value) + 1; });
    return unused;
}

static const struct {
    const char *name;
    void *(*run)(void *);
} shapes[] = {
    { "catch", shape_catch }, { "destructor", shape_destructor }, { "virtual", shape_virtual },
    { "thunk", shape_thunk }, { "template", shape_template }, { "lambda", shape_lambda },
    { "generic", shape_generic }, { "constructor", shape_constructor }, { "sort", shape_sort },
    { "operator", shape_operator }, { "noexcept", shape_noexcept }, { "guard", shape_guard },
    { "function", shape_function },
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

NOINLINE static void main_waits_here()
{
    while (arrived < SHAPES + 1)
        sched_yield();
    say("ready");
    char byte;
    while (read(0, &byte, 1) < 0)
        continue;
}

int main()
{
    for (const auto &shape : shapes) {
        pthread_t thread;
        if (pthread_create(&thread, nullptr, shape.run, nullptr) != 0)
            finish("FAIL pthread_create");
        pthread_setname_np(thread, shape.name);
    }
    std::thread standard([] { sink = block(9); });
    pthread_setname_np(standard.native_handle(), "std_thread");
    main_waits_here();
    finish("PASS");
}
