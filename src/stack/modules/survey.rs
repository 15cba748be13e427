//! From mappings to modules.
//!
//! Context: the observer. What belongs to an object is decided by its program headers, not by which
//! lines look alike: a small object maps its first page twice, a text segment may have been moved to
//! anonymous huge pages, and a file may be loaded twice (`dlmopen`), or mapped as mere data.

use std::hash::Hasher;
use std::sync::Arc;

use rustc_hash::FxHasher;

use super::Module;
use super::elf::Image;
use super::maps::{self, Mapping};
use crate::sys::far;
use crate::sys::memory::Memory;
use crate::sys::procfs::File;

/// Lines that are searched for an executable one before a file's first page counts as data.
const RUN: usize = 64;
/// Modules that may lie nested in holes of each other.
const NESTING: usize = 4;

/// A mapping of a file, or an executable one without.
#[derive(Clone, Copy, Debug)]
struct Line {
    start: u64,
    end: u64,
    executable: bool,
    offset: u64,
    device: u64,
    inode: u64,
    /// Where its path lies in `Survey::paths`; empty for anonymous memory.
    path: (usize, usize),
}

/// One reading of `/proc/self/maps`, without what cannot matter here (20,000 stacks and heaps).
pub(super) struct Survey {
    lines: Vec<Line>,
    paths: Vec<u8>,
    executable: Vec<(u64, u64)>,
}

/// Modules, ascending, and what addresses belong to which, as in [`super::Modules`].
pub(super) type Found = (Vec<Arc<Module>>, Vec<(u64, u64, usize)>);

impl Survey {
    /// Reads the mappings from a `maps` file.
    pub(super) fn take(maps: &File) -> crate::sys::Result<Self> {
        let mut survey = Self { lines: Vec::new(), paths: Vec::new(), executable: Vec::new() };
        let mut far = far::Look::begin();
        maps::read(maps, |mapping| {
            if mapping.inode != 0 {
                far.add(mapping.start, mapping.end, mapping.device, mapping.path);
            }
            survey.add(mapping);
        })?;
        far.end();
        Ok(survey)
    }

    fn add(&mut self, mapping: &Mapping<'_>) {
        if mapping.executable {
            match self.executable.last_mut() {
                Some(last) if last.1 == mapping.start => last.1 = mapping.end,
                _ => self.executable.push((mapping.start, mapping.end)),
            }
        }
        let named = mapping.inode != 0 || mapping.path == b"[vdso]";
        if !named && !mapping.executable {
            return;
        }
        let path = if named { self.intern(mapping.path) } else { (0, 0) };
        let Mapping { start, end, executable, offset, device, inode, .. } = *mapping;
        self.lines.push(Line { start, end, executable, offset, device, inode, path });
    }

    /// Keeps `path`, once for lines that follow each other.
    fn intern(&mut self, path: &[u8]) -> (usize, usize) {
        if let Some(last) = self.lines.last()
            && self.printed(last) == path
        {
            return last.path;
        }
        let start = self.paths.len();
        self.paths.extend_from_slice(path);
        (start, self.paths.len())
    }

    fn printed(&self, line: &Line) -> &[u8] {
        self.paths.get(line.path.0..line.path.1).unwrap_or_default()
    }

    /// The executable ranges.
    pub(super) fn into_executable(self) -> Vec<(u64, u64)> {
        self.executable
    }

    fn same_file(&self, one: &Line, other: &Line) -> bool {
        (one.device, one.inode) == (other.device, other.inode) && self.printed(one) == self.printed(other)
    }

    /// The line that holds `address`.
    fn line(&self, address: u64) -> Option<&Line> {
        let index = self.lines.partition_point(|line| line.end <= address);
        self.lines.get(index).filter(|line| line.start <= address)
    }

    /// All modules; those among `known` that did not change are taken over.
    pub(super) fn modules(&self, memory: &impl Memory, known: &[Arc<Module>]) -> Found {
        let mut modules: Vec<(Arc<Module>, Line)> = Vec::new();
        let mut index = 0;
        while let Some(line) = self.lines.get(index) {
            let tail = self.lines.get(index..).unwrap_or_default();
            index += 1;
            if self.printed(line).is_empty() {
                continue;
            }
            let recent = modules.iter().rev().take(NESTING);
            if recent.into_iter().any(|(module, first)| line.start < module.end && self.same_file(first, line)) {
                continue;
            }
            if let Some(old) = self.known(memory, line, known) {
                modules.push((old, *line));
            } else if let Some(image) = self.image(memory, tail) {
                modules.push((Arc::new(self.module(memory, line, image)), *line));
            } else {
                // Code that is no ELF object, or one whose headers cannot be read: a run of mappings of one file.
                let run = self.run(tail);
                let end = run.last().map_or(line.end, |last| last.end);
                if run.iter().any(|line| line.executable) {
                    let image = Image { start: line.start, end, ..Image::default() };
                    modules.push((Arc::new(self.module(memory, line, image)), *line));
                }
                index += run.len().saturating_sub(1);
            }
        }
        modules.sort_by_key(|(module, _)| module.start);
        let ranges = self.ranges(&modules);
        (modules.into_iter().map(|(module, _)| module).collect(), ranges)
    }

