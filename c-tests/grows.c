// flags: -O1 -pthread
/* Takes 64 MiB more, and touches them, at each SIGUSR1. */
#include "sentinel.h"
#include <sys/mman.h>

int main(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    start_ender();
    say("ready");
    for (;;) {
        int signal;
        if (sigwait(&set, &signal) != 0)
            finish("FAIL sigwait");
        size_t size = 64 << 20;
        char *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            finish("FAIL mmap");
        memset(memory, 1, size);
        say("grown");
    }
}
