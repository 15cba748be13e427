//! What an aarch64 instruction does to sp.
//!
//! Context: as [`super`]. Instructions are words, so there is no length to find; what may write sp
//! and is not one of the forms that compilers use is [`Effect::Unpredictable`].

use super::super::Effect;

const SP: u32 = 31;
const FP: u32 = 29;

/// The effect of one instruction (Arm ARM, section C4.1).
pub(super) fn effect(word: u32) -> Effect {
    let (to, base) = (word & 31, word >> 5 & 31);
    // Add and subtract (immediate), 64-bit, without flags: register 31 is sp in both places.
    if word & 0xbf80_0000 == 0x9100_0000 {
        let amount = u64::from(word >> 10 & 0xfff) << if word & 1 << 22 != 0 { 12 } else { 0 };
        let subtracts = word & 1 << 30 != 0;
        return match (to, base, subtracts) {
            (SP, SP, true) => Effect::Lower(amount),
            (SP, SP, false) | (SP, FP, _) => Effect::Raise,
            (SP, _, _) => Effect::Unpredictable,
            (FP, SP, false) => Effect::SetFrame(amount),
            _ => Effect::Nothing,
        };
    }
    // Other additions and logic that can name sp as destination: the 32-bit forms, extended register, logical immediate.
    let extended = word & 0x1fe0_0000 == 0x0b20_0000;
    let immediate = word & 0x1f80_0000 == 0x1100_0000;
    let logical = word & 0x1f80_0000 == 0x1200_0000;
    let sets_flags = if logical { word >> 29 & 3 == 3 } else { word & 1 << 29 != 0 };
    if (extended || immediate || logical) && to == SP && !sets_flags {
        return Effect::Unpredictable;
    }
    // Loads and stores that write their base back: pairs (bit 23 set, not the no-allocate and offset
    // forms), and single registers with a 9-bit offset, pre- or post-indexed.
    let pair = word & 0x3a00_0000 == 0x2800_0000 && word & 1 << 23 != 0;
    let single = word & 0x3b20_0000 == 0x3800_0000 && word >> 10 & 1 == 1;
    if base == SP && (pair || single) {
        return written_back(word, pair);
    }
    // Structure loads and stores, post-indexed; memory tagging and authenticated loads with write-back.
    let structure = word & 0xbe80_0000 == 0x0c80_0000;
    let tagging = word & 0xff20_0000 == 0xd920_0000 && word >> 10 & 3 != 2;
    let authenticated = word & 0xff20_0c00 == 0xf820_0c00;
    if base == SP && (structure || tagging || authenticated) {
        return Effect::Unpredictable;
    }
    branch(word)
}

/// A load or store that moves sp: down with a store before it, up with a load.
fn written_back(word: u32, pair: bool) -> Effect {
    let amount = if pair {
        let scale = match (word >> 26 & 1, word >> 30) {
            (0, size) => 2 + (size >> 1),
            (_, size) => 2 + size,
        };
        super::signed(word >> 15, 7) << scale
    } else {
        super::signed(word >> 12, 9)
    };
    let before = if pair { word & 1 << 24 != 0 } else { word >> 11 & 1 == 1 };
    if amount >= 0 {
        Effect::Raise
    } else if before {
        Effect::Lower(amount.unsigned_abs())
    } else {
        Effect::Unpredictable
    }
}

fn branch(word: u32) -> Effect {
    let direct = word & 0x7c00_0000 == 0x1400_0000;
    let conditional = word & 0xff00_0000 == 0x5400_0000 || word & 0x7c00_0000 == 0x3400_0000;
    let register = word & 0xfe00_0000 == 0xd600_0000;
    if direct && word >> 31 == 1 || conditional {
        Effect::Branch
    } else if direct {
        Effect::Leave
    } else if register {
        // opc, bits 24 to 21: 1 and 9 link, everything else goes for good.
        if matches!(word >> 21 & 15, 1 | 9) { Effect::Branch } else { Effect::Leave }
    } else {
        Effect::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Effect::*;
    use super::*;

    #[test]
    fn prologues_and_epilogues_are_followed() {
        for (word, expected) in [
            (0xa9bf_7bfdu32, Lower(16)),  // stp x29, x30, [sp, #-16]!
            (0xd100_c3ff, Lower(48)),     // sub sp, sp, #48
            (0xa902_7bfd, Nothing),       // stp x29, x30, [sp, #32]
            (0x9100_83fd, SetFrame(32)),  // add x29, sp, #32
            (0x9100_03fd, SetFrame(0)),   // mov x29, sp
            (0xf81f_0ff3, Lower(16)),     // str x19, [sp, #-16]!
            (0xa8c1_7bfd, Raise),         // ldp x29, x30, [sp], #16
            (0xf841_07f3, Raise),         // ldr x19, [sp], #16
            (0x9100_c3ff, Raise),         // add sp, sp, #48
            (0x9100_03bf, Raise),         // mov sp, x29
            (0xd100_43bf, Raise),         // sub sp, x29, #16
            (0xcb20_63ff, Unpredictable), // sub sp, sp, x0
            (0x9100_001f, Unpredictable), // mov sp, x0
            (0x927c_ec1f, Unpredictable), // and sp, x0, #-16
            (0xf940_07e0, Nothing),       // ldr x0, [sp, #8]
            (0xeb20_63ff, Nothing),       // cmp sp, x0
            (0xd400_0001, Nothing),       // svc #0
            (0x9400_0001, Branch),        // bl
            (0xd63f_0100, Branch),        // blr x8
            (0x5400_0040, Branch),        // b.eq
            (0xb400_0040, Branch),        // cbz x0
            (0x1400_0002, Leave),         // b
            (0xd65f_03c0, Leave),         // ret
            (0xd61f_0200, Leave),         // br x16
        ] {
            assert_eq!(effect(word), expected, "{word:08x}");
        }
    }
}
