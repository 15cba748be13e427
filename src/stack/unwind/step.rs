//! One step: from the registers of a frame to those of its caller.
//!
//! Context: the observer. Pure arithmetic over two kinds of memory; what cannot be known is unknown.

use super::cache::{Cache, Cfi, Code, call_site};
use super::expression::{NoValue, evaluate};
use super::recover;
use super::row::{Cfa, Row, Rule, Store};
use crate::stack::arch::Arch;
use crate::stack::modules::Modules;
use crate::stack::{FrameSource, Reason, Registers};
use crate::sys::memory::Memory;

/// Signal frames that may lead to a lower stack address: handlers that run on alternate stacks.
const MAX_STACK_SWITCHES: u32 = 16;
/// Bytes between stack pointer and frame pointer that are searched for other return addresses.
const MAX_SEARCH: u64 = 1 << 16;

/// What a step ended at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// In the caller, found so.
    Caller(FrameSource),
    /// Nowhere: the frame is the thread's first, and this is proven.
    First,
}

/// Where the walk is.
pub(super) struct State {
    pub(super) registers: Registers,
    /// The program counter is the instruction to run, not one to return to.
    pub(super) exact: bool,
    /// What is known about the code there.
    code: Code,
    stack_switches: u32,
    /// A frame pointer was recovered without full proof in this step.
    pub(super) unproven: bool,
}

/// The memory that a walk reads.
pub(super) struct View<'a, T, S> {
    pub(super) modules: &'a Modules,
    pub(super) text: &'a T,
    pub(super) stack: &'a S,
}

