//! Names of the bits that `fdinfo` prints as numbers.

#![forbid(unsafe_code)]

use std::fmt;

use crate::inspect::syscalls::{CLOCKS, Names, write_choice, write_flags};

/// `names![A, B]` is `&[(libc::A, "A"), (libc::B, "B")]`.
macro_rules! names {
    ($($name:ident),* $(,)?) => { &[$((libc::$name as i64, stringify!($name))),*] };
}

const EPOLL_EVENTS: Names = names![
    EPOLLIN,
    EPOLLPRI,
    EPOLLOUT,
    EPOLLERR,
    EPOLLHUP,
    EPOLLRDNORM,
    EPOLLRDBAND,
    EPOLLWRNORM,
    EPOLLWRBAND,
    EPOLLMSG,
    EPOLLRDHUP,
    EPOLLEXCLUSIVE,
    EPOLLWAKEUP,
    EPOLLONESHOT,
    EPOLLET,
];

const INOTIFY_EVENTS: Names = names![
    IN_ACCESS,
    IN_MODIFY,
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CLOSE_NOWRITE,
    IN_OPEN,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_MOVE_SELF,
    IN_UNMOUNT,
    IN_Q_OVERFLOW,
    IN_IGNORED,
    IN_ONLYDIR,
    IN_DONT_FOLLOW,
    IN_EXCL_UNLINK,
    IN_MASK_CREATE,
    IN_MASK_ADD,
    IN_ISDIR,
    IN_ONESHOT,
];

const TIMER_FLAGS: Names = names![TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET];

struct Flags(u32, Names);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_flags(self.0 as i32, self.1, f)
    }
}

struct Choice(i32, Names);

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_choice(self.0, self.1, f)
    }
}

/// What an epoll instance waits for, without what the kernel always adds (EPOLLERR, EPOLLHUP); `0` for a descriptor
/// that EPOLLONESHOT has disarmed.
pub fn epoll_events(events: u32) -> String {
    Flags(events & !(libc::EPOLLERR | libc::EPOLLHUP) as u32, EPOLL_EVENTS).to_string()
}

/// What an inotify watch waits for.
pub fn inotify_mask(mask: u32) -> String {
    Flags(mask, INOTIFY_EVENTS).to_string()
}

/// The flags of `timerfd_settime`.
pub fn timer_flags(flags: u32) -> String {
    Flags(flags, TIMER_FLAGS).to_string()
}

/// `CLOCK_*`.
pub fn clock(clock: i32) -> String {
    Choice(clock, CLOCKS).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_named() {
        assert_eq!(epoll_events(0x8000_001c), "EPOLLOUT|EPOLLET");
        assert_eq!(epoll_events(0x4000_0000), "EPOLLONESHOT");
        assert_eq!(epoll_events(0x18), "0");
        assert_eq!(inotify_mask(0x380), "IN_MOVED_TO|IN_CREATE|IN_DELETE");
        assert_eq!((timer_flags(1), timer_flags(0)), ("TFD_TIMER_ABSTIME".into(), "0".into()));
        assert_eq!(clock(1), "CLOCK_MONOTONIC");
    }
}
