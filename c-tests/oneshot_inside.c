// flags: -O1 -g -pthread
/*
 * SIGUSR2 comes to the main thread, twice, while it is inside `malloc` (the program's own, whose one lock is not
 * recursive), `printf` (the stream's lock is held) or `dlopen` (the loader's lock is held; argument 2:
 * oneshot_plugin). After each it says that it went on, if errno is what it was. With argument 3 it opens that library,
 * libmanhole.so, itself: then no thread has memory for the library's thread-locals.
 */
#include "sentinel.h"
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

static pthread_mutex_t heap_lock = PTHREAD_MUTEX_INITIALIZER;
static char arena[64 << 20] __attribute__((aligned(16)));
static size_t arena_used;
static volatile int armed;

__attribute__((noinline)) void interrupted_here(void)
{
    errno = 77;
    raise(SIGUSR2);
    if (errno != 77)
        finish("FAIL errno was changed");
}

static void *carve(size_t alignment, size_t size)
{
    pthread_mutex_lock(&heap_lock);
    if (armed) {
        armed = 0;
        interrupted_here();
    }
    size_t start = (arena_used + 16 + alignment - 1) & ~(alignment - 1);
    void *block = 0;
    if (size <= sizeof arena && start <= sizeof arena - size) {
        block = arena + start;
        ((size_t *)block)[-1] = size;
        arena_used = start + size;
    } else {
        errno = ENOMEM;
    }
    pthread_mutex_unlock(&heap_lock);
    return block;
}

void *malloc(size_t size) { return carve(16, size); }
void *calloc(size_t count, size_t size) { return carve(16, count * size); /* the arena is zero and never reused */ }
void *memalign(size_t alignment, size_t size) { return carve(alignment < 16 ? 16 : alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void **block, size_t alignment, size_t size)
{
    *block = memalign(alignment, size);
    return *block ? 0 : ENOMEM;
}
void *realloc(void *old, size_t size)
{
    void *block = carve(16, size);
    if (block && old) {
        size_t before = ((size_t *)old)[-1];
        memcpy(block, old, before < size ? before : size);
    }
    return block;
}
void free(void *block)
{
    (void)block;
    pthread_mutex_lock(&heap_lock);
    pthread_mutex_unlock(&heap_lock);
}

static ssize_t write_slowly(void *cookie, const char *text, size_t length)
{
    (void)cookie, (void)text;
    interrupted_here();
    return length;
}

__attribute__((noinline)) static void inside(const char *what, const char *plugin)
{
    if (strcmp(what, "malloc") == 0) {
        armed = 1;
        char *volatile block = malloc(100);
        if (!block)
            finish("FAIL malloc");
    } else if (strcmp(what, "printf") == 0) {
        FILE *stream = fopencookie(0, "w", (cookie_io_functions_t){.write = write_slowly});
        setvbuf(stream, 0, _IONBF, 0);
        if (fprintf(stream, "%d\n", 42) != 3)
            finish("FAIL fprintf");
        fclose(stream);
    } else {
        void *library = dlopen(plugin, RTLD_NOW);
        if (!library)
            finish("FAIL dlopen");
        dlclose(library);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2)
        finish("FAIL usage: oneshot_inside malloc|printf|dlopen [PLUGIN [LIBRARY]]");
    if (argc > 3) {
        void *library = dlopen(argv[3], RTLD_NOW);
        int (*install)(const char *) = library ? (int (*)(const char *))dlsym(library, "manhole_install") : 0;
        if (!install || install("oneshot_on=USR2") != 0)
            finish("FAIL install");
    }
    start_ender();
    say("ready");
    inside(argv[1], argv[2]);
    say("went on");
    inside(argv[1], argv[2]);
    say("went on again");
    sleep_for_ever();
}
