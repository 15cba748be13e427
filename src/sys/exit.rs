//! The end of the process.
//!
//! Context: the constructor and the C API; [`leave`] also signal handlers, forked children and children of `vfork`.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The `_exit` that would be called without us: libc's, or that of a library that was loaded after ours. Found
/// early, since the loader may not be asked when a signal handler leaves.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Finds what [`leave`] goes on to.
pub fn find_next() {
    // SAFETY: the name is NUL-terminated.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"_exit".as_ptr()) };
    NEXT.store(next as usize, Ordering::Relaxed);
}

/// Ends the process as `_exit` does.
pub fn leave(status: libc::c_int) -> ! {
    let next = NEXT.load(Ordering::Relaxed);
    if next != 0 {
        // SAFETY: from `dlsym` of a function of this type (man 2 _exit).
        let next = unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(next) };
        next(status);
    }
    loop {
        // SAFETY: touches no memory.
        let _ = unsafe { super::raw::syscall6(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Has `action` run at `quick_exit`, after what the application registered later (`at_quick_exit` itself is no
/// symbol of libc.so but a stub around this one).
pub fn at_quick_exit(action: extern "C" fn(*mut libc::c_void)) {
    unsafe extern "C" {
        fn __cxa_at_quick_exit(action: extern "C" fn(*mut libc::c_void), object: *mut libc::c_void) -> libc::c_int;
    }
    // SAFETY: `action` lives as long as the process (this library is linked nodelete). It fails for want of memory
    // only, and then the socket's name stays.
    unsafe { __cxa_at_quick_exit(action, std::ptr::null_mut()) };
}
