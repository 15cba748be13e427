//! Naming the addresses of one module: which files are asked, in which order, and what becomes of the answers.
//!
//! Context: the observer. Symbol tables give every function a name; debug information, where there is any,
//! gives it gdb's name, the functions inlined into it, and lines. Files are opened for one batch and closed.

use std::rc::Rc;

use super::super::modules::Module;
use super::bytes::Budget;
use super::debugfile::{self, DebugFile};
use super::demangle::{Style, demangle};
use super::dwarf::{DebugInfo, Parsed};
use super::elf::{Elf, SHT_DYNSYM, SHT_GNU_VERSYM, SHT_SYMTAB, Section};
use super::functions::{Functions, Link};
use super::symtab::{Search, Symbol, pick};
use super::targets::Targets;
use super::{dynamic, lines, minidebug, names, plt};
use crate::sys::far;
use crate::sys::memory::Memory;

/// Bytes of compressed sections unpacked for one module at most; beyond it, lines are left out.
pub const MOST_UNPACKED: u64 = 32 << 20;

/// A frame with its texts as they were read; the fields are [`super::SourceFrame`]'s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub function: Option<String>,
    pub offset: Option<u64>,
    pub file: Option<String>,
    pub line: u32,
    pub inlined: bool,
}

/// The files of a module, as far as they could be found.
pub struct Files {
    /// The file that is mapped.
    pub main: Option<Elf>,
    /// The file that its debug information was split off into.
    pub debug: Option<DebugFile>,
    /// Where debug information was looked for in vain.
    pub looked: Vec<Vec<u8>>,
    /// There may be more: a file server did not answer.
    pub silent: bool,
}

impl Files {
    /// Opens the files of `module`.
    pub fn open(module: &Module) -> Self {
        let missed = far::missed();
        let main = debugfile::of_module(module);
        let mut looked = Vec::new();
        let debug = match &main {
            Some(elf) if has_debug_info(elf) => None,
            main => debugfile::separate(module, main.as_ref(), &mut looked),
        };
        Self { main, debug, looked, silent: far::missed() != missed }
    }

    /// The file with debug information, and its path.
    pub fn with_debug_info<'a>(&'a self, module: &'a Module) -> Option<(&'a Elf, &'a [u8])> {
        let own = self.main.as_ref().map(|elf| (elf, module.path.as_slice()));
        let split = self.debug.as_ref().map(|file| (&file.elf, file.path.as_slice()));
        own.into_iter().chain(split).find(|(elf, _)| has_debug_info(elf))
    }
}

impl Files {
    /// The mini debug information of a file that was stripped.
    pub fn mini(&self) -> Option<Elf> {
        self.main.as_ref().filter(|elf| elf.section_of_kind(SHT_SYMTAB).is_none()).and_then(minidebug::open)
    }

    /// The tables that name addresses: the file's own, or else what is left of it, in the order in which they
    /// are believed. `mini` is [`Self::mini`].
    pub fn tables<'a>(&'a self, mini: Option<&'a Elf>) -> Vec<Table<'a>> {
        if let Some(table) = self.main.as_ref().and_then(|elf| Table::of(elf, SHT_SYMTAB)) {
            return vec![table];
        }
        let debug = self.debug.as_ref().map(|file| &file.elf);
        let parts = [(self.main.as_ref(), SHT_DYNSYM), (mini, SHT_SYMTAB), (debug, SHT_SYMTAB)];
        parts.into_iter().filter_map(|(elf, kind)| Table::of(elf?, kind)).collect()
    }
}

/// A symbol table of a file, and the string table that has its names.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    pub elf: &'a Elf,
    pub symbols: &'a Section,
    strings: &'a Section,
    versions: Option<&'a Section>,
}

impl<'a> Table<'a> {
    /// The table of `elf` of one kind.
    pub fn of(elf: &'a Elf, kind: u32) -> Option<Self> {
        let symbols = elf.section_of_kind(kind)?;
        let versions = elf.section_of_kind(SHT_GNU_VERSYM).filter(|_| kind == SHT_DYNSYM);
        Some(Self { elf, symbols, strings: elf.sections().get(symbols.link as usize)?, versions })
    }

    /// Reads `.gnu.version` from byte `offset` on; `buffer` stays as it is where there is none.
    pub fn read_versions(&self, offset: u64, buffer: &mut [u8]) {
        if let Some(versions) = self.versions {
            self.elf.read_at(versions, offset, buffer);
        }
    }

    /// The name at `offset` of the string table.
    pub fn name(&self, offset: u32) -> Vec<u8> {
        self.elf.string(self.strings, u64::from(offset))
    }
}

fn has_debug_info(elf: &Elf) -> bool {
    elf.section(".debug_info").or_else(|| elf.section(".zdebug_info")).is_some()
}

/// The frames at each of `targets` (before the load bias of `module`), innermost first.
pub fn module(memory: &impl Memory, module: &Module, targets: &Targets) -> Vec<Vec<Named>> {
    let files = Files::open(module);
    let symbols = symbols(memory, module, &files, targets);
    let mut frames: Vec<Vec<Named>> = symbols
        .into_iter()
        .zip(targets.addresses())
        .map(|(symbol, address)| {
            let (name, start) = symbol?;
            Some(Named { function: Some(name), offset: Some(address.wrapping_sub(start)), ..Named::default() })
        })
        .map(|frame| frame.into_iter().collect())
        .collect();
    if let Some((elf, path)) = files.with_debug_info(module) {
        let alternate = debugfile::alternate(elf, path);
        let budget = Budget::new(MOST_UNPACKED);
        if let Some(info) = DebugInfo::open(elf, alternate.as_ref(), &budget) {
            add_debug_info(&info, &budget, targets, &mut frames);
        }
        // What was found may be half: a chain without its inlined functions is false, a name is not.
        if budget.is_exhausted() {
            frames.iter_mut().for_each(strip);
        }
    }
    frames
}

