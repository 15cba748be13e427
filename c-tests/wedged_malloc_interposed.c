// flags: -O1 -pthread
/*
 * The program brings its own malloc, with one lock, and the main thread holds that lock for ever. Whoever
 * allocates from the application's heap from now on never comes back.
 */
#include "sentinel.h"
#include <errno.h>

/* A pthread mutex, as a simple replacement allocator would have; glibc needs no allocation to lock it. */
static pthread_mutex_t heap_lock = PTHREAD_MUTEX_INITIALIZER;
static char arena[64 << 20] __attribute__((aligned(16)));
static size_t arena_used;

static void *carve(size_t alignment, size_t size)
{
    pthread_mutex_lock(&heap_lock);
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

__attribute__((noinline, noreturn)) static void stuck_here(void)
{
    pthread_mutex_lock(&heap_lock);
    say("ready");
    sleep_for_ever();
}

int main(void)
{
    start_ender();
    stuck_here();
}
