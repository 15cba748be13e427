// flags: -O1 -pthread
/*
 * Writes on descriptor 2 as it is told by lines on standard input, and answers each with a line `N ANSWER`, where N
 * counts them. Two last words end it: `end` says PASS and returns from main, others die as their names say.
 */
#include "sentinel.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;
static int answers;
static volatile sig_atomic_t child_signals;

static void on_child(int signal)
{
    (void)signal;
    child_signals++;
}

static void answer(const char *text)
{
    char line[300];
    snprintf(line, sizeof line, "%d %s", ++answers, text);
    say(line);
}

static void complain(const char *text)
{
    char line[300];
    int length = snprintf(line, sizeof line, "%s\n", text);
    for (int done = 0; done < length;) {
        ssize_t count = write(2, line + done, length - done);
        if (count < 0 && errno != EINTR)
            finish("FAIL write on descriptor 2");
        done += count < 0 ? 0 : count;
    }
}

/* Everything that shows of descriptor 2, and how many descriptors there are. */
static void describe(void)
{
    struct stat status;
    char text[200];
    int count = 0;
    if (fstat(2, &status) < 0)
        finish("FAIL fstat");
    for (int number = 0; number < 5000; number++)
        count += fcntl(number, F_GETFD) >= 0;
    int next = open("/dev/null", O_RDONLY);
    close(next);
    snprintf(text, sizeof text, "file %lx:%lx descriptor %d status %x open %d next %d", (long)status.st_dev,
             (long)status.st_ino, fcntl(2, F_GETFD), fcntl(2, F_GETFL), count, next);
    answer(text);
}

static int lines_each;

static void *flood(void *number)
{
    for (int i = 0; i < lines_each; i++) {
        char line[64];
        int length = snprintf(line, sizeof line, "thread %d line %d\n", (int)(intptr_t)number, i);
        if (write(2, line, length) != length)
            finish("FAIL a short write");
    }
    return 0;
}

static void flood_all(int lines)
{
    pthread_t threads[4];
    char text[100];
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    lines_each = lines / 4;
    for (intptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], 0, flood, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    snprintf(text, sizeof text, "%ld ms", (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000);
    answer(text);
}

static void children(void)
{
    char text[100];
    errno = 0;
    pid_t found = waitpid(-1, 0, WNOHANG);
    snprintf(text, sizeof text, "wait %d errno %d signals %d", (int)found, errno, (int)child_signals);
    answer(text);
}

static void run(const char *script, int in_place)
{
    char *arguments[] = {"sh", "-c", (char *)script, 0};
    pid_t child;
    unsetenv("LD_PRELOAD");
    if (in_place) {
        execv("/bin/sh", arguments);
        finish("FAIL exec");
    }
    if (posix_spawn(&child, "/bin/sh", 0, 0, arguments, environ) != 0)
        finish("FAIL posix_spawn");
    answer("spawned");
}

static void obey(char *command)
{
    char *rest = strchr(command, ' ');
    if (rest)
        *rest++ = 0;
    else
        rest = "";
#define IS(name) (strcmp(command, name) == 0)
    if (IS("say")) {
        complain(rest);
        answer("said");
    } else if (IS("mutter")) { /* without an end */
        if (write(2, rest, strlen(rest)) != (ssize_t)strlen(rest))
            finish("FAIL mutter");
        answer("said");
    } else if (IS("describe")) {
        describe();
    } else if (IS("flood")) {
        flood_all(atoi(rest));
    } else if (IS("children")) {
        children();
    } else if (IS("fork")) {
        pid_t child = fork();
        if (child == 0) {
            complain(rest);
            describe();
            _exit(0);
        }
        waitpid(child, 0, 0);
        child_signals = 0;
        answers++;
    } else if (IS("spawn")) {
        run(rest, 0);
    } else if (IS("reap")) {
        waitpid(-1, 0, 0);
        child_signals = 0;
        answer("reaped");
    } else if (IS("grow")) {
        static char *volatile kept;
        kept = memset(malloc(64 << 20), 1, 64 << 20);
        answer("grown");
    } else if (IS("exec")) {
        run(rest, 1);
    } else if (IS("reopen")) {
        int file = open(rest, O_WRONLY | O_APPEND | O_CREAT, 0600);
        dup2(file, 2);
        close(file);
        answer("reopened");
    } else if (IS("closefrom")) {
        for (int number = 3; number < 5000; number++)
            close(number);
        answer("closed");
    } else if (IS("abort")) {
        complain(rest);
        abort();
    } else if (IS("kill")) {
        complain(rest);
        kill(getpid(), SIGKILL);
    } else if (IS("group")) { /* the whole process group */
        complain(rest);
        kill(0, SIGKILL);
    } else if (IS("exit")) {
        complain(rest);
        exit(0);
    } else {
        finish("FAIL unknown command");
    }
}

int main(void)
{
    struct rlimit none = {0, 0};
    struct sigaction action = {.sa_handler = on_child, .sa_flags = SA_RESTART};
    sigaction(SIGCHLD, &action, 0);
    setrlimit(RLIMIT_CORE, &none);
    say("ready");
    char line[300];
    size_t length = 0;
    /* Not through stdio: `exec` hands what was not read on to the next program. */
    while (read(0, line + length, 1) == 1) {
        if (line[length] != '\n') {
            length += length < sizeof line - 2;
            continue;
        }
        line[length] = 0;
        length = 0;
        if (line[0] == 0 || strcmp(line, "end") == 0)
            break;
        obey(line);
    }
    say("PASS");
    return 0;
}
