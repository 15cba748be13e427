//! The end of the process.
//!
//! Context: the constructor and the C API.

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
