//! How long an x86-64 instruction is, and what it does to rsp.
//!
//! Context: as [`super`]. Enough of the opcode maps (Intel SDM volume 2, appendix A) to walk over
//! compiled code; where the length or the effect is not certain the answer is `None`, and the caller
//! gives up: a wrong length would be a wrong frame.

use super::super::Effect;
use super::DWARF;

/// Number of rsp in ModRM fields.
const RSP: u8 = 4;

/// The prefixes that matter.
#[derive(Clone, Copy, Default)]
struct Prefixes {
    operand16: bool,
    address32: bool,
    rep: bool,
    /// 0 when there is none.
    rex: u8,
}

impl Prefixes {
    fn wide(self) -> bool {
        self.rex & 8 != 0
    }
    /// REX.R and REX.B, ready to be added to a ModRM field.
    fn reg(self) -> u8 {
        (self.rex & 4) << 1
    }
    fn base(self) -> u8 {
        (self.rex & 1) << 3
    }
}

/// ModRM, with its fields extended by REX.
#[derive(Clone, Copy)]
struct ModRm {
    /// Bytes of ModRM, SIB and displacement.
    length: usize,
    mode: u8,
    reg: u8,
    rm: u8,
    /// The opcode extension: `reg` without REX.R.
    operation: u8,
}

impl ModRm {
    fn parse(code: &[u8], prefixes: Prefixes) -> Option<Self> {
        let byte = *code.first()?;
        let (mode, reg, rm) = (byte >> 6, byte >> 3 & 7, byte & 7);
        let mut length = 1;
        if mode != 3 {
            let mut base = rm;
            if rm == 4 {
                base = *code.get(1)? & 7;
                length += 1;
            }
            length += match mode {
                0 if base == 5 => 4,
                0 => 0,
                1 => 1,
                _ => 4,
            };
        }
        Some(Self { length, mode, reg: reg | prefixes.reg(), rm: rm | prefixes.base(), operation: reg })
    }

    fn is_register(self) -> bool {
        self.mode == 3
    }

    /// The operand that `rm` names is rsp itself.
    fn rm_is_rsp(self) -> bool {
        self.is_register() && self.rm == RSP
    }
}

/// See [`super::Arch::decode`].
pub(super) fn decode(code: &[u8]) -> Option<(usize, Effect)> {
    let mut prefixes = Prefixes::default();
    let mut at = 0;
    loop {
        match *code.get(at)? {
            0x66 => prefixes.operand16 = true,
            0x67 => prefixes.address32 = true,
            0xf3 => prefixes.rep = true,
            0xf2 | 0xf0 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 => {}
            _ => break,
        }
        at += 1;
    }
    if let rex @ 0x40..=0x4f = *code.get(at)? {
        prefixes.rex = rex;
        at += 1;
    }
    let opcode = *code.get(at)?;
    let rest = code.get(at + 1..)?;
    let (length, effect) = match opcode {
        0x0f => two_byte(rest, prefixes)?,
        0xc4 | 0xc5 | 0x62 => vector(opcode, rest)?,
        _ => one_byte(opcode, rest, prefixes)?,
    };
    let length = at + 1 + length;
    // 15 bytes is the architecture's limit.
    (length <= code.len().min(15)).then_some((length, effect))
}

fn unless(writes_rsp: bool) -> Effect {
    if writes_rsp { Effect::Unpredictable } else { Effect::Nothing }
}

