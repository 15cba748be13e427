//! Running a function that may be left from outside: on a stack of our own, on a thread of the application, or where it is
//! called.
//!
//! Context: signal handlers and the C API; the actor. The thread's own stack may be an alternate signal stack of two kilobytes,
//! and what we run needs hundreds; so what stays on it is one frame of the architecture's leaf file
//! (`switch_x86_64.rs`, `switch_aarch64.rs`). Its call frame information leads unwinding from the new stack to the
//! old one. A panic must be caught on the new stack: it cannot cross the switch.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::sibling::Mapping;

#[cfg(target_arch = "aarch64")]
#[path = "switch_aarch64.rs"]
mod native;
#[cfg(target_arch = "x86_64")]
#[path = "switch_x86_64.rs"]
mod native;

unsafe extern "C" {
    /// Calls `function(argument)` on the stack that ends at `top` (0: on the one in use, `below` bytes further down), and
    /// stores at `point`, before that, where the old stack goes on. Returns 0, or 1 when it was abandoned.
    fn manhole_switch_run(
        top: usize,
        function: unsafe extern "C" fn(*mut libc::c_void),
        argument: *mut libc::c_void,
        point: *mut usize,
        below: usize,
    ) -> libc::c_int;
    /// Goes on behind the [`manhole_switch_run`] that stored `point`.
    fn manhole_switch_abandon(point: usize) -> !;
    /// Sleeps for ever, and needs no stack.
    fn manhole_switch_park() -> !;
}

/// Where a switched thread came from; 0 while none is.
pub struct Point(AtomicUsize);

/// Bytes below a point that the leaf's frame may have.
const FRAME: u64 = 128;

/// The function was abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned;

/// What the leaf's argument points to: the function, then its result.
union Passed<F, R> {
    function: ManuallyDrop<F>,
    result: ManuallyDrop<R>,
}

impl Point {
    /// Nowhere yet.
    pub const fn nowhere() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Runs `function` on `stack`. One thread at a time.
    ///
    /// # Safety
    /// `function` must not unwind.
    pub unsafe fn run<F: FnOnce() -> R, R>(&self, stack: &Mapping, function: F) -> std::result::Result<R, Abandoned> {
        // SAFETY: as the caller vouches; `stack` is ours and nobody runs on it.
        unsafe { self.run_on(stack.end(), 0, function) }
    }

    /// Runs `function` on the stack in use, `below` bytes further down (a multiple of 16): what it writes beyond its own
    /// frames meets nobody's there. One thread at a time.
    ///
    /// # Safety
    /// `function` must not unwind; the stack has room.
    pub unsafe fn run_here<F: FnOnce() -> R, R>(&self, below: usize, function: F) -> std::result::Result<R, Abandoned> {
        // SAFETY: as the caller vouches.
        unsafe { self.run_on(0, below, function) }
    }

    /// Where a tracer lets a thread that runs in here go on so that it leaves: program counter, first argument, and a
    /// stack pointer that is good until then. `None` when no thread runs in here.
    pub fn exit(&self) -> Option<(u64, u64, u64)> {
        let point = self.0.load(Ordering::Acquire) as u64;
        (point != 0).then(|| (manhole_switch_abandon as *const () as u64, point, point.wrapping_sub(FRAME) & !15))
    }

    /// Where a tracer lets a thread go on that has no way back: it sleeps for ever there.
    pub fn park() -> u64 {
        manhole_switch_park as *const () as u64
    }

