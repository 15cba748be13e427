//! The frame of an ELF file: its sections, build ID and links to other files.
//!
//! Context: the observer. 64-bit little-endian only, as the process itself is. Only headers are held;
//! what a section contains is read when it is needed. Nothing in the file is believed: every offset and
//! count is checked against what can be read.

use std::rc::Rc;

use super::bytes::{Budget, Bytes, Source};
use super::compressed::{Algorithm, Inflating};

/// Section headers read at most: linked files have fewer than a hundred.
const MOST_SECTIONS: u64 = 4096;
/// Notes, section names and links are short.
const LONGEST_SMALL_SECTION: u64 = 256 << 10;

/// Section types and flags (gABI).
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;
/// The table of all symbols.
pub const SHT_SYMTAB: u32 = 2;
/// The table of the symbols that the loader needs.
pub const SHT_DYNSYM: u32 = 11;
/// The versions of [`SHT_DYNSYM`]'s symbols (LSB, Symbol Versioning).
pub const SHT_GNU_VERSYM: u32 = 0x6fff_ffff;
/// Relocations with addends.
pub const SHT_RELA: u32 = 4;
const SHF_ALLOC: u64 = 2;
const SHF_EXECINSTR: u64 = 4;
const SHF_TLS: u64 = 0x400;
const SHF_COMPRESSED: u64 = 0x800;
const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;

/// One section header.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Its name.
    pub name: Vec<u8>,
    /// `SHT_*`.
    pub kind: u32,
    flags: u64,
    /// Where it is loaded, before the load bias.
    pub address: u64,
    offset: u64,
    /// Bytes in memory, and in the file unless it is `SHT_NOBITS`.
    pub size: u64,
    /// Index of the section that this one refers to.
    pub link: u32,
    /// Size of one of the records that it consists of, 0 when it is none.
    pub entry_size: u64,
}

impl Section {
    /// Whether it holds code that covers `address`.
    pub fn is_code_at(&self, address: u64) -> bool {
        let code = SHF_ALLOC | SHF_EXECINSTR;
        self.flags & code == code && address.checked_sub(self.address).is_some_and(|offset| offset < self.size)
    }

    /// Whether it is loaded so that it covers `address`. What each thread has its own copy of covers none.
    pub fn is_loaded_at(&self, address: u64) -> bool {
        self.flags & (SHF_ALLOC | SHF_TLS) == SHF_ALLOC
            && address.checked_sub(self.address).is_some_and(|offset| offset < self.size)
    }
}

/// An ELF file.
#[derive(Debug)]
pub struct Elf {
    source: Rc<Source>,
    sections: Vec<Section>,
    build_id: Vec<u8>,
}

/// Little-endian fields of a record.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// See [`u16_at`].
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// See [`u16_at`].
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

impl Elf {
    /// Reads the headers; `None` when this is no ELF file of our kind.
    pub fn parse(source: Rc<Source>) -> Option<Self> {
        let header = source.read_vec(0, 64)?;
        // Magic, ELFCLASS64, ELFDATA2LSB.
        if header.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let sections = section_headers(&source, &header).unwrap_or_default();
        let mut elf = Self { source, sections, build_id: Vec::new() };
        elf.build_id = elf.find_build_id(&header).unwrap_or_default();
        Some(elf)
    }

