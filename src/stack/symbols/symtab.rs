//! Names from symbol tables: one pass over a table for all addresses of a batch.
//!
//! Context: the observer. No index is built or kept: each symbol is looked up among the sorted addresses,
//! so a file costs one read of its table and memory for the batch alone.
//!
//! The choice is gdb's (`lookup_minimal_symbol_by_pc_section`): the nearest sized symbol below, if it covers
//! the address; else a sized symbol around it; else the nearest one without a size (assembly labels), unless
//! a section begins between the two. Of several at one address the file's own table goes before that of its
//! debug file, and in one table the alphabetically last name: arbitrary, but what gdb was measured to print
//! (400 of 400 ties in node and in libstdc++).

use super::elf::{Elf, Section, u16_at, u32_at, u64_at};

/// `Elf64_Sym`: name, info, other, section, value, size.
pub const SYMBOL_SIZE: usize = 24;
/// Bytes of a table read at once.
const CHUNK: usize = SYMBOL_SIZE * 8192;
/// Symbols at one address that are compared.
const MOST_ALIASES: usize = 64;

/// Symbol types (gABI; the last one GNU's).
pub const STT_OBJECT: u8 = 1;
/// See [`STT_OBJECT`].
pub const STT_FUNC: u8 = 2;
const STT_SECTION: u8 = 3;
const STT_FILE: u8 = 4;
const STT_COMMON: u8 = 5;
/// See [`STT_OBJECT`].
pub const STT_TLS: u8 = 6;
/// See [`STT_OBJECT`].
pub const STT_GNU_IFUNC: u8 = 10;
const SHN_UNDEF: u16 = 0;
const SHN_ABS: u16 = 0xfff1;
const SHN_COMMON: u16 = 0xfff2;

/// The fields of an `Elf64_Sym` that defines something with a name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Offset of its name in the string table, not 0.
    pub name: u32,
    /// `STT_*`.
    pub kind: u8,
    /// `STB_*`: 0 for local.
    pub binding: u8,
    /// Where it starts, before the load bias; of thread-local data, its offset in the module's block.
    pub value: u64,
    /// Its size, 0 when the table does not say.
    pub size: u64,
}

impl Entry {
    /// `None` for what defines no place in the module: imports, absolute values, files, sections.
    pub fn parse(entry: &[u8]) -> Option<Self> {
        let (name, info) = (u32_at(entry, 0)?, *entry.get(4)?);
        let (section, value, size) = (u16_at(entry, 6)?, u64_at(entry, 8)?, u64_at(entry, 16)?);
        let kind = info & 15;
        if matches!(section, SHN_UNDEF | SHN_ABS | SHN_COMMON)
            || matches!(kind, STT_SECTION | STT_FILE | STT_COMMON)
            || name == 0
        {
            return None;
        }
        Some(Self { name, kind, binding: info >> 4, value, size })
    }
}

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
}

impl Symbol {
    fn parse(entry: &[u8], table: u8) -> Option<Self> {
        let Entry { name, kind, value: start, size, .. } = Entry::parse(entry)?;
        if kind == STT_TLS {
            return None;
        }
        Some(Self { start, size, name, table })
    }

    fn covers(&self, address: u64) -> bool {
        address.checked_sub(self.start).is_some_and(|offset| offset < self.size)
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }
}

/// Symbols at one address, the nearest so far.
#[derive(Clone, Debug, Default)]
struct Nearest(Vec<Symbol>);

impl Nearest {
    fn start(&self) -> Option<u64> {
        self.0.first().map(|symbol| symbol.start)
    }

    fn add(&mut self, symbol: Symbol) {
        match self.start() {
            Some(start) if start > symbol.start => return,
            Some(start) if start == symbol.start && self.0.len() >= MOST_ALIASES => return,
            Some(start) if start == symbol.start => {}
            _ => self.0.clear(),
        }
        self.0.push(symbol);
    }

    /// Those that cover `address`, which lies at or above them.
    fn covering(&self, address: u64) -> Vec<Symbol> {
        self.0.iter().copied().filter(|symbol| symbol.covers(address)).collect()
    }
}