/// The one-byte map: length behind the opcode, and effect.
fn one_byte(opcode: u8, rest: &[u8], prefixes: Prefixes) -> Option<(usize, Effect)> {
    use Effect::{Branch, Leave, Nothing, Push, Raise, Unpredictable};
    let immediate = if prefixes.operand16 && !prefixes.wide() { 2 } else { 4 };
    let with_modrm = |more: usize, effect: &dyn Fn(ModRm) -> Effect| {
        let modrm = ModRm::parse(rest, prefixes)?;
        Some((modrm.length + more, effect(modrm)))
    };
    let register = opcode & 7 | prefixes.base();
    match opcode {
        // add, or, adc, sbb, and, sub, xor, cmp in their six forms.
        0x00..=0x3f => match opcode & 7 {
            low @ 0..=3 => with_modrm(0, &|modrm| {
                let byte_without_rex = low & 1 == 0 && prefixes.rex == 0;
                let written = if low < 2 { modrm.rm_is_rsp() } else { modrm.reg == RSP };
                unless(written && opcode < 0x38 && !byte_without_rex)
            }),
            4 => Some((1, Nothing)),
            5 => Some((immediate, Nothing)),
            _ => None,
        },
        0x50..=0x57 => Some((0, Push(*DWARF.get(usize::from(register))?))),
        0x58..=0x5f => Some((0, if register == RSP { Unpredictable } else { Raise })),
        0x63 => with_modrm(0, &|modrm| unless(modrm.reg == RSP)),
        0x68 => Some((immediate, Unpredictable)),
        0x69 => with_modrm(immediate, &|modrm| unless(modrm.reg == RSP)),
        0x6a => Some((1, Unpredictable)),
        0x6b => with_modrm(1, &|modrm| unless(modrm.reg == RSP)),
        0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf => Some((0, Nothing)),
        0x70..=0x7f | 0xe0..=0xe3 => Some((1, Branch)),
        0x80 => with_modrm(1, &|modrm| unless(modrm.rm_is_rsp() && modrm.operation != 7 && prefixes.rex != 0)),
        0x81 | 0x83 => {
            let modrm = ModRm::parse(rest, prefixes)?;
            let size = if opcode == 0x83 { 1 } else { immediate };
            let bytes = rest.get(modrm.length..modrm.length + size)?;
            Some((modrm.length + size, arithmetic(modrm, bytes, prefixes)))
        }
        0x84 | 0x85 => with_modrm(0, &|_| Nothing),
        0x86 | 0x87 => with_modrm(0, &|modrm| unless(modrm.rm_is_rsp() || modrm.reg == RSP)),
        0x88 => with_modrm(0, &|modrm| unless(modrm.rm_is_rsp() && prefixes.rex != 0)),
        0x89 | 0x8b => with_modrm(0, &|modrm| {
            let (to, from) = if opcode == 0x89 { (modrm.rm, modrm.reg) } else { (modrm.reg, modrm.rm) };
            match (modrm.is_register(), to, from) {
                (true, 5, RSP) if prefixes.wide() => Effect::SetFrame(0),
                // mov %rbp, %rsp: the first half of `leave`.
                (true, RSP, 5) if prefixes.wide() => Raise,
                (true, _, _) => unless(to == RSP),
                (false, _, _) => unless(opcode == 0x8b && to == RSP),
            }
        }),
        0x8a => with_modrm(0, &|modrm| unless(modrm.reg == RSP && prefixes.rex != 0)),
        0x8c => with_modrm(0, &|modrm| unless(modrm.rm_is_rsp())),
        0x8d => with_modrm(0, &|modrm| match modrm.reg {
            // lea -N(%rbp), %rsp: back to the saved registers.
            RSP if modrm.rm == 5 && modrm.mode != 0 && prefixes.wide() => Raise,
            register => unless(register == RSP),
        }),
        0x8e => with_modrm(0, &|_| Nothing),
        0x8f => with_modrm(0, &|_| Unpredictable).filter(|_| rest.first().is_some_and(|modrm| modrm >> 3 & 7 == 0)),
        0x90..=0x97 => Some((0, unless(register == RSP))),
        0x98 | 0x99 | 0x9b | 0x9e | 0x9f => Some((0, Nothing)),
        0x9c | 0x9d => Some((0, Unpredictable)),
        0xa0..=0xa3 => Some((if prefixes.address32 { 4 } else { 8 }, Nothing)),
        0xa8 => Some((1, Nothing)),
        0xa9 => Some((immediate, Nothing)),
        0xb0..=0xb7 => Some((1, unless(register == RSP && prefixes.rex != 0))),
        0xb8..=0xbf => Some((if prefixes.wide() { 8 } else { immediate }, unless(register == RSP))),
        0xc0 | 0xc1 => with_modrm(1, &|modrm| unless(modrm.rm_is_rsp())),
        0xc2 | 0xca => Some((2, Leave)),
        0xc3 | 0xcb | 0xcf | 0xf4 => Some((0, Leave)),
        0xc6 => with_modrm(1, &|modrm| unless(modrm.rm_is_rsp() && prefixes.rex != 0)),
        0xc7 => with_modrm(immediate, &|modrm| unless(modrm.rm_is_rsp())),
        0xc8 => Some((3, Unpredictable)),
        0xc9 => Some((0, Raise)),
        0xcc | 0xd7 | 0xf5 | 0xf8..=0xfd => Some((0, Nothing)),
        0xcd | 0xe4..=0xe7 => Some((1, Nothing)),
        0xd0..=0xd3 => with_modrm(0, &|modrm| unless(modrm.rm_is_rsp())),
        0xd8..=0xdf => with_modrm(0, &|_| Nothing),
        0xe8 => Some((4, Branch)),
        0xe9 => Some((4, Leave)),
        0xeb => Some((1, Leave)),
        0xec..=0xef => Some((0, Nothing)),
        0xf6 | 0xf7 => {
            let modrm = ModRm::parse(rest, prefixes)?;
            let test = if modrm.operation > 1 { 0 } else { if opcode == 0xf6 { 1 } else { immediate } };
            Some((modrm.length + test, unless(modrm.rm_is_rsp() && matches!(modrm.operation, 2 | 3))))
        }
        0xfe => with_modrm(0, &|modrm| unless(modrm.rm_is_rsp())).filter(|_| modrm_operation(rest) < 2),
        0xff => match modrm_operation(rest) {
            0 | 1 => with_modrm(0, &|modrm| unless(modrm.rm_is_rsp())),
            2 => with_modrm(0, &|_| Branch),
            4 => with_modrm(0, &|_| Leave),
            6 => with_modrm(0, &|_| Unpredictable),
            _ => None,
        },
        _ => None,
    }
}

