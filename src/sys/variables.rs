//! The environment of the application, changed as it does it itself.
//!
//! Context: the actor only: libc takes its lock and calls the application's malloc, and another thread that calls
//! `getenv` meanwhile may read what was freed.

use std::ffi::CStr;

use super::{Errno, Result};

/// Sets a variable.
pub fn set(name: &CStr, value: &CStr) -> Result<()> {
    // SAFETY: both are NUL-terminated, and copied.
    let answer = unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) };
    if answer == 0 { Ok(()) } else { Err(Errno::last()) }
}

/// Removes one.
pub fn unset(name: &CStr) -> Result<()> {
    // SAFETY: NUL-terminated.
    let answer = unsafe { libc::unsetenv(name.as_ptr()) };
    if answer == 0 { Ok(()) } else { Err(Errno::last()) }
}

/// The value of one.
pub fn get(name: &CStr) -> Option<Vec<u8>> {
    // SAFETY: NUL-terminated.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: null, or a NUL-terminated string of the environment, copied at once.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_bytes().to_vec())
}
