//! Capturing the stacks of other threads, gentlest way first.

use super::modules::Modules;
use super::unwind::Unwinder;
use super::{Limits, Outcome};

/// Captures threads of this process, one dump at a time.
#[derive(Default)]
pub struct Capture {}

impl Capture {
    /// Captures `tids` in order, handing each outcome to `each`.
    pub fn capture(
        &mut self,
        _modules: &Modules,
        _unwinder: &mut Unwinder,
        _tids: &[i32],
        _limits: &Limits,
        _each: &mut dyn FnMut(Outcome),
    ) {
    }
}