fn modrm_operation(rest: &[u8]) -> u8 {
    rest.first().map_or(7, |modrm| modrm >> 3 & 7)
}

/// 81 and 83: arithmetic with an immediate, sign-extended.
fn arithmetic(modrm: ModRm, bytes: &[u8], prefixes: Prefixes) -> Effect {
    if !modrm.rm_is_rsp() || modrm.operation == 7 {
        return Effect::Nothing;
    }
    let immediate = match *bytes {
        [byte] => i64::from(byte as i8),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        _ => return Effect::Unpredictable,
    };
    let lowered = match modrm.operation {
        _ if !prefixes.wide() => return Effect::Unpredictable,
        0 => -immediate,
        5 => immediate,
        _ => return Effect::Unpredictable,
    };
    if lowered >= 0 { Effect::Lower(lowered as u64) } else { Effect::Raise }
}

/// The two- and three-byte maps behind 0F.
fn two_byte(rest: &[u8], prefixes: Prefixes) -> Option<(usize, Effect)> {
    let opcode = *rest.first()?;
    let behind = rest.get(1..)?;
    match opcode {
        0x38 | 0x3a => {
            let third = *behind.first()?;
            let modrm = ModRm::parse(behind.get(1..)?, prefixes)?;
            let general = if opcode == 0x38 { third >= 0xf0 } else { matches!(third, 0x14..=0x17) };
            let written = general && (modrm.reg == RSP || modrm.rm_is_rsp());
            Some((2 + modrm.length + usize::from(opcode == 0x3a), unless(written)))
        }
        0x05 | 0x06 | 0x08 | 0x09 | 0x0b | 0x30..=0x33 | 0x77 | 0xa2 => Some((1, Effect::Nothing)),
        0x80..=0x8f => Some((5, Effect::Branch)),
        0xc8..=0xcf => Some((1, unless(opcode & 7 | prefixes.base() == RSP))),
        0xa0 | 0xa1 | 0xa8 | 0xa9 => Some((1, Effect::Unpredictable)),
        0x04 | 0x07 | 0x0a | 0x0c | 0x0e | 0x0f | 0x20..=0x27 | 0x34..=0x3f | 0xa6 | 0xa7 | 0xaa => None,
        _ => {
            let modrm = ModRm::parse(behind, prefixes)?;
            let immediate = usize::from(has_immediate(opcode));
            // Hint no-operations, endbr64 among them; with F3 0F 1E, register forms read the shadow stack pointer.
            let hint = matches!(opcode, 0x18..=0x1f)
                && (opcode != 0x1e || !prefixes.rep || matches!(behind.first(), Some(0xfa | 0xfb)));
            let written = !hint && !vector_only(opcode) && (modrm.reg == RSP || modrm.rm_is_rsp());
            Some((1 + modrm.length + immediate, unless(written)))
        }
    }
}

