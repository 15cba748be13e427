//! Tests of capture: on threads of the test process, and, where the whole process must be peculiar, in
//! a child that runs one `#[ignore]`d test of this binary.
//!
//! A dump is a thing of the whole process (one signal handler, one dumpable flag), so tests take turns.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::undocumented_unsafe_blocks)]

mod blocking;
mod peculiar;
mod stacks;

use super::*;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

static TURN: Mutex<()> = Mutex::new(());

/// One test at a time.
pub fn take_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub const PROC: Methods = Methods { proc: true, ptrace: false, signal: false };
pub const PTRACE: Methods = Methods { proc: false, ptrace: true, signal: false };
pub const SIGNAL: Methods = Methods { proc: false, ptrace: false, signal: true };

/// What a dump needs, ready to be used again and again.
pub struct Camera {
    pub capture: Capture,
    pub modules: Modules,
    pub unwinder: Unwinder,
}

impl Camera {
    pub fn new() -> Self {
        let mut modules = Modules::default();
        modules.refresh(&Live).unwrap();
        Self { capture: Capture::default(), modules, unwinder: Unwinder::default() }
    }

    /// One dump of `tids` by `methods`.
    pub fn dump(&mut self, methods: Methods, tids: &[i32]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        self.capture.methods = methods;
        let mut each = |outcome| outcomes.push(outcome);
        self.capture.capture(&self.modules, &mut self.unwinder, tids, &Limits::default(), &mut each);
        outcomes
    }

    /// The stack of one thread, which must be there. Where many builds share few processors, a running
    /// thread may not be given one for a while, or not come to the end of our last handler: then it is asked again.
    pub fn stack(&mut self, methods: Methods, tid: i32) -> ThreadStack {
        let transient = [Reason::NoAnswer, Reason::SignalBlocked].map(Ending::Truncated);
        for _ in 0..50 {
            match self.dump(methods, &[tid]).pop() {
                Some(Outcome::Captured(stack)) if transient.contains(&stack.ending) => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Some(Outcome::Captured(stack)) => return stack,
                other => panic!("{other:?}"),
            }
        }
        panic!("{tid} never answers");
    }
}

/// Sets a flag when dropped, also by a panic: what ends a test's other threads.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A thread that runs until it is dropped.
pub struct Busy {
    pub tid: i32,
    stop: std::sync::Arc<AtomicBool>,
}