impl<T: Memory, S: Memory> View<'_, T, S> {
    /// Starts at `registers`, whose program counter is `pc`.
    pub(super) fn start<A: Arch>(&self, cache: &mut Cache, registers: Registers, pc: u64) -> Result<State, Reason> {
        let code = cache.code::<A>(self.modules, self.text, pc).ok_or(Reason::NotCode(pc))?;
        Ok(State { registers, exact: true, code, stack_switches: 0, unproven: false })
    }

    /// Moves `state` to the caller of the frame that it is in.
    pub(super) fn step<A: Arch>(&self, cache: &mut Cache, state: &mut State) -> Result<Step, Reason> {
        let pc = state.registers.get(A::PC).ok_or(Reason::NotCode(0))?;
        let sp = state.registers.get(A::SP).ok_or(Reason::UnknownRegister { register: A::SP, pc })?;
        match state.code.cfi {
            Cfi::Row(row) if !row.signal => self.by_cfi::<A>(cache, state, &row, (pc, sp)),
            Cfi::Row(row) => match self.trampoline::<A>(pc) {
                Some(layout) => self.by_signal_frame::<A>(cache, state, layout, sp),
                None => self.by_cfi::<A>(cache, state, &row, (pc, sp)),
            },
            Cfi::Missing => match self.trampoline::<A>(pc) {
                Some(layout) => self.by_signal_frame::<A>(cache, state, layout, sp),
                None => self.by_frame_pointer::<A>(cache, state, (pc, sp)),
            },
            Cfi::Damaged => Err(Reason::BadUnwindInfo(pc)),
        }
    }

    fn by_cfi<A: Arch>(&self, cache: &mut Cache, state: &mut State, row: &Row, at: (u64, u64)) -> Result<Step, Reason> {
        let (pc, sp) = at;
        if row.return_rule == Rule::Undefined {
            return Ok(Step::First);
        }
        let unknown = |register| Reason::UnknownRegister { register, pc };
        let cfa = match row.cfa {
            Cfa::Expression(slice) => evaluate(cache.store.expression(slice), None, &state.registers, self.stack)
                .map_err(|error| error.reason(pc))?,
            Cfa::Register(register, offset) => {
                let base = match state.registers.get(register) {
                    Some(value) => value,
                    None if register == A::FP && !row.signal => {
                        let memories = (self.text, self.stack);
                        let recovered = recover::frame_pointer::<A>(cache, self.modules, memories, row, at);
                        let recovered = recovered.ok_or(unknown(register))?;
                        state.unproven = !recovered.proven;
                        state.registers.set(A::FP, recovered.value);
                        recovered.value
                    }
                    None => return Err(unknown(register)),
                };
                displaced(base, offset)
            }
        };
        let here = &state.registers;
        let return_address = match row.return_rule {
            // Only a leaf's return address can still be in its register.
            Rule::Same if A::RETURN_IN_REGISTER && state.exact => {
                here.get(row.return_register).ok_or(unknown(row.return_register))?
            }
            Rule::Same => return Err(Reason::BadUnwindInfo(pc)),
            rule => value(rule, cfa, here, &cache.store, self.stack).map_err(|error| error.reason(pc))?,
        };
        // Where rules depend on registers, on those of this frame: a copy. Few do.
        let copy = if row.at_cfa_only { None } else { Some(*here) };
        let next = &mut state.registers;
        next.keep(A::CALLEE_SAVED);
        next.set(A::SP, cfa);
        for (register, rule) in cache.store.rules(row) {
            let restored = match (rule, &copy) {
                (Rule::Same, _) => continue,
                (Rule::At(offset), _) => self.stack.read_u64(displaced(cfa, *offset)),
                (rule, copy) => value(*rule, cfa, copy.as_ref().unwrap_or(next), &cache.store, self.stack).ok(),
            };
            match restored {
                Some(value) => next.set(*register, value),
                None => next.forget(*register),
            }
        }
        if row.signal {
            if row.return_register != A::PC {
                next.set(row.return_register, return_address);
            }
            return self.interrupted::<A>(cache, state, return_address, sp);
        }
        let next_sp = next.get(A::SP).ok_or(unknown(A::SP))?;
        let empty_leaf = A::RETURN_IN_REGISTER && state.exact && next_sp == sp;
        if next_sp <= sp && !empty_leaf {
            return Err(Reason::NotAscending(next_sp));
        }
        self.called::<A>(cache, state, return_address, FrameSource::Cfi)
    }

    /// How the kernel laid out the signal frame whose trampoline `pc` is.
    fn trampoline<A: Arch>(&self, pc: u64) -> Option<&'static [(u16, u16)]> {
        let mut code = [0; 16];
        let count = self.text.read(pc, &mut code);
        A::signal_frame(code.get(..count)?)
    }

    fn by_signal_frame<A: Arch>(
        &self,
        cache: &mut Cache,
        state: &mut State,
        layout: &[(u16, u16)],
        sp: u64,
    ) -> Result<Step, Reason> {
        state.registers = Registers::unknown();
        for (register, offset) in layout {
            let address = sp.wrapping_add(u64::from(*offset));
            state.registers.set(*register, self.stack.read_u64(address).ok_or(Reason::Unreadable(address))?);
        }
        let pc = state.registers.get(A::PC).ok_or(Reason::NotCode(0))?;
        self.interrupted::<A>(cache, state, pc, sp)
    }

    /// Goes on in a frame that a signal interrupted, whose other registers `state` has.
    fn interrupted<A: Arch>(&self, cache: &mut Cache, state: &mut State, pc: u64, sp: u64) -> Result<Step, Reason> {
        let next_sp = state.registers.get(A::SP).ok_or(Reason::NotAscending(sp))?;
        if next_sp <= sp {
            state.stack_switches += 1;
            if state.stack_switches > MAX_STACK_SWITCHES {
                return Err(Reason::NotAscending(next_sp));
            }
        }
        state.code = cache.code::<A>(self.modules, self.text, pc).ok_or(Reason::NotCode(pc))?;
        state.registers.set(A::PC, pc);
        state.exact = true;
        Ok(Step::Caller(FrameSource::Signal))
    }

    /// Goes on in a frame that called, whose other registers `state` has: its program counter is a
    /// return address, and must look it.
    fn called<A: Arch>(
        &self,
        cache: &mut Cache,
        state: &mut State,
        return_address: u64,
        source: FrameSource,
    ) -> Result<Step, Reason> {
        let pc = A::code_address(return_address);
        if pc == 0 {
            // The psABI marks the deepest frame by a frame pointer of 0.
            return if state.registers.get(A::FP) == Some(0) { Ok(Step::First) } else { Err(Reason::NotCode(0)) };
        }
        let code = cache.code::<A>(self.modules, self.text, pc.wrapping_sub(1)).ok_or(Reason::NotCode(pc))?;
        // Nothing calls from a trampoline: the kernel made a handler return to it.
        let signal = matches!(code.cfi, Cfi::Row(row) if row.signal);
        let trampoline = signal || !code.ends_call && self.trampoline::<A>(pc).is_some();
        if !code.ends_call && !trampoline {
            return Err(Reason::NotCall(pc));
        }
        state.registers.set(A::PC, pc);
        state.exact = false;
        state.code = code;
        Ok(Step::Caller(if trampoline { FrameSource::Trampoline } else { source }))
    }

    /// Code without call frame information: `[fp]` is the caller's frame pointer, `[fp + 8]` the
    /// return address, if this function keeps a frame pointer at all, and has set it already. If it
    /// does not, its own return address lies below `fp`: so nothing there may look like one. A JIT may
    /// jump and push where it returns to (HotSpot's interpreter does), so any address of its code does.
    fn by_frame_pointer<A: Arch>(&self, cache: &mut Cache, state: &mut State, at: (u64, u64)) -> Result<Step, Reason> {
        let (pc, sp) = at;
        let nothing = Reason::NoUnwindInfo(pc);
        let fp = state.registers.get(A::FP).ok_or(nothing)?;
        let distance = fp.checked_sub(sp).ok_or(nothing)?;
        let in_register = A::RETURN_IN_REGISTER && state.exact;
        if fp % 8 != 0 || distance > MAX_SEARCH || in_register {
            return Err(nothing);
        }
        let word = |address| self.stack.read_u64(address).ok_or(Reason::Unreadable(address));
        for address in (sp.next_multiple_of(8)..=fp).step_by(8) {
            let value = A::code_address(word(address)?);
            let code = self.modules.is_executable(value.wrapping_sub(1));
            if code && (self.modules.find(value).is_none() || call_site::<A>(self.text, value).is_some()) {
                return Err(nothing);
            }
        }
        let (saved, return_address) = (word(fp)?, word(fp.wrapping_add(8))?);
        let next_sp = fp.checked_add(16).ok_or(nothing)?;
        state.registers.keep(0);
        state.registers.set(A::FP, saved);
        state.registers.set(A::SP, next_sp);
        self.called::<A>(cache, state, return_address, FrameSource::FramePointer)
    }
}

/// What `rule` makes of a register.
fn value(rule: Rule, cfa: u64, here: &Registers, store: &Store, stack: &impl Memory) -> Result<u64, NoValue> {
    let word = |address| stack.read_u64(address).ok_or(NoValue::Unreadable(address));
    match rule {
        Rule::Undefined | Rule::Same => Err(NoValue::Unsupported),
        Rule::At(offset) => word(displaced(cfa, offset)),
        Rule::Value(offset) => Ok(displaced(cfa, offset)),
        Rule::Register(register) => here.get(register).ok_or(NoValue::Unknown(register)),
        Rule::AtExpression(slice) => evaluate(store.expression(slice), Some(cfa), here, stack).and_then(word),
        Rule::Expression(slice) => evaluate(store.expression(slice), Some(cfa), here, stack),
    }
}

fn displaced(base: u64, offset: i32) -> u64 {
    base.wrapping_add(i64::from(offset) as u64)
}
