// flags: -O1
/*
 * stale_name LIBRARY PROGRAM…: leaves a socket that nobody serves under the name that the manhole of this pid
 * takes, as a killed process of the same pid would have, and becomes PROGRAM with LIBRARY preloaded.
 */
#include "sentinel.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int argc, char **argv)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (argc < 3)
        finish("FAIL usage");
    snprintf(name.sun_path, sizeof name.sun_path, "/tmp/manhole-%d", (int)getpid());
    /* Nobody listens: a client that came now would be cut off by the exec. */
    if (bind(listener, (struct sockaddr *)&name, sizeof name) != 0)
        finish("FAIL bind");
    setenv("LD_PRELOAD", argv[1], 1);
    execv(argv[2], argv + 2);
    finish("FAIL exec");
}
