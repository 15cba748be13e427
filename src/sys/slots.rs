//! A bounded table that is changed by some threads and read by others, without a lock for the readers.
//!
//! Context: threads of the application add and remove; the observer and the actor read. A thread of the application
//! may be stopped in the middle of a change, by a debugger for instance, and the observer must not wait for it. So a
//! reader counts itself in at the slot that it looks at, by one atomic operation that fails when the value is being
//! removed; whoever removes a value waits until all are out. Nothing is leaked, and after a removal nobody uses the
//! value any more. Only changes exclude each other by a lock.

use std::ops::Deref;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::fork::Child;
use super::futex::{self, Guarded};
use super::signal;

/// In a slot's state: its value may be used. The other bits count those who use it.
const STANDS: u32 = 1 << 31;

/// The table; empty at first.
pub struct Slots<T, const N: usize> {
    /// One change at a time.
    change: Guarded<()>,
    /// Forks until now: who counted himself in before one is not there to count himself out.
    forks: AtomicU32,
    slots: [Slot<T>; N],
}

struct Slot<T> {
    state: AtomicU32,
    /// Null when the slot is free. Changes only while nobody is counted in.
    value: AtomicPtr<T>,
}

/// Why a value was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdded {
    /// There is one that clashes.
    Taken,
    /// No slot is free.
    Full,
}

/// A value in use: it is not removed before this is dropped.
pub struct Use<'a, T> {
    slot: &'a Slot<T>,
    value: &'a T,
    forks: &'a AtomicU32,
    since: u32,
}

impl<T: Send + Sync, const N: usize> Slots<T, N> {
    /// An empty table.
    pub const fn new() -> Self {
        let slots = [const { Slot { state: AtomicU32::new(0), value: AtomicPtr::new(std::ptr::null_mut()) } }; N];
        Self { change: Guarded::new(()), forks: AtomicU32::new(0), slots }
    }

    /// Adds `value` unless one `clashes` with it.
    pub fn add(&self, value: T, clashes: impl Fn(&T) -> bool) -> Result<(), NotAdded> {
        signal::with_all_blocked(|| {
            let value = Box::new(value);
            self.change.with(|()| {
                if self.iter().any(|other| clashes(&other)) {
                    return Err(NotAdded::Taken);
                }
                let is_free = |slot: &&Slot<T>| slot.value.load(Ordering::Acquire).is_null();
                let slot = self.slots.iter().find(is_free).ok_or(NotAdded::Full)?;
                slot.value.store(Box::into_raw(value), Ordering::Release);
                slot.state.store(STANDS, Ordering::Release);
                Ok(())
            })
        })
    }

    /// The first value that `is` what is looked for.
    pub fn find(&self, is: impl Fn(&T) -> bool) -> Option<Use<'_, T>> {
        self.iter().find(|value| is(value))
    }

    /// The values, each in use as long as it is held.
    pub fn iter(&self) -> impl Iterator<Item = Use<'_, T>> {
        self.slots.iter().filter_map(|slot| self.enter(slot))
    }

    /// Removes the value that `is` meant, if there is one and it `may` go, and waits until nobody uses it.
    /// From then on a value that clashes with it can be added, and whoever looks for it finds nothing.
    pub fn remove<E>(&self, is: impl Fn(&T) -> bool, may: impl Fn(&T) -> Result<(), E>) -> Result<bool, E> {
        let found = signal::with_all_blocked(|| {
            self.change.with(|()| {
                let found = self.find(is);
                if let Some(found) = &found {
                    may(found)?;
                    found.slot.state.fetch_and(!STANDS, Ordering::AcqRel);
                }
                Ok(found.map(|found| found.slot))
            })
        })?;
        let Some(slot) = found else { return Ok(false) };
        while let users @ 1.. = slot.state.load(Ordering::Acquire) {
            futex::wait(&slot.state, users, None);
        }
        signal::with_all_blocked(|| {
            let value = slot.value.swap(std::ptr::null_mut(), Ordering::AcqRel);
            // SAFETY: from `Box::into_raw` in `add`; nobody is counted in, and nobody can be any more; only the one
            // who cleared STANDS comes here.
            drop(unsafe { Box::from_raw(value) });
        });
        Ok(true)
    }

    /// In a forked child: nobody uses anything, and nobody is in the middle of a change. What was being removed is
    /// forgotten, not freed: the thread that forked may be the one that used it.
    pub fn reset_in_child(&self, child: Child) {
        self.forks.fetch_add(1, Ordering::Relaxed);
        for slot in &self.slots {
            if slot.state.load(Ordering::Relaxed) & STANDS != 0 {
                slot.state.store(STANDS, Ordering::Relaxed);
            } else {
                slot.state.store(0, Ordering::Relaxed);
                slot.value.store(std::ptr::null_mut(), Ordering::Relaxed);
            }
        }
        self.change.replace_in_child((), child);
    }

    fn enter<'a>(&'a self, slot: &'a Slot<T>) -> Option<Use<'a, T>> {
        let since = self.forks.load(Ordering::Relaxed);
        let count_in = |state| (state & STANDS != 0).then_some(state + 1);
        slot.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, count_in).ok()?;
        // SAFETY: a slot that stands has a value, from `add`, which `remove` frees when we are counted out again.
        let value = unsafe { slot.value.load(Ordering::Acquire).as_ref() }?;
        Some(Use { slot, value, forks: &self.forks, since })
    }
}

