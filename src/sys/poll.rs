//! Waiting on descriptors.
//!
//! Context: any of our threads. Raw, because `poll` of libc is a name that the application may define
//! itself, and then its code would run on our thread.

use std::time::Duration;

use nix::poll::PollFd;

use super::{Result, raw};

/// Waits until one of `entries` has an event, at most `timeout`; how many have one.
pub fn poll(entries: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<usize> {
    let time = timeout.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos()),
    });
    let pointer = time.as_ref().map_or(0, |time| std::ptr::from_ref(time) as usize);
    // SAFETY: PollFd is a transparent pollfd, the slice outlives the call, and so does `time`.
    unsafe { raw::syscall6(libc::SYS_ppoll, [entries.as_mut_ptr() as usize, entries.len(), pointer, 0, 0, 0]) }
}
