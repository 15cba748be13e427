//! Threads of our own.
//!
//! Context: the constructor and fork handlers create them (`pthread_create` calls the application's
//! `malloc` for the thread's TLS vector, but for a forked child, where glibc reuses the stack and the
//! vector of the parent's thread); the threads themselves use the rest.

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::{Errno, Result, raw};

/// glibc's count of threads (`__nptl_nthreads`, which it exports for its debugger library): the thread whose end takes
/// it to 0 calls `exit(0)`. Ours must not count, or a program whose threads have all ended would never end. Null
/// where it is not to be found: then it does not end.
static COUNT: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

/// Finds what [`spawn`] needs to hide our threads from the end of the process. Constructor only: asks the loader.
pub fn find_count() {
    // SAFETY: the name is NUL-terminated.
    let count = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__nptl_nthreads".as_ptr()) };
    COUNT.store(count.cast(), Ordering::Relaxed);
}

fn count() -> Option<&'static AtomicU32> {
    // SAFETY: null, or glibc's unsigned int, which it changes by atomic operations only.
    unsafe { COUNT.load(Ordering::Relaxed).as_ref() }
}

/// A thread of ours was created: it does not count.
fn uncount() {
    if count().is_some_and(|count| count.fetch_sub(1, Ordering::AcqRel) == 1) {
        // The application's last thread has ended since `pthread_create`, and left this to us.
        // SAFETY: what that thread would have called; nothing is held that the end of the process needs.
        unsafe { libc::exit(0) }
    }
}

/// The last act of a thread of ours: glibc counts it down.
pub fn count_again() {
    if let Some(count) = count() {
        count.fetch_add(1, Ordering::AcqRel);
    }
}

/// Names the calling thread, as `/proc/self/task/TID/comm` shows it.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: PR_SET_NAME reads at most 16 bytes of a NUL-terminated string.
    let _ = unsafe { raw::syscall6(libc::SYS_prctl, [libc::PR_SET_NAME as usize, name.as_ptr() as usize, 0, 0, 0, 0]) };
}

/// What a thread of ours runs; nobody takes its result.
pub type Body<T> = extern "C" fn(&'static T) -> Option<&'static T>;
type PlainBody = extern "C" fn(*mut libc::c_void) -> *mut libc::c_void;

/// Starts a detached thread that runs `body` with the signals of `mask` blocked (bit n - 1 for signal n). The
/// mask is set by `pthread_sigmask`, which leaves glibc's internal signals open: its `setuid` must reach us.
pub fn spawn<T: Sync>(body: Body<T>, argument: &'static T, stack: usize, mask: u64) -> Result<()> {
    let mut wanted = empty_set();
    for signal in 1..=64 {
        if mask >> (signal - 1) & 1 == 1 {
            // SAFETY: `wanted` is an initialised set; glibc refuses its internal signals, which is meant.
            unsafe { libc::sigaddset(&mut wanted, signal) };
        }
    }
    let mut before = empty_set();
    // SAFETY: both sets are valid for the call.
    check(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &wanted, &mut before) })?;
    // SAFETY: both signatures pass one pointer and return one, where `None` is null.
    let plain = unsafe { std::mem::transmute::<Body<T>, PlainBody>(body) };
    let started = create(plain, std::ptr::from_ref(argument).cast_mut().cast(), stack);
    // SAFETY: `before` was filled in above.
    check(unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) })?;
    started.inspect(|()| uncount())
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: sigset_t is an array of integers, for which zero is a value: the empty set.
    unsafe { std::mem::zeroed() }
}

fn create(body: PlainBody, argument: *mut libc::c_void, stack: usize) -> Result<()> {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: `attributes` has room for the object that this initialises.
    check(unsafe { libc::pthread_attr_init(attributes) })?;
    // SAFETY: initialised above.
    unsafe { libc::pthread_attr_setstacksize(attributes, stack) };
    // SAFETY: initialised above.
    unsafe { libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED) };
    let mut thread = 0;
    // SAFETY: `argument` is what `body` expects, and lives for ever.
    let error = unsafe { libc::pthread_create(&mut thread, attributes, body, argument) };
    // SAFETY: initialised above, not used again.
    unsafe { libc::pthread_attr_destroy(attributes) };
    check(error)
}

fn check(error: libc::c_int) -> Result<()> {
    if error == 0 { Ok(()) } else { Err(Errno::from_raw(error)) }
}
