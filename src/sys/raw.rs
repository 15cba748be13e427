//! System calls that leave `errno` alone.
//!
//! Context: any, signal handlers and the ptrace helper included. The helper shares the observer's
//! thread pointer, so a libc wrapper would write the observer's `errno`; a handler must not change
//! the one it interrupted.

use super::Errno;

#[cfg(target_arch = "aarch64")]
#[path = "raw_aarch64.rs"]
mod native;
#[cfg(target_arch = "x86_64")]
#[path = "raw_x86_64.rs"]
mod native;

/// Makes system call `number` with six arguments (unused ones are 0).
///
/// # Safety
/// As the system call itself: pointers among the arguments must be valid for what it does with them.
pub unsafe fn syscall6(number: libc::c_long, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: passed on to our caller.
    let value = unsafe { native::syscall6(number as usize, arguments) } as isize;
    // The kernel returns -errno in the last page of the address space (man 2 intro, syscall(2)).
    if (-4095..0).contains(&value) { Err(Errno::from_raw(-value as i32)) } else { Ok(value as usize) }
}
