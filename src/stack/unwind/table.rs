//! Finding a module's call frame information for an address, in memory.
//!
//! Context: the observer. Everything read is hostile: counts, lengths and offsets are bounded, and
//! an entry is only ever copied out whole. The table of `.eh_frame_hdr` is searched where it lies
//! (Linux Standard Base, core, 10.6), so a deleted file and the vdso work as any other.

use crate::sys::memory::Memory;

/// Longest entry (CIE or FDE) that is read. A function with 10,000 rows has some 100 KB.
const MAX_ENTRY: u64 = 1 << 20;
/// Entries that are walked over in a `.eh_frame` without a search table.
const MAX_SCAN: usize = 1 << 16;

/// DW_EH_PE_*: the encodings that linkers use in `.eh_frame_hdr`.
const OMIT: u8 = 0xff;
const UDATA4: u8 = 0x03;
const SDATA4: u8 = 0x0b;
const PCREL_SDATA4: u8 = 0x1b;
const DATAREL_SDATA4: u8 = 0x3b;

/// The table is damaged, or of a kind that linkers do not make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// An FDE that may cover the address, and its CIE, copied together: `[CIE][FDE]`.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Both; the FDE's pointer to its CIE is made to fit.
    pub(super) bytes: Vec<u8>,
    /// Where the FDE begins in `bytes`.
    pub(super) fde: usize,
    /// The address that `bytes` would have for the FDE to lie where it lies in memory.
    pub(super) base: u64,
}

/// What `.eh_frame_hdr` starts with.
struct Header {
    /// Where `.eh_frame` begins.
    eh_frame: u64,
    /// Address and number of the search table's entries, if there is one.
    table: Option<(u64, u64)>,
}

impl Header {
    fn read(memory: &impl Memory, address: u64) -> Result<Self, Damaged> {
        let [version, pointer_encoding, count_encoding, table_encoding, rest @ ..]: [u8; 12] =
            memory.read_array(address).ok_or(Damaged)?;
        let [a, b, c, d, e, f, g, h] = rest;
        // The pointer to .eh_frame is relative to itself, four bytes into the header.
        let eh_frame = match pointer_encoding {
            PCREL_SDATA4 => offset(address.wrapping_add(4), [a, b, c, d]),
            DATAREL_SDATA4 => offset(address, [a, b, c, d]),
            _ => return Err(Damaged),
        };
        if version != 1 {
            return Err(Damaged);
        }
        let searchable = matches!(count_encoding, UDATA4 | SDATA4) && table_encoding == DATAREL_SDATA4;
        let count = u64::from(u32::from_le_bytes([e, f, g, h]));
        let table = (searchable && count != 0).then_some((address.wrapping_add(12), count));
        Ok(Self { eh_frame, table: if count_encoding == OMIT { None } else { table } })
    }
}

fn offset(base: u64, bytes: [u8; 4]) -> u64 {
    base.wrapping_add(i64::from(i32::from_le_bytes(bytes)) as u64)
}

/// Copies into `entries` the FDE that covers `address`, if one does, as far as the table tells; the
/// caller looks at its range. False when there is none.
pub(super) fn find(memory: &impl Memory, header: u64, address: u64, entries: &mut Entries) -> Result<bool, Damaged> {
    let Header { eh_frame, table } = Header::read(memory, header)?;
    match table {
        Some((table, count)) => match search(memory, header, table, count, address)? {
            Some(fde) => entries.copy(memory, fde).map(|()| true),
            None => Ok(false),
        },
        None => scan(memory, eh_frame, address, entries),
    }
}

/// Binary search for the last entry that starts at or before `address`; the address of its FDE.
fn search(memory: &impl Memory, header: u64, table: u64, count: u64, address: u64) -> Result<Option<u64>, Damaged> {
    let entry = |index: u64| {
        let [a, b, c, d, e, f, g, h] = memory.read_array(table.wrapping_add(8 * index)).ok_or(Damaged)?;
        Ok((offset(header, [a, b, c, d]), offset(header, [e, f, g, h])))
    };
    let (mut low, mut high) = (0, count);
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        let (start, fde) = entry(middle)?;
        if start <= address {
            found = Some(fde);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(found)
}

/// Walks `.eh_frame` from its start.
fn scan(memory: &impl Memory, eh_frame: u64, address: u64, entries: &mut Entries) -> Result<bool, Damaged> {
    let mut at = eh_frame;
    for _ in 0..MAX_SCAN {
        let [a, b, c, d, e, f, g, h] = memory.read_array(at).ok_or(Damaged)?;
        let (length, cie) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if length == 0 {
            return Ok(false);
        }
        if u64::from(length) > MAX_ENTRY {
            return Err(Damaged);
        }
        if cie != 0 {
            entries.copy(memory, at)?;
            if entries.range().is_some_and(|(start, end)| (start..end).contains(&address)) {
                return Ok(true);
            }
        }
        at = at.wrapping_add(4 + u64::from(length));
    }
    Err(Damaged)
}

impl Entries {
    /// Copies the FDE at `address` and its CIE.
    fn copy(&mut self, memory: &impl Memory, address: u64) -> Result<(), Damaged> {
        let id = address.wrapping_add(4);
        let distance = memory.read_array(id).map(u32::from_le_bytes).ok_or(Damaged)?;
        self.bytes.clear();
        self.append(memory, id.wrapping_sub(u64::from(distance)))?;
        self.fde = self.bytes.len();
        self.append(memory, address)?;
        self.base = address.wrapping_sub(self.fde as u64);
        let pointer = self.bytes.get_mut(self.fde + 4..self.fde + 8).ok_or(Damaged)?;
        pointer.copy_from_slice(&(self.fde as u32 + 4).to_le_bytes());
        Ok(())
    }

    /// Appends the entry at `address`. The 64-bit format (length 0xffffffff) is beyond MAX_ENTRY:
    /// nobody writes it into `.eh_frame`.
    fn append(&mut self, memory: &impl Memory, address: u64) -> Result<(), Damaged> {
        let length = memory.read_array(address).map(u32::from_le_bytes).ok_or(Damaged)?;
        if length < 4 || u64::from(length) > MAX_ENTRY {
            return Err(Damaged);
        }
        let start = self.bytes.len();
        let size = 4 + length as usize;
        self.bytes.try_reserve(size).map_err(|_| Damaged)?;
        self.bytes.resize(start + size, 0);
        let room = self.bytes.get_mut(start..).ok_or(Damaged)?;
        if memory.read(address, room) == size { Ok(()) } else { Err(Damaged) }
    }

    /// First address and end of what the FDE covers.
    fn range(&self) -> Option<(u64, u64)> {
        let (section, bases) = self.section(gimli::Vendor::Default);
        let fde = super::row::fde(&section, &bases, self.fde).ok()?;
        Some((fde.initial_address(), fde.end_address()))
    }
}
