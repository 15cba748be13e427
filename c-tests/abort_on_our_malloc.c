// flags: -O2 -shared -fPIC
/*
 * Preloaded beside libmanhole.so: an allocator that aborts when the observer (or whatever thread is named `Manhole…`)
 * calls it, so that the claim "never the application's heap" is tested and not believed. `Manhole actor` may: it is
 * the thread that touches the application, and it creates the observer, for which pthread_create allocates.
 * The observer's standard error is /dev/null: the message goes to the file that ABORT_LOG names.
 */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc exports its own under these names, for allocators that wrap it. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t), *__libc_valloc(size_t), *__libc_pvalloc(size_t);
extern void __libc_free(void *);

static char log_path[256];

__attribute__((constructor)) static void remember_log(void)
{
    const char *path = getenv("ABORT_LOG");
    if (path && strlen(path) < sizeof log_path)
        strcpy(log_path, path);
}

static void check(const char *function)
{
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    if (strncmp(name, "Manhole", 7) != 0 || strcmp(name, "Manhole actor") == 0)
        return;
    int file = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    char line[64] = "";
    strcat(strcat(strcat(strcat(line, name), " called "), function), "\n");
    (void)!write(file, line, strlen(line));
    signal(SIGABRT, SIG_DFL);
    syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), SIGABRT);
    abort();
}

void *malloc(size_t size) { check("malloc"); return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { check("calloc"); return __libc_calloc(count, size); }
void *realloc(void *block, size_t size) { check("realloc"); return __libc_realloc(block, size); }
void *memalign(size_t alignment, size_t size) { check("memalign"); return __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { check("aligned_alloc"); return __libc_memalign(alignment, size); }
void *valloc(size_t size) { check("valloc"); return __libc_valloc(size); }
void *pvalloc(size_t size) { check("pvalloc"); return __libc_pvalloc(size); }
int posix_memalign(void **block, size_t alignment, size_t size)
{
    check("posix_memalign");
    *block = __libc_memalign(alignment, size);
    return *block ? 0 : 12 /* ENOMEM */;
}
void free(void *block) { check("free"); __libc_free(block); }
