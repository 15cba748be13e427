// flags: -O1
/*
 * seccomp_container LIBRARY DENIED PROGRAM…: becomes PROGRAM with LIBRARY preloaded, under a filter as strict as a
 * container's: the calls named in DENIED (comma-separated; `all` for all of them) fail with EPERM.
 */
#include "sentinel.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name;
    unsigned number;
} calls[] = {
    { "ptrace", SYS_ptrace },
    { "process_vm_readv", SYS_process_vm_readv },
    { "process_vm_writev", SYS_process_vm_writev },
    { "pidfd_getfd", SYS_pidfd_getfd },
    { "pidfd_open", SYS_pidfd_open },
    { "close_range", SYS_close_range },
    { "kcmp", SYS_kcmp },
    { "perf_event_open", SYS_perf_event_open },
    { "unshare", SYS_unshare },
};

enum { CALLS = sizeof calls / sizeof *calls };

static int is_denied(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == 0 || at[length] == ','))
            return 1;
    return strcmp(list, "all") == 0;
}

int main(int argc, char **argv)
{
    struct sock_filter filter[2 * CALLS + 2];
    unsigned short length = 0;
    if (argc < 4)
        finish("FAIL usage");
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALLS; i++) {
        if (!is_denied(argv[2], calls[i].name))
            continue;
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0, 1);
        filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1 /* EPERM */);
    }
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = { length, filter };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
        finish("FAIL seccomp");
    setenv("LD_PRELOAD", argv[1], 1);
    execv(argv[3], argv + 3);
    finish("FAIL exec");
}
