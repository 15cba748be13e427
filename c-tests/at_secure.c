// flags: -O1
/*
 * Says whether the kernel started it in secure mode (setuid, setgid, file capabilities: getauxval(3)), and
 * waits. The driver links it to the library, since the loader takes no LD_PRELOAD from strangers then.
 */
#include "sentinel.h"
#include <sys/auxv.h>

int main(void)
{
    say(getauxval(AT_SECURE) ? "secure" : "plain");
    say("ready");
    char byte;
    while (read(0, &byte, 1) < 0)
        continue;
    finish("PASS");
}
