//! x86-64: DWARF register numbers (psABI, figure 3.36), call sites, PLT entries, signal frames.
//!
//! Context: as [`super`].

mod instruction;

use super::{Arch, CallSite, Effect};

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
    const NAMES: [&str; 17] = [
        "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "rip",
    ];
    NAMES.get(usize::from(number)).copied().unwrap_or("an unknown register")
}

/// DWARF numbers of the registers in the order in which instructions number them.
const DWARF: [u16; 16] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];

/// Where `struct ucontext`, to which rsp points at the trampoline, holds each register
/// (arch/x86/include/uapi/asm/sigcontext.h: 40 bytes precede r8).
const SIGNAL_FRAME: &[(u16, u16)] = &[
    (8, 40),
    (9, 48),
    (10, 56),
    (11, 64),
    (12, 72),
    (13, 80),
    (14, 88),
    (15, 96),
    (5, 104),
    (4, 112),
    (6, 120),
    (3, 128),
    (1, 136),
    (0, 144),
    (2, 152),
    (7, 160),
    (16, 168),
];

/// The architecture.
pub struct X86_64;
/// See [`super::Native`].
pub type Native = X86_64;

impl Arch for X86_64 {
    const FP: u16 = FP;
    const SP: u16 = SP;
    const PC: u16 = PC;
    const CALLEE_SAVED: u64 = 1 << 3 | 1 << 6 | 0xf << 12;
    const RETURN_IN_REGISTER: bool = false;
    const CALL_BYTES: usize = 7;
    const VENDOR: gimli::Vendor = gimli::Vendor::Default;

    fn code_address(value: u64) -> u64 {
        value
    }

    /// `call rel32`, or `call` through a register or memory: FF /2 with every form of ModRM. Prefixes
    /// (REX, notrack, bnd) stand before and do not matter.
    fn call_before(before: &[u8], return_address: u64) -> Option<CallSite> {
        let tail = |length: usize| before.get(before.len().checked_sub(length)?..);
        let displaced = |bytes: &[u8; 4]| return_address.wrapping_add(i64::from(i32::from_le_bytes(*bytes)) as u64);
        let mut site = CallSite::default();
        let mut found = false;
        if let Some([0xe8, displacement @ ..]) = tail(5) {
            site.target = displacement.try_into().ok().map(displaced);
            found = true;
        }
        for length in 2..=7 {
            let Some([0xff, modrm, rest @ ..]) = tail(length) else { continue };
            let (mode, operation, memory) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
            if operation != 2 {
                continue;
            }
            let sib = usize::from(mode != 3 && memory == 4);
            let displacement = match mode {
                0 if memory == 5 || sib == 1 && rest.first().is_some_and(|sib| sib & 7 == 5) => 4,
                0 | 3 => 0,
                1 => 1,
                _ => 4,
            };
            if rest.len() != sib + displacement {
                continue;
            }
            found = true;
            if mode == 0 && memory == 5 {
                site.slot = rest.try_into().ok().map(displaced);
            }
        }
        found.then_some(site)
    }

    /// `[endbr64] [bnd] jmp *slot(%rip)`.
    fn stub_slot(code: &[u8], address: u64) -> Option<u64> {
        let mut rest = code;
        rest = rest.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(rest);
        rest = rest.strip_prefix(&[0xf2]).unwrap_or(rest);
        rest = rest.strip_prefix(&[0xff, 0x25])?;
        let displacement = i32::from_le_bytes(rest.get(..4)?.try_into().ok()?);
        let next = address.wrapping_add((code.len() - rest.len() + 4) as u64);
        Some(next.wrapping_add(i64::from(displacement) as u64))
    }

    /// `mov $15, %rax; syscall`: what glibc, musl, bionic and Go use, and what gdb looks for.
    fn signal_frame(code: &[u8]) -> Option<&'static [(u16, u16)]> {
        code.starts_with(&[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05]).then_some(SIGNAL_FRAME)
    }

    fn decode(code: &[u8]) -> Option<(usize, Effect)> {
        instruction::decode(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_call_is_seen_and_nothing_else() {
        let site = |bytes: &[u8]| X86_64::call_before(bytes, 0x1000);
        assert_eq!(site(&[0xe8, 0x10, 0, 0, 0]).unwrap().target, Some(0x1010));
        assert_eq!(site(&[0xff, 0x15, 0xf0, 0xff, 0xff, 0xff]).unwrap().slot, Some(0xff0));
        for call in [
            &[0xff, 0xd0][..],                     // call *%rax
            &[0x41, 0xff, 0xd4],                   // call *%r12
            &[0xff, 0x10],                         // call *(%rax)
            &[0xff, 0x50, 0x18],                   // call *0x18(%rax)
            &[0xff, 0x90, 0, 1, 0, 0],             // call *0x100(%rax)
            &[0xff, 0x14, 0xc3],                   // call *(%rbx,%rax,8)
            &[0xff, 0x54, 0x24, 0x08],             // call *8(%rsp)
            &[0xff, 0x94, 0x24, 0, 1, 0, 0],       // call *0x100(%rsp)
            &[0xff, 0x14, 0xc5, 0, 0, 0, 0],       // call *0(,%rax,8)
            &[0x41, 0xff, 0x94, 0x24, 0, 1, 0, 0], // call *0x100(%r12)
        ] {
            assert_eq!(site(call), Some(CallSite::default()), "{call:x?}");
        }
        for other in [&[0xff, 0xe0][..], &[0xff, 0x25, 0, 0, 0, 0], &[0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90], &[]] {
            assert_eq!(site(other), None, "{other:x?}");
        }
    }

    #[test]
    fn plt_entries_name_their_slot() {
        let entry = [0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0x10, 0, 0, 0, 0x90];
        assert_eq!(X86_64::stub_slot(&entry, 0x1000), Some(0x101b));
        assert_eq!(X86_64::stub_slot(&entry[5..], 0x1005), Some(0x101b));
        assert_eq!(X86_64::stub_slot(&[0xe9, 0, 0, 0, 0, 0], 0x1000), None);
    }
}
