// flags: -O2 -pthread -s
/* Two threads, two std::mutex, locked in either order; no debug information, no symbol table. */
#include "waiting.h"
#include <mutex>
#include <thread>

static std::mutex one, two;
static std::atomic<int> held, tids[2];

static void cross(const char *name, std::mutex &first, std::mutex &second, int index)
{
    pthread_setname_np(pthread_self(), name);
    tids[index] = (int)syscall(SYS_gettid);
    std::lock_guard<std::mutex> outer(first);
    held++;
    while (held < 2)
        sched_yield();
    std::lock_guard<std::mutex> inner(second);
    finish("FAIL there is no deadlock");
}

int main()
{
    print_address("one", &one);
    print_address("two", &two);
    std::thread forth(cross, "forth", std::ref(one), std::ref(two), 0);
    std::thread back(cross, "back", std::ref(two), std::ref(one), 1);
    for (auto &tid : tids) {
        while (tid == 0)
            sched_yield();
        wait_until_waiting(tid);
    }
    print_number("forth", tids[0], "%lu");
    print_number("back", tids[1], "%lu");
    rest();
}
