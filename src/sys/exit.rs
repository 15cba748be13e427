//! The end of the process.
//!
//! Context: the constructor and the C API; a forked child.

use super::raw;

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

/// Ends the process now, without its handlers.
pub fn at_once(status: i32) -> ! {
    loop {
        // SAFETY: exit_group touches no memory, and does not return.
        let _ = unsafe { raw::syscall6(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
    }
}
