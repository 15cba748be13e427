//! Names of constants among the arguments of system calls.
//!
//! Values come from the libc crate wherever it has them, so that they are right on each architecture
//! (`O_DIRECTORY` differs) and no number is copied; only constants of libc are named here, no function.

use super::signature::Names;

/// `names![A, B]` is `&[(libc::A, "A"), (libc::B, "B")]`.
macro_rules! names {
    ($($name:ident),* $(,)?) => { &[$((libc::$name as i64, stringify!($name))),*] };
}

pub const ADVICE: Names = names![
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_WILLNEED,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_REMOVE,
    MADV_DONTFORK,
    MADV_DOFORK,
    MADV_MERGEABLE,
    MADV_UNMERGEABLE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_DONTDUMP,
    MADV_DODUMP,
    MADV_COLD,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_COLLAPSE,
];

/// Clocks (man 2 clock_gettime).
pub const CLOCKS: Names = names![
    CLOCK_REALTIME,
    CLOCK_MONOTONIC,
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_THREAD_CPUTIME_ID,
    CLOCK_MONOTONIC_RAW,
    CLOCK_REALTIME_COARSE,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_BOOTTIME,
    CLOCK_REALTIME_ALARM,
    CLOCK_BOOTTIME_ALARM,
    CLOCK_TAI,
];

pub const CLONE_FLAGS: Names = names![
    CLONE_VM,
    CLONE_FS,
    CLONE_FILES,
    CLONE_SIGHAND,
    CLONE_PIDFD,
    CLONE_PTRACE,
    CLONE_VFORK,
    CLONE_PARENT,
    CLONE_THREAD,
    CLONE_NEWNS,
    CLONE_SYSVSEM,
    CLONE_SETTLS,
    CLONE_PARENT_SETTID,
    CLONE_CHILD_CLEARTID,
    CLONE_UNTRACED,
    CLONE_CHILD_SETTID,
    CLONE_NEWCGROUP,
    CLONE_NEWUTS,
    CLONE_NEWIPC,
    CLONE_NEWUSER,
    CLONE_NEWPID,
    CLONE_NEWNET,
    CLONE_IO,
];

pub const EPOLL_OPERATIONS: Names = names![EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD];

pub const FCNTL_COMMANDS: Names = names![
    F_DUPFD,
    F_GETFD,
    F_SETFD,
    F_GETFL,
    F_SETFL,
    F_GETLK,
    F_SETLK,
    F_SETLKW,
    F_SETOWN,
    F_GETOWN,
    F_OFD_GETLK,
    F_OFD_SETLK,
    F_OFD_SETLKW,
    F_SETLEASE,
    F_GETLEASE,
    F_NOTIFY,
    F_DUPFD_CLOEXEC,
    F_SETPIPE_SZ,
    F_GETPIPE_SZ,
    F_ADD_SEALS,
    F_GET_SEALS,
];

pub const FUTEX_COMMANDS: Names = names![
    FUTEX_WAIT,
    FUTEX_WAKE,
    FUTEX_REQUEUE,
    FUTEX_CMP_REQUEUE,
    FUTEX_WAKE_OP,
    FUTEX_LOCK_PI,
    FUTEX_UNLOCK_PI,
    FUTEX_TRYLOCK_PI,
    FUTEX_WAIT_BITSET,
    FUTEX_WAKE_BITSET,
    FUTEX_WAIT_REQUEUE_PI,
    FUTEX_CMP_REQUEUE_PI,
    FUTEX_LOCK_PI2,
];

/// include/uapi/linux/futex.h; the two lowest bits are the size of the word.
pub const FUTEX2_FLAGS: Names = &[
    (0x80, "FUTEX2_PRIVATE"),
    (0x8, "FUTEX2_MPOL"),
    (0x4, "FUTEX2_NUMA"),
    (0x3, "FUTEX2_SIZE_U64"),
    (0x2, "FUTEX2_SIZE_U32"),
    (0x1, "FUTEX2_SIZE_U16"),
];

pub const GETRANDOM_FLAGS: Names = names![GRND_NONBLOCK, GRND_RANDOM, GRND_INSECURE];

pub const ID_TYPES: Names = names![P_ALL, P_PID, P_PGID, P_PIDFD];

/// include/uapi/linux/io_uring.h.
pub const IO_URING_ENTER_FLAGS: Names = &[
    (0x1, "IORING_ENTER_GETEVENTS"),
    (0x2, "IORING_ENTER_SQ_WAKEUP"),
    (0x4, "IORING_ENTER_SQ_WAIT"),
    (0x8, "IORING_ENTER_EXT_ARG"),
    (0x10, "IORING_ENTER_REGISTERED_RING"),
    (0x20, "IORING_ENTER_ABS_TIMER"),
    (0x40, "IORING_ENTER_EXT_ARG_REG"),
    (0x80, "IORING_ENTER_NO_IOWAIT"),
];

pub const LOCK_OPERATIONS: Names = names![LOCK_SH, LOCK_EX, LOCK_UN, LOCK_NB];

pub const LOCK_TYPES: Names = names![F_RDLCK, F_WRLCK, F_UNLCK];