    /// All section headers.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The section called `name`, if it has content in this file.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name.as_bytes() && section.kind != SHT_NOBITS)
    }

    /// The first section of a type.
    pub fn section_of_kind(&self, kind: u32) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind)
    }

    /// The build ID; empty when there is none.
    pub fn build_id(&self) -> &[u8] {
        &self.build_id
    }

    /// The bytes of a section as they are in the file.
    pub fn raw(&self, section: &Section) -> Bytes {
        if section.kind == SHT_NOBITS { Source::nothing() } else { self.source.bytes(section.offset, section.size) }
    }

    /// Reads from a section into `buffer`; returns how many bytes there were.
    pub fn read_at(&self, section: &Section, offset: u64, buffer: &mut [u8]) -> usize {
        let room = section.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        if section.kind == SHT_NOBITS {
            return 0;
        }
        buffer.get_mut(..room).map_or(0, |buffer| self.source.read_at(buffer, section.offset.saturating_add(offset)))
    }

    /// The NUL-terminated text at `offset` of a string table.
    pub fn string(&self, strings: &Section, offset: u64) -> Vec<u8> {
        let limit = strings.size.saturating_sub(offset).min(64 << 10) as usize;
        self.source.c_string(strings.offset.saturating_add(offset), limit)
    }

    /// A whole section that should be small.
    pub fn small(&self, name: &str) -> Option<Vec<u8>> {
        let section = self.section(name).filter(|section| section.size <= LONGEST_SMALL_SECTION)?;
        self.source.read_vec(section.offset, section.size)
    }

    /// A whole section, of at most `limit` bytes.
    pub fn content(&self, name: &str, limit: u64) -> Option<Vec<u8>> {
        let section = self.section(name).filter(|section| section.size <= limit)?;
        self.source.read_vec(section.offset, section.size)
    }

    /// A section of debug information, decompressed on the way if need be; nothing when it is absent or damaged.
    pub fn debug_section(&self, name: &str, budget: &Rc<Budget>) -> Bytes {
        self.section(name)
            .map(|section| match section.flags & SHF_COMPRESSED {
                0 => Some(self.raw(section)),
                _ => self.compressed(section, budget),
            })
            .unwrap_or_else(|| self.old_compressed(name, budget))
            .unwrap_or_else(Source::nothing)
    }

    /// What the compressed sections of debug information would unpack to.
    pub fn unpacked_size(&self) -> u64 {
        let packed = self.sections.iter().filter(|section| section.flags & SHF_COMPRESSED != 0);
        let size = |section: &Section| u64_at(&self.source.read_vec(section.offset, 24)?, 8);
        packed.filter_map(size).fold(0, u64::saturating_add)
    }

    /// `Elf64_Chdr`: type, reserved, size, alignment; the stream follows.
    fn compressed(&self, section: &Section, budget: &Rc<Budget>) -> Option<Bytes> {
        let header = self.source.read_vec(section.offset, 24)?;
        let algorithm = match u32_at(&header, 0)? {
            1 => Algorithm::Zlib,
            2 => Algorithm::Zstd,
            _ => return None,
        };
        self.inflate(section, 24, u64_at(&header, 8)?, algorithm, budget)
    }

    /// `.zdebug_*`: "ZLIB", the size in big-endian order, the stream.
    fn old_compressed(&self, name: &str, budget: &Rc<Budget>) -> Option<Bytes> {
        let section = self.section(&name.replacen(".debug_", ".zdebug_", 1))?;
        let header = self.source.read_vec(section.offset, 12)?;
        let size = header.strip_prefix(b"ZLIB")?.try_into().ok().map(u64::from_be_bytes)?;
        self.inflate(section, 12, size, Algorithm::Zlib, budget)
    }

    fn inflate(
        &self,
        section: &Section,
        header: u64,
        size: u64,
        algorithm: Algorithm,
        budget: &Rc<Budget>,
    ) -> Option<Bytes> {
        let (offset, length) = (section.offset.checked_add(header)?, section.size.checked_sub(header)?);
        let stream = Inflating::new(&self.source, offset, length, algorithm, budget)?;
        Some(Source::inflating(stream, size, Rc::clone(budget)).bytes(0, size))
    }

    /// `.gnu_debuglink`: a file name, padding to four bytes, the CRC32 of the file.
    pub fn debug_link(&self) -> Option<(Vec<u8>, u32)> {
        let content = self.small(".gnu_debuglink")?;
        let end = content.iter().position(|byte| *byte == 0)?;
        Some((content.get(..end)?.to_vec(), u32_at(&content, (end + 4) & !3)?))
    }

    /// `.gnu_debugaltlink`: a path and the build ID of dwz's alternate file.
    pub fn alternate_link(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let content = self.small(".gnu_debugaltlink")?;
        let end = content.iter().position(|byte| *byte == 0)?;
        Some((content.get(..end)?.to_vec(), content.get(end + 1..)?.to_vec()))
    }

    /// The CRC32 of the whole file, as a debug link has it; `None` for a file beyond `limit` bytes.
    pub fn crc32(&self, limit: u64) -> Option<u32> {
        if self.source.length() > limit {
            return None;
        }
        let mut crc = flate2::Crc::new();
        let mut buffer = vec![0; 256 << 10];
        let mut offset = 0;
        while offset < self.source.length() {
            let count = self.source.read_at(&mut buffer, offset);
            if count == 0 {
                return None;
            }
            crc.update(buffer.get(..count)?);
            offset += count as u64;
        }
        Some(crc.sum())
    }

    /// From the note sections, which a separate debug file keeps, or else the note segments.
    fn find_build_id(&self, header: &[u8]) -> Option<Vec<u8>> {
        let sections = self.sections.iter().filter(|section| section.kind == SHT_NOTE);
        let mut places: Vec<(u64, u64)> = sections.map(|section| (section.offset, section.size)).collect();
        let (offset, size, count) = (u64_at(header, 32)?, u16_at(header, 54)?, u16_at(header, 56)?);
        if size == 56 {
            let table = self.source.read_vec(offset, u64::from(count) * 56).unwrap_or_default();
            for entry in table.chunks_exact(56) {
                if u32_at(entry, 0) == Some(PT_NOTE) {
                    places.push((u64_at(entry, 8)?, u64_at(entry, 32)?));
                }
            }
        }
        let notes = places.into_iter().filter(|place| place.1 <= LONGEST_SMALL_SECTION);
        notes.filter_map(|(offset, size)| build_id_of(&self.source.read_vec(offset, size)?)).next()
    }
}

