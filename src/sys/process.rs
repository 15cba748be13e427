//! This process as the kernel sees it: ids, clocks, auxiliary vector, and the fields of `/proc/self/status`.
//!
//! Context: any, signal handlers included: raw system calls and fixed buffers, no allocation, no
//! lock; only [`auxiliary`] goes through libc, and that reads memory which the loader never changes.

use std::ffi::CStr;

use super::{procfs, raw};

/// The value of entry `kind` (`AT_*`) of the auxiliary vector, 0 when there is none (man 3 getauxval).
pub fn auxiliary(kind: libc::c_ulong) -> u64 {
    // SAFETY: getauxval reads the vector that the loader kept, and takes no lock.
    unsafe { libc::getauxval(kind) }
}

/// Runs with more privilege than its caller (setuid, setgid, file capabilities): `AT_SECURE`.
pub fn is_secure() -> bool {
    auxiliary(libc::AT_SECURE) != 0
}

/// How many clock ticks `/proc` counts for a second (`AT_CLKTCK`).
pub fn ticks_per_second() -> u64 {
    match auxiliary(libc::AT_CLKTCK) {
        0 => 100,
        ticks => ticks,
    }
}

/// The process id, in the process's own namespace.
pub fn pid() -> i32 {
    id(libc::SYS_getpid)
}

/// The calling thread's id, in the process's own namespace.
pub fn tid() -> i32 {
    id(libc::SYS_gettid)
}

/// Whether there is a process `pid` (not reaped yet).
pub fn exists(pid: i32) -> bool {
    // SAFETY: kill with signal 0 touches no memory.
    let answer = unsafe { raw::syscall6(libc::SYS_kill, [pid as usize, 0, 0, 0, 0, 0]) };
    answer != Err(super::Errno::ESRCH)
}

/// The effective user id of the calling thread.
pub fn effective_uid() -> u32 {
    id(libc::SYS_geteuid) as u32
}

fn id(number: libc::c_long) -> i32 {
    // SAFETY: the get*id calls touch no memory and never fail.
    unsafe { raw::syscall6(number, [0; 6]) }.unwrap_or_default() as i32
}

/// Room enough for `/proc/PID/status`, which has some 1,500 bytes.
pub const STATUS_BYTES: usize = 4096;

/// The value of field `name` of a `/proc/PID/status` text, without the blanks around it (man 5 proc_pid_status).
pub fn status_field<'a>(status: &'a [u8], name: &str) -> Option<&'a [u8]> {
    status
        .split(|&byte| byte == b'\n')
        .find_map(|line| Some(line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?.trim_ascii()))
}

/// The first number of field `name` of the status file at `path`.
fn status_number(path: &CStr, name: &str) -> Option<i64> {
    let mut buffer = [0; STATUS_BYTES];
    let status = procfs::read_small(libc::AT_FDCWD, path, &mut buffer).ok()?;
    let first = status_field(status, name)?.split(u8::is_ascii_whitespace).next()?;
    std::str::from_utf8(first).ok()?.parse().ok()
}

/// Whether the calling thread, which has just started, lives under no seccomp filter (man 2 prctl).
pub fn has_no_filter() -> bool {
    // SAFETY: PR_GET_SECCOMP touches no memory.
    let mode = unsafe { raw::syscall6(libc::SYS_prctl, [libc::PR_GET_SECCOMP as usize, 0, 0, 0, 0, 0]) };
    mode == Ok(0)
}

/// The calling thread's seccomp mode: 0 none, 1 strict, 2 filter; `None` when the kernel does not say.
/// `prctl(PR_GET_SECCOMP)` would kill a thread in strict mode, and a filter may forbid it.
pub fn seccomp_mode() -> Option<u8> {
    u8::try_from(status_number(c"/proc/thread-self/status", "Seccomp")?).ok()
}

/// How many seccomp filters watch the calling thread; 1 for any where the kernel (before 5.9) does not count.
pub fn seccomp_filters() -> i32 {
    if seccomp_mode().unwrap_or(0) == 0 {
        return 0;
    }
    let count = status_number(c"/proc/thread-self/status", "Seccomp_filters");
    count.and_then(|count| i32::try_from(count).ok()).unwrap_or(1)
}

/// The process's dumpable flag (man 2 prctl, PR_GET_DUMPABLE).
pub fn dumpable() -> usize {
    // SAFETY: this prctl touches no memory.
    unsafe { raw::syscall6(libc::SYS_prctl, [libc::PR_GET_DUMPABLE as usize, 0, 0, 0, 0, 0]) }.unwrap_or(1)
}

/// Sets the process's dumpable flag; true if the kernel took it.
pub fn set_dumpable(value: usize) -> bool {
    // SAFETY: this prctl touches no memory.
    unsafe { raw::syscall6(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, value, 0, 0, 0, 0]) }.is_ok()
}

/// The process id as `/proc` shows it. It differs from [`pid`] when `/proc` was mounted in another pid
/// namespace; then the thread ids of `/proc/self/task` are none for a system call to use.
pub fn proc_pid() -> Option<i32> {
    i32::try_from(status_number(c"/proc/self/status", "NSpid")?).ok()
}

/// Whether the thread ids of `/proc` are those of system calls.
pub fn proc_is_of_our_namespace() -> bool {
    // What cannot be read (no descriptor is to be had) tells nothing of another namespace.
    proc_pid().is_none_or(|there| there == pid())
}

/// The calling thread's id as `/proc` shows it: the end of the link `/proc/thread-self`, `PID/task/TID`.
pub fn proc_tid() -> Option<i32> {
    let mut buffer = [0; 64];
    let link = super::link::read_link(c"/proc/thread-self", &mut buffer).ok()?;
    std::str::from_utf8(link.rsplit(|&byte| byte == b'/').next()?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_libc() {
        assert_eq!(pid(), std::process::id() as i32);
        assert_eq!(tid(), nix::unistd::gettid().as_raw());
        assert_eq!(effective_uid(), nix::unistd::geteuid().as_raw());
        assert!(!is_secure());
        assert_eq!(ticks_per_second(), 100);
        assert_eq!(proc_pid(), Some(pid()));
        assert_eq!(proc_tid(), Some(tid()));
        assert_eq!(seccomp_mode(), Some(0));
    }

    #[test]
    fn finds_whole_field_names_only() {
        let status = b"Name:\tSeccomp:\nSeccomp_filters:\t7\nSeccomp:\t2\n";
        assert_eq!(status_field(status, "Seccomp"), Some(&b"2"[..]));
        assert_eq!(status_field(status, "Absent"), None);
    }
}
