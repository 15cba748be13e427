//! Which system calls of a blocked thread survive a stop, and which may be made to run again.
//!
//! Context: the observer asks [`Descriptors::may_be_stopped`] before it stops a blocked thread; the ptrace
//! helper and the signal handler ask [`is_repeatable`] about a call that was cut: no allocation, no lock.
//!
//! A stop makes the kernel leave the call. What happens then was measured for each entry (Linux 6.18,
//! PTRACE_SEIZE, INTERRUPT, the result register at the stop, what the application saw afterwards):
//!
//! | result at the stop | the kernel goes on with | calls |
//! |---|---|---|
//! | -ERESTART_RESTARTBLOCK | the call, with the deadline it had (`restart_syscall`) | poll, nanosleep, relative clock_nanosleep, futex with a timeout |
//! | -ERESTARTNOHAND, -ERESTARTSYS, -ERESTARTNOINTR | the same call with the same arguments | futex, pause, rt_sigsuspend, msgrcv, wait4, waitid, flock, fcntl's waiting locks, mq_timedreceive; read, recv, accept on pipes, sockets, eventfd, inotify, timerfd, signalfd |
//! | the same, time left written back | the same call | select, pselect6, ppoll, if their timeout is writable; else -EINTR |
//! | -EINTR | nothing: the application sees it | epoll_wait, epoll_pwait, epoll_pwait2, semop, semtimedop, rt_sigtimedwait, io_getevents, io_uring_enter; read, recv, accept on a socket with SO_RCVTIMEO |
//! | a short count | nothing | write and send that have written a part, recv with MSG_WAITALL or SO_RCVLOWAT |
//!
//! The fourth row is repaired ([`super::native::restart`]), but only where the call waits for ever, since a
//! repeated call begins its timeout anew. Everything else, and every call not named here, is spared.

use std::fmt::Write;

use super::super::Call;
use super::native;
use crate::sys::descriptor::{copy_of, socket_option};
use crate::sys::link::read_link_at;
use crate::sys::procfs::{File, Path};
use crate::sys::stat;

/// When a call survives a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The kernel restarts it and keeps its deadline.
    Always,
    /// The kernel writes the time left through this argument, or it is null.
    TimeLeft(usize),
    /// Repeated by us if this argument, an int of milliseconds, is negative.
    ForeverMilliseconds(usize),
    /// Repeated by us if this argument, a pointer to a timeout, is null.
    ForeverNull(usize),
    /// Depends on what argument 0, a descriptor, is; the flags of the call are in this argument.
    Reads(Option<usize>),
    /// Depends on the operation, argument 1.
    Futex,
    /// Depends on the operation, argument 1.
    Fcntl,
}

/// The calls that both architectures have. [`native::LEGACY_CALLS`] holds the older ones.
const CALLS: &[(i64, Rule)] = &[
    (libc::SYS_restart_syscall, Rule::Always),
    (libc::SYS_nanosleep, Rule::Always),
    (libc::SYS_clock_nanosleep, Rule::Always),
    (libc::SYS_rt_sigsuspend, Rule::Always),
    (libc::SYS_wait4, Rule::Always),
    (libc::SYS_waitid, Rule::Always),
    (libc::SYS_msgrcv, Rule::Always),
    (libc::SYS_flock, Rule::Always),
    (libc::SYS_mq_timedreceive, Rule::Always),
    (libc::SYS_futex, Rule::Futex),
    (libc::SYS_fcntl, Rule::Fcntl),
    (libc::SYS_ppoll, Rule::TimeLeft(2)),
    (libc::SYS_pselect6, Rule::TimeLeft(4)),
    (libc::SYS_epoll_pwait, Rule::ForeverMilliseconds(3)),
    (libc::SYS_epoll_pwait2, Rule::ForeverNull(3)),
    (libc::SYS_semtimedop, Rule::ForeverNull(3)),
    (libc::SYS_semop, Rule::ForeverNull(3)),
    (libc::SYS_rt_sigtimedwait, Rule::ForeverNull(2)),
    (libc::SYS_io_getevents, Rule::ForeverNull(4)),
    (libc::SYS_read, Rule::Reads(None)),
    (libc::SYS_readv, Rule::Reads(None)),
    (libc::SYS_accept, Rule::Reads(None)),
    (libc::SYS_accept4, Rule::Reads(None)),
    (libc::SYS_recvfrom, Rule::Reads(Some(3))),
    (libc::SYS_recvmsg, Rule::Reads(Some(2))),
];

fn rule(number: i64) -> Option<Rule> {
    CALLS.iter().chain(native::LEGACY_CALLS).find(|entry| entry.0 == number).map(|entry| entry.1)
}

/// Whether call `number`, having failed with EINTR, has done nothing and may simply run again.
pub fn is_repeatable(number: i64) -> bool {
    match rule(number) {
        Some(Rule::ForeverMilliseconds(_) | Rule::ForeverNull(_) | Rule::Reads(_) | Rule::TimeLeft(_)) => true,
        Some(Rule::Always | Rule::Futex | Rule::Fcntl) | None => false,
    }
}

/// Whether a handler of the application may run *because* of this call, which swaps the signal mask:
/// it then relies on the EINTR that follows.
pub fn swaps_mask(number: i64) -> bool {
    [libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_ppoll, libc::SYS_pselect6].contains(&number)
}

