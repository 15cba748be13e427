//! Names of PLT stubs: `name@plt`, from the slot that a stub jumps through and the relocation of that slot.
//!
//! Context: the observer. A stub's position in its section says nothing reliable (`.plt.sec`, `.plt.got`,
//! linkers that reorder): its instructions do.

use super::elf::{Elf, SHT_DYNSYM, SHT_RELA, Section, u32_at, u64_at};

/// Bytes of a stub; the first of a lazy `.plt` is longer on aarch64, and has no name anywhere.
const STUB: u64 = 16;
/// Relocations read at once, and their size: offset, info, addend.
const RELOCATION: usize = 24;
const CHUNK: usize = RELOCATION * 2048;

/// Whether a section holds stubs.
pub fn is_stubs(section: &Section) -> bool {
    matches!(section.name.as_slice(), b".plt" | b".plt.sec" | b".plt.got")
}

/// The name of the function that the stub at `address` leads to, and where the stub starts.
pub fn name(elf: &Elf, stubs: &Section, address: u64) -> Option<(Vec<u8>, u64)> {
    // 8 bytes in `.plt.got`, unless the stubs are landing pads for indirect calls (IBT).
    let size = if stubs.entry_size == STUB / 2 { STUB / 2 } else { STUB };
    let offset = address.checked_sub(stubs.address)? / size * size;
    let start = stubs.address.checked_add(offset)?;
    let mut code = [0; STUB as usize];
    let code = code.get_mut(..size as usize)?;
    let count = elf.read_at(stubs, offset, code);
    let code = code.get(..count)?;
    let slot = x86_64_slot(code, start).or_else(|| aarch64_slot(code, start))?;
    Some((symbol_of_slot(elf, slot)?, start))
}

/// `[endbr64] [bnd] jmp *displacement(%rip)`.
fn x86_64_slot(code: &[u8], start: u64) -> Option<u64> {
    let body = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code);
    let body = body.strip_prefix(&[0xf2]).unwrap_or(body);
    let displacement = u32_at(body.strip_prefix(&[0xff, 0x25])?, 0)?.cast_signed();
    let next = start.checked_add((code.len() - body.len() + 6) as u64)?;
    next.checked_add_signed(i64::from(displacement))
}

/// `[bti c] adrp x16, page; ldr x17, [x16, #offset]`.
fn aarch64_slot(code: &[u8], start: u64) -> Option<u64> {
    let word = |index: usize| u32_at(code, index * 4);
    let first = usize::from(word(0)? == 0xd503_245f);
    let (adrp, load) = (word(first)?, word(first + 1)?);
    if adrp & 0x9f00_001f != 0x9000_0010 || load & 0xffc0_03ff != 0xf940_0211 {
        return None;
    }
    let pages = u64::from(adrp >> 5 & 0x7_ffff) << 2 | u64::from(adrp >> 29 & 3);
    // Sign-extended from 21 bits.
    let distance = ((pages << 43).cast_signed() >> 43) << 12;
    let page = (start + first as u64 * 4) & !0xfff;
    page.checked_add_signed(distance)?.checked_add(u64::from(load >> 10 & 0xfff) * 8)
}

/// What the relocation of `slot` refers to: a symbol; or, for a function that picks its own implementation
/// (`R_*_IRELATIVE`, in the C library itself), the address of the picker, written as gdb writes it.
fn symbol_of_slot(elf: &Elf, slot: u64) -> Option<Vec<u8>> {
    let symbols = elf.section_of_kind(SHT_DYNSYM)?;
    let strings = elf.sections().get(symbols.link as usize)?;
    let relocations = elf.sections().iter().filter(|section| section.kind == SHT_RELA);
    let (number, addend) = relocations.filter_map(|section| relocation(elf, section, slot)).next()?;
    if number == 0 {
        return Some(format!("*ABS*+{addend:#x}").into_bytes());
    }
    let mut symbol = [0; 4];
    elf.read_at(symbols, number.checked_mul(24)?, &mut symbol);
    Some(elf.string(strings, u64::from(u32::from_le_bytes(symbol)))).filter(|name| !name.is_empty())
}

/// Symbol and addend of the relocation at `slot`.
fn relocation(elf: &Elf, section: &Section, slot: u64) -> Option<(u64, u64)> {
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        let count = elf.read_at(section, offset, &mut buffer);
        for entry in buffer.get(..count)?.chunks_exact(RELOCATION) {
            if u64_at(entry, 0) == Some(slot) {
                return Some((u64_at(entry, 8)? >> 32, u64_at(entry, 16)?));
            }
        }
        offset += CHUNK as u64;
        if count < CHUNK {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_the_slot_of_a_stub() {
        // jmp *0x2fe2(%rip)
        assert_eq!(x86_64_slot(&[0xff, 0x25, 0xe2, 0x2f, 0, 0], 0x1030), Some(0x4018));
        // endbr64; bnd jmp *0x2f75(%rip)
        let code = [0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0x75, 0x2f, 0, 0];
        assert_eq!(x86_64_slot(&code, 0x1050), Some(0x3fd0));
        // adrp x16, +0x10000; ldr x17, [x16, #0xff8]
        let code = [0x9000_0090u32, 0xf947_fe11].map(u32::to_le_bytes).concat();
        assert_eq!(aarch64_slot(&code, 0x5f0), Some(0x10ff8));
        assert_eq!(aarch64_slot(&code[..4], 0x5f0), None);
    }
}