impl<T: Send + Sync, const N: usize> Default for Slots<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for Use<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Drop for Use<'_, T> {
    fn drop(&mut self) {
        if self.forks.load(Ordering::Relaxed) == self.since && self.slot.state.fetch_sub(1, Ordering::AcqRel) == 1 {
            // The last, and the value is being removed.
            futex::wake(&self.slot.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    fn remove(slots: &Slots<u32, 2>, value: u32) -> bool {
        slots.remove(|it| *it == value, |_| Ok::<(), ()>(())).unwrap()
    }

    #[test]
    fn adds_finds_and_removes() {
        let slots = Slots::<u32, 2>::new();
        assert_eq!(slots.add(1, |it| *it == 1), Ok(()));
        assert_eq!(slots.add(1, |it| *it == 1), Err(NotAdded::Taken));
        assert_eq!(slots.add(2, |it| *it == 2), Ok(()));
        assert_eq!(slots.add(3, |it| *it == 3), Err(NotAdded::Full));
        assert_eq!(slots.find(|it| *it == 2).map(|it| *it), Some(2));
        assert_eq!(slots.remove(|it| *it == 1, |_| Err("no")), Err("no"));
        assert!(remove(&slots, 1) && !remove(&slots, 1));
        assert_eq!(slots.iter().map(|it| *it).collect::<Vec<_>>(), [2]);
        assert_eq!(slots.add(3, |it| *it == 3), Ok(()));
    }

    #[test]
    fn a_removal_waits_for_the_last_use_and_lets_nobody_in() {
        let slots = Arc::new(Slots::<u32, 2>::new());
        slots.add(1, |_| false).unwrap();
        let used = slots.find(|it| *it == 1).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let (theirs, flag) = (slots.clone(), done.clone());
        let remover = std::thread::spawn(move || {
            assert!(remove(&theirs, 1));
            flag.store(true, Ordering::SeqCst);
        });
        while slots.find(|it| *it == 1).is_some() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(20));
        assert!(!done.load(Ordering::SeqCst));
        assert_eq!(*used, 1);
        drop(used);
        remover.join().unwrap();
    }

    #[test]
    fn readers_never_see_a_freed_value() {
        let slots = Slots::<String, 4>::new();
        let end = std::time::Instant::now() + Duration::from_millis(200);
        std::thread::scope(|scope| {
            for name in ["a long name that is not inlined: first", "a long name that is not inlined: second"] {
                let slots = &slots;
                scope.spawn(move || {
                    while std::time::Instant::now() < end {
                        slots.add(name.to_owned(), |it| it == name).unwrap();
                        assert!(slots.remove(|it| it == name, |_| Ok::<(), ()>(())).unwrap());
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    while std::time::Instant::now() < end {
                        assert!(slots.iter().all(|it| it.starts_with("a long name that is not inlined: ")));
                    }
                });
            }
        });
    }

    #[test]
    fn a_forked_child_starts_without_users() {
        let slots = Slots::<u32, 2>::new();
        slots.add(1, |_| false).unwrap();
        let used = slots.find(|it| *it == 1);
        // SAFETY: nobody else knows these slots.
        slots.reset_in_child(unsafe { Child::new() });
        drop(used);
        assert!(remove(&slots, 1));
    }
}
