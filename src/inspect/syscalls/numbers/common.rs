//! The calls numbered from 424 on, the same on all architectures since Linux 5.1.
//!
//! Source: Linux, scripts/syscall.tbl.

/// The number of the first name in [`NAMES`].
pub const FIRST: usize = 424;

/// The names, from number [`FIRST`] on.
#[rustfmt::skip]
pub static NAMES: &[&str] = &[
    /* 424 */ "pidfd_send_signal", "io_uring_setup", "io_uring_enter", "io_uring_register", "open_tree",
    /* 429 */ "move_mount", "fsopen", "fsconfig", "fsmount", "fspick",
    /* 434 */ "pidfd_open", "clone3", "close_range", "openat2", "pidfd_getfd",
    /* 439 */ "faccessat2", "process_madvise", "epoll_pwait2", "mount_setattr", "quotactl_fd",
    /* 444 */ "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "memfd_secret", "process_mrelease",
    /* 449 */ "futex_waitv", "set_mempolicy_home_node", "cachestat", "fchmodat2", "map_shadow_stack",
    /* 454 */ "futex_wake", "futex_wait", "futex_requeue", "statmount", "listmount",
    /* 459 */ "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules", "mseal", "setxattrat",
    /* 464 */ "getxattrat", "listxattrat", "removexattrat", "open_tree_attr", "file_getattr",
    /* 469 */ "file_setattr", "listns", "rseq_slice_yield",
];
