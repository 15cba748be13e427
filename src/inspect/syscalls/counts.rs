//! How many arguments the calls take that [`super::table`] has no signature for.
//!
//! The number of a call's argument registers that mean something (SYSCALL_DEFINEn in the kernel's source).

/// The names of the calls with no argument, with one, and so on to six.
#[rustfmt::skip]
static BY_COUNT: [&[&str]; 7] = [
    &[
        "fork", "getegid", "geteuid", "getgid", "getpgrp", "getpid", "getppid", "gettid", "getuid", "inotify_init",
        "munlockall", "rseq_slice_yield", "rt_sigreturn", "setsid", "uprobe", "uretprobe", "vhangup",
    ],
    &[
        "_sysctl", "acct", "adjtimex", "alarm", "chroot", "epoll_create", "epoll_create1", "eventfd", "fchdir",
        "get_kernel_syms", "get_thread_area", "getpgid", "getsid", "inotify_init1", "io_destroy", "iopl",
        "memfd_secret", "mq_unlink", "personality", "pipe", "pkey_free", "sched_get_priority_max",
        "sched_get_priority_min", "sched_getscheduler", "set_thread_area", "set_tid_address", "setfsgid",
        "setfsuid", "setgid", "setuid", "shmdt", "swapoff", "sysinfo", "time", "timer_delete", "timer_getoverrun",
        "times", "umask", "uname", "uselib", "userfaultfd",
    ],
    &[
        "arch_prctl", "capget", "capset", "chmod", "clock_adjtime", "clock_getres", "clock_gettime",
        "clock_settime", "create_module", "delete_module", "eventfd2", "fanotify_init", "fremovexattr", "fsopen",
        "fstatfs", "getcwd", "getgroups", "getitimer", "getpriority", "getrlimit", "getrusage", "gettimeofday",
        "inotify_rm_watch", "io_setup", "io_uring_setup", "ioprio_get", "landlock_restrict_self", "lremovexattr",
        "memfd_create", "mq_notify", "msgget", "munlock", "pipe2", "pivot_root", "pkey_alloc", "process_mrelease",
        "removexattr", "rt_sigpending", "sched_getparam", "sched_rr_get_interval", "sched_setparam",
        "set_robust_list", "setdomainname", "setgroups", "sethostname", "setpgid", "setregid", "setreuid",
        "setrlimit", "settimeofday", "sigaltstack", "swapon", "timer_gettime", "timerfd_create", "timerfd_gettime",
        "ustat", "utime", "utimes",
    ],
    &[
        "bpf", "chown", "fchmodat", "fchown", "finit_module", "flistxattr", "fsmount", "fspick", "futimesat",
        "get_robust_list", "getcpu", "getpeername", "getresgid", "getresuid", "getsockname", "init_module",
        "io_cancel", "ioperm", "ioprio_set", "landlock_create_ruleset", "lchown", "listxattr", "llistxattr",
        "lookup_dcookie", "lsm_list_modules", "map_shadow_stack", "mincore", "mknod", "modify_ldt", "mq_getsetattr",
        "mseal", "msgctl", "nfsservctl", "open_by_handle_at", "open_tree", "rt_sigqueueinfo", "sched_getaffinity",
        "sched_setaffinity", "sched_setattr", "sched_setscheduler", "seccomp", "security", "semget",
        "set_mempolicy", "setitimer", "setpriority", "setresgid", "setresuid", "shmat", "shmctl", "shmget",
        "signalfd", "sysfs", "syslog", "timer_create", "tuxcall",
    ],
    &[
        "cachestat", "epoll_ctl_old", "epoll_wait_old", "fadvise64", "fchmodat2", "fgetxattr", "futex_requeue",
        "getxattr", "io_uring_register", "kexec_load", "landlock_add_rule", "lgetxattr", "listmount", "listns",
        "lsm_get_self_attr", "lsm_set_self_attr", "migrate_pages", "mknodat", "mq_open", "pkey_mprotect",
        "prlimit64", "quotactl", "quotactl_fd", "reboot", "removexattrat", "request_key", "rseq", "rt_sigaction",
        "rt_sigprocmask", "rt_tgsigqueueinfo", "sched_getattr", "semctl", "set_mempolicy_home_node", "signalfd4",
        "socketpair", "statmount", "timer_settime", "timerfd_settime",
    ],
    &[
        "add_key", "afs_syscall", "fanotify_mark", "fchownat", "file_getattr", "file_setattr", "fsconfig",
        "fsetxattr", "get_mempolicy", "getpmsg", "getsockopt", "kcmp", "kexec_file_load", "keyctl", "listxattrat",
        "lsetxattr", "mount_setattr", "move_mount", "name_to_handle_at", "open_tree_attr", "perf_event_open",
        "prctl", "process_madvise", "putpmsg", "query_module", "remap_file_pages", "setsockopt", "setxattr",
        "vserver",
    ],
    &[
        "getxattrat", "mbind", "move_pages", "setxattrat",
    ],
];

/// How many arguments the call named `name` takes; six where that is not known.
pub fn of(name: &str) -> usize {
    BY_COUNT.iter().position(|names| names.contains(&name)).unwrap_or(6)
}

#[cfg(test)]
mod tests {
    use super::super::{numbers, signature};
    use super::*;

    #[test]
    fn every_call_is_known_once() {
        let all = [numbers::x86_64::NAMES, numbers::aarch64::NAMES, numbers::common::NAMES].concat();
        for name in all.iter().filter(|name| !name.is_empty()) {
            let counted = BY_COUNT.iter().flat_map(|names| names.iter()).filter(|counted| *counted == name).count();
            assert_eq!(counted + usize::from(signature::find(name).is_some()), 1, "{name}");
        }
        for name in BY_COUNT.iter().flat_map(|names| names.iter()) {
            assert!(all.contains(name), "{name} has no number");
        }
    }
}
