//! arm64: where a stopped or interrupted thread's registers are, and why a cut call stays cut.
//!
//! Context: observer, ptrace helper and signal handler; pure functions but for [`own`]. Always
//! compiled; on another architecture [`super::super::Registers`] ignores the numbers it has not.
//!
//! A call that fails with EINTR cannot be made whole here: its first argument was in x0, where the
//! result is now, and the kernel decides on restarting before the thread stops (`do_signal` in
//! arch/arm64/kernel/signal.c). So blocked threads in such calls are never stopped on arm64.

use super::super::{Call, Registers, arch::aarch64};
use super::restart::Rule;
use crate::sys::memory::Memory;

/// A call that failed with EINTR stays so: see the head of this file.
pub const REPEATS: bool = false;
/// arm64 never had the older calls.
pub const LEGACY_CALLS: &[(i64, Rule)] = &[];

/// Words of `struct user_pt_regs` (asm/ptrace.h), the content of NT_PRSTATUS: x0 … x30, sp, pc, pstate.
pub const WORDS: usize = 34;
/// AAPCS64 has no red zone on Linux.
pub const RED_ZONE: u64 = 0;

fn word(words: &[u64], index: usize) -> u64 {
    words.get(index).copied().unwrap_or(0)
}

/// All registers of a stopped thread. x0 … x30 and sp have their DWARF numbers, and pc is 32.
pub fn registers(words: &[u64]) -> Registers {
    let mut registers = Registers::unknown();
    for number in 0..=aarch64::PC {
        registers.set(number, word(words, usize::from(number)));
    }
    registers
}

/// The stack pointer of a stopped thread.
pub fn stack_pointer(words: &[u64]) -> u64 {
    word(words, 31)
}

/// The program counter of a stopped thread.
pub fn program_counter(words: &[u64]) -> u64 {
    word(words, 32)
}

/// Has a stopped thread go on at `pc` with this first argument and stack pointer, as if a function were called there,
/// by a branch that needs no landing pad (PSTATE.BTYPE). The kernel restarts no call of a thread whose pc was changed.
pub fn redirect(words: &mut [u64], pc: u64, argument: u64, sp: u64) {
    const BTYPE: u64 = 0xc00;
    let state = word(words, 33) & !BTYPE;
    for (index, value) in [(0, argument), (31, sp), (32, pc), (33, state)] {
        if let Some(word) = words.get_mut(index) {
            *word = value;
        }
    }
}

/// The registers of the caller of a thread that has just arrived where a call led it: the return address is in x30.
pub fn caller(registers: &Registers, _stack: &impl Memory) -> Option<Registers> {
    let mut caller = *registers;
    caller.set(aarch64::PC, registers.get(30)?);
    Some(caller)
}

/// The registers do not tell whether a thread is in a call.
pub fn call(_words: &[u64]) -> Option<Call> {
    None
}

/// Nothing can be restarted: see the head of this file.
pub fn restart(_words: &[u64]) -> Option<(i64, usize, u64)> {
    None
}

/// The instruction before `program_counter`: `svc #0`.
pub const SYSCALL: &[u8] = &[0x01, 0x00, 0x00, 0xd4];

/// Offset in words of the general registers in a signal handler's `ucontext_t`: flags, link, stack,
/// 128 bytes of mask, padding to 16, then `struct sigcontext`, whose first word is the fault address.
pub const CONTEXT: usize = 23;
/// Words of it that matter: x0 … x30, sp, pc.
pub const CONTEXT_WORDS: usize = 33;

/// All registers of an interrupted thread.
pub fn registers_of_context(words: &[u64]) -> Registers {
    registers(words)
}

/// The stack pointer of an interrupted thread.
pub fn stack_pointer_of_context(words: &[u64]) -> u64 {
    stack_pointer(words)
}

/// The program counter of an interrupted thread.
pub fn program_counter_of_context(words: &[u64]) -> u64 {
    program_counter(words)
}

/// Nothing can be restarted: see the head of this file.
pub fn cut_call(_words: &[u64], _code: [u8; 7]) -> Option<i64> {
    None
}

/// Nothing can be restarted: see the head of this file.
pub fn rewound(_words: &[u64], _number: i64) -> [(usize, u64); 2] {
    [(usize::MAX, 0); 2]
}

/// The calling function's own registers; valid for its frame only while it has not returned.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub fn own() -> Registers {
    let mut words = [0u64; 14];
    // SAFETY: stores x19 to x30, sp and pc into `words`; changes no other memory and only x9.
    unsafe {
        std::arch::asm!(
            "stp x19, x20, [{w}]", "stp x21, x22, [{w}, #16]", "stp x23, x24, [{w}, #32]", "stp x25, x26, [{w}, #48]",
            "stp x27, x28, [{w}, #64]", "stp x29, x30, [{w}, #80]", "mov x9, sp", "str x9, [{w}, #96]", "adr x9, .",
            "str x9, [{w}, #104]", w = in(reg) words.as_mut_ptr(), out("x9") _, options(nostack, preserves_flags),
        );
    }
    let mut registers = Registers::unknown();
    for (number, value) in (19..=32).zip(words) {
        registers.set(number, value);
    }
    registers
}

/// The kernel returns through its vdso when there is none.
#[cfg(target_arch = "aarch64")]
pub fn restorer() -> Option<usize> {
    None
}
