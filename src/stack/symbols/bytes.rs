//! Bytes of a file that may be huge, compressed or damaged, read page by page, as a [`gimli::Reader`].
//!
//! Context: the observer. Files are never mapped: a file truncated under a mapping kills the host with
//! SIGBUS, and a mapping shows in the application's `/proc/PID/maps`. Nor are sections loaded whole: the
//! debug information of a browser is gigabytes. So a [`Source`] hands out pages, kept in a cache of
//! bounded size, and [`Bytes`] (the reader: a range of a source, and the page that it last touched) reads
//! from its page without looking anything up, as fast as from a slice in the common case.
//!
//! A compressed section is a source, too: decompressed only as far as it is read, and within a budget.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gimli::{Error, LittleEndian, ReaderOffsetId};
use rustc_hash::FxHashMap;

use super::compressed::Inflating;
use crate::sys::allocator;
use crate::sys::far::Reached;

/// Bytes that a page holds.
const PAGE: u64 = 16 << 10;
/// Pages of a file kept at once: 4 MB.
const PAGES: usize = 256;
/// The longest string or block that a reader hands out: mangled names of C++ templates reach 100 KB.
const LONGEST: u64 = 1 << 20;

/// What may still be decompressed; shared by the sections of one lookup.
#[derive(Debug)]
pub struct Budget {
    left: Cell<u64>,
    exhausted: Cell<bool>,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Rc<Self> {
        Rc::new(Self { left: Cell::new(bytes), exhausted: Cell::new(false) })
    }

    /// Takes `bytes` out; false, and remembered, when they are not there.
    pub fn take(&self, bytes: u64) -> bool {
        match self.left.get().checked_sub(bytes) {
            Some(left) => self.left.set(left),
            None => self.exhausted.set(true),
        }
        !self.exhausted.get()
    }

    /// Something was not read because the budget had run out.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted.get()
    }
}

type Page = Rc<Vec<u8>>;

/// Where pages come from.
enum Backing {
    File(Rc<Reached>),
    Inflating(RefCell<Inflating>, Rc<Budget>),
    /// One page that is everything.
    Memory(Page),
}

/// A sequence of bytes, read in pages.
pub struct Source {
    backing: Backing,
    length: u64,
    pages: RefCell<FxHashMap<u64, Page>>,
}

impl Source {
    fn new(backing: Backing, length: u64) -> Rc<Self> {
        Rc::new(Self { backing, length, pages: RefCell::default() })
    }

    /// The first `length` bytes of `file`.
    pub fn file(file: Rc<Reached>, length: u64) -> Rc<Self> {
        Self::new(Backing::File(file), length)
    }

    /// Bytes in memory.
    pub fn memory(bytes: Vec<u8>) -> Rc<Self> {
        let length = bytes.len() as u64;
        Self::new(Backing::Memory(Rc::new(bytes)), length)
    }

