//! Names from the dynamic symbol table as it is in memory: all that is left of a file that was deleted or
//! replaced, and all that the vdso has.
//!
//! Context: the observer. The tables lie in memory that the application may have scribbled over: they are
//! read with calls that fail, and every count is bounded.

use super::elf::{u16_at, u32_at, u64_at};
use super::symtab::{SYMBOL_SIZE, Search, Symbol, pick};
use crate::sys::memory::Memory;

use super::super::modules::Module;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const DT_VERSYM: u64 = 0x6fff_fff0;
/// Symbols believed at most: Chromium's largest library exports some 100,000.
const MOST_SYMBOLS: u64 = 1 << 22;
/// The longest name read.
const LONGEST_NAME: usize = 64 << 10;

/// A name and where what it names starts.
pub type Found = Option<(Vec<u8>, u64)>;

/// The tables that `PT_DYNAMIC` points at, as addresses in memory.
#[derive(Debug, Default)]
pub struct Tables {
    symbols: u64,
    strings: u64,
    hash: u64,
    gnu_hash: u64,
    versions: u64,
}

fn read_exact(memory: &impl Memory, address: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    (memory.read(address, &mut bytes) == length).then_some(bytes)
}

fn read_u32(memory: &impl Memory, address: u64) -> Option<u32> {
    memory.read_array(address).map(u32::from_le_bytes)
}

impl Tables {
    /// The tables of `module`.
    pub fn find(memory: &impl Memory, module: &Module) -> Option<Self> {
        let header = read_exact(memory, module.start, 64)?;
        if header.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let (offset, size, count) = (u64_at(&header, 32)?, u16_at(&header, 54)?, u16_at(&header, 56)?);
        if size != 56 || count > 256 {
            return None;
        }
        let headers = read_exact(memory, module.start.checked_add(offset)?, usize::from(count) * 56)?;
        let segment = |kind| headers.chunks_exact(56).find(|entry| u32_at(entry, 0) == Some(kind));
        segment(PT_LOAD)?;
        let dynamic = segment(PT_DYNAMIC)?;
        let (address, size) = (module.bias.wrapping_add(u64_at(dynamic, 16)?), u64_at(dynamic, 40)?);
        let entries = read_exact(memory, address, size.min(16 << 10) as usize)?;
        let mut tables = Self::default();
        for entry in entries.chunks_exact(16) {
            let (tag, value) = (u64_at(entry, 0)?, u64_at(entry, 8)?);
            // The loader relocates these in place, except where it may not write (the vdso).
            let relocated =
                if (module.start..module.end).contains(&value) { value } else { module.bias.wrapping_add(value) };
            match tag {
                0 => break,
                DT_HASH => tables.hash = relocated,
                DT_STRTAB => tables.strings = relocated,
                DT_SYMTAB => tables.symbols = relocated,
                DT_GNU_HASH => tables.gnu_hash = relocated,
                DT_VERSYM => tables.versions = relocated,
                _ => {}
            }
        }
        (tables.symbols != 0 && tables.strings != 0).then_some(tables)
    }

    /// How many symbols there are: no tag says, but the hash tables do.
    pub fn count(&self, memory: &impl Memory) -> Option<u64> {
        let count = if self.hash != 0 {
            // nbucket, nchain: one chain entry a symbol.
            u64::from(read_u32(memory, self.hash.checked_add(4)?)?)
        } else {
            self.gnu_count(memory)?
        };
        Some(count.min(MOST_SYMBOLS))
    }

    /// Reads entries of the symbol table from byte `offset` on; returns how many bytes there were.
    pub fn read(&self, memory: &impl Memory, offset: u64, buffer: &mut [u8]) -> usize {
        self.symbols.checked_add(offset).map_or(0, |address| memory.read(address, buffer))
    }

    /// Reads `.gnu.version` from byte `offset` on; `buffer` stays as it is where there is none.
    pub fn read_versions(&self, memory: &impl Memory, offset: u64, buffer: &mut [u8]) {
        if let Some(address) = self.versions.checked_add(offset).filter(|_| self.versions != 0) {
            memory.read(address, buffer);
        }
    }

    /// The name at `offset` of the string table.
    pub fn name(&self, memory: &impl Memory, offset: u32) -> Vec<u8> {
        read_name(memory, self.strings.wrapping_add(u64::from(offset)))
    }