/// The symbols found below an address that may be its own.
#[derive(Clone, Debug, Default)]
struct Slot {
    sized: Nearest,
    labels: Nearest,
    farthest: Option<Symbol>,
}

impl Slot {
    fn add(&mut self, symbol: Symbol) {
        if symbol.size == 0 {
            return self.labels.add(symbol);
        }
        self.sized.add(symbol);
        if self.farthest.is_none_or(|old| old.end() < symbol.end()) {
            self.farthest = Some(symbol);
        }
    }

    fn merge(&mut self, other: &Self) {
        let symbols = other.sized.0.iter().chain(&other.labels.0).chain(&other.farthest);
        symbols.for_each(|symbol| self.add(*symbol));
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

    /// The symbols of each address, all at the same start; the names decide between them ([`pick`]).
    /// `section_start` tells where the code section of an address begins; a symbol without a size is not
    /// believed to reach into another section, nor anywhere when that is not known.
    pub fn finish(self, section_start: impl Fn(u64) -> Option<u64>) -> Vec<Vec<Symbol>> {
        let mut below = Slot::default();
        let mut found = Vec::with_capacity(self.addresses.len());
        for (address, slot) in self.addresses.iter().zip(&self.slots) {
            below.merge(slot);
            let mut symbols = below.sized.covering(*address);
            if symbols.is_empty() {
                symbols.extend(below.farthest.filter(|symbol| symbol.covers(*address)));
            }
            // A sized symbol that ended before the address, and does not begin before the label, is in between.
            let is_free = |label: &u64| below.sized.start().is_none_or(|start| start < *label);
            if symbols.is_empty()
                && let Some(label) = below.labels.start().filter(is_free)
                && section_start(*address).is_some_and(|start| start <= label)
            {
                symbols.clone_from(&below.labels.0);
            }
            found.push(symbols);
        }
        found
    }
}

/// Chooses among symbols at one address by their names.
pub fn pick(symbols: Vec<Symbol>, name: impl Fn(&Symbol) -> Vec<u8>) -> Option<(Vec<u8>, u64)> {
    let first = symbols.iter().map(|symbol| symbol.table).min()?;
    let candidates = symbols.into_iter().filter(|symbol| symbol.table == first);
    let named = candidates.map(|symbol| (name(&symbol), symbol.start));
    named.filter(|named| !named.0.is_empty()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: u8, start: u64, size: u64) -> Vec<u8> {
        let mut bytes = u32::from(name).to_le_bytes().to_vec();
        bytes.extend([0x12, 0, 1, 0]);
        bytes.extend(start.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes
    }

    fn names(tables: &[&[Vec<u8>]], addresses: &[u64]) -> Vec<u8> {
        let mut search = Search::new(addresses);
        for (number, entries) in tables.iter().enumerate() {
            search.offer(&entries.concat(), number as u8);
        }
        let found = search.finish(|_| Some(0x100));
        let name = |symbols| pick(symbols, |symbol| vec![symbol.name as u8]).map_or(0, |named| named.0[0]);
        found.into_iter().map(name).collect()
    }

    #[test]
    fn aliases_are_chosen_by_table_and_name() {
        let own = [entry(2, 0x100, 0x10), entry(3, 0x100, 0x10), entry(1, 0x100, 0x10), entry(4, 0x100, 0)];
        let debug = [entry(9, 0x100, 0x10), entry(5, 0x120, 0)];
        let addresses = [0xff, 0x100, 0x10f, 0x110, 0x11f, 0x120, 0x1000];
        assert_eq!(names(&[&own, &debug], &addresses), [0, 3, 3, 0, 0, 5, 5]);
    }

    #[test]
    fn labels_do_not_hide_what_covers_them() {
        let table = [entry(1, 0x100, 0x100), entry(2, 0x140, 0), entry(3, 0x120, 8)];
        assert_eq!(names(&[&table], &[0x121, 0x130, 0x150, 0x1ff, 0x200]), [3, 1, 1, 1, 2]);
    }
}