    /// Adjacent lines of one file, from the first of `tail` on, up to where the file begins anew.
    fn run<'a>(&self, tail: &'a [Line]) -> &'a [Line] {
        let mut length = 1;
        for pair in tail.windows(2) {
            match pair {
                [one, next] if one.end == next.start && self.same_file(one, next) && next.offset > one.offset => {
                    length += 1
                }
                _ => break,
            }
        }
        tail.get(..length).unwrap_or(tail)
    }

    /// The module that was here before, if it still is. What `maps` shows does not tell: a plugin that is
    /// closed, built anew and opened again gets the same address and, on most file systems, the same inode.
    fn known(&self, memory: &impl Memory, line: &Line, known: &[Arc<Module>]) -> Option<Arc<Module>> {
        let index = known.partition_point(|module| module.start <= line.start).checked_sub(1)?;
        let old = known.get(index).filter(|module| module.first_mapping == (line.start, line.end))?;
        let executable = self.executable.partition_point(|range| range.1 <= line.start);
        let code = self.executable.get(executable).is_some_and(|range| range.0 < old.end);
        let (path, deleted) = maps::path(self.printed(line));
        let same =
            code && (old.device, old.inode) == (line.device, line.inode) && old.path == path && old.deleted == deleted;
        (same && is_same_page(memory, old)).then(|| Arc::clone(old))
    }

    /// The ELF object that begins with the first of `tail`. Its memory is read only if code of the
    /// same file follows: to touch a file mapped as data could mean to wait for a disk.
    fn image(&self, memory: &impl Memory, tail: &[Line]) -> Option<Image> {
        let first = tail.first()?;
        if first.offset != 0 {
            return None;
        }
        let near =
            tail.iter().take(RUN).take_while(|line| self.printed(line).is_empty() || self.same_file(first, line));
        if !near.into_iter().any(|line| line.executable) {
            return None;
        }
        let image = Image::read(memory, first.start, |offset| {
            let holds = |line: &&Line| {
                self.same_file(first, line) && (line.offset..line.offset + (line.end - line.start)).contains(&offset)
            };
            tail.iter().take(RUN).find(holds).map(|line| line.start + (offset - line.offset))
        })?;
        // An ELF file mapped as a whole to be read is no module: where its code would be is none.
        let is_code = |address: &u64| {
            let line = self.line(*address);
            line.is_some_and(|line| line.executable && (line.inode == 0 || self.same_file(first, line)))
        };
        (!image.code.is_empty() && image.code.iter().all(is_code)).then_some(image)
    }

    fn module(&self, memory: &impl Memory, line: &Line, image: Image) -> Module {
        let (path, deleted) = maps::path(self.printed(line));
        let Image { bias, start, end, eh_frame_hdr, dynamic, build_id, .. } = image;
        let (device, inode, first_mapping) = (line.device, line.inode, (line.start, line.end));
        let first_page = first_page(memory, line.start);
        Module {
            path,
            deleted,
            device,
            inode,
            start,
            end,
            first_mapping,
            first_page,
            bias,
            eh_frame_hdr,
            dynamic,
            build_id,
        }
    }

    /// What addresses belong to which module: its whole extent, less what other files were mapped
    /// into its holes.
    fn ranges(&self, modules: &[(Arc<Module>, Line)]) -> Vec<(u64, u64, usize)> {
        let mut ranges = Vec::with_capacity(modules.len());
        for (index, (module, first)) in modules.iter().enumerate() {
            let mut start = module.start;
            let from = self.lines.partition_point(|line| line.end <= module.start);
            for line in self.lines.get(from..).unwrap_or_default() {
                if line.start >= module.end {
                    break;
                }
                if line.inode != 0 && !self.same_file(first, line) {
                    if start < line.start {
                        ranges.push((start, line.start, index));
                    }
                    start = line.end;
                }
            }
            if start < module.end {
                ranges.push((start, module.end, index));
            }
        }
        ranges.sort_unstable();
        // Two extents that overlap although no file lies between them: damaged headers. The lower one yields.
        for at in 1..ranges.len() {
            let next = ranges.get(at).map_or(u64::MAX, |range| range.0);
            if let Some(range) = ranges.get_mut(at - 1) {
                range.1 = range.1.min(next);
            }
        }
        ranges
    }
}

/// A digest of the page at `address`, where an object has its headers, and next to them its build ID: another
/// build of the same file differs there. 1 µs, and for code that runs the page is there.
fn first_page(memory: &impl Memory, address: u64) -> Option<u64> {
    let mut page = [0; 4096];
    let count @ 1.. = memory.read(address, &mut page) else { return None };
    let mut hasher = FxHasher::default();
    hasher.write(page.get(..count).unwrap_or_default());
    Some(hasher.finish())
}

/// Whether the first page of `module` is what it was. One that cannot be read any more was unmapped, unless a silent file
/// server keeps it back.
pub fn is_same_page(memory: &impl Memory, module: &Module) -> bool {
    let read = || first_page(memory, module.first_mapping.0);
    let is_kept_back = || {
        let missed = far::missed();
        read().is_none() && far::missed() != missed
    };
    let now = read();
    now == module.first_page || now.is_none() && is_kept_back()
}
