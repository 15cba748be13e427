//! Every way in: the constructor and destructor of the shared object, and the C functions of
//! `include/manhole.h`.
//!
//! Context: the thread that starts, exits or calls. No panic crosses this file.

mod commands;

use std::ffi::{CStr, c_char, c_int};
use std::panic::catch_unwind;

use crate::lifecycle::{self, InstallError, ReleaseError};
use crate::log;
use crate::sys::{Errno, signal};

#[ctor::ctor(unsafe)]
fn constructor() {
    let before = Errno::last_raw();
    signal::undisturbed(|blocked| {
        if catch_unwind(|| lifecycle::start_from_environment(blocked)).is_err() {
            log!("the manhole panicked while starting; the application runs on without it");
        }
    });
    // `main` begins with the errno that it would have without us.
    Errno::set_raw(before);
}

/// Run by the loader at `exit` and at the return of `main`, after the application's own handlers.
extern "C" fn destructor() {
    lifecycle::finish();
}

#[used]
// SAFETY: .fini_array holds plain function pointers, which is what this static is.
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = destructor;

/// In front of libc's `_exit`, which runs no destructor: daemons, shells and the children of servers leave so, and
/// each would leave its name behind. Connected clients are not waited for. Async-signal-safe.
#[unsafe(no_mangle)]
pub extern "C" fn _exit(status: c_int) -> ! {
    lifecycle::exit::leave(status)
}

/// The same by the name of the C standard.
#[unsafe(no_mangle)]
pub extern "C" fn _Exit(status: c_int) -> ! {
    lifecycle::exit::leave(status)
}

/// The version as `major * 10000 + minor * 100 + patch`.
#[unsafe(no_mangle)]
pub extern "C" fn manhole_version() -> c_int {
    let part = |text: &str| text.parse::<c_int>().unwrap_or(0);
    part(env!("CARGO_PKG_VERSION_MAJOR")) * 10000
        + part(env!("CARGO_PKG_VERSION_MINOR")) * 100
        + part(env!("CARGO_PKG_VERSION_PATCH"))
}

/// Installs a manhole with an option string (NULL or "" for the defaults).
/// Returns 0, or a negative errno: EINVAL for a bad option, EALREADY when one is installed and
/// `strict` is on, EAGAIN when no thread could be created. Each error is also a log line.
///
/// # Safety
/// `options` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn manhole_install(options: *const c_char) -> c_int {
    signal::undisturbed(|blocked| {
        let text = if options.is_null() {
            String::new()
        } else {
            // SAFETY: not null, and NUL-terminated as the caller vouches.
            unsafe { CStr::from_ptr(options) }.to_string_lossy().into_owned()
        };
        match catch_unwind(|| lifecycle::install_with(&text, blocked)) {
            Ok(Ok(())) => 0,
            Ok(Err(error)) => {
                log!("manhole_install: {error}");
                match error {
                    InstallError::Options(_) => -libc::EINVAL,
                    InstallError::AlreadyInstalled => -libc::EALREADY,
                    InstallError::Release(error) => -release_errno(error),
                    InstallError::Thread(_) => -libc::EAGAIN,
                }
            }
            Err(_) => -libc::EFAULT,
        }
    })
}

/// Undoes the install. Returns 0, or a negative errno: ENOENT when there is none, EDEADLK on a thread of the manhole,
/// EBUSY when its observer cannot be reached.
#[unsafe(no_mangle)]
pub extern "C" fn manhole_release() -> c_int {
    signal::undisturbed(|_| match catch_unwind(lifecycle::release) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            log!("manhole_release: {error}");
            -release_errno(error)
        }
        Err(_) => -libc::EFAULT,
    })
}

fn release_errno(error: ReleaseError) -> c_int {
    match error {
        ReleaseError::NotInstalled => libc::ENOENT,
        ReleaseError::OwnThread => libc::EDEADLK,
        ReleaseError::Unreachable(_) => libc::EBUSY,
    }
}

/// Serves one client on the calling thread, which stands still until that client leaves, as python-manhole's
/// `handle_oneshot`. Returns 0, or a negative errno: see `include/manhole.h`.
#[unsafe(no_mangle)]
pub extern "C" fn manhole_oneshot() -> c_int {
    let before = Errno::last_raw();
    let result = lifecycle::oneshot::now();
    Errno::set_raw(before);
    result.map_or_else(|error| -(error as c_int), |()| 0)
}

/// Writes the stacks of all threads to descriptor `fd`. Async-signal-safe. Returns how many threads, or a negative
/// errno: see `include/manhole.h`.
#[unsafe(no_mangle)]
pub extern "C" fn manhole_dump_stacks(fd: c_int) -> c_int {
    let before = Errno::last_raw();
    let result = lifecycle::dump::dump_stacks(fd);
    Errno::set_raw(before);
    result.map_or_else(|error| -(error as c_int), |threads| c_int::try_from(threads).unwrap_or(c_int::MAX))
}
