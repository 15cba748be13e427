// flags: -O1 -pthread
/*
 * Prints everything that it can see of itself and that a library could have changed: before `ready`, again
 * after a line on standard input, and in a forked child. Run with and without the library, the text must be the
 * same. It then ends as its first argument says: exit, return, _exit, abort, term, segv.
 */
#include "sentinel.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

extern char **environ;

static int by_number(const void *left, const void *right) { return *(const int *)left - *(const int *)right; }

/* Number and kind of every open descriptor. */
static void show_descriptors(void)
{
    int numbers[256], count = 0;
    DIR *directory = opendir("/proc/self/fd");
    for (struct dirent *entry; directory && (entry = readdir(directory)) && count < 256;)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory))
            numbers[count++] = atoi(entry->d_name);
    closedir(directory);
    qsort(numbers, count, sizeof *numbers, by_number);
    for (int i = 0; i < count; i++) {
        char path[64], target[256];
        snprintf(path, sizeof path, "/proc/self/fd/%d", numbers[i]);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = 0;
        target[strcspn(target, "[")] = 0; /* pipe:[inode] */
        printf("descriptor %d %s\n", numbers[i], target);
    }
    int next = open("/dev/null", O_RDONLY);
    printf("next descriptor %d\n", next);
    close(next);
}

static void show_signals(const char *who, int tid)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, "Sig", 3) == 0 && strncmp(line, "SigQ", 4) != 0)
            printf("%s %s", who, line);
    if (status)
        fclose(status);
}

static int worker_tid;

static void show(const char *when)
{
    printf("%s\n", when);
    show_descriptors();
    show_signals("main", (int)syscall(SYS_gettid));
    if (worker_tid)
        show_signals("worker", worker_tid);
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, "LD_PRELOAD=", 11) != 0 && strncmp(*entry, "MANHOLE=", 8) != 0)
            printf("environment %s\n", *entry);
    mode_t mask = umask(0);
    umask(mask);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    int death_signal = -1;
    prctl(PR_GET_PDEATHSIG, &death_signal);
    char directory[4096], name[16];
    prctl(PR_GET_NAME, name);
    printf("umask %o, nofile %lu, nice %d, dumpable %d, no_new_privs %d, pdeathsig %d, name %s, directory %s\n", mask,
           (unsigned long)files.rlim_cur, getpriority(PRIO_PROCESS, 0), prctl(PR_GET_DUMPABLE),
           prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), death_signal, name, getcwd(directory, sizeof directory));
    errno = 0;
    pid_t child = waitpid(-1, 0, WNOHANG | __WALL);
    printf("children %d, errno %d\n", (int)child, errno);
    struct itimerval timers[3];
    for (int i = 0; i < 3; i++)
        getitimer(i, &timers[i]);
    printf("timers %ld %ld %ld\n", timers[0].it_value.tv_sec, timers[1].it_value.tv_sec, timers[2].it_value.tv_sec);
    fflush(stdout);
}

static void *worker(void *ready)
{
    worker_tid = (int)syscall(SYS_gettid);
    pthread_barrier_wait(ready);
    sleep_for_ever();
}

int main(int argc, char **argv)
{
    int first_errno = errno;
    const char *way = argc > 1 ? argv[1] : "return";
    /* The time until the library's thread is up must not show: look after it is. */
    pthread_t thread;
    pthread_barrier_t ready;
    printf("errno %d\n", first_errno);
    pthread_barrier_init(&ready, 0, 2);
    pthread_create(&thread, 0, worker, &ready);
    pthread_barrier_wait(&ready);
    show("at start");
    say("ready");

    char byte;
    while (read(0, &byte, 1) < 0)
        continue;
    show("after a visit");
    pid_t child = fork();
    if (child == 0) {
        worker_tid = 0;
        show("in a forked child");
        _exit(5);
    }
    int status = -1;
    waitpid(child, &status, 0);
    printf("child's status %d\n", status);
    fflush(stdout);
    say("PASS");
    if (strcmp(way, "exit") == 0)
        exit(7);
    if (strcmp(way, "_exit") == 0)
        _exit(8);
    if (strcmp(way, "abort") == 0)
        abort();
    if (strcmp(way, "term") == 0)
        raise(SIGTERM);
    if (strcmp(way, "segv") == 0)
        raise(SIGSEGV);
    return 9;
}
