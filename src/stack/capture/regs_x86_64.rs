//! x86-64: where a stopped or interrupted thread's registers are, and how a cut system call looks.
//!
//! Context: observer, ptrace helper and signal handler; pure functions but for [`own`]. Always
//! compiled; on another architecture [`super::super::Registers`] ignores the numbers it has not.

use super::super::{Call, Registers, arch::x86_64};
use super::restart::Rule;
use crate::sys::memory::Memory;

/// A call that failed with EINTR can be made to run again here: see [`restart`].
pub const REPEATS: bool = true;
/// Calls that only this architecture has (asm/unistd_64.h).
pub const LEGACY_CALLS: &[(i64, Rule)] = &[
    (POLL, Rule::Always),
    (SELECT, Rule::TimeLeft(4)),
    (PAUSE, Rule::Always),
    (EPOLL_WAIT, Rule::ForeverMilliseconds(3)),
];
const POLL: i64 = 7;
const SELECT: i64 = 23;
const PAUSE: i64 = 34;
const EPOLL_WAIT: i64 = 232;

/// Words of `struct user_regs_struct` (sys/user.h), the content of NT_PRSTATUS.
pub const WORDS: usize = 27;
/// Bytes below the stack pointer that a leaf function may use (psABI 3.2.2).
pub const RED_ZONE: u64 = 128;

/// Indices into `user_regs_struct`.
const RAX: usize = 10;
const ORIG_RAX: usize = 15;
const RDI: usize = 14;
const RIP: usize = 16;
const EFLAGS: usize = 18;
const RSP: usize = 19;
/// `user_regs_struct` in the order of DWARF numbers: rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 … r15, rip.
const DWARF_ORDER: [usize; 17] = [10, 12, 11, 5, 13, 14, 4, RSP, 9, 8, 7, 6, 3, 2, 1, 0, RIP];
/// And the argument registers of a call: rdi, rsi, rdx, r10, r8, r9.
const ARGUMENTS: [usize; 6] = [14, 13, 12, 7, 9, 8];

fn word(words: &[u64], index: usize) -> u64 {
    words.get(index).copied().unwrap_or(0)
}

/// All registers of a stopped thread.
pub fn registers(words: &[u64]) -> Registers {
    in_dwarf_order(words, &DWARF_ORDER)
}

fn in_dwarf_order(words: &[u64], order: &[usize]) -> Registers {
    let mut registers = Registers::unknown();
    for (number, &index) in order.iter().enumerate() {
        registers.set(number as u16, word(words, index));
    }
    registers
}

/// The stack pointer of a stopped thread.
pub fn stack_pointer(words: &[u64]) -> u64 {
    word(words, RSP)
}

/// The program counter of a stopped thread.
pub fn program_counter(words: &[u64]) -> u64 {
    word(words, RIP)
}

/// Has a stopped thread go on at `pc` with this first argument and stack pointer, as if a function were called there:
/// it is in no call that the kernel would restart, and the direction, trap and alignment flags are clear (psABI 3.4.1).
pub fn redirect(words: &mut [u64], pc: u64, argument: u64, sp: u64) {
    const FLAGS: u64 = 0x400 | 0x100 | 0x4_0000;
    let flags = word(words, EFLAGS) & !FLAGS;
    let values = [(RIP, pc), (RDI, argument), (RSP, sp), (ORIG_RAX, u64::MAX), (EFLAGS, flags)];
    for (index, value) in values {
        if let Some(word) = words.get_mut(index) {
            *word = value;
        }
    }
}

/// The registers of the caller of a thread that has just arrived where a call led it: the return address is on top of
/// its stack.
pub fn caller(registers: &Registers, stack: &impl Memory) -> Option<Registers> {
    let sp = registers.get(x86_64::SP)?;
    let mut caller = *registers;
    caller.set(x86_64::PC, stack.read_u64(sp)?);
    caller.set(x86_64::SP, sp.wrapping_add(8));
    Some(caller)
}

/// The call that a stopped thread is in. Outside any, the kernel keeps a negative `orig_rax`.
pub fn call(words: &[u64]) -> Option<Call> {
    let number = word(words, ORIG_RAX) as i64;
    (number >= 0).then(|| Call { number, arguments: ARGUMENTS.map(|index| word(words, index)) })
}

/// A call that the stop has just made to fail with EINTR, and the word of `struct user` and the
/// value which make the kernel restart it: its own code -ERESTARTNOHAND (include/linux/errno.h) in
/// rax. `arch_do_signal_or_restart` looks at it when the thread goes on, and does the right thing in
/// both cases: it runs the call again, or, if a signal with a handler came, returns the EINTR that
/// the application must then see. Moving rip back ourselves would swallow that one: tried, and
/// `a_signal_still_ends_a_call_that_a_dump_repeats` lost a wake-up of `epoll_pwait` within ten rounds.
pub fn restart(words: &[u64]) -> Option<(i64, usize, u64)> {
    const EINTR: u64 = -4i64 as u64;
    const ERESTARTNOHAND: u64 = -514i64 as u64;
    let call = call(words)?;
    (word(words, RAX) == EINTR).then_some((call.number, RAX * 8, ERESTARTNOHAND))
}

