//! Descriptors by their number, in the calling thread's table: those of the application, which no `File` owns.
//!
//! Context: any, fork handlers included; raw calls only, no allocation, no lock.

use std::os::fd::RawFd;

use super::procfs::File;
use super::{Result, raw};

/// The open file's access mode and status flags (`O_*`, man 2 fcntl, F_GETFL).
pub fn status_flags(number: RawFd) -> Result<libc::c_int> {
    control(number, libc::F_GETFL, 0).map(|flags| flags as libc::c_int)
}

/// Sets the status flags, for everyone who shares the open file.
pub fn set_status_flags(number: RawFd, flags: libc::c_int) -> Result<()> {
    control(number, libc::F_SETFL, flags as usize).map(drop)
}

/// Whether the descriptor is closed by `exec`.
pub fn is_close_on_exec(number: RawFd) -> Result<bool> {
    control(number, libc::F_GETFD, 0).map(|flags| flags & libc::FD_CLOEXEC as usize != 0)
}

/// A close-on-exec duplicate with the lowest free number that is at least `minimum`.
pub fn duplicate_above(number: RawFd, minimum: RawFd) -> Result<RawFd> {
    control(number, libc::F_DUPFD_CLOEXEC, minimum as usize).map(|copy| copy as RawFd)
}

/// Makes `target` a duplicate of `source`, in one step.
pub fn replace(target: RawFd, source: RawFd, close_on_exec: bool) -> Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: dup3 touches no memory.
    unsafe { raw::syscall6(libc::SYS_dup3, [source as usize, target as usize, flags as usize, 0, 0, 0]) }.map(drop)
}

/// Closes the descriptor.
pub fn close(number: RawFd) {
    drop(File::from_raw(number));
}

/// Closes the descriptor, and tells what the kernel said: it is closed even after an error (man 2 close), but for EBADF.
pub fn try_close(number: RawFd) -> Result<()> {
    // SAFETY: nothing of ours uses it: the caller has looked.
    unsafe { raw::syscall6(libc::SYS_close, [number as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// A duplicate with the lowest free number.
pub fn duplicate(number: RawFd, close_on_exec: bool) -> Result<RawFd> {
    let command = if close_on_exec { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
    control(number, command, 0).map(|copy| copy as RawFd)
}

/// Ends both directions of a socket, for everyone who has it open; whoever waits in a call on it wakes up.
pub fn shut_down(number: RawFd) -> Result<()> {
    // SAFETY: shutdown touches no memory.
    unsafe { raw::syscall6(libc::SYS_shutdown, [number as usize, libc::SHUT_RDWR as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: RawFd) {
    // SAFETY: close_range touches no memory.
    let closed = unsafe { raw::syscall6(libc::SYS_close_range, [first as usize, u32::MAX as usize, 0, 0, 0, 0]) };
    if closed.is_err() {
        // Kernels before 5.9.
        (first..limit().min(1 << 20)).for_each(close);
    }
}

/// The type of a socket (`SOCK_*`).
pub fn socket_type(number: RawFd) -> Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    let (option, place) = (libc::SO_TYPE as usize, &raw mut value as usize);
    let arguments = [number as usize, libc::SOL_SOCKET as usize, option, place, &raw mut length as usize, 0];
    // SAFETY: the kernel writes at most `length` bytes into `value`.
    unsafe { raw::syscall6(libc::SYS_getsockopt, arguments) }.map(|_| value)
}

/// The number above every descriptor that may be opened (`RLIMIT_NOFILE`).
pub fn limit() -> RawFd {
    let mut limits = [0u64; 2];
    let arguments = [0, libc::RLIMIT_NOFILE as usize, 0, limits.as_mut_ptr() as usize, 0, 0];
    // SAFETY: the kernel writes two numbers, soft and hard limit.
    let known = unsafe { raw::syscall6(libc::SYS_prlimit64, arguments) };
    let [soft, _] = limits;
    known.map_or(256, |_| RawFd::try_from(soft).unwrap_or(RawFd::MAX))
}

fn control(number: RawFd, command: libc::c_int, value: usize) -> Result<usize> {
    // SAFETY: the commands of this file touch no memory.
    unsafe { raw::syscall6(libc::SYS_fcntl, [number as usize, command as usize, value, 0, 0, 0]) }
}
