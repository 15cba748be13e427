//! Looking at the application's descriptors from outside its table.
//!
//! Context: the observer. A copy taken by `pidfd_getfd` is closed again at once; none is kept.

use std::os::fd::RawFd;

use super::procfs::File;
use super::{Errno, Result, filter, raw};

/// Takes a copy of descriptor `number` of the process `pid` (Linux 5.6).
pub fn copy_of(pid: i32, number: i32) -> Result<File> {
    if !filter::allows(filter::Call::CopyDescriptor) {
        return Err(Errno::EPERM);
    }
    // SAFETY: pidfd_open touches no memory.
    let process =
        File::from_raw(unsafe { raw::syscall6(libc::SYS_pidfd_open, [pid as usize, 0, 0, 0, 0, 0])? } as RawFd);
    let arguments = [process.raw() as usize, number as usize, 0, 0, 0, 0];
    // SAFETY: pidfd_getfd touches no memory.
    let copy = unsafe { raw::syscall6(libc::SYS_pidfd_getfd, arguments)? };
    Ok(File::from_raw(copy as RawFd))
}

/// A socket option of at most two words, such as an int or a `timeval`; unwritten words are 0.
pub fn socket_option(socket: &File, name: i32) -> Result<[u64; 2]> {
    let mut value = [0u64; 2];
    let mut length = size_of_val(&value) as libc::socklen_t;
    let arguments = [
        socket.raw() as usize,
        libc::SOL_SOCKET as usize,
        name as usize,
        value.as_mut_ptr() as usize,
        &raw mut length as usize,
        0,
    ];
    // SAFETY: the kernel writes at most `length` bytes into `value`.
    unsafe { raw::syscall6(libc::SYS_getsockopt, arguments)? };
    if length as usize > size_of_val(&value) { Err(Errno::EINVAL) } else { Ok(value) }
}