/// The instruction before `program_counter`: `syscall`.
pub const SYSCALL: &[u8] = &[0x0f, 0x05];

/// Offset in words of the general registers in a signal handler's `ucontext_t`: after flags, link
/// and stack (asm-generic/ucontext.h) comes `struct sigcontext` (asm/sigcontext.h).
pub const CONTEXT: usize = 5;
/// Words of it that matter: r8 … r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
pub const CONTEXT_WORDS: usize = 17;
const CONTEXT_RAX: usize = 13;
const CONTEXT_RSP: usize = 15;
const CONTEXT_RIP: usize = 16;
const CONTEXT_DWARF_ORDER: [usize; 17] =
    [CONTEXT_RAX, 12, 14, 11, 9, 8, 10, CONTEXT_RSP, 0, 1, 2, 3, 4, 5, 6, 7, CONTEXT_RIP];

/// All registers of an interrupted thread.
pub fn registers_of_context(words: &[u64]) -> Registers {
    in_dwarf_order(words, &CONTEXT_DWARF_ORDER)
}

/// The stack pointer of an interrupted thread.
pub fn stack_pointer_of_context(words: &[u64]) -> u64 {
    word(words, CONTEXT_RSP)
}

/// The program counter of an interrupted thread.
pub fn program_counter_of_context(words: &[u64]) -> u64 {
    word(words, CONTEXT_RIP)
}

/// The number of a call that the signal has just cut with EINTR, if the seven bytes of `code` before
/// the program counter are `mov eax, imm32; syscall` and thus tell it.
pub fn cut_call(words: &[u64], code: [u8; 7]) -> Option<i64> {
    let [0xb8, a, b, c, d, 0x0f, 0x05] = code else { return None };
    let number = i64::from(u32::from_le_bytes([a, b, c, d]));
    (word(words, CONTEXT_RAX) as i64 == -4).then_some(number)
}

/// Moves an interrupted thread back to the start of its call `number`: the two words to write, as
/// index and value.
pub fn rewound(words: &[u64], number: i64) -> [(usize, u64); 2] {
    [(CONTEXT_RAX, number as u64), (CONTEXT_RIP, program_counter_of_context(words).wrapping_sub(2))]
}

/// The calling function's own registers; valid for its frame only while it has not returned.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn own() -> Registers {
    let mut words = [0u64; 8];
    // SAFETY: stores eight registers into `words` and changes no other memory and only rax.
    unsafe {
        std::arch::asm!(
            "lea rax, [rip]", "mov [{w}], rax", "mov [{w} + 8], rsp", "mov [{w} + 16], rbp", "mov [{w} + 24], rbx",
            "mov [{w} + 32], r12", "mov [{w} + 40], r13", "mov [{w} + 48], r14", "mov [{w} + 56], r15",
            w = in(reg) words.as_mut_ptr(), out("rax") _, options(nostack, preserves_flags),
        );
    }
    let mut registers = Registers::unknown();
    for (number, value) in [16, 7, 6, 3, 12, 13, 14, 15].into_iter().zip(words) {
        registers.set(number, value);
    }
    registers
}

// A handler's way back to the kernel. Byte for byte the restorer of glibc, by which debuggers and
// libgcc recognise a signal frame.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .text.manhole_restorer, \"ax\", @progbits",
    ".hidden manhole_signal_restorer",
    ".globl manhole_signal_restorer",
    ".type manhole_signal_restorer, @function",
    "nop",
    "manhole_signal_restorer:",
    "mov rax, 15",
    "syscall",
    ".size manhole_signal_restorer, . - manhole_signal_restorer",
    ".popsection",
);

#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    fn manhole_signal_restorer();
}

/// The address for `sa_restorer`; the kernel of this architecture insists on one.
#[cfg(target_arch = "x86_64")]
pub fn restorer() -> Option<usize> {
    Some(manhole_signal_restorer as *const () as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_cut_by_eintr_is_told_from_others() {
        let mut words = [0u64; WORDS];
        words[RAX] = -4i64 as u64;
        words[ORIG_RAX] = 232;
        assert_eq!(restart(&words), Some((232, 80, -514i64 as u64)));
        words[RAX] = -516i64 as u64;
        assert_eq!(restart(&words), None, "the kernel restarts this one by itself");
        words[RAX] = -4i64 as u64;
        words[ORIG_RAX] = u64::MAX;
        assert_eq!(restart(&words), None, "not in a call");
    }

    #[test]
    fn the_number_of_a_cut_call_stands_before_it() {
        let mut words = [0u64; CONTEXT_WORDS];
        words[CONTEXT_RAX] = -4i64 as u64;
        assert_eq!(cut_call(&words, [0xb8, 0xe8, 0, 0, 0, 0x0f, 0x05]), Some(232));
        assert_eq!(cut_call(&words, [0x48, 0xe8, 0, 0, 0, 0x0f, 0x05]), None);
        words[CONTEXT_RAX] = 0;
        assert_eq!(cut_call(&words, [0xb8, 0xe8, 0, 0, 0, 0x0f, 0x05]), None);
    }
}
