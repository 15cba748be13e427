//! Writing to a descriptor of the application that may be slow, without waiting for ever and without SIGPIPE.
//!
//! Context: any thread, signal handlers included.

use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use super::poll::poll;
use super::{Errno, Result, clock, raw, signal};

/// A pipe that polls as writable takes this much without blocking (PIPE_BUF, pipe(7)).
const PIECE: usize = 4096;

/// A descriptor of the calling thread's table, until a point in time.
pub struct Output {
    descriptor: RawFd,
    deadline: u64,
    /// SIGPIPE was pending before we wrote.
    pipe_pending: bool,
}

impl Output {
    /// Writes to `descriptor` for at most `patience`. The calling thread blocks SIGPIPE.
    pub fn new(descriptor: RawFd, patience: Duration) -> Self {
        let limit = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        let pipe_pending = signal::pending() & signal::bit(libc::SIGPIPE) != 0;
        Self { descriptor, deadline: clock::monotonic().saturating_add(limit), pipe_pending }
    }

    /// Writes all of `bytes`; `ETIMEDOUT` when time is up.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.wait()?;
            let piece = rest.get(..PIECE).unwrap_or(rest);
            match self.write_once(piece) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                // Another writer was faster.
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        loop {
            let left = self.deadline.saturating_sub(clock::monotonic());
            if left == 0 {
                return Err(Errno::ETIMEDOUT);
            }
            if self.descriptor < 0 {
                return Err(Errno::EBADF);
            }
            // SAFETY: for the time of the call only; a closed one polls as POLLNVAL, and the write then fails.
            let descriptor = unsafe { BorrowedFd::borrow_raw(self.descriptor) };
            match poll(&mut [PollFd::new(descriptor, PollFlags::POLLOUT)], Some(Duration::from_nanos(left))) {
                Ok(1..) => return Ok(()),
                Ok(0) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write_once(&self, bytes: &[u8]) -> Result<usize> {
        let (descriptor, address, length) = (self.descriptor as usize, bytes.as_ptr() as usize, bytes.len());
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as usize;
        // SAFETY: the kernel only reads `bytes`.
        let sent = unsafe { raw::syscall6(libc::SYS_sendto, [descriptor, address, length, flags, 0, 0]) };
        if sent != Err(Errno::ENOTSOCK) {
            return sent;
        }
        // SAFETY: as above.
        let written = unsafe { raw::syscall6(libc::SYS_write, [descriptor, address, length, 0, 0, 0]) };
        if written == Err(Errno::EPIPE) && !self.pipe_pending {
            signal::take_pending(libc::SIGPIPE);
        }
        written
    }
}

/// Writes `line` to `descriptor` of the calling thread's table, in one, if that can be had within `patience`; not at
/// all to a pipe without a reader, which would raise SIGPIPE. The descriptor is used as it is: to duplicate it and to
/// close that would drop the record locks that this process has on the file (man 2 fcntl).
pub fn write_line(descriptor: RawFd, line: &[u8], patience: Duration) -> Result<()> {
    if descriptor < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: for the time of the call only; a closed one polls as POLLNVAL.
    let ready = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let mut ready = [PollFd::new(ready, PollFlags::POLLOUT)];
    poll(&mut ready, Some(patience))?;
    let [entry] = &ready;
    if entry.revents() != Some(PollFlags::POLLOUT) {
        return Err(Errno::EAGAIN);
    }
    let arguments = [descriptor as usize, line.as_ptr() as usize, line.len(), 0, 0, 0];
    // SAFETY: the kernel only reads `line`.
    unsafe { raw::syscall6(libc::SYS_write, arguments) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pipe::pipe;

    #[test]
    fn a_full_pipe_costs_a_while_and_a_broken_one_no_signal() {
        let mask = signal::set_blocked(signal::blocked() | signal::bit(libc::SIGPIPE));
        let (read, write) = pipe(0).unwrap();
        let output = Output::new(write.raw(), Duration::from_millis(50));
        assert_eq!(output.write(&vec![7; 1 << 20]), Err(Errno::ETIMEDOUT));
        drop(read);
        let output = Output::new(write.raw(), Duration::from_secs(5));
        assert_eq!(output.write(b"x"), Err(Errno::EPIPE));
        assert_eq!(signal::pending() & signal::bit(libc::SIGPIPE), 0);
        assert_eq!(Output::new(-1, Duration::from_secs(5)).write(b"x"), Err(Errno::EBADF));
        signal::set_blocked(mask);
    }
}
