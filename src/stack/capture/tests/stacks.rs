//! Large stacks and alternate ones: what is copied suffices, whichever way it is copied.

use super::*;
use std::sync::Arc;

/// What a thread does at the bottom of its stack.
#[derive(Clone, Copy)]
enum Then {
    Park,
    Turn,
    /// Raises a signal whose handler, on an alternate stack, does so.
    HandlerParks,
    HandlerTurns,
}

static STOP: AtomicBool = AtomicBool::new(false);

fn act(then: Then) {
    match then {
        Then::Park => loop {
            std::thread::park();
        },
        Then::Turn => turn_in_circles(&STOP),
        Then::HandlerParks => raise(libc::SIGUSR1, parking_handler),
        Then::HandlerTurns => raise(libc::SIGUSR2, turning_handler),
    }
}

extern "C" fn parking_handler(_: i32) {
    loop {
        unsafe { libc::pause() };
    }
}

extern "C" fn turning_handler(_: i32) {
    turn_in_circles(&STOP);
}

fn raise(signal: i32, handler: extern "C" fn(i32)) {
    let alternate = vec![0u8; 1 << 16].leak();
    let stack = libc::stack_t { ss_sp: alternate.as_mut_ptr().cast(), ss_flags: 0, ss_size: alternate.len() };
    unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_ONSTACK;
    unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    unsafe { libc::raise(signal) };
}

/// `depth` frames of a kilobyte each.
#[inline(never)]
fn down(depth: u32, then: Then) -> u8 {
    let room = std::hint::black_box([depth as u8; 1000]);
    if depth == 0 {
        act(then);
        return room[0];
    }
    let below = down(depth - 1, then);
    std::hint::black_box(&room)[usize::from(below) % 1000]
}

fn start(depth: u32, then: Then) -> i32 {
    let tid = Arc::new(AtomicI32::new(0));
    let out = tid.clone();
    std::thread::Builder::new()
        .stack_size(4 << 20)
        .spawn(move || {
            out.store(crate::sys::process::tid(), Ordering::Release);
            down(depth, then)
        })
        .unwrap();
    while tid.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    tid.load(Ordering::Acquire)
}

#[test]
fn a_stack_larger_than_the_first_copy_is_whole() {
    let _turn = take_turn();
    let mut camera = Camera::new();
    for (then, methods) in [(Then::Park, PROC), (Then::Park, PTRACE), (Then::Turn, PTRACE), (Then::Turn, SIGNAL)] {
        STOP.store(false, Ordering::Relaxed);
        let stack = camera.stack(methods, start(150, then));
        assert_eq!(stack.ending, Ending::FirstFrame, "{methods:?}: {stack:x?}");
        assert!(stack.frames.len() > 150, "{methods:?}: {stack:x?}");
        STOP.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_stack_beyond_the_limit_says_so() {
    let _turn = take_turn();
    let mut camera = Camera::new();
    STOP.store(false, Ordering::Relaxed);
    let stack = camera.stack(PTRACE, start(900, Then::Turn));
    assert!(matches!(stack.ending, Ending::Truncated(Reason::CopyLimit(_))), "{:?}", stack.ending);
    assert!(stack.frames.len() > 200, "{stack:x?}");
    STOP.store(true, Ordering::Relaxed);
}

#[test]
fn a_handler_on_an_alternate_stack_shows_what_it_interrupted() {
    let _turn = take_turn();
    let mut camera = Camera::new();
    let cases = [
        (Then::HandlerParks, PROC),
        (Then::HandlerParks, PTRACE),
        (Then::HandlerTurns, PTRACE),
        (Then::HandlerTurns, SIGNAL),
    ];
    for (then, methods) in cases {
        STOP.store(false, Ordering::Relaxed);
        let stack = camera.stack(methods, start(20, then));
        assert_eq!(stack.ending, Ending::FirstFrame, "{methods:?}: {stack:x?}");
        assert!(stack.frames.iter().any(|frame| frame.source == crate::stack::FrameSource::Signal), "{stack:x?}");
        assert!(stack.frames.len() > 20, "{methods:?}: {stack:x?}");
        STOP.store(true, Ordering::Relaxed);
    }
}