    /// `DT_GNU_HASH`: the last chain ends with the last symbol, marked by its lowest bit.
    fn gnu_count(&self, memory: &impl Memory) -> Option<u64> {
        let header = read_exact(memory, (self.gnu_hash != 0).then_some(self.gnu_hash)?, 16)?;
        let (buckets, first, bloom) =
            (u64::from(u32_at(&header, 0)?), u64::from(u32_at(&header, 4)?), u64::from(u32_at(&header, 8)?));
        if buckets > MOST_SYMBOLS || bloom > MOST_SYMBOLS {
            return None;
        }
        let table = self.gnu_hash.checked_add(16 + bloom * 8)?;
        let heads = read_exact(memory, table, buckets as usize * 4)?;
        let mut last = heads.chunks_exact(4).filter_map(|head| u32_at(head, 0)).max().map(u64::from)?;
        if last < first {
            return Some(first);
        }
        let chains = table.checked_add(buckets * 4)?;
        while last < MOST_SYMBOLS {
            let link = read_u32(memory, chains.checked_add((last - first) * 4)?)?;
            last += 1;
            if link & 1 == 1 {
                break;
            }
        }
        Some(last)
    }
}

/// The names and starts of the functions at `addresses` (ascending, each once, before the load bias).
pub fn names(memory: &impl Memory, module: &Module, addresses: &[u64]) -> Vec<Found> {
    find(memory, module, addresses).unwrap_or_else(|| vec![None; addresses.len()])
}

fn find(memory: &impl Memory, module: &Module, addresses: &[u64]) -> Option<Vec<Found>> {
    let tables = Tables::find(memory, module)?;
    let mut left = tables.count(memory)? as usize * SYMBOL_SIZE;
    let mut search = Search::new(addresses);
    let mut buffer = vec![0; SYMBOL_SIZE * 1024];
    let mut offset = 0;
    while left > 0 {
        let room = left.min(buffer.len());
        let count = tables.read(memory, offset, buffer.get_mut(..room)?);
        search.offer(buffer.get(..count)?, 0);
        if count < room {
            break;
        }
        left -= count;
        offset += count as u64;
    }
    // Without section headers a label without a size could reach anywhere: not believed.
    let symbols = search.finish(|_| None);
    let name = |symbol: &Symbol| tables.name(memory, symbol.name);
    Some(symbols.into_iter().map(|symbols| pick(symbols, name)).collect())
}

fn read_name(memory: &impl Memory, mut address: u64) -> Vec<u8> {
    let mut name = Vec::new();
    let mut piece = [0; 128];
    while name.len() < LONGEST_NAME {
        let count = memory.read(address, &mut piece);
        let bytes = piece.get(..count).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0);
        name.extend_from_slice(bytes.get(..end.unwrap_or(count)).unwrap_or_default());
        if end.is_some() || count < piece.len() {
            break;
        }
        address = address.wrapping_add(count as u64);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::super::tests::own_modules;
    use super::*;
    use crate::sys::memory::Live;

    #[test]
    fn names_a_function_of_the_vdso_and_of_libc() {
        for (path, symbol) in [("[vdso]", "__vdso_getcpu"), ("libc.so.6", "epoll_wait")] {
            let module = own_modules().into_iter().find(|module| module.path.ends_with(path.as_bytes())).unwrap();
            let tables = Tables::find(&Live, &module).unwrap();
            let count = tables.count(&Live).unwrap();
            let table = read_exact(&Live, tables.symbols, count as usize * SYMBOL_SIZE).unwrap();
            let entry = table
                .chunks_exact(SYMBOL_SIZE)
                .find(|entry| {
                    read_name(&Live, tables.strings + u64::from(u32_at(entry, 0).unwrap())) == symbol.as_bytes()
                })
                .unwrap();
            let start = u64_at(entry, 8).unwrap();
            let found = names(&Live, &module, &[start, start + 1]);
            let (_, found_start) = found[1].clone().unwrap();
            assert_eq!((found[0].as_ref(), found_start), (found[1].as_ref(), start), "{path}");
        }
    }

    #[test]
    fn garbage_has_no_names() {
        let bytes: Vec<u64> = (0..4096u64).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let start = bytes.as_ptr() as u64;
        let module = Module { start, end: start + 32768, ..own_modules().pop().unwrap() };
        assert_eq!(names(&Live, &module, &[16]), [None]);
    }
}
