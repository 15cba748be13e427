//! Unwinding: from the registers of a frame to those of its caller.

use super::modules::Modules;
use super::{Ending, Frame, Registers};
use crate::sys::memory::Memory;

/// Unwinds stacks, keeping what it learnt about code for the next.
#[derive(Default)]
pub struct Unwinder {}

impl Unwinder {
    /// Walks from `start` to the first frame, at most `limit` frames, appending to `frames`.
    /// `stack` answers reads of stack memory, consistent with `start`; `text` those of code and call
    /// frame information.
    pub fn unwind(
        &mut self,
        _modules: &Modules,
        _text: &impl Memory,
        _start: Registers,
        _stack: &impl Memory,
        _limit: u32,
        _frames: &mut Vec<Frame>,
    ) -> Ending {
        Ending::FirstFrame
    }
}
