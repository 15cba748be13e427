//! Step 1 of a dump: the calling thread itself.
//!
//! Context: the observer and tests; and a thread of the application that runs our code because a signal interrupted it
//! or because it called us. Then where it stands beneath that is what is shown. Nothing moves its stack meanwhile: it
//! is walked in place.

use super::super::{Frame, Method, Registers};
use super::{Dump, Found, frame_limit, native, within};
use crate::sys::memory::Live;

/// A thread of the application that runs our code, and where it stands beneath that.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Its thread id, as `/proc` shows it.
    pub tid: i32,
    /// Its registers there: all of them when a signal interrupted it, those that a call preserves when it called us.
    pub registers: Registers,
    /// [`Method::Interrupted`] or [`Method::Own`].
    pub method: Method,
}

/// The registers of the calling function, valid while its frame stands.
#[inline(always)]
pub fn own_registers() -> Registers {
    native::own()
}

/// The registers of the thread that a handler has interrupted.
///
/// # Safety
/// `context` is the third argument of a handler that was installed with SA_SIGINFO.
pub unsafe fn interrupted_registers(context: *const libc::c_void) -> Registers {
    let words = context.cast::<u64>().wrapping_add(native::CONTEXT);
    // SAFETY: the kernel's ucontext has this many register words there, and the handler that got it still runs.
    let words = unsafe { std::slice::from_raw_parts(words, native::CONTEXT_WORDS) };
    native::registers_of_context(words)
}

impl Dump<'_> {
    /// Step 1. Not inlined: the registers are those of this function's frame, which stands while it is walked.
    #[inline(never)]
    pub(super) fn own(&mut self) -> Found {
        let (method, registers) = match self.standing {
            Some(standing) => (standing.method, standing.registers),
            None => (Method::Own, native::own()),
        };
        let limit = frame_limit(self.limits, self.total);
        let ending = self.unwinder.unwind(self.modules, &Live, registers, &Live, limit, &mut self.frames);
        if self.standing.is_some() && method == Method::Own {
            self.leave_out_our_frames();
        }
        Found { method: Some(method), call: None, ending: within(ending, self.limits, self.total) }
    }

    /// A thread that called us is shown from its caller on.
    fn leave_out_our_frames(&mut self) {
        let own = self.modules.find(Self::own as fn(&mut Self) -> Found as usize as u64).map(|module| module.bias);
        let is_ours = |frame: &&Frame| self.modules.find(frame.pc).map(|module| module.bias) == own;
        let ours = self.frames.iter().take_while(is_ours).count();
        if own.is_some() && ours < self.frames.len() {
            self.frames.drain(..ours);
        }
    }
}
