//! aarch64: DWARF register numbers (DWARF for the Arm 64-bit Architecture, section 4.1).
//!
//! The program counter has number 32 there; the return address column of a frame is x30, and the
//! unwinder moves it to [`PC`] when it steps to the caller.

/// How many registers unwinding follows: x0 to x30, sp, pc and the pointer-authentication state (34).
pub const REGISTERS: usize = 35;
/// x29.
pub const FP: u16 = 29;
/// sp.
pub const SP: u16 = 31;
/// pc.
pub const PC: u16 = 32;
/// Registers that a call preserves: x19 to x29.
pub const CALLEE_SAVED: &[u16] = &[19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29];

/// The name of a DWARF register number.
pub fn register_name(number: u16) -> &'static str {
    const NAMES: [&str; 33] = [
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16",
        "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30", "sp", "pc",
    ];
    NAMES.get(usize::from(number)).copied().unwrap_or("an unknown register")
}
