//! Writing to standard output, raw and unbuffered.
//!
//! Context: the client. The server's bytes reach the terminal or pipe as they are, and at once.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Failure, Result};

/// Writes all of `bytes`, waiting while nobody reads; also when somebody who shares the terminal made it
/// non-blocking.
pub fn write_all(output: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(output, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let _ = poll(&mut [PollFd::new(output, PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(Errno::EPIPE) => return Err(Failure::OutputClosed),
            Err(errno) => return Err(Failure::Unreachable(format!("cannot write the output: {}", errno.desc()))),
        }
    }
    Ok(())
}
