// flags: -std=c++11 -Wall -Wextra -Werror -pedantic -O1 -g -pthread -Iinclude -ldl
/* A C++ program that opens the library given as its argument, and finds every function by dlsym(). */
#include "sentinel.h"
#include <dlfcn.h>
#include <manhole.h>
#include <string>

namespace {

decltype(&manhole_write) write_to;

int shout(manhole_call *call, int argc, const char *const *argv, void *user)
{
    std::string text;
    for (int i = 1; i < argc; i++)
        text += std::string(argv[i]) + "!\n";
    *static_cast<int *>(user) += 1;
    return write_to(call, text.data(), text.size()) != 0;
}

int format(manhole_call *call, ...)
{
    va_list arguments;
    va_start(arguments, call);
    int result = manhole_vprintf_by(write_to, call, "%d of %s\n", arguments);
    va_end(arguments);
    return result;
}

int formatted(manhole_call *call, int, const char *const *argv, void *)
{
    return format(call, 7, argv[0]);
}

template <typename Function> Function *find(void *library, const char *name)
{
    Function *function = nullptr;
    *reinterpret_cast<void **>(&function) = dlsym(library, name);
    if (!function)
        finish("FAIL dlsym");
    return function;
}

} // namespace

int main(int, char **arguments)
{
    start_ender();
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        finish("FAIL dlopen");
    static int count;
    write_to = find<decltype(manhole_write)>(library, "manhole_write");
    auto add = find<decltype(manhole_register_command)>(library, "manhole_register_command");
    if (find<decltype(manhole_version)>(library, "manhole_version")() != MANHOLE_VERSION ||
        add("shout", "WORD...", "Say it loud.", shout, &count) != 0 ||
        add("formatted", nullptr, nullptr, formatted, nullptr) != 0)
        finish("FAIL register");
    /* The constructor ran in dlopen(). */
    if (find<decltype(manhole_install)>(library, "manhole_install")("") != -EALREADY)
        finish("FAIL install");
    dlclose(library);
    say("ready");
    sleep_for_ever();
}
