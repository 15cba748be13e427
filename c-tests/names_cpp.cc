// flags: -O0 -g -pthread
/* Overloaded functions, namespaces, data of classes: names that only a demangler makes readable. */
#include "sentinel.h"

namespace shop {
int price(int amount) { return amount; }
double price(double amount) { return amount; }

struct Till {
    static long total;
    virtual ~Till() {}
    virtual int open(const char *key) const { return key != nullptr; }
};
long Till::total = 99;

template <typename Kind> Kind twice(Kind value) { return value + value; }
template int twice<int>(int);

namespace {
int secret = 5;
int hide(int value) { return value + secret; }
}
} // namespace shop

shop::Till the_till;

int main()
{
    if (shop::price(1) + shop::price(1.0) + shop::hide(1) + the_till.open("key") == 0)
        finish("FAIL");
    start_ender();
    say("ready");
    sleep_for_ever();
}
