//! Pipes.
//!
//! Context: any; raw calls only.

use std::os::fd::RawFd;

use super::procfs::File;
use super::{Result, raw};

/// A new pipe, close-on-exec, with more `flags` if wanted: the end to read from and the one to write to.
pub fn pipe(flags: libc::c_int) -> Result<(File, File)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: the kernel writes two numbers into `ends`.
    unsafe { raw::syscall6(libc::SYS_pipe2, [ends.as_mut_ptr() as usize, flags as usize, 0, 0, 0, 0])? };
    let [read, write] = ends;
    Ok((File::from_raw(read), File::from_raw(write)))
}
