//! What wakes the observer out of `poll`.
//!
//! A pipe in the observer's own descriptor table: the application holds no descriptor of it, and does not see one.
//! Whoever has something to tell finds the pipe through `/proc`, writes a byte and lets go. There is no other way
//! in: a signal could not be taken without taking the application's, and a socket could be rung by strangers.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::sys::passing::Passing;
use crate::sys::procfs::File;
use crate::sys::{Errno, Result, pipe, process, stat};

/// Where the bell is, for those who ring; nowhere at first. In [`crate::lifecycle::Manhole`].
#[derive(Default)]
pub struct Rope {
    /// The observer's thread id as `/proc` shows it (upper half) and the number of the pipe's end to write to in
    /// its table; 0 while there is no bell.
    place: AtomicU64,
    /// Which pipe it is: device and inode.
    identity: [AtomicU64; 2],
    /// The process it hangs in.
    pid: AtomicI32,
}

impl Rope {
    /// In a forked child, and when the observer ends.
    pub fn cut(&self) {
        self.place.store(0, Ordering::Release);
    }

    /// Wakes the observer. Async-signal-safe. An error means that it cannot be reached: there is none, or no `/proc`.
    pub fn ring(&self) -> Result<()> {
        let place = self.place.load(Ordering::Acquire);
        if place == 0 || self.pid.load(Ordering::Relaxed) != process::pid() {
            return Err(Errno::ESRCH);
        }
        let (tid, number) = (place >> 32, place as u32);
        let identity = self.identity.each_ref().map(|word| word.load(Ordering::Relaxed));
        let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_NONBLOCK;
        let pipe = Passing::open(tid as i32, number as i32, identity.into(), flags.bits())?;
        match pipe.write(&[0]) {
            // Full of rings that nobody has answered yet.
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The observer's end.
pub struct Bell {
    read: File,
    _write: File,
}

impl Bell {
    /// Hangs a bell on `rope`. The calling thread has a descriptor table of its own.
    pub fn hang(rope: &Rope) -> Result<Self> {
        let (read, write) = pipe::pipe(nix::fcntl::OFlag::O_NONBLOCK.bits())?;
        let tid = process::proc_tid().unwrap_or_else(process::tid);
        let (device, inode) = stat::of(&write)?.identity();
        rope.identity.iter().zip([device, inode]).for_each(|(slot, word)| slot.store(word, Ordering::Relaxed));
        rope.pid.store(process::pid(), Ordering::Relaxed);
        rope.place.store((tid as u64) << 32 | write.raw() as u64, Ordering::Release);
        Ok(Self { read, _write: write })
    }

    /// Silences it, so that `poll` sleeps again.
    pub fn hush(&self) {
        let mut rings = [0; 64];
        while self.read.read(&mut rings).is_ok_and(|count| count == rings.len()) {}
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::poll;
    use nix::poll::{PollFd, PollFlags};
    use std::time::Duration;

    fn rings(bell: &Bell) -> bool {
        poll(&mut [PollFd::new(bell.as_fd(), PollFlags::POLLIN)], Some(Duration::ZERO)) == Ok(1)
    }

    #[test]
    fn rings_until_it_is_hushed() {
        let rope = Rope::default();
        assert_eq!(rope.ring(), Err(Errno::ESRCH));
        let bell = Bell::hang(&rope).unwrap();
        assert!(!rings(&bell));
        // More often than a pipe has room for.
        (0..70_000).for_each(|_| rope.ring().unwrap());
        assert!(rings(&bell));
        bell.hush();
        assert!(!rings(&bell));
        rope.cut();
        assert_eq!(rope.ring(), Err(Errno::ESRCH));
    }
}
