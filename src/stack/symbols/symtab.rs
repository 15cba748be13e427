//! Names from symbol tables: one pass over a table for all addresses of a batch.
//!
//! Context: the observer. No index is built or kept: each symbol is looked up among the sorted addresses,
//! so a file costs one read of its table and memory for the batch alone.
//!
//! Among several symbols the choice is gdb's (`lookup_minimal_symbol_by_pc_section`): the nearest sized
//! symbol below, if it covers the address; else a sized symbol around it; else the nearest one without a
//! size (assembly labels), unless a section begins between the two.

use super::elf::{Elf, Section, u16_at, u32_at, u64_at};

/// `Elf64_Sym`: name, info, other, section, value, size.
pub const SYMBOL_SIZE: usize = 24;
/// Bytes of a table read at once.
const CHUNK: usize = SYMBOL_SIZE * 8192;

const STT_FUNC: u8 = 2;
const STT_SECTION: u8 = 3;
const STT_FILE: u8 = 4;
const STT_COMMON: u8 = 5;
const STT_TLS: u8 = 6;
const STT_GNU_IFUNC: u8 = 10;
const SHN_UNDEF: u16 = 0;
const SHN_ABS: u16 = 0xfff1;
const SHN_COMMON: u16 = 0xfff2;

/// A symbol, as its table has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Symbol {
    /// Where it starts, before the load bias.
    pub start: u64,
    /// Its size, 0 when the table does not say.
    pub size: u64,
    /// Offset of its name in the string table.
    pub name: u32,
    /// Which table it came from, by the caller's count.
    pub table: u8,
    /// Order among symbols at one address; the higher is taken.
    rank: u8,
}

impl Symbol {
    fn parse(entry: &[u8], table: u8) -> Option<Self> {
        let (name, info) = (u32_at(entry, 0)?, *entry.get(4)?);
        let (section, start, size) = (u16_at(entry, 6)?, u64_at(entry, 8)?, u64_at(entry, 16)?);
        let kind = info & 15;
        if matches!(section, SHN_UNDEF | SHN_ABS | SHN_COMMON)
            || matches!(kind, STT_SECTION | STT_FILE | STT_COMMON | STT_TLS)
            || name == 0
        {
            return None;
        }
        // A global name says more than a weak one, and that more than a local one.
        let binding = match info >> 4 {
            0 => 0,
            2 => 1,
            _ => 2,
        };
        let function = u8::from(matches!(kind, STT_FUNC | STT_GNU_IFUNC));
        Some(Self { start, size, name, table, rank: function << 2 | binding })
    }

    fn covers(&self, address: u64) -> bool {
        address.checked_sub(self.start).is_some_and(|offset| offset < self.size)
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }

    /// Whether this one is to be taken instead of `other`: nearer, or better at the same address.
    fn beats(&self, other: &Self) -> bool {
        (self.start, self.rank) > (other.start, other.rank)
    }
}

/// The best symbols found below an address so far.
#[derive(Clone, Debug, Default)]
struct Slot {
    sized: Option<Symbol>,
    unsized_: Option<Symbol>,
    farthest: Option<Symbol>,
}

fn improve(slot: &mut Option<Symbol>, symbol: Option<Symbol>, better: impl Fn(&Symbol, &Symbol) -> bool) {
    if let Some(symbol) = symbol
        && slot.as_ref().is_none_or(|old| better(&symbol, old))
    {
        *slot = Some(symbol);
    }
}

impl Slot {
    fn add(&mut self, symbol: Symbol) {
        if symbol.size == 0 {
            improve(&mut self.unsized_, Some(symbol), Symbol::beats);
        } else {
            improve(&mut self.sized, Some(symbol), Symbol::beats);
            improve(&mut self.farthest, Some(symbol), |new, old| new.end() > old.end());
        }
    }

    fn merge(&mut self, other: &Self) {
        improve(&mut self.unsized_, other.unsized_, Symbol::beats);
        improve(&mut self.sized, other.sized, Symbol::beats);
        improve(&mut self.farthest, other.farthest, |new, old| new.end() > old.end());
    }
}

