//! `pthread_atfork`.
//!
//! Context: the constructor.

use super::{Errno, Result};

/// Makes the application's allocator initialise itself, and with it register its own fork handlers.
pub fn touch_malloc() {
    // SAFETY: a plain allocation, given back at once.
    let block = unsafe { libc::malloc(1) };
    std::hint::black_box(block);
    // SAFETY: from malloc above, used by nobody.
    unsafe { libc::free(block) };
}

/// Registers the three handlers.
pub fn register(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> Result<()> {
    unsafe extern "C" {
        fn pthread_atfork(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> libc::c_int;
    }
    // SAFETY: the handlers are plain functions that live as long as this object; glibc removes them
    // when the object is unloaded.
    let error = unsafe { pthread_atfork(prepare, parent, child) };
    if error == 0 { Ok(()) } else { Err(Errno::from_raw(error)) }
}
