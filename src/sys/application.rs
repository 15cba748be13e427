//! Functions whose code or type is the application's business, called by address.
//!
//! Context: the actor, under a guard as far as there is one, for an operator with the right to it. They may do anything,
//! and that is what he asks for: this is where safe code ends by design.

use std::ffi::CStr;

use super::call::{self, Returned};
use super::loader;

/// Calls `function` with these integers and pointers, and floating-point numbers.
pub fn call(function: u64, general: &[u64], floats: &[u64]) -> Returned {
    // SAFETY: the operator's word, who may end the process as well.
    unsafe { call::call(function as usize, general, floats) }
}

/// Loads the shared object at `path`: its handle. Its constructors run behind the frame at which unwinding ends.
pub fn open(path: &CStr) -> Result<usize, String> {
    let flags = libc::RTLD_NOW | libc::RTLD_LOCAL;
    let arguments = [path.as_ptr().addr() as u64, flags as u64];
    match call(loader::open_function() as u64, &arguments, &[]).general {
        0 => Err(loader::error()),
        handle => Ok(handle as usize),
    }
}