    /// What `stream` yields, claimed to be `length` bytes, charged to `budget` as it is decompressed.
    pub fn inflating(stream: Inflating, length: u64, budget: Rc<Budget>) -> Rc<Self> {
        Self::new(Backing::Inflating(RefCell::new(stream), budget), length)
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The page that holds `offset`, and where it starts; `None` when it cannot be had.
    fn page(&self, offset: u64) -> Option<(u64, Page)> {
        if offset >= self.length {
            return None;
        }
        let index = offset / PAGE;
        let start = index * PAGE;
        match &self.backing {
            Backing::Memory(all) => Some((0, Rc::clone(all))),
            Backing::File(file) => {
                let mut pages = self.pages.borrow_mut();
                if let Some(page) = pages.get(&index) {
                    return Some((start, Rc::clone(page)));
                }
                if allocator::is_exhausted() {
                    return None;
                }
                if pages.len() >= PAGES {
                    pages.clear();
                }
                let mut bytes = vec![0; PAGE.min(self.length - start) as usize];
                let count = read_full(file, &mut bytes, start);
                bytes.truncate(count);
                let page = Rc::new(bytes);
                pages.insert(index, Rc::clone(&page));
                Some((start, page))
            }
            Backing::Inflating(stream, budget) => {
                let mut pages = self.pages.borrow_mut();
                let mut stream = stream.try_borrow_mut().ok()?;
                while pages.len() as u64 <= index {
                    let next = pages.len() as u64;
                    let size = PAGE.min(self.length - next * PAGE);
                    if allocator::is_exhausted() || !budget.take(size) {
                        return None;
                    }
                    pages.insert(next, Rc::new(stream.read(size as usize)));
                }
                pages.get(&index).map(|page| (start, Rc::clone(page)))
            }
        }
    }

    /// Copies bytes from `offset` on; returns how many there were. Large reads from a file go past the page cache.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        if let Backing::File(file) = &self.backing
            && buffer.len() as u64 > PAGE
        {
            let room = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
            return buffer.get_mut(..room).map_or(0, |buffer| read_full(file, buffer, offset));
        }
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            let Some((start, page)) = self.page(at) else { break };
            let Some(bytes) = page.get((at - start) as usize..).filter(|bytes| !bytes.is_empty()) else { break };
            let count = bytes.len().min(rest.len());
            for (to, from) in rest.iter_mut().zip(bytes) {
                *to = *from;
            }
            done += count;
        }
        done
    }

    /// Exactly `length` bytes from `offset`, or nothing; never more than 64 MB.
    pub fn read_vec(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        if length > 64 << 20 || offset.checked_add(length)? > self.length {
            return None;
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length as usize).ok()?;
        bytes.resize(length as usize, 0);
        (self.read_at(&mut bytes, offset) as u64 == length).then_some(bytes)
    }

    /// A reader of `length` bytes from `offset`, cut at the end of what there is.
    pub fn bytes(self: &Rc<Self>, offset: u64, length: u64) -> Bytes {
        let position = offset.min(self.length);
        let end = offset.saturating_add(length).min(self.length).max(position);
        Bytes { source: Rc::clone(self), page: Page::default(), page_start: 0, position, end }
    }

    /// A reader of nothing.
    pub fn nothing() -> Bytes {
        Self::memory(Vec::new()).bytes(0, 0)
    }

    /// The bytes from `offset` to the next NUL, at most `limit`.
    pub fn c_string(&self, mut offset: u64, limit: usize) -> Vec<u8> {
        let mut text = Vec::new();
        while let Some((start, page)) = self.page(offset) {
            let Some(bytes) = page.get((offset - start) as usize..).filter(|bytes| !bytes.is_empty()) else { break };
            let end = bytes.iter().position(|byte| *byte == 0);
            text.extend_from_slice(bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default());
            if end.is_some() || text.len() > limit {
                break;
            }
            offset += bytes.len() as u64;
        }
        text.truncate(limit);
        text
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}

/// `pread` until `buffer` is full, the file ends or fails.
fn read_full(file: &Reached, buffer: &mut [u8], offset: u64) -> usize {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(done as u64)) {
            Ok(0) | Err(_) => break,
            Ok(count) => done += count,
        }
    }
    done
}

/// A range of a [`Source`] that is read from its start.
#[derive(Clone, Debug)]
pub struct Bytes {
    source: Rc<Source>,
    /// The page that was read last.
    page: Page,
    page_start: u64,
    position: u64,
    end: u64,
}

impl Bytes {
    /// Reads across pages.
    #[cold]
    fn read_slowly(&mut self, mut buffer: &mut [u8]) -> gimli::Result<()> {
        while !buffer.is_empty() {
            let at = self.position.wrapping_sub(self.page_start) as usize;
            let held = self.page.get(at..).unwrap_or_default();
            if held.is_empty() {
                let (start, page) = self.source.page(self.position).ok_or_else(|| self.ended())?;
                if page.len() as u64 + start <= self.position {
                    return Err(self.ended());
                }
                (self.page_start, self.page) = (start, page);
                continue;
            }
            let count = held.len().min(buffer.len());
            let (now, later) = buffer.split_at_mut(count);
            now.copy_from_slice(held.get(..count).ok_or(Error::Io)?);
            buffer = later;
            self.position += count as u64;
        }
        Ok(())
    }

    fn ended(&self) -> Error {
        Error::UnexpectedEof(ReaderOffsetId(self.position))
    }

    /// What is left, as text; at most a megabyte.
    pub fn text(&self) -> Option<String> {
        gimli::Reader::to_string_lossy(self).ok().map(Cow::into_owned)
    }
}

impl gimli::Reader for Bytes {
    type Endian = LittleEndian;
    type Offset = usize;

    #[inline]
    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    #[inline]
    fn len(&self) -> usize {
        (self.end - self.position) as usize
    }

    #[inline]
    fn empty(&mut self) {
        self.end = self.position;
    }

