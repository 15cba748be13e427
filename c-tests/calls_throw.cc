// flags: -O1 -g -pthread -rdynamic
/*
 * Functions to call from outside that throw C++ exceptions: one that is caught inside, one that nobody catches.
 */
#include "sentinel.h"
#include <stdexcept>

extern "C" __attribute__((noinline)) int throws(int what)
{
    throw std::runtime_error(what ? "what" : "nothing");
}

extern "C" __attribute__((noinline)) int catches(int what)
{
    try {
        return throws(what);
    } catch (const std::runtime_error &error) {
        return static_cast<int>(strlen(error.what()));
    }
}

namespace ns
{
__attribute__((noinline, used)) int twice(int value)
{
    return 2 * value;
}
}

int main()
{
    start_ender();
    say("ready");
    sleep_for_ever();
}
