// flags: -O1
/*
 * Makes a child in every way there is, one after the other, each ending in its own way, and prints what `wait`
 * says, how many SIGCHLD came, and what a forked child sees of itself. Run with and without the library the text
 * must be the same, but for the lines `pid N`. It begins at a line on standard input, and ends, after `ends`, at
 * another.
 */
#include "sentinel.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char **environ;
extern pid_t _Fork(void) __attribute__((weak)); /* glibc 2.34 */

static volatile sig_atomic_t deaths;

static void on_death(int number)
{
    (void)number;
    deaths++;
}

/* Descriptors, threads of the program, children, dispositions: printed by a forked child. */
static void show_self(void)
{
    int descriptors = 0, threads = 0;
    for (int number = 0; number < 1024; number++)
        descriptors += fcntl(number, F_GETFD) >= 0;
    int folder = open("/proc/self/task", O_RDONLY | O_DIRECTORY);
    DIR *tasks = fdopendir(folder);
    for (struct dirent *entry; (entry = readdir(tasks));) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        int file = entry->d_name[0] == '.' ? -1 : open(path, O_RDONLY);
        if (file < 0)
            continue;
        (void)!read(file, name, sizeof name - 1);
        close(file);
        /* A thread of the library's is called like the program until it has named itself. */
        threads += atoi(entry->d_name) == getpid() || strncmp(name, "children", 8) != 0;
        threads -= strncmp(name, "Manhole", 7) == 0;
    }
    closedir(tasks);
    int handled = 0;
    for (int number = 1; number < 65; number++) {
        struct sigaction action;
        handled += sigaction(number, 0, &action) == 0 && action.sa_handler != SIG_DFL;
    }
    errno = 0;
    pid_t child = waitpid(-1, 0, WNOHANG);
    printf("  descriptors %d, threads %d, handlers %d, dumpable %d, wait %d errno %d\n", descriptors, threads, handled,
           prctl(PR_GET_DUMPABLE), (int)child, errno);
    fflush(stdout);
}

static void end(const char *how)
{
    if (strcmp(how, "exit") == 0)
        exit(3);
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "term") == 0)
        raise(SIGTERM);
    _exit(4);
}

static void report(const char *way, const char *how, pid_t child)
{
    int status = -1;
    pid_t waited = child > 0 ? waitpid(child, &status, 0) : child;
    /* The signal is there before waitpid returns, and a handler runs before the next line. */
    printf("pid %d\n%s %s: %s, status %#x, deaths %d\n", (int)child, way, how, waited == child ? "waited" : "lost",
           status, (int)deaths);
    fflush(stdout);
}

int main(void)
{
    static const char *const ends[] = { "exit", "_exit", "abort", "term" };
    char byte;
    struct sigaction action = { .sa_handler = on_death, .sa_flags = SA_RESTART };
    sigaction(SIGCHLD, &action, 0);
    alarm(120);
    say("ready");
    while (read(0, &byte, 1) < 0)
        continue;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const char *how = ends[i];
        pid_t child = fork();
        if (child == 0) {
            show_self();
            end(how);
        }
        report("fork", how, child);
        child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (child == 0) {
            show_self();
            end(how);
        }
        report("clone", how, child);
        if (_Fork) {
            child = _Fork();
            if (child == 0) {
                show_self();
                end(how);
            }
            report("_Fork", how, child);
        }
    }
    for (int times = 0; times < 20; times++) {
        pid_t child = vfork();
        if (child == 0) {
            execl(times % 2 ? "/bin/true" : "/bin/false", "it", (char *)0);
            _exit(127);
        }
        report("vfork", "exec", child);
        child = vfork();
        if (child == 0)
            _exit(6);
        report("vfork", "_exit", child);
    }
    char *arguments[] = { "false", 0 };
    for (int times = 0; times < 10; times++) {
        pid_t child = -1;
        printf("posix_spawn %d\n", posix_spawn(&child, "/bin/false", 0, 0, arguments, environ));
        report("posix_spawn", "exec", child);
        child = -1;
        printf("posix_spawn of nothing %d\n", posix_spawn(&child, "/no/such/program", 0, 0, arguments, environ));
        printf("system %#x, deaths %d\n", system("exit 7"), (int)deaths);
        FILE *stream = popen("echo text; exit 5", "r");
        char text[16] = "";
        if (!stream || !fgets(text, sizeof text, stream))
            finish("FAIL popen");
        int status = pclose(stream);
        printf("popen %s, %#x, deaths %d\n", text[0] == 't' ? "text" : "nothing", status, (int)deaths);
    }
    errno = 0;
    pid_t left = waitpid(-1, 0, WNOHANG);
    printf("left %d, errno %d\n", (int)left, errno);
    show_self();
    say("ends");
    while (read(0, &byte, 1) < 0)
        continue;
    say("PASS");
    return 0;
}
