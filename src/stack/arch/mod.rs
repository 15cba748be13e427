//! What unwinding must know of an architecture. Both are always compiled; one is native.
//!
//! Context: the observer. Pure functions over bytes: nothing in here reads memory, so that each
//! architecture's half is tested on either.

#![forbid(unsafe_code)]

pub mod aarch64;
pub mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as native;
#[cfg(target_arch = "x86_64")]
use x86_64 as native;

pub use native::{CALLEE_SAVED, FP, Native, PC, SP, register_name};

/// Room for the DWARF register numbers that unwinding follows, of whichever architecture has more
/// of them (aarch64: x0 to x30, sp, pc), so that either unwinder runs on either machine.
pub const REGISTERS: usize = 33;

/// An architecture, as the unwinder sees it.
pub trait Arch {
    /// The frame pointer's DWARF number.
    const FP: u16;
    /// The stack pointer's.
    const SP: u16;
    /// The program counter's.
    const PC: u16;
    /// Registers that a call preserves, one bit each.
    const CALLEE_SAVED: u64;
    /// A call leaves the return address in a register: a leaf function's frame may be empty.
    const RETURN_IN_REGISTER: bool;
    /// Most bytes that [`Arch::call_before`] looks at.
    const CALL_BYTES: usize;
    /// Whose extensions the call frame instructions use.
    const VENDOR: gimli::Vendor;

    /// The code address in a return address: without pointer authentication bits.
    fn code_address(value: u64) -> u64;

    /// What the instruction before `return_address` calls, if it can be a call: `before` ends there.
    fn call_before(before: &[u8], return_address: u64) -> Option<CallSite>;

    /// The memory slot that holds the target of the jump stub (a PLT entry) at `address`.
    fn stub_slot(code: &[u8], address: u64) -> Option<u64>;

    /// Where the kernel saved each register, as offsets from the stack pointer, if `code` is the
    /// trampoline that a signal handler returns to.
    fn signal_frame(code: &[u8]) -> Option<&'static [(u16, u16)]>;

    /// The first instruction of `code`: its length, and what it does to stack and frame pointer.
    /// `None` if that is not certain.
    fn decode(code: &[u8]) -> Option<(usize, Effect)>;
}

/// What a call instruction calls. Machine code read backwards can be ambiguous; what is filled in is
/// what may be so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallSite {
    /// The target of a direct call.
    pub target: Option<u64>,
    /// The address of the memory word that holds the target of a call through a fixed slot.
    pub slot: Option<u64>,
}

/// What an instruction does to the stack pointer and to control flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Neither.
    Nothing,
    /// Stores this register below the stack pointer, which moves there: eight bytes.
    Push(u16),
    /// Lowers the stack pointer by so many bytes.
    Lower(u64),
    /// Moves the stack pointer up, as an epilogue does.
    Raise,
    /// Sets the frame pointer so many bytes above the stack pointer.
    SetFrame(u64),
    /// Moves the stack pointer in a way that is not followed.
    Unpredictable,
    /// Calls, or jumps on a condition: control goes on behind it, and perhaps elsewhere.
    Branch,
    /// Returns or jumps for good: control does not go on behind it.
    Leave,
}
