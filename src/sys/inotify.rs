//! Being told when a file is written to.
//!
//! Context: a thread with a descriptor table of its own. The kernel counts instances per user (128 by default),
//! so a refusal is usual and the caller must do without.

use std::fmt::Write;
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use super::procfs::{File, Path};
use super::{Errno, Result, raw};

/// Watches one open file for writes and truncation.
#[derive(Debug)]
pub struct Watch(File);

impl Watch {
    /// Begins to watch `file`.
    pub fn on(file: &File) -> Result<Self> {
        let flags = (libc::IN_NONBLOCK | libc::IN_CLOEXEC) as usize;
        // SAFETY: inotify_init1 touches no memory.
        let number = unsafe { raw::syscall6(libc::SYS_inotify_init1, [flags, 0, 0, 0, 0, 0])? };
        let watch = Self(File::from_raw(number as RawFd));
        // By the link in /proc, the file may have lost its name.
        let mut path = Path::<48>::new();
        write!(path, "/proc/thread-self/fd/{}", file.raw()).map_err(|_| Errno::ENAMETOOLONG)?;
        let arguments = [number, path.as_c_str().as_ptr() as usize, libc::IN_MODIFY as usize, 0, 0, 0];
        // SAFETY: the path is NUL-terminated and outlives the call.
        unsafe { raw::syscall6(libc::SYS_inotify_add_watch, arguments)? };
        Ok(watch)
    }

    /// Throws the events away that have come. Equal ones were merged by the kernel.
    pub fn hush(&self) {
        let mut events = [0; 1024];
        while self.0.read(&mut events).is_ok_and(|count| count > 0) {}
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
