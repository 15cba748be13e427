// flags: -O1 -pthread
/*
 * A seccomp filter takes ptrace and process_vm_readv from this process.
 *   seccomp errno           all its threads, after start: both calls fail with EPERM
 *   seccomp kill            all its threads, after start: a thread that calls ptrace is killed
 *   seccomp exec PROGRAM …  before start: the filter of `errno`, then PROGRAM
 * Two threads are blocked, and one, `spinning`, runs, since only a running one needs ptrace.
 */
#include "sentinel.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

static int install(uint32_t for_ptrace, unsigned flags)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 2, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, for_ptrace),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1 /* EPERM */),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static volatile uint64_t counter;

static void *spin_here(void *unused)
{
    for (;;)
        counter++;
    return unused;
}

__attribute__((noinline, noreturn)) static void stuck_here(uint32_t action)
{
    if (install(action, SECCOMP_FILTER_FLAG_TSYNC) != 0)
        finish("FAIL seccomp");
    say("ready");
    sleep_for_ever();
}

int main(int argc, char **argv)
{
    pthread_t thread;
    uint32_t deny = SECCOMP_RET_ERRNO | 1 /* EPERM */;
    if (argc > 2 && strcmp(argv[1], "exec") == 0) {
        if (install(deny, 0) != 0)
            finish("FAIL seccomp");
        execv(argv[2], argv + 2);
        finish("FAIL exec");
    }
    start_ender();
    if (pthread_create(&thread, 0, spin_here, 0) != 0)
        finish("FAIL pthread_create");
    pthread_setname_np(thread, "spinning");
    stuck_here(argc > 1 && strcmp(argv[1], "kill") == 0 ? SECCOMP_RET_KILL_THREAD : deny);
}