/// Looks a batch of addresses up in one table after the other.
pub struct Search<'a> {
    /// Ascending, each once.
    addresses: &'a [u64],
    /// For each address, the symbols between the address before and this one.
    slots: Vec<Slot>,
}

impl<'a> Search<'a> {
    /// A search for `addresses`, ascending and each once.
    pub fn new(addresses: &'a [u64]) -> Self {
        Self { addresses, slots: vec![Slot::default(); addresses.len()] }
    }

    /// Offers the symbols of whole entries.
    pub fn offer(&mut self, entries: &[u8], table: u8) {
        let last = self.addresses.last().copied().unwrap_or_default();
        for symbol in entries.chunks_exact(SYMBOL_SIZE).filter_map(|entry| Symbol::parse(entry, table)) {
            if symbol.start > last {
                continue;
            }
            let index = self.addresses.partition_point(|address| *address < symbol.start);
            if let Some(slot) = self.slots.get_mut(index) {
                slot.add(symbol);
            }
        }
    }

    /// Offers a whole table of a file.
    pub fn offer_table(&mut self, elf: &Elf, section: &Section, table: u8) {
        let mut buffer = vec![0; CHUNK];
        let mut offset = 0;
        loop {
            let count = elf.read_at(section, offset, &mut buffer);
            self.offer(buffer.get(..count).unwrap_or_default(), table);
            if count < CHUNK {
                return;
            }
            offset += CHUNK as u64;
        }
    }

    /// The symbol of each address. `section_start` tells where the code section of an address begins; a symbol
    /// without a size is not believed to reach into another section, nor anywhere when that is not known.
    pub fn finish(self, section_start: impl Fn(u64) -> Option<u64>) -> Vec<Option<Symbol>> {
        let mut below = Slot::default();
        let mut found = Vec::with_capacity(self.addresses.len());
        for (address, slot) in self.addresses.iter().zip(&self.slots) {
            below.merge(slot);
            let covering = below.sized.filter(|symbol| symbol.covers(*address));
            let around = || below.farthest.filter(|symbol| symbol.covers(*address));
            let label = || {
                let label = below.unsized_?;
                // A sized symbol that ended before the address, and does not begin before the label, is in between.
                let hidden = below.sized.is_some_and(|symbol| symbol.start >= label.start);
                (!hidden && section_start(*address)? <= label.start).then_some(label)
            };
            found.push(covering.or_else(around).or_else(label));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: u32, info: u8, start: u64, size: u64) -> Vec<u8> {
        let mut bytes = name.to_le_bytes().to_vec();
        bytes.extend([info, 0, 1, 0]);
        bytes.extend(start.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes
    }

    fn names(entries: &[Vec<u8>], addresses: &[u64]) -> Vec<u32> {
        let mut search = Search::new(addresses);
        search.offer(&entries.concat(), 0);
        let found = search.finish(|_| Some(0x100));
        found.iter().map(|symbol| symbol.map_or(0, |symbol| symbol.name)).collect()
    }

    #[test]
    fn prefers_sized_global_functions() {
        let table = [
            entry(1, 0x02, 0x100, 0x10),
            entry(2, 0x12, 0x100, 0x10),
            entry(3, 0x22, 0x100, 0x10),
            entry(4, 0x10, 0x100, 0),
            entry(5, 0x02, 0x120, 0),
        ];
        assert_eq!(names(&table, &[0xff, 0x100, 0x10f, 0x110, 0x11f, 0x120, 0x1000]), [0, 2, 2, 0, 0, 5, 5]);
    }

    #[test]
    fn labels_do_not_hide_what_covers_them() {
        let table = [entry(1, 0x12, 0x100, 0x100), entry(2, 0x00, 0x140, 0), entry(3, 0x12, 0x120, 8)];
        assert_eq!(names(&table, &[0x121, 0x130, 0x150, 0x1ff, 0x200]), [3, 1, 1, 1, 2]);
    }
}
