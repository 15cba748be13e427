// flags: -O1 -fPIC -shared
/*
 * To be preloaded behind the library, so that its constructor runs first: fork handlers registered before the
 * library's. Those of the program, in `atfork.c`, are registered after.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>

int neighbour_prepared, neighbour_parent, neighbour_child;

static void use_malloc(int *count)
{
    void *volatile block = malloc(1000);
    free(block);
    ++*count;
}

static void prepare(void) { use_malloc(&neighbour_prepared); }
static void parent(void) { use_malloc(&neighbour_parent); }
static void child(void) { use_malloc(&neighbour_child); }

__attribute__((constructor)) static void begin(void) { pthread_atfork(prepare, parent, child); }
