//! Stacks as records, for JSON: what [`super::stack_text`] says to eyes, with nothing left out.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::World;
use super::json::{Bytes, Hex};
use super::record::Line;
use super::stack_text::Style;
use crate::inspect::syscalls;
use crate::record;
use crate::stack::{Ending, Frame, FrameSource, Method, Outcome, Reason, ThreadStack};

record! {
    /// A thread whose stack this is.
    pub struct Thread as "thread" {
        /// Its id.
        tid: i32,
        /// Its name.
        name: Bytes,
        /// The kernel's letter for its state: R, S, D, T, t, Z, I.
        state: String,
        /// The system call that it sits in, with the arguments as numbers.
        call: Option<String>,
    }
}

record! {
    /// A function at work: the one that runs, or one that called it. Inlined functions have the addresses of the
    /// function that they were inlined into, which follows.
    pub struct Function as "frame" {
        /// The instruction that runs, or the one to return to.
        pc: Hex,
        /// The stack pointer there.
        sp: Hex,
        /// Its readable name.
        function: Option<String>,
        /// Bytes from its start.
        offset: Option<u64>,
        /// Source file.
        file: Option<String>,
        /// Line in that file.
        line: Option<u32>,
        /// It was inlined into the next one.
        inlined: bool,
        /// The file of the module.
        module: Option<Bytes>,
        /// The address in that file's own numbering.
        module_offset: Option<Hex>,
        /// How it was found: innermost, cfi, frame-pointer, trampoline (a handler returns there), signal (was interrupted).
        source: &'static str,
    }
}

record! {
    /// A stack, innermost frame first, and the threads that have it (one without --group).
    pub struct Stack as "stack" {
        /// Whose it is.
        threads: Vec<Thread>,
        /// How it was captured: proc, ptrace, signal, interrupted, own (a thread of the manhole's), or not at all.
        capture: Option<&'static str>,
        /// Its frames.
        frames: Vec<Function>,
        /// Why it does not reach the thread's first frame; null if it does.
        truncated: Option<String>,
    }
}

record! {
    /// A thread that has exited: during the dump, or the first one, which stays until the process ends.
    pub struct Exited as "exited" {
        /// Its id.
        tid: i32,
    }
}

record! {
    /// What a dump was like.
    pub struct Summary as "summary" {
        /// Threads that were captured, or that were there and could not be.
        threads: usize,
        /// Captured by reading /proc.
        by_proc: usize,
        /// Captured by ptrace.
        by_ptrace: usize,
        /// Captured by a signal.
        by_signal: usize,
        /// Captured as it served this.
        interrupted: usize,
        /// Stacks that do not reach the first frame.
        truncated: usize,
        /// Threads that have exited.
        exited: usize,
        /// Threads beyond the option max_threads.
        not_captured: usize,
        /// Modules were unloaded twice meanwhile: frames may be misnamed.
        unloaded: bool,
        /// The longest time that a thread was stopped, in seconds.
        stopped_seconds: Duration,
        /// How long it took.
        seconds: Duration,
    }
}

/// Appends the JSON of one group of threads with equal stacks.
pub fn put(group: &[Outcome], style: Style, limit: Option<u32>, world: &World, out: &mut super::output::Output) {
    let stacks: Vec<&ThreadStack> = group
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Captured(stack) => Some(stack),
            Outcome::Exited(tid) => {
                out.put(&Exited { tid: *tid });
                None
            }
        })
        .collect();
    let Some(first) = stacks.first() else { return };
    let mut frames: Vec<Function> = first.frames.iter().flat_map(|frame| functions(frame, style, world)).collect();
    let mut truncated = match first.ending {
        Ending::FirstFrame => None,
        Ending::Truncated(reason) => Some(reason.to_string()),
    };
    if let Some(limit) = limit.filter(|limit| frames.len() > *limit as usize) {
        frames.truncate(limit as usize);
        truncated = Some(Reason::Depth(limit).to_string());
    }
    let threads = stacks.iter().map(|stack| Thread {
        tid: stack.tid,
        name: Bytes(stack.name.clone()),
        state: char::from(stack.state).to_string(),
        call: stack.call.as_ref().map(|call| syscalls::brief(call).to_string()),
    });
    out.put(&Stack { threads: threads.collect(), capture: first.method.map(Method::name), frames, truncated });
}

/// The functions of one frame, innermost inlined first.
pub fn functions(frame: &Frame, style: Style, world: &World) -> Vec<Function> {
    let module = world.modules.find(frame.pc.saturating_sub(1));
    let plain = Function {
        pc: Hex(frame.pc),
        sp: Hex(frame.sp),
        function: None,
        offset: None,
        file: None,
        line: None,
        inlined: false,
        module: module.map(|module| Bytes(module.path.clone())),
        module_offset: module.map(|module| Hex(frame.pc.wrapping_sub(module.bias))),
        source: match frame.source {
            FrameSource::Innermost => "innermost",
            FrameSource::Cfi => "cfi",
            FrameSource::FramePointer => "frame-pointer",
            FrameSource::Trampoline => "trampoline",
            FrameSource::Signal => "signal",
        },
    };
    let found = match style {
        Style::Raw => &[],
        Style::Named => world.symbolizer.lookup(&world.modules, frame.lookup_address()),
    };
    if found.is_empty() {
        return vec![plain];
    }
    let named = found.iter().map(|source| Function {
        function: source.function.as_deref().map(str::to_owned),
        offset: source.offset,
        file: source.file.as_deref().map(str::to_owned),
        line: source.file.is_some().then_some(source.line),
        inlined: source.inlined,
        ..plain.clone()
    });
    named.collect()
}

// Eyes get these from `stack_text`, and the summary as one sentence; no record of this file comes to them.
macro_rules! for_programs_only {
    ($($name:ident),*) => { $(impl Line for $name {
        fn line(&self, _: &mut Vec<u8>) {}
    })* };
}
for_programs_only!(Thread, Function, Stack, Exited, Summary);
