//! Names in the file system.
//!
//! Context: any; no allocation, no lock, `errno` untouched.

use std::ffi::CStr;
use std::os::fd::RawFd;

use super::procfs::File;
use super::{Result, raw};

/// What a name stands for, without following a symbolic link (man 2 lstat).
pub fn status(path: &CStr) -> Result<libc::stat> {
    // SAFETY: stat is plain integers, for which zero is a value.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    let arguments = [
        libc::AT_FDCWD as usize,
        path.as_ptr() as usize,
        (&raw mut status) as usize,
        libc::AT_SYMLINK_NOFOLLOW as usize,
        0,
        0,
    ];
    // SAFETY: `path` is NUL-terminated, `status` has room for the result.
    unsafe { raw::syscall6(libc::SYS_newfstatat, arguments)? };
    Ok(status)
}

/// Device and inode.
pub fn identity(path: &CStr) -> Result<(u64, u64)> {
    status(path).map(|status| (status.st_dev, status.st_ino))
}

/// Removes a name; a failure leaves a stale socket, which the next start replaces.
pub fn remove(path: &CStr) {
    // SAFETY: `path` is NUL-terminated.
    let _ = unsafe { raw::syscall6(libc::SYS_unlinkat, [libc::AT_FDCWD as usize, path.as_ptr() as usize, 0, 0, 0, 0]) };
}

/// A new file without a name, close-on-exec, that lives as long as it is open; `name` is for those who list descriptors.
pub fn in_memory(name: &CStr) -> Result<File> {
    let arguments = [name.as_ptr() as usize, libc::MFD_CLOEXEC as usize, 0, 0, 0, 0];
    // SAFETY: `name` is NUL-terminated.
    unsafe { raw::syscall6(libc::SYS_memfd_create, arguments) }.map(|number| File::from_raw(number as RawFd))
}
