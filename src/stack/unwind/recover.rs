//! The frame pointer of a frame in which it is unknown, from its stack pointer: with proof.
//!
//! Context: the observer. A blocked thread shows only stack pointer and program counter, and code
//! built with frame pointers finds its caller by the frame pointer. Where the compiler laid out a
//! fixed frame, the distance between the two registers is the same all over the function's body, and
//! the prologue tells it. That it is so is proven by reading the whole function: nothing outside of
//! prologue and epilogues moves the stack pointer. Variable-sized arrays, `alloca`, arguments pushed
//! around calls and realigned stacks fail that proof, and then there is no frame pointer: a candidate
//! that merely looks good is never taken.

use super::cache::{self, Cache};
use super::row::{Cfa, Row, Rule, Store};
use crate::stack::arch::{Arch, Effect};
use crate::stack::modules::Modules;
use crate::sys::memory::Memory;

/// Longest function that is read.
const MAX_FUNCTION: usize = 1 << 16;

/// A frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recovered {
    pub(super) value: u64,
    /// The call that made this frame is known to be a call of this function. Where it is not (a call
    /// through a register, a tail call on the way), the caller of this module believes the value only
    /// if the stack, unwound with it, reaches the thread's first frame.
    pub(super) proven: bool,
}

/// The frame pointer at `pc` in the function of `row`, whose stack pointer there is `sp`.
pub(super) fn frame_pointer<A: Arch>(
    cache: &mut Cache,
    modules: &Modules,
    (text, stack): (&impl Memory, &impl Memory),
    row: &Row,
    (pc, sp): (u64, u64),
) -> Option<Recovered> {
    let Cfa::Register(_, cfa_offset) = row.cfa else { return None };
    let Rule::At(return_offset) = row.return_rule else { return None };
    let distance = cache.distance(pc, |store, pages| {
        let mut code = vec![0; (row.function.1 as usize).min(MAX_FUNCTION)];
        let whole = code.len() == row.function.1 as usize
            && !row.pushes_arguments
            && pages.over(text).read(row.function.0, &mut code) == code.len();
        let at = usize::try_from(pc.wrapping_sub(row.function.0)).ok()?;
        if whole { distance::<A>(&code, row, store, at) } else { None }
    })?;
    let value = sp.checked_add(distance).filter(|value| value % 8 == 0)?;
    let slot = value.wrapping_add(i64::from(cfa_offset) as u64).wrapping_add(i64::from(return_offset) as u64);
    let return_address = A::code_address(stack.read_u64(slot)?);
    if !modules.is_executable(return_address.wrapping_sub(1)) {
        return None;
    }
    let site = cache::call_site::<A>(text, return_address)?;
    let function = row.function.0;
    let through = |slot: u64| text.read_u64(slot).map(A::code_address) == Some(function);
    let by_stub = |target: u64| {
        let mut code = [0; 16];
        let count = text.read(target, &mut code);
        A::stub_slot(code.get(..count).unwrap_or_default(), target).is_some_and(through)
    };
    let proven =
        site.target.is_some_and(|target| target == function || by_stub(target)) || site.slot.is_some_and(through);
    Some(Recovered { value, proven })
}

/// Where in a function the walk over its instructions is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Behind the instruction that set the frame pointer, before any other path could join.
    Prologue,
    /// Where the stack pointer stays.
    Body,
    /// Between an instruction that gives the frame up and the return.
    Epilogue,
}

/// How far the frame pointer is above the stack pointer at byte `at` of `code`, the whole function.
fn distance<A: Arch>(code: &[u8], row: &Row, store: &Store, at: usize) -> Option<u64> {
    let Cfa::Register(_, cfa_offset) = row.cfa else { return None };
    let set = row.frame_set as usize;
    let mut distance = frame_set::<A>(code, set)?;
    // The word that a push at this distance fills is where the row says that the register is saved.
    let saved_at = |register: u16, distance: u64| {
        let offset = i32::try_from(distance).ok().and_then(|distance| cfa_offset.checked_add(distance));
        offset.is_some_and(|offset| store.rules(row).contains(&(register, Rule::At(-offset))))
    };
    let mut part = Part::Prologue;
    let mut found = None;
    let mut here = set;
    while here < code.len() {
        if here == at {
            found = (part != Part::Epilogue).then_some(distance);
            found?;
        }
        let (length, effect) = A::decode(code.get(here..)?)?;
        here += length;
        part = match (part, effect) {
            (part, Effect::Nothing) => part,
            (Part::Prologue, Effect::Push(register)) => {
                distance += 8;
                // What is pushed without being saved is room, made so by clang where eight bytes are needed.
                let room = A::CALLEE_SAVED >> register & 1 == 0;
                if found.is_none() && !room && !saved_at(register, distance) {
                    return None;
                }
                Part::Prologue
            }
            (Part::Prologue, Effect::Lower(bytes)) => {
                distance = distance.checked_add(bytes)?;
                Part::Prologue
            }
            (Part::Prologue | Part::Body, Effect::Branch) => Part::Body,
            (_, Effect::Raise) => Part::Epilogue,
            (_, Effect::Leave) => Part::Body,
            _ => return None,
        };
    }
    found
}

/// How far above the stack pointer the instruction that ends at byte `end` sets the frame pointer.
fn frame_set<A: Arch>(code: &[u8], end: usize) -> Option<u64> {
    // x86-64's takes three bytes, aarch64's four.
    [3, 4].iter().find_map(|length| {
        let start = end.checked_sub(*length)?;
        match A::decode(code.get(start..end)?)? {
            (decoded, Effect::SetFrame(distance)) if decoded == *length => Some(distance),
            _ => None,
        }
    })
}
