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

/// Makes room for `bytes` in a pipe, if the kernel lets us (`/proc/sys/fs/pipe-max-size`, man 7 pipe).
pub fn enlarge(pipe: &File, bytes: usize) {
    let arguments = [pipe.raw() as usize, libc::F_SETPIPE_SZ as usize, bytes, 0, 0, 0];
    // SAFETY: this fcntl touches no memory.
    let _ = unsafe { raw::syscall6(libc::SYS_fcntl, arguments) };
}

/// How many bytes wait in the pipe that descriptor `number` has open, by either end.
pub fn waiting(number: RawFd) -> Result<usize> {
    let mut count: libc::c_int = 0;
    let arguments = [number as usize, libc::FIONREAD as usize, &raw mut count as usize, 0, 0, 0];
    // SAFETY: the kernel writes one int.
    unsafe { raw::syscall6(libc::SYS_ioctl, arguments)? };
    Ok(count as usize)
}
