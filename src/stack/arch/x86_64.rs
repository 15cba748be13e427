//! x86-64: DWARF register numbers (psABI, figure 3.36).

/// How many registers unwinding follows: the sixteen general ones and the return address column.
pub const REGISTERS: usize = 17;
/// rbp.
pub const FP: u16 = 6;
/// rsp.
pub const SP: u16 = 7;
/// The return address column, which stands for rip.
pub const PC: u16 = 16;
/// Registers that a call preserves: rbx, rbp, r12 to r15.
pub const CALLEE_SAVED: &[u16] = &[3, 6, 12, 13, 14, 15];

/// The name of a DWARF register number.
pub fn register_name(number: u16) -> &'static str {
    const NAMES: [&str; REGISTERS] = [
        "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "rip",
    ];
    NAMES.get(usize::from(number)).copied().unwrap_or("an unknown register")
}
