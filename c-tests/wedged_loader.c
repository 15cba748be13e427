// flags: -O1 -pthread
/*
 * The main thread sits in the constructor of a library that it opens (argument 1: wedged_loader_plugin),
 * and so holds the dynamic loader's lock for ever.
 */
#include "sentinel.h"
#include <dlfcn.h>

int main(int argc, char **argv)
{
    if (argc < 2)
        finish("FAIL usage: wedged_loader PLUGIN");
    start_ender();
    dlopen(argv[1], RTLD_NOW);
    finish("FAIL the plugin was not opened, or its constructor returned");
}
