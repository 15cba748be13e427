// flags: -O1 -g
/*
 * A program on a file system whose server stops answering, as NFS does: far_files SOURCE MOUNTPOINT PROGRAM ARGS...
 * serves the files of SOURCE at MOUNTPOINT (FUSE, in a mount namespace of its own) and becomes PROGRAM, with FAR_PRELOAD as its
 * LD_PRELOAD. It says "server PID"; SIGUSR1 to that one ends its answers, and it ends with its program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FILES = 64, LARGEST = 1 << 17 };
static char buffer[LARGEST + 4096], data[LARGEST];
/* A node is a file of SOURCE: FUSE_ROOT_ID is the folder, and the others stand here from there on. */
static char *names[FILES];
static unsigned files = FUSE_ROOT_ID + 1;
static int source, device;
static volatile sig_atomic_t silent;

static void change(int signal)
{
    silent = signal == SIGUSR1;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void answer(uint64_t unique, int error, const void *body, size_t length)
{
    struct fuse_out_header head = {.len = sizeof head + (error ? 0 : length), .error = -error, .unique = unique};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)body, error ? 0 : length}};
    if (writev(device, parts, 2) < 0 && errno != ENOENT)
        fail("writev");
}

static int attributes(uint64_t node, struct fuse_attr *out)
{
    struct stat stat;
    if (fstatat(source, node == FUSE_ROOT_ID ? "." : names[node], &stat, 0))
        return errno;
    *out = (struct fuse_attr){.ino = node, .size = stat.st_size, .blocks = stat.st_blocks, .mode = stat.st_mode,
                              .nlink = stat.st_nlink, .uid = stat.st_uid, .gid = stat.st_gid, .blksize = 4096};
    return 0;
}

static void look_up(uint64_t unique, const char *name)
{
    struct fuse_entry_out out = {0};
    if (faccessat(source, name, F_OK, 0))
        return answer(unique, errno, 0, 0);
    unsigned node = FUSE_ROOT_ID + 1;
    while (node < files && strcmp(names[node], name))
        node++;
    if (node == FILES)
        return answer(unique, ENFILE, 0, 0);
    if (node == files)
        names[files++] = strdup(name);
    out.nodeid = node;
    int error = attributes(node, &out.attr);
    answer(unique, error, &out, sizeof out);
}

static void serve(void)
{
    for (;;) {
        ssize_t length = read(device, buffer, sizeof buffer);
        while (silent)
            pause();
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            exit(0);
        struct fuse_in_header *in = (void *)buffer;
        void *body = in + 1;
        switch (in->opcode) {
        case FUSE_INIT: {
            struct fuse_init_in *asked = body;
            struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
                                        .max_readahead = asked->max_readahead, .max_write = 4096};
            answer(in->unique, 0, &out, sizeof out);
            break;
        }
        case FUSE_LOOKUP:
            look_up(in->unique, body);
            break;
        case FUSE_GETATTR: {
            struct fuse_attr_out out = {0};
            int error = attributes(in->nodeid, &out.attr);
            answer(in->unique, error, &out, sizeof out);
            break;
        }
        case FUSE_OPEN: {
            struct fuse_open_out out = {.fh = (uint64_t)openat(
                                                 source, names[in->nodeid],
                                                 (((struct fuse_open_in *)body)->flags & O_ACCMODE) | O_CLOEXEC)};
            answer(in->unique, (int)out.fh < 0 ? errno : 0, &out, sizeof out);
            break;
        }
        case FUSE_READ: {
            struct fuse_read_in *asked = body;
            size_t size = asked->size < LARGEST ? asked->size : LARGEST;
            ssize_t count = pread((int)asked->fh, data, size, (off_t)asked->offset);
            answer(in->unique, count < 0 ? errno : 0, data, count < 0 ? 0 : (size_t)count);
            break;
        }
        case FUSE_WRITE: {
            struct fuse_write_in *asked = body;
            struct fuse_write_out out = {0};
            ssize_t count = pwrite((int)asked->fh, asked + 1, asked->size, (off_t)asked->offset);
            out.size = count < 0 ? 0 : (uint32_t)count;
            answer(in->unique, count < 0 ? errno : 0, &out, sizeof out);
            break;
        }
        case FUSE_RELEASE:
            close((int)((struct fuse_release_in *)body)->fh);
            answer(in->unique, 0, 0, 0);
            break;
        case FUSE_FLUSH:
            answer(in->unique, 0, 0, 0);
            break;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:
            break;
        default:
            answer(in->unique, ENOSYS, 0, 0);
        }
    }
}

int main(int count, char **arguments)
{
    if (count < 4)
        return 2;
    source = open(arguments[1], O_DIRECTORY | O_CLOEXEC);
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (source < 0 || device < 0 || unshare(CLONE_NEWNS) || mount(0, "/", 0, MS_REC | MS_PRIVATE, 0))
        fail("far_files");
    char options[128];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
    if (mount("far", arguments[2], "fuse", MS_NOSUID, options))
        fail("mount");
    signal(SIGUSR1, change);
    signal(SIGUSR2, change);
    pid_t parent = getpid(), server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        serve();
    }
    signal(SIGUSR1, SIG_DFL);
    signal(SIGUSR2, SIG_DFL);
    printf("server %d\n", server);
    fflush(stdout);
    if (getenv("FAR_STDERR")) {
        int log = open(getenv("FAR_STDERR"), O_WRONLY | O_APPEND);
        if (log < 0 || dup2(log, 2) < 0)
            fail(getenv("FAR_STDERR"));
        close(log);
    }
    if (getenv("FAR_PRELOAD"))
        setenv("LD_PRELOAD", getenv("FAR_PRELOAD"), 1);
    execv(arguments[3], arguments + 3);
    fail(arguments[3]);
}