/// Opcodes of the 0F map with an immediate byte.
fn has_immediate(opcode: u8) -> bool {
    matches!(opcode, 0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4 | 0xc5 | 0xc6)
}

/// Opcodes of the 0F map that write a vector register, flags or memory, and never a general register.
fn vector_only(opcode: u8) -> bool {
    matches!(opcode, 0x10..=0x17 | 0x28..=0x2b | 0x2e | 0x2f | 0x51..=0x76 | 0x7c | 0x7d | 0x7f
                   | 0xc2..=0xc4 | 0xc6 | 0xd0..=0xd6 | 0xd8..=0xff)
}

/// VEX (C4, C5) and EVEX (62) instructions: `rest` starts behind the first byte.
fn vector(escape: u8, rest: &[u8]) -> Option<(usize, Effect)> {
    let first = *rest.first()?;
    // R, X and B stand inverted in the top bits; the map in the low ones.
    let (payload, map, rex) = match escape {
        0xc5 => (1, 1, if first & 0x80 == 0 { 4 } else { 0 }),
        _ => (if escape == 0xc4 { 2 } else { 3 }, first & if escape == 0xc4 { 0x1f } else { 7 }, !first >> 5 & 7),
    };
    let operand = !*rest.get(payload - if escape == 0x62 { 2 } else { 1 })? >> 3 & 15;
    let opcode = *rest.get(payload)?;
    if map == 1 && opcode == 0x77 {
        return Some((payload + 1, Effect::Nothing));
    }
    let prefixes = Prefixes { rex, ..Prefixes::default() };
    let modrm = ModRm::parse(rest.get(payload + 1..)?, prefixes)?;
    let (immediate, general) = match map {
        1 => (
            has_immediate(opcode),
            matches!(opcode, 0x2c | 0x2d | 0x50 | 0x78 | 0x79 | 0x7e | 0x92 | 0x93 | 0xc5 | 0xd7),
        ),
        2 => (false, opcode >= 0xf0),
        3 => (true, matches!(opcode, 0x14..=0x17 | 0xf0)),
        5 if escape == 0x62 => (false, matches!(opcode, 0x2c | 0x2d | 0x78 | 0x79 | 0x7e)),
        6 if escape == 0x62 => (false, false),
        _ => return None,
    };
    let written = general && (modrm.reg == RSP || modrm.rm_is_rsp() || operand == RSP);
    Some((payload + 1 + modrm.length + usize::from(immediate), unless(written)))
}

#[cfg(test)]
mod tests {
    use super::super::super::Effect::*;
    use super::*;

