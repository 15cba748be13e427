// flags: -O1
/*
 * execs WHO PRELOAD PROGRAM…: at a line on standard input, becomes PROGRAM.
 *   WHO      self, or child: a forked child does, at once
 *   PRELOAD  keep, or drop: the new image's environment has no LD_PRELOAD
 * With child it prints `child PID` and `forked`, and at the child's end `child ended STATUS`.
 */
#include "sentinel.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
    char byte, line[48];
    int status;
    if (argc < 4)
        finish("FAIL usage");
    say("ready");
    while (read(0, &byte, 1) < 0)
        continue;
    if (strcmp(argv[2], "drop") == 0)
        unsetenv("LD_PRELOAD");
    if (strcmp(argv[1], "self") == 0) {
        execv(argv[3], argv + 3);
        finish("FAIL exec");
    }
    pid_t child = fork();
    if (child == 0) {
        execv(argv[3], argv + 3);
        _exit(127);
    }
    snprintf(line, sizeof line, "child %d", (int)child);
    say(line);
    say("forked");
    if (waitpid(child, &status, 0) != child)
        finish("FAIL wait");
    snprintf(line, sizeof line, "child ended %#x", status);
    say(line);
    finish("PASS");
}
