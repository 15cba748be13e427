//! Naming addresses: function, offset, inlined frames, file and line.
//!
//! Context: the observer, and only when no thread is stopped. Names are made for a whole dump at once: its
//! addresses are sorted, and each module's files are opened, read in one pass for all of them, and closed.
//! So a dump of a 1 GB program reads its symbol table once and keeps some kilobytes, where an index would
//! cost seconds and hundreds of megabytes in a process that is not ours.
//!
//! | file | what it does |
//! |---|---|
//! | `lookup` | one module: which files are asked, and what becomes of the answers |
//! | `debugfile` | finds the module's own file and its separate debug files, and proves that they belong to it |
//! | `bytes`, `compressed` | files of any size read in pages; compressed sections |
//! | `elf`, `symtab`, `minidebug`, `plt` | section headers; names from symbol tables |
//! | `dynamic`, `perfmap` | names without a file: from memory, from a JIT compiler's map |
//! | `find`, `pattern` | the other way: symbols by name |
//! | `dwarf`, `functions`, `scopes`, `names`, `lines`, `targets` | debug information |
//! | `demangle` | readable names |

#![forbid(unsafe_code)]

mod bytes;
mod compressed;
mod debugfile;
mod demangle;
mod dwarf;
mod dynamic;
mod elf;
pub mod find;
mod functions;
mod lines;
mod lookup;
mod minidebug;
mod names;
pub mod pattern;
mod perfmap;
mod plt;
mod scopes;
mod symtab;
mod targets;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::modules::{Module, Modules};
use crate::sys::far;
use crate::sys::memory::Live;
use lookup::Named;
use targets::Targets;

/// One (possibly inlined) function at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFrame {
    /// The demangled name; `None` when no symbol covers the address.
    pub function: Option<Arc<str>>,
    /// Bytes from the function's start, for the function that was not inlined.
    pub offset: Option<u64>,
    /// The source file as the debug information records it.
    pub file: Option<Arc<str>>,
    /// The line, 0 when unknown.
    pub line: u32,
    /// Inlined into the next element.
    pub inlined: bool,
}

/// The frames of an address, and the module that they were found in.
#[derive(Debug)]
struct Entry {
    /// Held, so that another module never gets the same identity.
    module: Option<Arc<Module>>,
    frames: Box<[SourceFrame]>,
    /// There may be more to say: a file server was silent.
    half: bool,
}

/// Names addresses, with a bounded cache.
#[derive(Debug)]
pub struct Symbolizer {
    entries: FxHashMap<u64, Entry>,
    texts: FxHashSet<Arc<str>>,
    bytes: usize,
    bound: usize,
}

impl Default for Symbolizer {
    fn default() -> Self {
        Self::with_bound(8 << 20)
    }
}

impl Symbolizer {
    /// A cache that is emptied before a batch when it holds more than `bound` bytes. The batch itself is
    /// always kept: it is about to be printed.
    pub fn with_bound(bound: usize) -> Self {
        Self { entries: FxHashMap::default(), texts: FxHashSet::default(), bytes: 0, bound }
    }

