//! Looking symbols up by name: functions and data, of every module, a few milliseconds at a time.
//!
//! Context: the observer. No index is built or kept. A search walks the symbol tables of one module after the
//! other (of its file, of what that lacks in `.gnu_debugdata` and a separate debug file, of memory where there is
//! no file) and holds what it found, one module's open files and one piece of a table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::super::modules::{Module, Modules};
use super::dynamic;
use super::elf::{Elf, SHT_DYNSYM, SHT_SYMTAB};
use super::lookup::{Files, Table};
use super::pattern::{Matched, Pattern};
use super::symtab::{Entry, STT_FUNC, STT_GNU_IFUNC, STT_OBJECT, STT_TLS, SYMBOL_SIZE};
use crate::sys::memory::Memory;

/// How long one step works.
const SLICE: Duration = Duration::from_millis(4);
/// Symbols of a table that are read at once. Their names are then read in the order of the string table: in the
/// order of the symbols each would cost another page of a table of many megabytes.
const BATCH: usize = 16384;
/// Bytes that `.gnu.version` has for each symbol: its version's index, the highest bit set for one that is hidden
/// (LSB, Symbol Versioning).
const VERSION_SIZE: usize = 2;
/// Symbols whose names are looked at between two looks at the clock.
const PIECE: usize = 256;

/// What a symbol is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Code.
    Function,
    /// A function that, when the program is loaded, chooses the one that is called by this name.
    Ifunc,
    /// Data.
    Object,
    /// Data of which each thread has its own: `address` is its offset in the module's block.
    ThreadLocal,
    /// The table does not say: labels in assembly, ends of sections.
    Untyped,
}

impl Kind {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Ifunc => "ifunc",
            Self::Object => "object",
            Self::ThreadLocal => "tls",
            Self::Untyped => "untyped",
        }
    }
}

/// A symbol that was looked for.
#[derive(Clone, Debug)]
pub struct Found {
    /// Demangled, without its version.
    pub name: String,
    /// `@VERSION`, `@@VERSION` for the default one, or nothing.
    pub version: String,
    /// Where it is in memory; of [`Kind::ThreadLocal`], the offset in each thread's block.
    pub address: u64,
    /// Bytes, 0 when the table does not say.
    pub size: u64,
    /// What it is.
    pub kind: Kind,
    /// `global`, `weak` or `local`.
    pub binding: &'static str,
    /// Where it is from.
    pub module: Arc<Module>,
    /// It was named in full; see [`Matched::whole`].
    pub whole: bool,
    /// An old version (`NAME@VERSION`), which only those get that were linked when it was the default.
    pub old: bool,
}

/// A search at work.
pub struct Search {
    pattern: Pattern,
    limit: usize,
    modules: std::vec::IntoIter<Arc<Module>>,
    scan: Option<Box<Scan>>,
    found: Vec<Found>,
    /// Index in `found` by address and name: most symbols stand in two tables.
    known: FxHashMap<(u64, String), usize>,
    stripped: Vec<Arc<Module>>,
    is_cut: bool,
}

/// One module's tables, and how far they are read.
struct Scan {
    module: Arc<Module>,
    files: Files,
    mini: Option<Elf>,
    /// Where there is no file with a table.
    memory: Option<(dynamic::Tables, u64)>,
    table: usize,
    offset: u64,
    /// Symbols of the current table that are yet to be looked at, those with the first names last, and whether
    /// `.gnu.version` hides them.
    batch: Vec<(Entry, bool)>,
}

impl Search {
    /// Looks for `pattern` in `modules`, for at most `limit` symbols.
    pub fn new(modules: &Modules, pattern: Pattern, limit: usize) -> Self {
        let wanted: Vec<_> = modules.iter().filter(|module| pattern.wants(module)).cloned().collect();
        Self {
            pattern,
            limit,
            modules: wanted.into_iter(),
            scan: None,
            found: Vec::new(),
            known: FxHashMap::default(),
            stripped: Vec::new(),
            is_cut: false,
        }
    }

