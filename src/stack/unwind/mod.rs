//! Unwinding: from the registers of a frame to those of its caller, until the thread's first frame.
//!
//! Context: the observer. Why not an existing unwinder: a blocked thread shows only its stack pointer
//! and program counter, so here every register may be unknown, every rule passes "unknown" on, and a
//! step that depends on what is unknown says so instead of going wrong.
//!
//! The way of one step: [`cache`] knows the code at an address ([`table`] finds its call frame
//! information in memory, [`row`] compiles it, [`pages`] keeps the kernel out of the search); [`step`]
//! applies it ([`expression`] where it is one); [`recover`] finds a frame pointer that is unknown.
//!
//! A frame is only ever shown if its return address follows a call (or the kernel made it for a
//! signal), so a smashed stack ends where it is smashed. The first frame is proven by call frame
//! information that says so (`_start`, `clone`, `clone3` of glibc), or by a return address of 0 under
//! a frame pointer of 0. musl marks neither: its stacks end as truncated in `_start` or `clone`.

// The tests load C code; the library has none of it here.
#![cfg_attr(not(test), forbid(unsafe_code))]

mod cache;
mod expression;
#[cfg(test)]
mod live;
#[cfg(test)]
mod made_up;
mod pages;
mod recover;
mod row;
mod step;
mod table;
#[cfg(test)]
mod tests;

use super::arch::{Arch, Native};
use super::modules::Modules;
use super::{Ending, Frame, FrameSource, Reason, Registers};
use crate::sys::memory::Memory;
use step::{Step, View};

/// Unwinds stacks, keeping what it learnt about code for the next.
#[derive(Default)]
pub struct Unwinder {
    cache: cache::Cache,
}

impl Unwinder {
    /// Walks from `start` to the first frame, at most `limit` frames, appending to `frames`.
    /// `stack` answers reads of stack memory, consistent with `start`; `text` those of code, call
    /// frame information and the linkage table.
    pub fn unwind(
        &mut self,
        modules: &Modules,
        text: &impl Memory,
        start: Registers,
        stack: &impl Memory,
        limit: u32,
        frames: &mut Vec<Frame>,
    ) -> Ending {
        self.walk::<Native>(&View { modules, text, stack }, start, limit, frames)
    }

    fn walk<A: Arch>(
        &mut self,
        view: &View<'_, impl Memory, impl Memory>,
        start: Registers,
        limit: u32,
        frames: &mut Vec<Frame>,
    ) -> Ending {
        self.cache.follow(view.modules);
        let Some(pc) = start.get(A::PC) else {
            return Ending::Truncated(Reason::UnknownRegister { register: A::PC, pc: 0 });
        };
        let mut left = limit;
        let mut source = FrameSource::Innermost;
        let mut state = None;
        // Frames that stand whatever comes, and what to say if only they do.
        let mut doubt: Option<(usize, Reason)> = None;
        let ending = loop {
            let registers = state.as_ref().map_or(&start, |state: &step::State| &state.registers);
            if left == 0 {
                break Ending::Truncated(Reason::Depth(limit));
            }
            left -= 1;
            let pc = registers.get(A::PC).unwrap_or(pc);
            frames.push(Frame { pc, sp: registers.get(A::SP).unwrap_or(0), source });
            let state = match &mut state {
                Some(state) => state,
                none => match view.start::<A>(&mut self.cache, start, pc) {
                    Ok(first) => none.insert(first),
                    Err(reason) => break Ending::Truncated(reason),
                },
            };
            let step = view.step::<A>(&mut self.cache, state);
            if std::mem::take(&mut state.unproven) && doubt.is_none() {
                doubt = Some((frames.len(), Reason::UnknownRegister { register: A::FP, pc }));
            }
            match step {
                Ok(Step::Caller(by)) => source = by,
                Ok(Step::First) => break Ending::FirstFrame,
                Err(reason) => break Ending::Truncated(reason),
            }
        };
        match (ending, doubt) {
            (Ending::Truncated(_), Some((sure, reason))) => {
                frames.truncate(sure);
                Ending::Truncated(reason)
            }
            _ => ending,
        }
    }
}
