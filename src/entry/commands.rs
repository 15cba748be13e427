//! The C functions of `include/manhole.h` that give the operator commands and names of the application.
//!
//! Context: threads of the application that register and unregister; the actor, and threads that a command started,
//! write. No panic crosses this file. What a caller passes is copied before any of these returns, and what could not be
//! copied for want of memory is an error: an allocation that fails would end the process.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config::locals::is_identifier;
use crate::lifecycle::fork;
use crate::shell::registered::{self, Registered, RunsItself, Work};
use crate::shell::spool::{Unwritten, Writer};
use crate::shell::{commands, variables};
use crate::sys::signal;
use crate::sys::slots::NotAdded;

/// Bytes of a name at most.
const NAME: usize = 64;
/// Bytes of a synopsis or a help text at most.
const TEXT: usize = 64 << 10;

type Callback = unsafe extern "C" fn(*const Writer, c_int, *const *const c_char, *mut c_void) -> c_int;

/// The pointer that a callback gets back; the application vouches that its callback may use it on our thread.
struct User(*mut c_void);

// SAFETY: never followed here.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

impl User {
    fn pointer(&self) -> *mut c_void {
        self.0
    }
}

/// See `include/manhole.h`.
///
/// # Safety
/// The texts are NULL or NUL-terminated; `callback` keeps the contract of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn manhole_register_command(
    name: *const c_char,
    synopsis: *const c_char,
    help: *const c_char,
    callback: Option<Callback>,
    user: *mut c_void,
) -> c_int {
    answer(|| {
        // SAFETY: NULL or NUL-terminated, as the caller vouches; so are the next two.
        let name = unsafe { copy(name, NAME) }?;
        // SAFETY: as above.
        let synopsis = unsafe { copy(synopsis, TEXT) }?;
        // SAFETY: as above.
        let help = unsafe { copy(help, TEXT) }?;
        let callback = callback.filter(|_| is_command_name(&name)).ok_or(libc::EINVAL)?;
        if commands::all().any(|built_in| built_in.name == name) {
            return Err(libc::EEXIST);
        }
        registered::add(Registered::new(name, synopsis, help, calling(callback, User(user)))).map_err(errno)
    })
}

/// See `include/manhole.h`.
///
/// # Safety
/// `name` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn manhole_unregister_command(name: *const c_char) -> c_int {
    // Not under `answer`: waiting for the command to end, this thread takes its signals.
    let removed = catch_unwind(|| {
        // SAFETY: as the caller vouches.
        let name = signal::with_all_blocked(|| unsafe { copy(name, NAME) })?;
        let removed = registered::remove(&name);
        signal::with_all_blocked(|| drop(name));
        match removed {
            Ok(true) => Ok(()),
            Ok(false) => Err(libc::ENOENT),
            Err(RunsItself) => Err(libc::EDEADLK),
        }
    });
    as_status(removed.unwrap_or(Err(libc::EFAULT)))
}

/// See `include/manhole.h`.
///
/// # Safety
/// `name` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn manhole_register_variable(name: *const c_char, address: *const c_void, size: usize) -> c_int {
    answer(|| {
        // SAFETY: as the caller vouches.
        let name = unsafe { copy(name, NAME) }?;
        if !is_identifier(&name) || address.is_null() {
            return Err(libc::EINVAL);
        }
        let variable = variables::Variable { name, address: address.addr() as u64, size: size as u64 };
        variables::add(variable).map_err(errno)
    })
}

/// See `include/manhole.h`.
///
/// # Safety
/// `name` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn manhole_unregister_variable(name: *const c_char) -> c_int {
    answer(|| {
        // SAFETY: as the caller vouches.
        let name = unsafe { copy(name, NAME) }?;
        if variables::remove(&name) { Ok(()) } else { Err(libc::ENOENT) }
    })
}

/// See `include/manhole.h`.
///
/// # Safety
/// `call` is what a callback that has not returned got; `bytes` has `length` of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn manhole_write(call: *const Writer, bytes: *const c_void, length: usize) -> c_int {
    // SAFETY: null, or alive as the caller vouches.
    let Some(writer) = (unsafe { call.as_ref() }) else { return -libc::EINVAL };
    if length == 0 {
        return 0;
    }
    if bytes.is_null() || isize::try_from(length).is_err() {
        return -libc::EINVAL;
    }
    // SAFETY: not null, and that long, as the caller vouches.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) };
    match catch_unwind(AssertUnwindSafe(|| writer.write(bytes))) {
        Ok(Ok(())) => 0,
        Ok(Err(Unwritten::Closed)) => -libc::EPIPE,
        Ok(Err(Unwritten::NoMemory)) => -libc::ENOMEM,
        Err(_) => -libc::EFAULT,
    }
}

/// See `include/manhole.h`.
///
/// # Safety
/// `call` is what a callback that has not returned got.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn manhole_cancelled(call: *const Writer) -> c_int {
    // SAFETY: null, or alive as the caller vouches.
    unsafe { call.as_ref() }.map_or(1, |writer| c_int::from(writer.is_cancelled()))
}

/// What a registered command does on the actor.
fn calling(callback: Callback, user: User) -> Work {
    Box::new(move |writer, arguments| {
        let pointers: Vec<*const c_char> =
            arguments.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
        let count = c_int::try_from(arguments.len()).unwrap_or(c_int::MAX);
        // SAFETY: the arguments live until it returns; that it is a function of this type, and what `user` points
        // to, are the application's word.
        unsafe { callback(writer, count, pointers.as_ptr(), user.pointer()) }
    })
}

/// Does the work of one function with all signals blocked: the handler of one that never returns must not keep our
/// heap's lock. An error becomes a negative errno.
fn answer(work: impl FnOnce() -> Result<(), c_int>) -> c_int {
    let result = signal::with_all_blocked(|| {
        catch_unwind(AssertUnwindSafe(|| {
            // A fork must not find a change half made, installed or not.
            fork::install();
            work()
        }))
    });
    as_status(result.unwrap_or(Err(libc::EFAULT)))
}

fn as_status(result: Result<(), c_int>) -> c_int {
    result.map_or_else(|errno| -errno, |()| 0)
}

fn errno(error: NotAdded) -> c_int {
    match error {
        NotAdded::Taken => libc::EEXIST,
        NotAdded::Full => libc::ENOSPC,
    }
}

/// A copy of `text`; of nothing for NULL.
///
/// # Safety
/// `text` is NULL or NUL-terminated.
unsafe fn copy(text: *const c_char, most: usize) -> Result<String, c_int> {
    if text.is_null() {
        return Ok(String::new());
    }
    // SAFETY: not null, and NUL-terminated as the caller vouches.
    let text = unsafe { CStr::from_ptr(text) };
    let text = text.to_str().ok().filter(|text| text.len() <= most).ok_or(libc::EINVAL)?;
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).map_err(|_| libc::ENOMEM)?;
    copy.push_str(text);
    Ok(copy)
}

/// What can be typed as the first word of a line without quotes: `cache-stats`, `gc.run`.
fn is_command_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
