// flags: -O0 -g -pthread
/*
 * Data of every kind that a symbol can name, in a program that waits: globals, static and thread-local data, a
 * structure of pointers, strings, numbers. It writes the addresses of what has no symbol of its own.
 */
#include "sentinel.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

struct config {
    const char *name;
    void (*callback)(int);
    struct config *next;
    long *counter;
    void *nothing;
};

long global_counter = 0x1122334455667788;
static int hidden_value = -42;
static void on_event(int number) { hidden_value += number; }
struct config global_config;
struct config *global_pointer = &global_config;
unsigned char global_bytes[24] = "A\n\t\"\\\033\177\200\377z";
unsigned short global_shorts[8] = {1, 2, 65535, 4, 5, 6, 7, 8};
int global_ints[6] = {1, -2, 3, -4, 2147483647, 8};
double global_doubles[8] = {1.5, -0.25, 3.14, 1e100, 0, 1e-7, 123456789, 0.1};
float global_floats[4] = {1.5f, 3.14f, -1e10f, 0};
char global_text[] = "hello, world\0second line\0";
char global_long_text[300];
__thread int thread_value = 7;
const char global_constant[] = "constant";

static void *sleeper(void *unused)
{
    int here = 0;
    char line[64];
    snprintf(line, sizeof line, "stack %p", (void *)&here);
    say(line);
    (void)unused;
    say("ready");
    sleep_for_ever();
}

int main(void)
{
    memset(global_long_text, 'x', sizeof global_long_text - 1);
    for (unsigned at = 0; at < sizeof global_long_text - 1; at++)
        global_long_text[at] = 'a' + at % 26;
    global_config = (struct config){"the config", on_event, &global_config, &global_counter, 0};
    /* Two pages, of which the second cannot be read. */
    char *edge = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(edge, 'e', 4096);
    mprotect(edge + 4096, 4096, PROT_NONE);
    /* From brk, and from the time before any thread: malloc's main arena. */
    void *heap = malloc(100);
    char line[128];
    snprintf(line, sizeof line, "edge %p heap %p", (void *)edge, heap);
    say(line);
    start_ender();
    pthread_t thread;
    pthread_create(&thread, 0, sleeper, 0);
    pthread_join(thread, 0);
}