    /// Works for some milliseconds; false when it is done.
    pub fn step(&mut self, memory: &impl Memory) -> bool {
        let until = Instant::now() + SLICE;
        while !self.is_cut {
            let Some(mut scan) = self.scan.take() else {
                // Opening files is a step of its own.
                let Some(module) = self.modules.next() else { return false };
                let Some(scan) = Scan::open(memory, module).map(Box::new) else { return true };
                if scan.is_stripped() {
                    self.stripped.push(Arc::clone(&scan.module));
                }
                self.scan = Some(scan);
                return true;
            };
            if scan.piece(memory, |module, symbol, name| self.offer(module, symbol, name)) {
                self.scan = Some(scan);
            }
            if Instant::now() >= until {
                return true;
            }
        }
        false
    }

    /// What was found until now.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// There is more than the limit.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Modules of which only the exported symbols are known.
    pub fn stripped(&self) -> &[Arc<Module>] {
        &self.stripped
    }

    fn offer(&mut self, module: &Arc<Module>, (entry, hidden): &(Entry, bool), raw: &[u8]) {
        let Some(Matched { name, version, whole }) = self.pattern.matches(raw) else { return };
        // The full table has versions in its names, the exported one beside them.
        let old = *hidden || version.starts_with('@') && !version.starts_with("@@");
        let kind = match entry.kind {
            STT_FUNC => Kind::Function,
            STT_GNU_IFUNC => Kind::Ifunc,
            STT_OBJECT => Kind::Object,
            STT_TLS => Kind::ThreadLocal,
            _ => Kind::Untyped,
        };
        let address = if kind == Kind::ThreadLocal { entry.value } else { module.bias.wrapping_add(entry.value) };
        let key = (address, name);
        if let Some(known) = self.known.get(&key).and_then(|index| self.found.get_mut(*index))
            && Arc::ptr_eq(&known.module, module)
        {
            if known.version.is_empty() {
                known.version = version;
            }
            known.old &= old;
            return;
        }
        if self.found.len() >= self.limit {
            self.is_cut = true;
            return;
        }
        let binding = match entry.binding {
            0 => "local",
            2 => "weak",
            _ => "global",
        };
        let (name, module) = (key.1.clone(), Arc::clone(module));
        self.known.insert(key, self.found.len());
        self.found.push(Found { name, version, address, size: entry.size, kind, binding, module, whole, old });
    }
}

impl Scan {
    /// `None` for code that was mapped from a file in some other way than as an object: its symbols are not there.
    fn open(memory: &impl Memory, module: Arc<Module>) -> Option<Self> {
        if memory.read_array(module.first_mapping.0) != Some(*b"\x7fELF") {
            return None;
        }
        let files = Files::open(&module);
        let mini = files.mini();
        let mut scan = Self { module, files, mini, memory: None, table: 0, offset: 0, batch: Vec::new() };
        if scan.tables().is_empty() {
            let tables = dynamic::Tables::find(memory, &scan.module);
            scan.memory = tables.and_then(|tables| tables.count(memory).map(|count| (tables, count)));
        }
        Some(scan)
    }