/// Whether stopping a thread that is blocked in `call` goes unnoticed by it. `stack` is where its
/// stack pointer is, `folder` the open `/proc/self/task`.
pub fn may_be_stopped(call: &Call, tid: i32, stack: u64, folder: &File) -> bool {
    if call.number < 0 {
        // Outside any call: in a page fault, or stopped in its own code. Both are simply resumed.
        return true;
    }
    let argument = |index: usize| call.arguments.get(index).copied().unwrap_or(u64::MAX);
    match rule(call.number) {
        None => false,
        Some(Rule::Always) => true,
        Some(Rule::TimeLeft(index)) => is_null_or_on_stack(argument(index), stack),
        Some(Rule::ForeverMilliseconds(index)) => native::REPEATS && (argument(index) as i32) < 0,
        Some(Rule::ForeverNull(index)) => {
            // semop is semtimedop without the last argument.
            native::REPEATS && (call.number == libc::SYS_semop || argument(index) == 0)
        }
        Some(Rule::Reads(flags)) => {
            let waits_for_all = flags.is_some_and(|index| argument(index) & libc::MSG_WAITALL as u64 != 0);
            !waits_for_all && is_read_restarted(tid, argument(0) as i32, folder)
        }
        Some(Rule::Futex) => {
            let operation = argument(1) as i32 & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
            // Not FUTEX_WAIT_REQUEUE_PI, which returns EWOULDBLOCK after a stop (kernel/futex/requeue.c).
            [libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET, libc::FUTEX_LOCK_PI].contains(&operation)
        }
        Some(Rule::Fcntl) => [libc::F_SETLKW, libc::F_OFD_SETLKW].contains(&(argument(1) as i32)),
    }
}

/// The kernel can write the time left to a thread's stack, just as the C library's wrappers hand it a
/// copy there; a constant elsewhere may be read-only, and then the call fails with EINTR.
fn is_null_or_on_stack(pointer: u64, stack: u64) -> bool {
    const NEAR: u64 = 1 << 16;
    pointer == 0 || pointer.wrapping_sub(stack) < NEAR
}

/// Whether a read of the thread's descriptor that waits is restarted by the kernel.
fn is_read_restarted(tid: i32, descriptor: i32, folder: &File) -> bool {
    let mut path = Path::<48>::new();
    if write!(path, "{tid}/fd/{descriptor}").is_err() {
        return false;
    }
    let mut buffer = [0; 64];
    let Ok(target) = read_link_at(folder.raw(), path.as_c_str(), &mut buffer) else { return false };
    const RESTARTED: [&[u8]; 5] =
        [b"pipe:[", b"anon_inode:inotify", b"anon_inode:[eventfd]", b"anon_inode:[timerfd]", b"anon_inode:[signalfd]"];
    RESTARTED.iter().any(|prefix| target.starts_with(prefix)) || is_patient_socket(descriptor, target)
}

/// Whether `target` names a socket that waits without a timeout and for no more than one byte: the
/// kernel returns EINTR otherwise (`sock_intr_errno`), or what came so far.
fn is_patient_socket(descriptor: i32, target: &[u8]) -> bool {
    let name = target.strip_prefix(b"socket:[").and_then(|rest| rest.strip_suffix(b"]"));
    let number = name.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| digits.parse().ok());
    let Ok(socket) = copy_of(crate::sys::process::pid(), descriptor) else { return false };
    // The descriptor table of the main thread: a thread may have one of its own.
    if number.is_none() || stat::of(&socket).ok().map(|status| status.inode) != number {
        return false;
    }
    let option = |name| socket_option(&socket, name);
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6].map(|family| Ok([family as u64, 0]));
    families.contains(&option(libc::SO_DOMAIN))
        && option(libc::SO_RCVTIMEO) == Ok([0, 0])
        && option(libc::SO_RCVLOWAT).is_ok_and(|value| value[0] <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(number: i64, arguments: [u64; 6]) -> bool {
        let folder = File::open(c"/proc/self/task").expect("task folder");
        may_be_stopped(&Call { number, arguments }, 1, 0x7f00_0000_0000, &folder)
    }

    #[test]
    fn finite_timeouts_of_calls_that_return_eintr_are_spared() {
        assert!(!stops(libc::SYS_epoll_pwait, [5, 0, 1, 100, 0, 0]));
        assert!(!stops(libc::SYS_rt_sigtimedwait, [0, 0, 0x7f00_0000_0010, 8, 0, 0]));
        assert!(!stops(libc::SYS_semtimedop, [0, 0, 1, 0x7f00_0000_0010, 0, 0]));
        assert_eq!(stops(libc::SYS_epoll_pwait, [5, 0, 1, u64::from(u32::MAX), 0, 0]), native::REPEATS);
        assert_eq!(stops(libc::SYS_semop, [0, 0, 1, 77, 0, 0]), native::REPEATS);
    }

    #[test]
    fn a_timeout_that_may_be_read_only_is_spared() {
        assert!(stops(libc::SYS_ppoll, [0, 0, 0x7f00_0000_0010, 0, 8, 0]));
        assert!(stops(libc::SYS_ppoll, [0, 0, 0, 0, 8, 0]));
        assert!(!stops(libc::SYS_ppoll, [0, 0, 0x5500_0000_0010, 0, 8, 0]));
    }

    #[test]
    fn calls_that_are_not_known_are_spared() {
        for number in [libc::SYS_write, libc::SYS_sendto, libc::SYS_io_uring_enter, libc::SYS_close, 9999] {
            assert!(!stops(number, [0; 6]), "{number}");
            assert!(!is_repeatable(number), "{number}");
        }
        assert!(!stops(libc::SYS_futex, [0, libc::FUTEX_WAIT_REQUEUE_PI as u64, 0, 0, 0, 0]));
    }
}
