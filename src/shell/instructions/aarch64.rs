//! aarch64, in Arm's syntax.

#![forbid(unsafe_code)]

use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::{InstDecoder, Opcode, Operand};

use super::{Instruction, Target};

/// Bytes of every instruction.
pub const LONGEST: usize = 4;

/// The first instruction of `code`, which lies at `address`; `None` where `code` is cut off before its end.
pub fn decode(code: &[u8], address: u64) -> Option<Instruction> {
    let code = code.get(..LONGEST)?;
    let Ok(instruction) = InstDecoder::default().decode(&mut U8Reader::new(code)) else {
        return Some(Instruction { length: LONGEST, text: "undefined".to_owned(), target: None });
    };
    let mut text = instruction.to_string();
    let offset = instruction.operands.iter().find_map(|operand| match operand {
        Operand::PCOffset(offset) => Some((*offset, operand.to_string())),
        _ => None,
    });
    let target = offset.map(|(offset, shown)| {
        // adrp counts in pages.
        let from = if instruction.opcode == Opcode::ADRP { address & !4095 } else { address };
        let target = from.wrapping_add_signed(offset);
        text = text.replacen(&shown, &format!("{target:#x}"), 1);
        Target::Shown(target)
    });
    Some(Instruction { length: LONGEST, text, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_that_are_addresses_are_named() {
        let at = 0x1_2340;
        for (word, text, target) in [
            (0xd503_201fu32, "nop", None),
            (0x9400_0004, "bl 0x12350", Some(0x1_2350)),
            (0x17ff_ffff, "b 0x1233c", Some(0x1_233c)),
            (0xb000_0000, "adrp x0, 0x13000", Some(0x1_3000)),
            (0x5400_0040, "b.eq 0x12348", Some(0x1_2348)),
            (0xd65f_03c0, "ret", None),
        ] {
            let expected = Instruction { length: 4, text: text.to_owned(), target: target.map(Target::Shown) };
            assert_eq!(decode(&word.to_le_bytes(), at), Some(expected));
        }
        assert_eq!(decode(&[0, 0, 0], at), None);
    }

    #[test]
    fn any_word_is_something() {
        let mut word = 1u32;
        for _ in 0..50_000 {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            assert!(!decode(&word.to_le_bytes(), u64::MAX - 3).expect("whole").text.is_empty());
        }
    }
}