pub const MAP_FLAGS: Names = names![
    MAP_SHARED_VALIDATE,
    MAP_SHARED,
    MAP_PRIVATE,
    MAP_FIXED,
    MAP_ANONYMOUS,
    MAP_GROWSDOWN,
    MAP_DENYWRITE,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_NONBLOCK,
    MAP_STACK,
    MAP_HUGETLB,
    MAP_SYNC,
    MAP_FIXED_NOREPLACE,
];

/// include/uapi/linux/membarrier.h.
pub const MEMBARRIER_COMMANDS: Names = &[
    (0, "MEMBARRIER_CMD_QUERY"),
    (0x1, "MEMBARRIER_CMD_GLOBAL"),
    (0x2, "MEMBARRIER_CMD_GLOBAL_EXPEDITED"),
    (0x4, "MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED"),
    (0x8, "MEMBARRIER_CMD_PRIVATE_EXPEDITED"),
    (0x10, "MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED"),
    (0x20, "MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE"),
];

pub const MESSAGE_FLAGS: Names = names![
    MSG_OOB,
    MSG_PEEK,
    MSG_DONTROUTE,
    MSG_CTRUNC,
    MSG_TRUNC,
    MSG_DONTWAIT,
    MSG_EOR,
    MSG_WAITALL,
    MSG_CONFIRM,
    MSG_ERRQUEUE,
    MSG_NOSIGNAL,
    MSG_MORE,
    MSG_WAITFORONE,
    MSG_FASTOPEN,
    MSG_CMSG_CLOEXEC,
];

pub const MREMAP_FLAGS: Names = names![MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP];

pub const MSYNC_FLAGS: Names = names![MS_ASYNC, MS_INVALIDATE, MS_SYNC];

pub const OPEN_ACCESS: Names = names![O_RDONLY, O_WRONLY, O_RDWR];

pub const OPEN_FLAGS: Names = names![
    O_TMPFILE,
    O_SYNC,
    O_CREAT,
    O_EXCL,
    O_NOCTTY,
    O_TRUNC,
    O_APPEND,
    O_NONBLOCK,
    O_DSYNC,
    O_ASYNC,
    O_DIRECT,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_NOATIME,
    O_CLOEXEC,
    O_PATH,
];

pub const PIPE_FLAGS: Names = names![SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SPLICE_F_MORE, SPLICE_F_GIFT];

pub const POLL_EVENTS: Names = names![
    POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL, POLLRDNORM, POLLRDBAND, POLLWRNORM, POLLWRBAND, POLLRDHUP,
];

pub const PROTECTIONS: Names = names![PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP];

pub const PTRACE_REQUESTS: Names = names![
    PTRACE_TRACEME,
    PTRACE_PEEKTEXT,
    PTRACE_PEEKDATA,
    PTRACE_PEEKUSER,
    PTRACE_POKETEXT,
    PTRACE_POKEDATA,
    PTRACE_POKEUSER,
    PTRACE_CONT,
    PTRACE_KILL,
    PTRACE_SINGLESTEP,
    PTRACE_ATTACH,
    PTRACE_DETACH,
    PTRACE_SYSCALL,
    PTRACE_SETOPTIONS,
    PTRACE_GETEVENTMSG,
    PTRACE_GETSIGINFO,
    PTRACE_SETSIGINFO,
    PTRACE_GETREGSET,
    PTRACE_SETREGSET,
    PTRACE_SEIZE,
    PTRACE_INTERRUPT,
    PTRACE_LISTEN,
];

pub const SEMOP_FLAGS: Names = &[(libc::IPC_NOWAIT as i64, "IPC_NOWAIT"), (0x1000, "SEM_UNDO")];

pub const SHUTDOWN_SIDES: Names = names![SHUT_RD, SHUT_WR, SHUT_RDWR];

/// Signals without the real-time ones (man 7 signal).
pub const SIGNALS: Names = names![
    SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE,
    SIGALRM, SIGTERM, SIGSTKFLT, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGXCPU, SIGXFSZ,
    SIGVTALRM, SIGPROF, SIGWINCH, SIGIO, SIGPWR, SIGSYS,
];

pub const SLEEP_FLAGS: Names = names![TIMER_ABSTIME];

pub const SOCKET_FAMILIES: Names =
    names![AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_ALG, AF_VSOCK, AF_XDP];

pub const SOCKET_FLAGS: Names = names![SOCK_CLOEXEC, SOCK_NONBLOCK];

/// The type of a socket shares its word with the flags: bits, but for the lowest four.
pub const SOCKET_TYPES: Names = &[
    (libc::SOCK_CLOEXEC as i64, "SOCK_CLOEXEC"),
    (libc::SOCK_NONBLOCK as i64, "SOCK_NONBLOCK"),
    (libc::SOCK_SEQPACKET as i64, "SOCK_SEQPACKET"),
    (libc::SOCK_RAW as i64, "SOCK_RAW"),
    (libc::SOCK_DGRAM as i64, "SOCK_DGRAM"),
    (libc::SOCK_STREAM as i64, "SOCK_STREAM"),
];

pub const WAIT_FLAGS: Names = names![WNOHANG, WUNTRACED, WEXITED, WCONTINUED, WNOWAIT, __WNOTHREAD, __WALL, __WCLONE,];

pub const WHENCE: Names = names![SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE];