    /// Resolves all of `addresses` (see [`super::Frame::lookup_address`]) at once.
    pub fn resolve(&mut self, modules: &Modules, addresses: &[u64]) {
        if self.bytes > self.bound {
            let bound = self.bound;
            *self = Self::with_bound(bound);
        }
        let mut wanted: Vec<u64> =
            addresses.iter().copied().filter(|address| !self.is_cached(modules, *address)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        // Modules do not overlap, so the addresses of one are neighbours.
        let identity = |address: &u64| modules.find(*address).map(Arc::as_ptr);
        for group in wanted.chunk_by(|one, other| identity(one) == identity(other)) {
            match group.first().and_then(|address| modules.find(*address)) {
                Some(module) => self.resolve_module(module, group),
                None => self.resolve_jit(group),
            }
        }
    }

    /// The functions at `address`, innermost inlined first; empty when nothing is known or it was
    /// not resolved.
    pub fn lookup(&self, modules: &Modules, address: u64) -> &[SourceFrame] {
        match self.entries.get(&address) {
            Some(entry) if is_same(entry.module.as_ref(), modules.find(address)) => &entry.frames,
            _ => &[],
        }
    }

    /// Where the debug information of `module` is, or was looked for.
    pub fn debug_info(&mut self, module: &Module) -> DebugInfoReport {
        let files = lookup::Files::open(module);
        let readable = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        let unpacked = files.with_debug_info(module).map(|(elf, _)| elf.unpacked_size());
        DebugInfoReport {
            too_large: unpacked.filter(|size| *size > lookup::MOST_UNPACKED),
            found: files.with_debug_info(module).map(|(_, path)| readable(path)),
            looked: files.looked.iter().map(|path| readable(path)).collect(),
            file: match files.main {
                _ if files.silent => OwnFile::Silent,
                None if module.path.starts_with(b"/") => OwnFile::Gone,
                _ => OwnFile::Read,
            },
        }
    }

    /// The section of its file that `address` of `module` lies in.
    pub fn section(&mut self, module: &Module, address: u64) -> Option<String> {
        let files = lookup::Files::open(module);
        let elf = files.main.as_ref().or(files.debug.as_ref().map(|file| &file.elf))?;
        let address = address.wrapping_sub(module.bias);
        let section = elf.sections().iter().find(|section| section.is_loaded_at(address))?;
        Some(String::from_utf8_lossy(&section.name).into_owned())
    }

    /// Code of a JIT compiler is resolved anew each time: it is rewritten in place. So is what a file server kept back.
    fn is_cached(&self, modules: &Modules, address: u64) -> bool {
        let module = modules.find(address);
        let cached = |entry: &Entry| !entry.half && is_same(entry.module.as_ref(), module);
        module.is_some() && self.entries.get(&address).is_some_and(cached)
    }

    fn resolve_module(&mut self, module: &Arc<Module>, addresses: &[u64]) {
        let targets = Targets::new(addresses.iter().map(|address| address.wrapping_sub(module.bias)).collect());
        let missed = far::missed();
        let found = lookup::module(&Live, module, &targets);
        let half = far::missed() != missed;
        for (target, frames) in targets.addresses().iter().zip(found) {
            let frames = frames.into_iter().map(|frame| self.keep(frame)).collect();
            let entry = Entry { module: Some(Arc::clone(module)), frames, half };
            self.insert(target.wrapping_add(module.bias), entry);
        }
    }

    fn resolve_jit(&mut self, addresses: &[u64]) {
        for (address, name) in addresses.iter().zip(perfmap::names(addresses)) {
            let frame = name.map(|(name, start)| SourceFrame {
                function: Some(name),
                offset: Some(address.wrapping_sub(start)),
                ..SourceFrame::default()
            });
            self.insert(*address, Entry { module: None, frames: frame.into_iter().collect(), half: false });
        }
    }

    fn insert(&mut self, address: u64, entry: Entry) {
        self.bytes += size_of::<(u64, Entry)>() * 2 + size_of_val(&*entry.frames);
        self.entries.insert(address, entry);
    }

    fn keep(&mut self, frame: Named) -> SourceFrame {
        SourceFrame {
            function: frame.function.map(|text| self.intern(text)),
            offset: frame.offset,
            file: frame.file.map(|text| self.intern(text)),
            line: frame.line,
            inlined: frame.inlined,
        }
    }

    /// The one copy of a text: names and files repeat from frame to frame.
    fn intern(&mut self, text: String) -> Arc<str> {
        if let Some(known) = self.texts.get(text.as_str()) {
            return Arc::clone(known);
        }
        let text: Arc<str> = Arc::from(text);
        self.bytes += text.len() + 64;
        self.texts.insert(Arc::clone(&text));
        text
    }
}

fn is_same(one: Option<&Arc<Module>>, other: Option<&Arc<Module>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// What is known about a module's debug information; `Display` is one line for the `modules` command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugInfoReport {
    /// The file that holds it.
    pub found: Option<String>,
    /// It is compressed, and unpacks to more bytes than are unpacked for one dump: lines may be missing.
    pub too_large: Option<u64>,
    /// Where it was looked for before.
    pub looked: Vec<String>,
    /// How the module's own file was found.
    pub file: OwnFile,
}

/// How the file that a module was loaded from was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnFile {
    /// It was read, or there is none.
    #[default]
    Read,
    /// It was deleted or replaced, and cannot be reached.
    Gone,
    /// Its file server does not answer.
    Silent,
}

impl fmt::Display for DebugInfoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Some(path) => write!(f, "debug info found at {path}")?,
            None if self.looked.is_empty() => write!(f, "no debug info; no build ID or debug link to look for")?,
            None => write!(f, "no debug info; looked for {}", self.looked.join(", "))?,
        }
        if let Some(size) = self.too_large {
            let limit = lookup::MOST_UNPACKED >> 20;
            write!(f, " (compressed; unpacks to {} MB, lines are left out beyond {limit} MB)", size >> 20)?;
        }
        match self.file {
            OwnFile::Read => Ok(()),
            OwnFile::Gone => write!(f, " (the file that is mapped was deleted or replaced)"),
            OwnFile::Silent => write!(f, " (a file server does not answer)"),
        }
    }
}
