//! x86-64, in AT&T's syntax, gdb's default.

#![forbid(unsafe_code)]

use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter, OpKind, Register};

use super::{Instruction, Target};

/// Bytes of the longest instruction.
pub const LONGEST: usize = 15;

/// The first instruction of `code`, which lies at `address`; `None` where `code` is cut off before its end.
pub fn decode(code: &[u8], address: u64) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        // As gdb: it goes on at the next byte.
        let is_cut = code.is_empty() || decoder.last_error() == iced_x86::DecoderError::NoMoreBytes;
        return (!is_cut).then(|| Instruction { length: 1, text: "(bad)".to_owned(), target: None });
    }
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_rip_relative_addresses(true);
    options.set_uppercase_hex(false);
    options.set_small_hex_numbers_in_decimal(false);
    options.set_branch_leading_zeros(false);
    options.set_show_zero_displacements(true);
    options.set_always_show_scale(instruction.memory_index() != Register::None);
    // Mnemonics in a column of six, as binutils has them.
    options.set_first_operand_char_index(7);
    let mut text = String::new();
    formatter.format(&instruction, &mut text);
    // binutils has no size behind these since 2.37: there is but one.
    for (sized, plain) in [("callq  *", "call   *"), ("jmpq   *", "jmp    *")] {
        if let Some(operand) = text.strip_prefix(sized) {
            text = format!("{plain}{operand}");
        }
    }
    let branches = matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
    let target = if branches {
        Some(Target::Shown(instruction.near_branch_target()))
    } else {
        instruction.is_ip_rel_memory_operand().then(|| Target::Computed(instruction.ip_rel_memory_address()))
    };
    Some(Instruction { length: instruction.len(), text, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_gdb_shows_them() {
        let at = 0x1000;
        for (code, text, target) in [
            (&[0xf3, 0x0f, 0x1e, 0xfa][..], "endbr64", None),
            (&[0xe8, 0xfb, 0x0f, 0, 0], "call   0x2000", Some(Target::Shown(0x2000))),
            (&[0x74, 0x0e], "je     0x1010", Some(Target::Shown(0x1010))),
            (&[0x48, 0x8b, 0x05, 0xf9, 0x0f, 0, 0], "mov    0xff9(%rip),%rax", Some(Target::Computed(0x2000))),
            (&[0xff, 0x25, 0xfa, 0x0f, 0, 0], "jmp    *0xffa(%rip)", Some(Target::Computed(0x2000))),
            (&[0x41, 0xff, 0x56, 0x38], "call   *0x38(%r14)", None),
            (&[0x0f, 0x1f, 0x04, 0x00], "nopl   (%rax,%rax,1)", None),
            (&[0x0f, 0x1f, 0x40, 0x00], "nopl   0x0(%rax)", None),
            (&[0x48, 0x83, 0xec, 0x18], "sub    $0x18,%rsp", None),
            (&[0xc5, 0xf9, 0xef, 0xc0], "vpxor  %xmm0,%xmm0,%xmm0", None),
        ] {
            let expected = Instruction { length: code.len(), text: text.to_owned(), target };
            assert_eq!(decode(code, at), Some(expected));
        }
        // push %es, which 64 bits do not have.
        let bad = Instruction { length: 1, text: "(bad)".to_owned(), target: None };
        assert_eq!(decode(&[0x06, 0x90, 0x90], at), Some(bad));
        assert_eq!(decode(&[0xe8, 1], at), None);
        assert_eq!(decode(&[], at), None);
    }

    #[test]
    fn any_bytes_are_something() {
        let mut seed = 1u64;
        let mut byte = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u8
        };
        for _ in 0..20_000 {
            let code: [u8; 16] = std::array::from_fn(|_| byte());
            let found = decode(&code, u64::MAX - 3).expect("whole");
            assert!((1..=LONGEST).contains(&found.length) && !found.text.is_empty());
        }
    }
}