    /// The tables that name addresses, and what the loader sees: `strip -K` leaves less than that in the first.
    fn tables(&self) -> Vec<Table<'_>> {
        let mut tables = self.files.tables(self.mini.as_ref());
        let exported = self.files.main.as_ref().and_then(|elf| Table::of(elf, SHT_DYNSYM));
        if self.has_symbols() {
            tables.extend(exported);
        }
        tables
    }

    /// Whether the file has its own full table.
    fn has_symbols(&self) -> bool {
        self.files.main.as_ref().is_some_and(|elf| elf.section_of_kind(SHT_SYMTAB).is_some())
    }

    fn is_stripped(&self) -> bool {
        let others = self.mini.iter().chain(self.files.debug.as_ref().map(|file| &file.elf));
        !self.has_symbols()
            && !self.files.silent
            && !others.into_iter().any(|elf| elf.section_of_kind(SHT_SYMTAB).is_some())
            && self.module.path.starts_with(b"/")
    }

    /// Looks at some symbols; false behind the last one of the last table.
    fn piece(&mut self, memory: &impl Memory, mut each: impl FnMut(&Arc<Module>, &(Entry, bool), &[u8])) -> bool {
        if self.batch.is_empty() {
            return self.read(memory);
        }
        let rest = self.batch.len().saturating_sub(PIECE);
        let piece = self.batch.split_off(rest);
        let tables = self.tables();
        let table = tables.get(self.table);
        for symbol in piece.iter().rev() {
            let name = match (table, &self.memory) {
                (Some(table), _) => table.name(symbol.0.name),
                (None, Some((tables, _))) => tables.name(memory, symbol.0.name),
                (None, None) => return false,
            };
            each(&self.module, symbol, &name);
        }
        true
    }

    /// Reads the next symbols of the current table, or goes on to the next table; false behind the last one.
    fn read(&mut self, memory: &impl Memory) -> bool {
        let mut buffer = vec![0; BATCH * SYMBOL_SIZE];
        let tables = self.tables();
        let mut versions = vec![0; BATCH * VERSION_SIZE];
        let versions_at = self.offset / SYMBOL_SIZE as u64 * VERSION_SIZE as u64;
        let count = if let Some(table) = tables.get(self.table) {
            table.read_versions(versions_at, &mut versions);
            table.elf.read_at(table.symbols, self.offset, &mut buffer)
        } else if let Some((tables, total)) = self.memory.as_ref().filter(|_| self.table == 0) {
            let left = (total * SYMBOL_SIZE as u64).saturating_sub(self.offset).min(buffer.len() as u64) as usize;
            tables.read_versions(memory, versions_at, &mut versions);
            tables.read(memory, self.offset, buffer.get_mut(..left).unwrap_or_default())
        } else {
            return false;
        };
        let entries = buffer.get(..count).unwrap_or_default().chunks_exact(SYMBOL_SIZE);
        let hidden =
            versions.chunks_exact(VERSION_SIZE).map(|version| version.last().is_some_and(|high| *high >= 0x80));
        self.batch = entries.zip(hidden).filter_map(|(entry, hidden)| Some((Entry::parse(entry)?, hidden))).collect();
        self.batch.sort_unstable_by_key(|(entry, _)| std::cmp::Reverse(entry.name));
        if count == 0 {
            (self.table, self.offset) = (self.table + 1, 0);
        } else {
            self.offset += count as u64;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::Live;

    fn find(pattern: &str, limit: usize) -> (Vec<Found>, bool) {
        let mut modules = Modules::default();
        modules.refresh(&Live).unwrap();
        let mut search = Search::new(&modules, Pattern::new(pattern), limit);
        while search.step(&Live) {}
        (search.found().to_vec(), search.is_cut())
    }

    #[used]
    static OBJECT: [u64; 3] = [1, 2, 3];

    #[test]
    fn finds_functions_and_data_of_this_program_libc_and_the_vdso() {
        let here = &raw const OBJECT as u64;
        let (found, cut) = find(concat!(module_path!(), "::OBJECT"), 10);
        let own = found.iter().find(|symbol| symbol.address == here).unwrap();
        assert_eq!((own.size, own.kind, cut), (24, Kind::Object, false));

        let (found, _) = find("libc.so.6:getpid", 10);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].address, libc::getpid as *const () as u64);
        assert_eq!((found[0].kind, found[0].module.name()), (Kind::Function, &b"libc.so.6"[..]));

        // Several versions: the default one is known.
        let (found, _) = find("libc.so.6:pthread_kill", 10);
        let newest: Vec<_> = found.iter().filter(|found| !found.old).map(|found| found.address).collect();
        assert!(found.len() > newest.len() && newest == [libc::pthread_kill as *const () as u64], "{found:?}");

        let (found, _) = find("[vdso]:__vdso_getc*", 10);
        assert_eq!(found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["__vdso_getcpu"]);

        let (found, _) = find("libc.so.6:errno", 10);
        assert!(found.iter().all(|found| found.kind == Kind::ThreadLocal && found.address < 4096), "{found:?}");
        assert!(!found.is_empty());
    }

    #[test]
    fn demangled_names_and_limits() {
        let (found, _) = find(concat!(module_path!(), "::demangled_names_and_limits"), 10);
        let here = demangled_names_and_limits as fn() as usize as u64;
        assert!(found.iter().any(|symbol| symbol.address == here), "{found:?}");
        let (found, cut) = find("*", 7);
        assert_eq!((found.len(), cut), (7, true));
        assert!(find("no_such_name_anywhere", 7).0.is_empty());
    }
}