    /// # Safety
    /// `function` must not unwind; nobody runs on the stack that ends at `top`, or `top` is 0.
    unsafe fn run_on<F: FnOnce() -> R, R>(
        &self,
        top: usize,
        below: usize,
        function: F,
    ) -> std::result::Result<R, Abandoned> {
        /// # Safety
        /// `argument` is a [`Passed`] of these types that holds a function.
        unsafe extern "C" fn call<F: FnOnce() -> R, R>(argument: *mut libc::c_void) {
            // SAFETY: as the caller vouches, and nobody else has the pointer.
            let passed = unsafe { &mut *argument.cast::<Passed<F, R>>() };
            // SAFETY: it holds the function, which is taken out once.
            let function = unsafe { ManuallyDrop::take(&mut passed.function) };
            passed.result = ManuallyDrop::new(function());
        }
        let mut passed = Passed { function: ManuallyDrop::new(function) };
        let argument = (&raw mut passed).cast();
        // SAFETY: the stack is as our caller vouches; `call` gets what it expects, and does not unwind.
        let abandoned = unsafe { manhole_switch_run(top, call::<F, R>, argument, self.0.as_ptr(), below) };
        self.0.store(0, Ordering::Relaxed);
        if abandoned != 0 {
            return Err(Abandoned);
        }
        // SAFETY: `call` has returned, so the result is there.
        Ok(ManuallyDrop::into_inner(unsafe { passed.result }))
    }

    /// Drops everything that runs on the new stack, where it stands, and goes on behind [`Self::run`] on the old one.
    /// Nothing that the abandoned frames own is given back. `None` when no thread is switched.
    ///
    /// # Safety
    /// Called on the thread and the stack of a [`Self::run`] that has not returned; no frame on that stack may hold
    /// a lock that is used afterwards.
    pub unsafe fn abandon(&self) -> Option<std::convert::Infallible> {
        let point = self.0.load(Ordering::Relaxed);
        if point == 0 {
            return None;
        }
        // SAFETY: `run` is still in its leaf, whose frame `point` is.
        unsafe { manhole_switch_abandon(point) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static POINT: Point = Point::nowhere();

    #[inline(never)]
    fn deep(depth: u32) -> u64 {
        let filler = std::hint::black_box([u64::from(depth); 64]);
        if depth > 0 {
            return filler[1] + deep(depth - 1);
        }
        // SAFETY: called below, inside `run`, and nothing here holds a lock.
        unsafe { POINT.abandon() };
        0
    }

    #[test]
    fn runs_elsewhere_returns_and_can_be_abandoned() {
        let stack = Mapping::with_guard(1 << 20).unwrap();
        let here = std::hint::black_box(&stack) as *const Mapping as usize;
        for round in 0..3u64 {
            let text = format!("round {round}");
            // SAFETY: does not unwind.
            let there = unsafe { POINT.run(&stack, || (&raw const round as usize, std::hint::black_box(&text).len())) };
            assert_eq!(there, Ok((&raw const round as usize, 7)));
            // SAFETY: as above.
            let inner = unsafe {
                POINT.run(&stack, || {
                    let local = 0u8;
                    std::hint::black_box(&raw const local) as usize
                })
            };
            let inner = inner.unwrap();
            assert!(inner < stack.end() && stack.end() - inner < 1 << 20, "{inner:#x} of {:#x}", stack.end());
            assert!(here.abs_diff(inner) > 1 << 16);
            // SAFETY: as above.
            assert_eq!(unsafe { POINT.run(&stack, || deep(20)) }, Err(Abandoned));
            assert_eq!(text, format!("round {round}"), "registers of the caller came back");
        }
        // SAFETY: nobody is switched.
        assert!(unsafe { POINT.abandon() }.is_none());
    }

    #[test]
    fn unwinding_crosses_the_switch() {
        #[inline(never)]
        fn count() -> Vec<usize> {
            backtrace::Backtrace::new_unresolved().frames().iter().map(|frame| frame.ip() as usize).collect()
        }
        static OWN: Point = Point::nowhere();
        let stack = Mapping::with_guard(1 << 20).unwrap();
        let outside = count().len();
        // SAFETY: does not unwind.
        let inside = unsafe { OWN.run(&stack, count) }.unwrap();
        assert!(inside.len() > outside, "{} frames inside, {outside} outside", inside.len());
    }
}