/// Keeps the function that was compiled at an address, and nothing of what debug information added.
fn strip(frames: &mut Vec<Named>) {
    frames.retain(|frame| !frame.inlined);
    for frame in frames {
        (frame.file, frame.line) = (None, 0);
    }
}

/// The name and start of the symbol at each target.
fn symbols(memory: &impl Memory, module: &Module, files: &Files, targets: &Targets) -> Vec<Option<(String, u64)>> {
    let mini = files.mini();
    let main = files.main.as_ref();
    let tables = files.tables(mini.as_ref());
    if tables.is_empty() {
        let names = dynamic::names(memory, module, targets.addresses());
        return names.into_iter().map(|name| name.map(|(name, start)| (readable(&name), start))).collect();
    }
    let mut search = Search::new(targets.addresses());
    for (number, table) in tables.iter().enumerate() {
        search.offer_table(table.elf, table.symbols, number as u8);
    }
    let sections = main.or(files.debug.as_ref().map(|file| &file.elf)).map(Elf::sections).unwrap_or_default();
    let section_of = |address| sections.iter().find(|section| section.is_code_at(address));
    let found = search.finish(|address| section_of(address).map(|section| section.address));
    let name = |symbol: &Symbol| {
        let table = tables.get(usize::from(symbol.table));
        table.map(|table| table.name(symbol.name)).unwrap_or_default()
    };
    let named = found.into_iter().zip(targets.addresses()).map(|(symbols, address)| {
        // A stub has no symbol of its own: whatever lies before it is not its name.
        match section_of(*address).filter(|section| plt::is_stubs(section)) {
            Some(section) => plt::name(main?, section, *address).map(|(name, start)| (readable(&name) + "@plt", start)),
            None => pick(symbols, name).map(|(name, start)| (readable(&name), start)),
        }
    });
    named.collect()
}

/// A symbol's name without its version, demangled if it is mangled.
fn readable(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(split_version(name).0);
    demangle(&name, Style::Symbol).unwrap_or_else(|| name.into_owned())
}

/// A symbol's name, and its version with `@` or, for the default one, `@@`.
pub fn split_version(name: &[u8]) -> (&[u8], &[u8]) {
    let end = name.iter().position(|byte| *byte == b'@').filter(|end| *end > 0).unwrap_or(name.len());
    name.split_at_checked(end).unwrap_or_default()
}

fn add_debug_info(info: &DebugInfo, budget: &Rc<Budget>, targets: &Targets, frames: &mut [Vec<Named>]) {
    for group in info.units_of(targets).chunk_by(|one, other| one.0 == other.0) {
        let Some(unit) = group.first().and_then(|(offset, _)| info.unit_at(*offset)) else { continue };
        let addresses = group.iter().filter_map(|(_, target)| targets.addresses().get(*target).copied());
        let addresses = Targets::new(addresses.collect());
        let places = lines::places(&unit.unit, &addresses);
        let split = info.split(&unit.unit, budget);
        let lines = (info, &unit);
        let code = split.as_ref().map_or(lines, |(info, code)| (info, code));
        let chains = Functions::find(code.0, &code.1.unit, &addresses);
        let unit = Described { code, lines };
        let answers = addresses.addresses().iter().zip(chains).zip(places);
        for (((address, chain), place), (_, target)) in answers.zip(group) {
            if let Some(frames) = frames.get_mut(*target) {
                let symbol = std::mem::take(frames).pop();
                *frames = unit.frames(*address, chain, place, symbol);
            }
        }
    }
}

/// The unit that describes the functions, and the one that has the lines: the same, unless the first is in a
/// `.dwo` file.
struct Described<'a> {
    code: (&'a DebugInfo, &'a Rc<Parsed>),
    lines: (&'a DebugInfo, &'a Rc<Parsed>),
}

impl Described<'_> {
    /// Puts a place into `frame`. Call sites count files by the table of the unit that describes the functions.
    fn locate(&self, frame: &mut Named, place: Option<lines::Place>, is_call: bool) {
        let own = is_call && self.code.1.unit.line_program.is_some();
        let (info, unit) = if own { self.code } else { self.lines };
        if let Some((file, line)) = place.filter(|place| place.1 != 0) {
            frame.file = unit.files.get(file, || lines::file_name(info, &unit.unit, &self.code.1.unit, file));
            frame.line = if frame.file.is_some() { line } else { 0 };
        }
    }

    /// Frames from a chain of functions (outermost first), the place of the address, and its symbol.
    fn frames(
        &self,
        address: u64,
        chain: Vec<Link>,
        mut place: Option<lines::Place>,
        symbol: Option<Named>,
    ) -> Vec<Named> {
        let mut frames = Vec::with_capacity(chain.len().max(1));
        for link in chain.into_iter().rev() {
            let mut frame = Named {
                function: names::name(self.code.0, self.code.1, link.offset),
                offset: link.start.filter(|_| link.call.is_none()).map(|start| address.wrapping_sub(start)),
                inlined: link.call.is_some(),
                ..Named::default()
            };
            if frame.function.is_none() && !frame.inlined {
                frame.function = symbol.as_ref().and_then(|symbol| symbol.function.clone());
            }
            self.locate(&mut frame, place, !frames.is_empty());
            place = link.call;
            frames.push(frame);
        }
        if frames.is_empty() {
            // Code without a function entry: assembly, with lines perhaps.
            let mut frame = symbol.unwrap_or_default();
            self.locate(&mut frame, place, false);
            if frame != Named::default() {
                frames.push(frame);
            }
        }
        frames
    }
}