/// The build ID among notes: name size, description size, type, then both padded to four bytes.
fn build_id_of(mut notes: &[u8]) -> Option<Vec<u8>> {
    loop {
        let (name, description) = (u32_at(notes, 0)? as usize, u32_at(notes, 4)? as usize);
        let start = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let end = start.checked_add(description)?;
        if u32_at(notes, 8)? == NT_GNU_BUILD_ID && notes.get(12..16)? == b"GNU\0" {
            return notes.get(start..end).map(<[u8]>::to_vec).filter(|id| !id.is_empty());
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
}

fn section_headers(source: &Source, header: &[u8]) -> Option<Vec<Section>> {
    let (offset, size) = (u64_at(header, 40)?, u16_at(header, 58)?);
    let (mut count, mut names) = (u64::from(u16_at(header, 60)?), u32::from(u16_at(header, 62)?));
    if offset == 0 || size != 64 {
        return None;
    }
    // Beyond 0xff00 sections, the first header holds the numbers.
    if count == 0 || names == 0xffff {
        let first = source.read_vec(offset, 64)?;
        count = if count == 0 { u64_at(&first, 32)? } else { count };
        names = if names == 0xffff { u32_at(&first, 40)? } else { names };
    }
    let table = source.read_vec(offset, count.min(MOST_SECTIONS) * 64)?;
    let name_table = table.chunks_exact(64).nth(names as usize).and_then(|entry| {
        let (offset, size) = (u64_at(entry, 24)?, u64_at(entry, 32)?);
        source.read_vec(offset, size.min(LONGEST_SMALL_SECTION))
    });
    let name_table = name_table.unwrap_or_default();
    let section = |entry: &[u8]| {
        let name = name_table.get(u32_at(entry, 0)? as usize..).unwrap_or_default();
        Some(Section {
            name: name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
            kind: u32_at(entry, 4)?,
            flags: u64_at(entry, 8)?,
            address: u64_at(entry, 16)?,
            offset: u64_at(entry, 24)?,
            size: u64_at(entry, 32)?,
            link: u32_at(entry, 40)?,
            entry_size: u64_at(entry, 56)?,
        })
    };
    table.chunks_exact(64).map(section).collect()
}
