// flags: -O1 -g -pthread
/*
 * Runs from a file system that may fall silent (far_files.c): one thread reads the file ARGUMENT at random places, on
 * descriptor 3, and the first one waits below six frames.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

NOINLINE int reads_far(int file)
{
    char page[4096];
    while (pread(file, page, sizeof page, (rand() % 1000) * 4096L) >= 0)
        usleep(1000);
    return file + 1;
}

static void *reader(void *path)
{
    int file = open(path, O_RDONLY);
    posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
    puts(file == 3 ? "ready" : "not on descriptor 3");
    fflush(stdout);
    reads_far(file);
    return 0;
}

NOINLINE int waits(int deeper)
{
    if (deeper)
        return waits(deeper - 1) + 1;
    pause();
    return 1;
}

int main(int count, char **arguments)
{
    pthread_t thread;
    pthread_create(&thread, 0, reader, arguments[count - 1]);
    return waits(5);
}
