//! Signals: what the process does on each, and which each thread blocks or has waiting.
//!
//! Context: the observer. Dispositions are asked of the kernel, not of the C library, which may have been interposed:
//! `rt_sigaction` without a new action changes nothing. Masks are the kernel's too (`SigBlk` and its kin in
//! `/proc/PID/status`, man 5 proc_pid_status).

#![forbid(unsafe_code)]

use super::files;
use crate::config::signals::Name;
use crate::sys::{Errno, Result, process, signal};

/// The last one.
pub const LAST: i32 = 64;

/// glibc's own: it cancels threads and serves timers by the one, and `setuid` in all threads by the other (nptl(7)).
pub const C_LIBRARYS: [i32; 2] = [32, 33];

/// Masks of a thread: bit n - 1 stands for signal n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadMasks {
    /// Not delivered to it.
    pub blocked: u64,
    /// Sent to it alone, and waiting.
    pub pending: u64,
    /// Sent to the process, and waiting for a thread that does not block it.
    pub process_pending: u64,
    /// Signals waiting in queues of all processes of this user, and how many may (RLIMIT_SIGPENDING).
    pub queued: Option<(u64, u64)>,
}

/// The masks of thread `tid`.
pub fn masks(tid: i32) -> Result<ThreadMasks> {
    let status = files::of_thread(tid, "status", process::STATUS_BYTES)?;
    parse(&status).ok_or(Errno::EBADMSG)
}

fn parse(status: &[u8]) -> Option<ThreadMasks> {
    let text = |name| std::str::from_utf8(process::status_field(status, name)?).ok();
    let mask = |name| u64::from_str_radix(text(name)?, 16).ok();
    let queued = || {
        let (now, most) = text("SigQ")?.split_once('/')?;
        Some((now.parse().ok()?, most.parse().ok()?))
    };
    Some(ThreadMasks {
        blocked: mask("SigBlk")?,
        pending: mask("SigPnd")?,
        process_pending: mask("ShdPnd")?,
        queued: queued(),
    })
}

/// The signals of a mask.
pub fn members(mask: u64) -> impl Iterator<Item = i32> {
    (1..=LAST).filter(move |number| mask & signal::bit(*number) != 0)
}

/// Their names.
pub fn names(mask: u64) -> Vec<String> {
    members(mask).map(|number| Name(number).to_string()).collect()
}

/// What glibc lets a program block: all but KILL, STOP and its own two.
const BLOCKABLE: u64 = !(signal::bit(libc::SIGKILL) | signal::bit(libc::SIGSTOP) | signal::bit(32) | signal::bit(33));

/// A mask in words: `none`, `all`, `all but SIGSEGV`, or its names.
pub fn in_words(mask: u64) -> String {
    let missing = BLOCKABLE & !mask;
    match (mask & BLOCKABLE, missing.count_ones()) {
        _ if mask == 0 => "none".to_owned(),
        (_, 0) => "all".to_owned(),
        (_, 1..=12) => format!("all but {}", names(missing).join(" ")),
        _ => names(mask).join(" "),
    }
}

/// The flags of a disposition (man 2 sigaction), without SA_RESTORER, which every handler has.
pub fn flags(flags: u64) -> Vec<&'static str> {
    const NAMES: [(u64, &str); 8] = [
        (0x1, "SA_NOCLDSTOP"),
        (0x2, "SA_NOCLDWAIT"),
        (0x4, "SA_SIGINFO"),
        (0x800, "SA_EXPOSE_TAGBITS"),
        (0x0800_0000, "SA_ONSTACK"),
        (0x1000_0000, "SA_RESTART"),
        (0x4000_0000, "SA_NODEFER"),
        (0x8000_0000, "SA_RESETHAND"),
    ];
    NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_in_words() {
        assert_eq!(in_words(0), "none");
        assert_eq!(in_words(u64::MAX), "all");
        assert_eq!(in_words(BLOCKABLE), "all");
        assert_eq!(in_words(BLOCKABLE & !signal::bit(libc::SIGSEGV)), "all but SIGSEGV");
        assert_eq!(in_words(signal::bit(libc::SIGHUP) | signal::bit(35)), "SIGHUP SIGRTMIN+1");
        assert_eq!(flags(0x1400_0004), ["SA_SIGINFO", "SA_RESTART"]);
    }

    #[test]
    fn a_status_is_parsed() {
        let status = b"Name:\tx\nSigQ:\t3/96364\nSigPnd:\t0000000000000200\nShdPnd:\t0000000000000001\nSigBlk:\t0000000000000201\n";
        let expected = ThreadMasks { blocked: 0x201, pending: 0x200, process_pending: 1, queued: Some((3, 96364)) };
        assert_eq!(parse(status), Some(expected));
        assert_eq!(parse(b"SigBlk:\tzz\n"), None);
        assert!(masks(process::tid()).is_ok());
    }
}
