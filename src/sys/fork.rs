//! `pthread_atfork`, and the proof that one runs in its child handler.
//!
//! Context: the constructor registers; [`Child`] is for forked children.

use super::{Errno, Result};

/// A forked child in which nothing but the thread that forked has run yet: what other threads of the parent were at,
/// nobody is at here.
#[derive(Clone, Copy, Debug)]
pub struct Child(());

impl Child {
    /// # Safety
    /// The calling thread is the only one of its process, and of what it resets with this nobody has a reference.
    pub unsafe fn new() -> Self {
        Self(())
    }
}

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
