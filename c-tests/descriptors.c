// flags: -O1 -pthread
/* One descriptor of each kind, at numbers of its own, whose truth is known. */
#include "sentinel.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>

/* What is opened goes to a number that the test knows. */
static int at(int number, int descriptor)
{
    if (descriptor < 0 || dup3(descriptor, number, O_CLOEXEC) != number)
        finish("FAIL cannot open");
    if (descriptor != number)
        close(descriptor);
    return number;
}

static void open_files(const char *folder)
{
    char path[256];
    snprintf(path, sizeof path, "%s/deleted", folder);
    at(100, open(path, O_RDWR | O_CREAT | O_APPEND, 0600));
    if (ftruncate(100, 4711) != 0 || lseek(100, 123, SEEK_SET) != 123 || flock(100, LOCK_EX) != 0)
        finish("FAIL file");
    unlink(path);
    at(101, open(folder, O_RDONLY | O_DIRECTORY));
    at(102, open("/dev/null", O_WRONLY));
    snprintf(path, sizeof path, "%s/fifo", folder);
    if (mkfifo(path, 0600) != 0)
        finish("FAIL mkfifo");
    at(103, open(path, O_RDONLY | O_NONBLOCK));
    at(104, open(folder, O_PATH));
    int ends[2];
    if (pipe(ends) != 0)
        finish("FAIL pipe");
    at(105, ends[0]);
    at(106, ends[1]);
    fcntl(106, F_SETFD, 0);
    at(107, memfd_create("notes", 0));
    if (write(107, "12345", 5) != 5)
        finish("FAIL memfd");
}

static int internet(int type, int port)
{
    struct sockaddr_in address = { AF_INET, htons(port), { htonl(INADDR_LOOPBACK) }, { 0 } };
    int descriptor = socket(AF_INET, type, 0);
    if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&address, sizeof address) != 0)
        finish("FAIL bind");
    return descriptor;
}

static void open_sockets(void)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    at(120, internet(SOCK_STREAM, 0));
    listen(120, 7);
    getsockname(120, (struct sockaddr *)&address, &length);
    at(121, socket(AF_INET, SOCK_STREAM, 0));
    if (connect(121, (struct sockaddr *)&address, length) != 0)
        finish("FAIL connect");
    at(122, accept(120, 0, 0));
    if (write(121, "eleven byte", 11) != 11)
        finish("FAIL write");
    at(123, internet(SOCK_DGRAM, 0));
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0)
        finish("FAIL socketpair");
    at(124, pair[0]);
    at(125, pair[1]);
    struct sockaddr_un name = { AF_UNIX, { 0 } };
    int size = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "manhole-test-%d", getpid());
    at(126, socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (bind(126, (struct sockaddr *)&name, offsetof(struct sockaddr_un, sun_path) + 1 + size) != 0)
        finish("FAIL abstract");
    listen(126, 3);
    at(127, socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        finish("FAIL socketpair");
    at(128, pair[0]);
    at(129, pair[1]);
    at(130, socket(AF_INET, SOCK_STREAM, 0));
}

static void open_kernel_objects(const char *folder)
{
    at(140, epoll_create1(0));
    struct epoll_event in = { EPOLLIN, { .u64 = 0xabc } }, edge = { EPOLLOUT | EPOLLET, { .u64 = 2 } };
    struct epoll_event once = { EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, { .u64 = 3 } };
    if (epoll_ctl(140, EPOLL_CTL_ADD, 105, &in) || epoll_ctl(140, EPOLL_CTL_ADD, 124, &edge)
        || epoll_ctl(140, EPOLL_CTL_ADD, 120, &once))
        finish("FAIL epoll");
    /* Added by a number that stands for another file later, while the first one stays open. */
    int first[2], second[2];
    if (pipe(first) || pipe(second))
        finish("FAIL pipe");
    at(108, first[0]);
    at(109, first[1]);
    if (epoll_ctl(140, EPOLL_CTL_ADD, 108, &in))
        finish("FAIL epoll");
    at(110, dup(108));
    at(108, second[0]);
    at(111, second[1]);
    at(141, eventfd(7, EFD_SEMAPHORE));
    at(142, timerfd_create(CLOCK_MONOTONIC, 0));
    struct itimerspec hour = { { 60, 500000000 }, { 3600, 0 } };
    timerfd_settime(142, 0, &hour, 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 1);
    at(143, signalfd(-1, &set, 0));
    at(144, inotify_init1(IN_NONBLOCK));
    inotify_add_watch(144, folder, IN_CREATE | IN_DELETE | IN_MOVED_TO);
    at(145, syscall(SYS_pidfd_open, getpid(), 0));
}

int main(int argc, char **argv)
{
    start_ender();
    const char *folder = argc > 1 ? argv[1] : "/tmp";
    open_files(folder);
    open_sockets();
    open_kernel_objects(folder);
    /* As many more of the same as the second argument says. */
    int more = argc > 2 ? atoi(argv[2]) : 0;
    struct rlimit limit = { more + 1024, more + 1024 };
    if (more > 0 && setrlimit(RLIMIT_NOFILE, &limit) != 0)
        finish("FAIL setrlimit");
    for (int number = 1000; number < 1000 + more; number++)
        if (fcntl(105, F_DUPFD, number) != number)
            finish("FAIL dup");
    say("ready");
    sleep_for_ever();
}
