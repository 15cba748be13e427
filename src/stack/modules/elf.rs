//! What the ELF headers of a loaded object say, read from memory.
//!
//! Context: the observer. Memory is hostile: a header that makes no sense is no header, and every
//! count is bounded.

use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, U32, pod};

use crate::sys::memory::Memory;

/// Program headers that are looked at; real objects have a dozen.
const MAX_HEADERS: usize = 128;
/// Bytes of notes that are looked at.
const MAX_NOTES: usize = 4096;
/// The smallest page that x86-64 and aarch64 have. Larger pages only make the rounding coarser, and
/// the load bias comes out the same.
const PAGE: u64 = 4096;

/// A loaded object as its program headers describe it; addresses are those in memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Address in memory minus address in the program headers.
    pub bias: u64,
    /// First address of its segments, rounded down to a page.
    pub start: u64,
    /// Address behind the last, rounded up.
    pub end: u64,
    /// Where its executable segments start.
    pub code: Vec<u64>,
    /// Of `.eh_frame_hdr`, or 0.
    pub eh_frame_hdr: u64,
    /// Of the dynamic section, or 0.
    pub dynamic: u64,
    /// NT_GNU_BUILD_ID, or empty.
    pub build_id: Vec<u8>,
}

impl Image {
    /// Reads the headers of the object whose file begins at `address`. `locate` finds where in memory
    /// an offset of the file lies: some tools move the program headers to the file's end.
    pub fn read(memory: &impl Memory, address: u64, locate: impl FnOnce(u64) -> Option<u64>) -> Option<Self> {
        let bytes: [u8; size_of::<FileHeader64<LittleEndian>>()] = memory.read_array(address)?;
        let (header, _) = pod::from_bytes::<FileHeader64<LittleEndian>>(&bytes).ok()?;
        let endian = LittleEndian;
        if !header.is_supported() || !header.is_little_endian() {
            return None;
        }
        let size = size_of::<ProgramHeader64<LittleEndian>>();
        let count = usize::from(header.e_phnum(endian)).min(MAX_HEADERS);
        if usize::from(header.e_phentsize(endian)) != size || count == 0 {
            return None;
        }
        let table = locate(header.e_phoff(endian))?;
        let mut bytes = vec![0; count * size];
        if memory.read(table, &mut bytes) != bytes.len() {
            return None;
        }
        let (headers, _) = pod::slice_from_bytes::<ProgramHeader64<LittleEndian>>(&bytes, count).ok()?;
        Self::from_headers(memory, address, headers)
    }

    fn from_headers(memory: &impl Memory, address: u64, headers: &[ProgramHeader64<LittleEndian>]) -> Option<Self> {
        let endian = LittleEndian;
        let loads = || headers.iter().filter(|header| header.p_type(endian) == elf::PT_LOAD);
        // The segment that holds the file's first page tells where the object was put.
        let first = loads().find(|header| header.p_offset(endian) < PAGE)?;
        let bias = address.wrapping_sub(first.p_vaddr(endian).wrapping_sub(first.p_offset(endian)));
        let low = loads().map(|header| header.p_vaddr(endian)).min()?;
        let high = loads().map(|header| header.p_vaddr(endian).saturating_add(header.p_memsz(endian))).max()?;
        let start = bias.wrapping_add(low) & !(PAGE - 1);
        let end = bias.wrapping_add(high).checked_add(PAGE - 1)? & !(PAGE - 1);
        if !(start..end).contains(&address) {
            return None;
        }
        let within = |header: &ProgramHeader64<LittleEndian>| {
            let address = bias.wrapping_add(header.p_vaddr(endian));
            (start..end).contains(&address).then_some(address)
        };
        let find = |kind| headers.iter().find(|header| header.p_type(endian) == kind).and_then(within).unwrap_or(0);
        let code = loads().filter(|header| header.p_flags(endian).contains(elf::PF_X)).filter_map(within).collect();
        let notes = headers.iter().filter(|header| header.p_type(endian) == elf::PT_NOTE);
        let build_id = notes
            .filter_map(|header| Some((within(header)?, header.p_memsz(endian), header.p_align(endian))))
            .find_map(|(address, size, align)| build_id(memory, address, size, align))
            .unwrap_or_default();
        let (eh_frame_hdr, dynamic) = (find(elf::PT_GNU_EH_FRAME), find(elf::PT_DYNAMIC));
        Some(Self { bias, start, end, code, eh_frame_hdr, dynamic, build_id })
    }
}

/// The build ID among the notes at `address`.
fn build_id(memory: &impl Memory, address: u64, size: u64, align: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).ok()?.min(MAX_NOTES)];
    let count = memory.read(address, &mut bytes);
    let mut rest = bytes.get(..count)?;
    // Notes are padded to 4 bytes, those of segments aligned to 8 to 8 (gABI; GNU properties).
    let padded = |length: usize| if align == 8 { length.next_multiple_of(8) } else { length.next_multiple_of(4) };
    loop {
        let (header, _) = pod::slice_from_bytes::<U32<LittleEndian>>(rest, 3).ok()?;
        let [name_size, size, kind] = header else { return None };
        let (name_size, size) = (name_size.get(LittleEndian) as usize, size.get(LittleEndian) as usize);
        let description = padded(12usize.checked_add(name_size)?);
        let name = rest.get(12..12 + name_size)?;
        let value = rest.get(description..description.checked_add(size)?)?;
        if name == b"GNU\0" && kind.get(LittleEndian) == elf::NT_GNU_BUILD_ID.0 {
            return Some(value.to_vec());
        }
        rest = rest.get(padded(description + size)..)?;
    }
}
