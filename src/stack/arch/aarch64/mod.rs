//! aarch64: DWARF register numbers (DWARF for the Arm 64-bit Architecture, section 4.1), call sites,
//! PLT entries, signal frames.
//!
//! Context: as [`super`]. The return address column of a frame is x30; the unwinder moves it to
//! [`PC`] when it steps to the caller.

mod instruction;

use super::{Arch, CallSite, Effect};

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

/// Where the signal frame, to which sp points at the trampoline, holds each register: behind siginfo
/// (128) and the head of ucontext (176) stand the fault address (8), x0 to x30, sp and pc
/// (arch/arm64/include/uapi/asm/sigcontext.h).
#[expect(clippy::indexing_slicing, reason = "worked out by the compiler, which checks it")]
const SIGNAL_FRAME: &[(u16, u16)] = &{
    let mut table = [(0, 0); 33];
    let mut number = 0;
    while number < table.len() {
        table[number] = (number as u16, 312 + 8 * number as u16);
        number += 1;
    }
    table
};

/// The architecture.
pub struct Aarch64;
/// See [`super::Native`].
pub type Native = Aarch64;

/// The 32-bit instruction at byte `at` of `code`.
fn word(code: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(code.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// `value`'s low `bits` bits, sign-extended.
fn signed(value: u32, bits: u32) -> i64 {
    i64::from(((value << (32 - bits)) as i32) >> (32 - bits))
}

impl Arch for Aarch64 {
    const FP: u16 = FP;
    const SP: u16 = SP;
    const PC: u16 = PC;
    const CALLEE_SAVED: u64 = 0x7ff << 19;
    const RETURN_IN_REGISTER: bool = true;
    const CALL_BYTES: usize = 4;
    const VENDOR: gimli::Vendor = gimli::Vendor::AArch64;

    /// User addresses have 48 bits (52 only where the program asks `mmap` for them by a hint); above
    /// them stand the authentication code and the tag.
    fn code_address(value: u64) -> u64 {
        value & ((1 << 48) - 1)
    }

    /// `bl`, `blr`, and the authenticating `blra*`.
    fn call_before(before: &[u8], return_address: u64) -> Option<CallSite> {
        let call = word(before, before.len().checked_sub(4)?)?;
        if call >> 26 == 0b100101 {
            let target = return_address.wrapping_add((signed(call, 26) * 4 - 4) as u64);
            return Some(CallSite { target: Some(target), slot: None });
        }
        let register = call & 0xffff_fc1f == 0xd63f_0000 || call & 0xfeff_f800 == 0xd63f_0800;
        register.then(CallSite::default)
    }

    /// `[bti c] adrp x16, page; ldr x17, [x16, #offset]; …; br x17`.
    fn stub_slot(code: &[u8], address: u64) -> Option<u64> {
        let at = if word(code, 0)? == 0xd503_245f { 4 } else { 0 };
        let (page, load) = (word(code, at)?, word(code, at + 4)?);
        if page & 0x9f00_001f != 0x9000_0010 || load & 0xffc0_03ff != 0xf940_0211 {
            return None;
        }
        let pages = signed((page >> 5 & 0x7_ffff) << 2 | page >> 29 & 3, 21);
        let base = (address.wrapping_add(at as u64) & !0xfff).wrapping_add((pages << 12) as u64);
        Some(base.wrapping_add(u64::from(load >> 10 & 0xfff) * 8))
    }

    /// `mov x8, #139; svc #0`. The vdso's call frame information leads from here to the caller of the
    /// interrupted function, past that function itself; so it is never used.
    fn signal_frame(code: &[u8]) -> Option<&'static [(u16, u16)]> {
        (word(code, 0)? == 0xd280_1168 && word(code, 4)? == 0xd400_0001).then_some(SIGNAL_FRAME)
    }

    fn decode(code: &[u8]) -> Option<(usize, Effect)> {
        Some((4, instruction::effect(word(code, 0)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_seen_and_nothing_else() {
        let site = |word: u32| Aarch64::call_before(&word.to_le_bytes(), 0x1000);
        assert_eq!(site(0x9400_0004).unwrap().target, Some(0x100c)); // bl .+16
        assert_eq!(site(0x97ff_ffff).unwrap().target, Some(0xff8)); // bl .-4
        assert_eq!(site(0xd63f_0100), Some(CallSite::default())); // blr x8
        assert_eq!(site(0xd63f_081f), Some(CallSite::default())); // blraaz x0
        assert_eq!(site(0xd65f_03c0), None); // ret
        assert_eq!(site(0x1400_0004), None); // b
        assert_eq!(Aarch64::code_address(0x00d5_7f12_3456_7890), 0x7f12_3456_7890);
    }

    #[test]
    fn plt_entries_name_their_slot() {
        // adrp x16, .+0x11000; ldr x17, [x16, #0x10]
        let entry: Vec<u8> = [0xb000_0090u32, 0xf940_0a11].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(Aarch64::stub_slot(&entry, 0x2350), Some(0x13010));
    }
}