impl Busy {
    pub fn new() -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let (flag, tid) = (stop.clone(), std::sync::Arc::new(AtomicI32::new(0)));
        let out = tid.clone();
        std::thread::Builder::new()
            .name("busy".into())
            .spawn(move || {
                out.store(crate::sys::process::tid(), Ordering::Release);
                turn_in_circles(&flag);
            })
            .unwrap();
        while tid.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        Self { tid: tid.load(Ordering::Acquire), stop }
    }

    /// That this is the whole stack of such a thread.
    pub fn assert_is_seen(stack: &ThreadStack, method: Method) {
        assert_eq!((stack.method, stack.ending), (Some(method), Ending::FirstFrame), "{stack:?}");
        let function = turn_in_circles as *const () as u64;
        let found = stack.frames.iter().any(|frame| (function..function + 200).contains(&frame.pc));
        assert!(found, "no frame in {function:#x}: {stack:x?}");
        assert_eq!(stack.name, b"busy");
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[inline(never)]
fn turn_in_circles(stop: &AtomicBool) {
    let mut turns = 0u64;
    while !stop.load(Ordering::Relaxed) {
        turns = std::hint::black_box(turns + 1);
    }
}

#[test]
fn the_calling_thread_sees_itself() {
    let _turn = take_turn();
    let stack = Camera::new().stack(Methods::default(), crate::sys::process::tid());
    assert_eq!((stack.method, stack.ending), (Some(Method::Own), Ending::FirstFrame), "{stack:x?}");
}

#[test]
fn a_thread_that_does_not_exist_has_exited() {
    let _turn = take_turn();
    assert!(matches!(Camera::new().dump(Methods::default(), &[i32::MAX - 1])[..], [Outcome::Exited(_)]));
}

#[test]
fn a_running_thread_is_seen_by_ptrace() {
    let _turn = take_turn();
    let busy = Busy::new();
    let mut camera = Camera::new();
    let mut stopped = Vec::new();
    for _ in 0..50 {
        Busy::assert_is_seen(&camera.stack(Methods::default(), busy.tid), Method::Ptrace);
        stopped.push(camera.capture.statistics().max_stopped_ns / 1000);
    }
    stopped.sort_unstable();
    eprintln!("stopped for µs: median {}, 90 % {}, most {}", stopped[25], stopped[45], stopped[49]);
}

#[test]
fn a_running_thread_is_seen_by_signal() {
    let _turn = take_turn();
    let busy = Busy::new();
    let before = crate::sys::signal::disposition(libc::SIGURG).unwrap();
    let mut camera = Camera::new();
    for _ in 0..50 {
        Busy::assert_is_seen(&camera.stack(SIGNAL, busy.tid), Method::Signal);
    }
    assert_eq!(crate::sys::signal::disposition(libc::SIGURG).unwrap(), before);
}

#[test]
fn no_helper_is_left() {
    let _turn = take_turn();
    let busy = Busy::new();
    Camera::new().stack(PTRACE, busy.tid);
    let mut buffer = [0; 4096];
    let path = c"/proc/thread-self/children";
    let children = crate::sys::procfs::read_small(libc::AT_FDCWD, path, &mut buffer).unwrap();
    assert_eq!(children, b"", "children of the dumping thread");
}

#[test]
fn the_total_bound_is_told() {
    let _turn = take_turn();
    let busy = Busy::new();
    let (mut camera, mut endings) = (Camera::new(), Vec::new());
    let limits = Limits { total_frames: 2, ..Limits::default() };
    let mut each = |outcome| match outcome {
        Outcome::Captured(stack) => endings.push((stack.frames.len(), stack.ending)),
        other => panic!("{other:?}"),
    };
    camera.capture.capture(&camera.modules, &mut camera.unwinder, &[busy.tid, busy.tid], &limits, &mut each);
    assert_eq!(endings, [(2, Ending::Truncated(Reason::Budget)), (0, Ending::Truncated(Reason::Budget))]);
}

/// Speed, for the record: `cargo test --release --lib -- --ignored --nocapture a_thousand`.
#[test]
#[ignore]
fn a_thousand_blocked_threads() {
    let _turn = take_turn();
    #[inline(never)]
    fn down(depth: u32) {
        if depth == 0 {
            std::thread::park();
        } else {
            down(std::hint::black_box(depth - 1));
            std::hint::black_box(depth);
        }
    }
    let threads: Vec<_> = (0..1000).map(|_| std::thread::spawn(|| down(18))).collect();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let tids = crate::sys::procfs::thread_ids().unwrap();
    let tids: Vec<i32> = tids.into_iter().rev().take(1000).collect();
    let mut camera = Camera::new();
    for round in 0..5 {
        for methods in [Methods::default(), PTRACE] {
            let own = crate::sys::process::tid();
            let ran = || crate::sys::clock::thread_run_time(own).unwrap();
            let (start, before) = (std::time::Instant::now(), ran());
            let outcomes = camera.dump(methods, &tids);
            let (each, ran) = (start.elapsed().as_nanos() / 1000, (ran() - before) / 1000);
            let frames: usize = outcomes
                .iter()
                .map(|outcome| match outcome {
                    Outcome::Captured(stack) if stack.ending == Ending::FirstFrame => stack.frames.len(),
                    other => panic!("{other:x?}"),
                })
                .sum();
            let statistics = camera.capture.statistics();
            eprintln!(
                "round {round}: {each} ns a thread, {ran} of them running, {} frames each, {statistics:?}",
                frames / tids.len()
            );
        }
    }
    for thread in threads {
        thread.thread().unpark();
        thread.join().unwrap();
    }
}