    #[test]
    fn prologues_and_epilogues_are_followed() {
        for (bytes, effect) in [
            (&[0xf3, 0x0f, 0x1e, 0xfa][..], Nothing),                     // endbr64
            (&[0x55], Push(6)),                                           // push %rbp
            (&[0x41, 0x57], Push(15)),                                    // push %r15
            (&[0x48, 0x89, 0xe5], SetFrame(0)),                           // mov %rsp, %rbp
            (&[0x48, 0x8b, 0xec], SetFrame(0)),                           // the same, other encoding
            (&[0x48, 0x83, 0xec, 0x18], Lower(0x18)),                     // sub $0x18, %rsp
            (&[0x48, 0x81, 0xec, 0, 1, 0, 0], Lower(0x100)),              // sub $0x100, %rsp
            (&[0x48, 0x83, 0xc4, 0x80], Lower(0x80)),                     // add $-0x80, %rsp
            (&[0x48, 0x83, 0xc4, 0x18], Raise),                           // add $0x18, %rsp
            (&[0x48, 0x83, 0xe4, 0xe0], Unpredictable),                   // and $-32, %rsp
            (&[0x48, 0x29, 0xc4], Unpredictable),                         // sub %rax, %rsp
            (&[0x48, 0x89, 0xc4], Unpredictable),                         // mov %rax, %rsp
            (&[0x48, 0x8d, 0x65, 0xd8], Raise),                           // lea -0x28(%rbp), %rsp
            (&[0x48, 0x8d, 0x64, 0x24, 0xd8], Unpredictable),             // lea -0x28(%rsp), %rsp
            (&[0x48, 0x89, 0x64, 0x24, 0x08], Nothing),                   // mov %rsp, 8(%rsp)
            (&[0x48, 0x39, 0xdc], Nothing),                               // cmp %rbx, %rsp
            (&[0x48, 0x83, 0x0c, 0x24, 0x00], Nothing),                   // or $0, (%rsp)
            (&[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0], Nothing),    // mov %fs:0x28, %rax
            (&[0x6a, 0x01], Unpredictable),                               // push $1
            (&[0x66, 0x0f, 0xef, 0xe4], Nothing),                         // pxor %xmm4, %xmm4
            (&[0x66, 0x48, 0x0f, 0x7e, 0xc4], Unpredictable),             // movq %xmm0, %rsp
            (&[0xc5, 0xf8, 0x77], Nothing),                               // vzeroupper
            (&[0xc4, 0xe2, 0x7d, 0x18, 0x24, 0x24], Nothing),             // vbroadcastss (%rsp), %ymm4
            (&[0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x64, 0x24, 0x01], Nothing), // vmovdqu64 64(%rsp), %zmm4
            (&[0xc9], Raise),
            (&[0xc3], Leave),
            (&[0xe8, 0, 0, 0, 0], Branch),
            (&[0x0f, 0x84, 0, 0, 0, 0], Branch),
            (&[0xff, 0xe0], Leave),
        ] {
            assert_eq!(decode(bytes), Some((bytes.len(), effect)), "{bytes:x?}");
            assert_eq!(decode(&bytes[..bytes.len() - 1]), None, "cut short: {bytes:x?}");
        }
    }

    /// `MANHOLE_ELF=FILE cargo test --release --lib as_objdump -- --ignored --nocapture`: every instruction
    /// of a file is as long as objdump says, and none that writes rsp passes for harmless.
    #[test]
    #[ignore = "needs objdump and a file"]
    fn as_objdump_reads_it() {
        let file = std::env::var("MANHOLE_ELF").unwrap();
        let output = std::process::Command::new("objdump").args(["-d", "-w", "-j", ".text", &file]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let (mut total, mut undecided, mut wrong) = (0, 0, 0);
        for line in text.lines() {
            let mut fields = line.split('\t');
            let (Some(_), Some(bytes), Some(text)) = (fields.next(), fields.next(), fields.next()) else { continue };
            // objdump shows `fwait` and the instruction behind it as one.
            if text.contains("(bad)") || text.starts_with('.') || bytes.starts_with("9b ") {
                continue;
            }
            let bytes: Vec<u8> = bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
            let mnemonic = text.split_whitespace().next().unwrap();
            let operands = text.split('#').next().unwrap().trim_end();
            let reads_only = ["cmp", "test", "bt", "ucomis", "jmp", "call", "push", "nop"];
            // Multiplication and division by one operand write rax and rdx.
            let one_operand = ["mul", "imul", "div", "idiv"].contains(&mnemonic) && !operands.contains(',');
            let reads_only = one_operand || reads_only.iter().any(|prefix| mnemonic.starts_with(prefix));
            let writes = ["%rsp", "%esp", "%sp", "%spl"].iter().any(|name| operands.ends_with(name)) && !reads_only;
            let moves = ["push", "pop", "leave", "enter"].iter().any(|prefix| mnemonic.starts_with(prefix))
                && !mnemonic.starts_with("popcnt");
            total += 1;
            let bad = match decode(&bytes) {
                None => {
                    undecided += 1;
                    false
                }
                Some((length, effect)) => length != bytes.len() || (writes || moves) && effect == Nothing,
            };
            if bad {
                wrong += 1;
                println!("{line}: {:?}", decode(&bytes));
            }
        }
        println!("{total} instructions, {undecided} undecided");
        assert!(wrong == 0 && total > 0 && undecided < total / 100);
    }
}
