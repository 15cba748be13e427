//! Waiting on, and waking, a word of our own memory.
//!
//! Context: any; waking is one system call and fit for a signal handler.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::fork::Child;
use super::raw;

/// Sleeps while `word` holds `expected`, at most `timeout`. Returns early on a wake, on a change, or
/// spuriously: callers look at the word again.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let time = timeout.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos()),
    });
    let pointer = time.as_ref().map_or(0, |time| std::ptr::from_ref(time) as usize);
    let operation = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: `word` and `time` outlive the call. Every failure (EAGAIN, EINTR, ETIMEDOUT) means "look again".
    let _ = unsafe {
        raw::syscall6(libc::SYS_futex, [word.as_ptr() as usize, operation, expected as usize, pointer, 0, 0])
    };
}

/// Wakes every thread that waits on `word`.
pub fn wake(word: &AtomicU32) {
    let operation = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: FUTEX_WAKE only uses the address as a key.
    let _ = unsafe { raw::syscall6(libc::SYS_futex, [word.as_ptr() as usize, operation, i32::MAX as usize, 0, 0, 0]) };
}

/// Sleeps, by a call that no library can come between.
pub fn pause(time: Duration) {
    let limit = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let deadline = super::clock::monotonic().saturating_add(limit);
    while let left @ 1.. = deadline.saturating_sub(super::clock::monotonic()) {
        wait(&AtomicU32::new(0), 0, Some(Duration::from_nanos(left)));
    }
}

/// How often [`wait_until_changed`] gives its turn away before it sleeps: some 100 µs.
const YIELDS: u32 = 200;

/// Waits until `word` no longer holds `expected`; false when `timeout` passed first. What it waits
/// for usually takes less time than falling asleep and being woken, so it yields first.
pub fn wait_until_changed(word: &AtomicU32, expected: u32, timeout: Duration) -> bool {
    for _ in 0..YIELDS {
        if word.load(Ordering::Acquire) != expected {
            return true;
        }
        // SAFETY: sched_yield touches no memory.
        let _ = unsafe { raw::syscall6(libc::SYS_sched_yield, [0; 6]) };
    }
    let deadline = std::time::Instant::now() + timeout;
    while word.load(Ordering::Acquire) == expected {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return false;
        }
        wait(word, expected, Some(left));
    }
    true
}

/// How often [`is_seen_within`] looks.
const GLANCE: Duration = Duration::from_micros(20);

/// Whether there is a moment within `patience` at which `holds`. Takes nothing, and nobody wakes whoever asks.
pub fn is_seen_within(patience: Duration, holds: impl Fn() -> bool) -> bool {
    let limit = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
    let deadline = super::clock::monotonic().saturating_add(limit);
    while !holds() {
        if super::clock::monotonic() > deadline {
            return false;
        }
        pause(GLANCE);
    }
    true
}

/// A mutual exclusion that never allocates, never unwinds, and can be made whole again after `fork`.
pub struct Lock {
    /// 0 free, 1 held, 2 held with (possibly) someone waiting.
    state: AtomicU32,
}

impl Lock {
    /// A free lock.
    pub const fn new() -> Self {
        Self { state: AtomicU32::new(0) }
    }

    /// Takes the lock, sleeping while another thread has it.
    pub fn acquire(&self) {
        if self.state.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return;
        }
        while self.state.swap(2, Ordering::Acquire) != 0 {
            wait(&self.state, 2, None);
        }
    }

    /// Takes the lock if it can be had within `patience`. For a thread that may have been interrupted while it held it.
    pub fn acquire_within(&self, patience: Duration) -> bool {
        if self.state.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return true;
        }
        let limit = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        let deadline = super::clock::monotonic().saturating_add(limit);
        while self.state.swap(2, Ordering::Acquire) != 0 {
            let left = deadline.saturating_sub(super::clock::monotonic());
            if left == 0 {
                return false;
            }
            wait(&self.state, 2, Some(Duration::from_nanos(left)));
        }
        true
    }

    /// Whether the lock is seen free within `patience`: so long the thread that one asks about, which stands still, does not
    /// hold it. Takes nothing: whoever asks may be killed at any moment.
    pub fn is_seen_free_within(&self, patience: Duration) -> bool {
        is_seen_within(patience, || self.state.load(Ordering::Acquire) == 0)
    }

    /// Gives the lock back. Also resets it in a forked child, where only the forking thread lives on.
    pub fn release(&self) {
        if self.state.swap(0, Ordering::Release) == 2 {
            let operation = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
            // SAFETY: FUTEX_WAKE only uses the address as a key.
            let _ = unsafe { raw::syscall6(libc::SYS_futex, [self.state.as_ptr() as usize, operation, 1, 0, 0, 0]) };
        }
    }
}

impl Default for Lock {
    fn default() -> Self {
        Self::new()
    }
}

/// A value that one thread at a time looks at, under a [`Lock`].
pub struct Guarded<T> {
    lock: Lock,
    value: UnsafeCell<T>,
}

// SAFETY: the value is touched only while the lock is held, by one thread at a time.
unsafe impl<T: Send> Sync for Guarded<T> {}

/// Gives the lock back even when the work panics.
struct Held<'a>(&'a Lock);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<T> Guarded<T> {
    /// Holds `value`.
    pub const fn new(value: T) -> Self {
        Self { lock: Lock::new(), value: UnsafeCell::new(value) }
    }

    /// Works with the value. The work must be short, and must not come back here.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        self.lock.acquire();
        let _held = Held(&self.lock);
        // SAFETY: the lock is held until `work` has ended, and the reference does not outlive it.
        work(unsafe { &mut *self.value.get() })
    }

    /// The same, or nothing if somebody is at work with the value.
    pub fn try_with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        if !self.lock.acquire_within(Duration::ZERO) {
            return None;
        }
        let _held = Held(&self.lock);
        // SAFETY: as above.
        Some(work(unsafe { &mut *self.value.get() }))
    }

    /// In a forked child: a thread that is not there may have held the lock in the middle of a change. The old
    /// value is forgotten, not dropped.
    pub fn replace_in_child(&self, value: T, _: Child) {
        // SAFETY: the child has one thread, which runs this and has no reference to the value, as its token says.
        unsafe { self.value.get().write(value) };
        self.lock.release();
    }
}

impl<T: Default> Default for Guarded<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}
