//! A value that can be replaced while others read it, because no value is ever freed.
//!
//! Context: any; reading is one load, fit for signal handlers and forked children. For what changes a few times
//! in the life of a process: what is replaced stays in memory.

use std::sync::atomic::{AtomicPtr, Ordering};

/// Nothing at first, then the latest value.
pub struct Leaked<T>(AtomicPtr<T>);

impl<T: Sync> Leaked<T> {
    /// Nothing.
    pub const fn nothing() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// The latest value.
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or from `set`, which frees nothing.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Puts `value` in the place of what is there.
    pub fn set(&self, value: T) -> &'static T {
        let value = Box::leak(Box::new(value));
        self.0.store(value, Ordering::Release);
        value
    }

    /// Back to nothing.
    pub fn clear(&self) {
        self.0.store(std::ptr::null_mut(), Ordering::Release);
    }
}