    #[inline]
    fn truncate(&mut self, length: usize) -> gimli::Result<()> {
        if length > self.len() {
            return Err(self.ended());
        }
        self.end = self.position + length as u64;
        Ok(())
    }

    #[inline]
    fn offset_from(&self, base: &Self) -> usize {
        self.position.wrapping_sub(base.position) as usize
    }

    #[inline]
    fn offset_id(&self) -> ReaderOffsetId {
        ReaderOffsetId(self.position)
    }

    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        (self.position..=self.end).contains(&id.0).then(|| (id.0 - self.position) as usize)
    }

    fn find(&self, byte: u8) -> gimli::Result<usize> {
        let limit = self.end.min(self.position.saturating_add(LONGEST));
        let (mut start, mut page) = (self.page_start, Rc::clone(&self.page));
        let mut at = self.position;
        while at < limit {
            let held = at.checked_sub(start).and_then(|at| page.get(at as usize..)).unwrap_or_default();
            if held.is_empty() {
                let next = self.source.page(at).ok_or_else(|| self.ended())?;
                if next.0 + next.1.len() as u64 <= at {
                    break;
                }
                (start, page) = next;
                continue;
            }
            let held = held.get(..held.len().min((limit - at) as usize)).unwrap_or_default();
            if let Some(index) = held.iter().position(|held| *held == byte) {
                return Ok((at - self.position) as usize + index);
            }
            at += held.len() as u64;
        }
        Err(self.ended())
    }

    #[inline]
    fn skip(&mut self, length: usize) -> gimli::Result<()> {
        if length > self.len() {
            return Err(self.ended());
        }
        self.position += length as u64;
        Ok(())
    }

    #[inline]
    fn split(&mut self, length: usize) -> gimli::Result<Self> {
        let mut first = self.clone();
        first.truncate(length)?;
        self.position += length as u64;
        Ok(first)
    }

    fn to_slice(&self) -> gimli::Result<Cow<'_, [u8]>> {
        let at = self.position.wrapping_sub(self.page_start) as usize;
        if let Some(bytes) = self.page.get(at..at.wrapping_add(self.len())) {
            return Ok(Cow::Borrowed(bytes));
        }
        if self.len() as u64 > LONGEST {
            return Err(Error::Io);
        }
        let mut bytes = vec![0; self.len()];
        self.clone().read_slice(&mut bytes)?;
        Ok(Cow::Owned(bytes))
    }

    fn to_string(&self) -> gimli::Result<Cow<'_, str>> {
        match self.to_slice()? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Error::BadUtf8),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Error::BadUtf8),
        }
    }

    fn to_string_lossy(&self) -> gimli::Result<Cow<'_, str>> {
        Ok(match self.to_slice()? {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        })
    }

    #[inline]
    fn read_slice(&mut self, buffer: &mut [u8]) -> gimli::Result<()> {
        let length = buffer.len() as u64;
        if length > self.end - self.position {
            return Err(self.ended());
        }
        let at = self.position.wrapping_sub(self.page_start) as usize;
        if let Some(bytes) = self.page.get(at..at.wrapping_add(buffer.len())) {
            buffer.copy_from_slice(bytes);
            self.position += length;
            return Ok(());
        }
        self.read_slowly(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gimli::Reader;

    #[test]
    fn reads_across_pages_and_stops_at_the_end() {
        let content: Vec<u8> = (0..3 * PAGE + 5).map(|index| (index % 251) as u8).collect();
        let path = std::env::temp_dir().join(format!("manhole-bytes-{}", std::process::id()));
        std::fs::write(&path, &content).unwrap();
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let source = Source::file(Rc::new(Reached::open(&name, 0, false).unwrap()), content.len() as u64);
        std::fs::remove_file(&path).unwrap();
        let mut reader = source.bytes(PAGE - 3, 10);
        let mut eight = [0; 8];
        reader.read_slice(&mut eight).unwrap();
        assert_eq!(&eight, &content[PAGE as usize - 3..PAGE as usize + 5]);
        assert_eq!(reader.len(), 2);
        assert!(reader.read_u32().is_err());
        let reader = source.bytes(PAGE - 3, u64::MAX);
        assert_eq!(reader.find(content[PAGE as usize + 9]).unwrap(), 12);
        assert!(source.bytes(PAGE * 9, 4).is_empty());
        assert_eq!(source.read_vec(0, content.len() as u64).unwrap(), content);
        assert_eq!(source.read_vec(1, content.len() as u64), None);
    }
}
