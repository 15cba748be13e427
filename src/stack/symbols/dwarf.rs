//! The debug information of one file: its units, found by address or by offset, and no more of it than is
//! needed.
//!
//! Context: the observer. A unit is found by `.debug_aranges`, or else by a walk over the unit headers that
//! reads each root entry alone. Only the units that hold wanted addresses, or the names that these refer to,
//! are parsed.

use std::cell::{OnceCell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugAbbrevOffset, DebugInfoOffset, DebugRngListsBase,
    DebugStrOffsetsBase, Dwarf, Reader, Section, Unit, UnitHeader, UnitType,
};
use rustc_hash::FxHashMap;

use super::bytes::{Budget, Bytes, Source};
use super::debugfile;
use super::elf::Elf;
use super::scopes::Scopes;
use super::targets::Targets;

/// Parsed units kept at once.
const UNITS: usize = 32;

/// A parsed unit.
pub struct Parsed {
    /// Header, abbreviations, bases.
    pub unit: Unit<Bytes>,
    /// `DW_AT_language` of its root.
    pub language: Option<gimli::DwLang>,
    /// The namespaces and classes of the unit, collected when first asked for.
    pub scopes: OnceCell<Scopes>,
    /// Names of functions by their entries, and of files by their numbers: the same few come again and again.
    pub names: Memo<usize>,
    /// See `names`.
    pub files: Memo<u64>,
}

/// Texts found already, `None` for those that are not there.
#[derive(Default)]
pub struct Memo<K>(RefCell<FxHashMap<K, Option<String>>>);

impl<K: Copy + Eq + std::hash::Hash> Memo<K> {
    /// The text of `key`, by `find` if it was not asked for before.
    pub fn get(&self, key: K, find: impl FnOnce() -> Option<String>) -> Option<String> {
        if let Some(known) = self.0.borrow().get(&key) {
            return known.clone();
        }
        let text = find();
        self.0.borrow_mut().insert(key, text.clone());
        text
    }
}

impl Parsed {
    fn new(unit: Unit<Bytes>) -> Self {
        let root = unit.entry(unit.header.root_offset());
        let language = match root.ok().and_then(|root| root.attr_value(gimli::DW_AT_language)) {
            Some(AttributeValue::Language(language)) => Some(language),
            _ => None,
        };
        Self { unit, language, scopes: OnceCell::new(), names: Memo::default(), files: Memo::default() }
    }
}

/// One file's debug information.
pub struct DebugInfo {
    /// The sections.
    pub dwarf: Dwarf<Bytes>,
    /// dwz's alternate file.
    pub alternate: Option<Box<DebugInfo>>,
    /// Offsets of all unit headers, ascending.
    headers: OnceCell<Vec<usize>>,
    units: RefCell<FxHashMap<usize, Rc<Parsed>>>,
}

impl DebugInfo {
    /// The sections of `elf`, and those of `alternate`; `None` when there is no `.debug_info`.
    pub fn open(elf: &Elf, alternate: Option<&Elf>, budget: &Rc<Budget>) -> Option<Self> {
        let load = |elf: &Elf| {
            let section = |id: gimli::SectionId| Ok::<_, Infallible>(elf.debug_section(id.name(), budget));
            let Ok(dwarf) = Dwarf::load(section);
            dwarf
        };
        let mut dwarf = load(elf);
        if dwarf.debug_info.reader().is_empty() {
            return None;
        }
        if let Some(alternate) = alternate {
            dwarf.set_sup(load(alternate));
        }
        let mut info = Self::of(dwarf);
        info.alternate = alternate.map(|alternate| Box::new(Self::of(load(alternate))));
        Some(info)
    }

    /// Loaded sections.
    pub fn of(dwarf: Dwarf<Bytes>) -> Self {
        Self { dwarf, alternate: None, headers: OnceCell::new(), units: RefCell::default() }
    }

    /// The unit whose header is at `offset`.
    pub fn unit_at(&self, offset: usize) -> Option<Rc<Parsed>> {
        if let Some(unit) = self.units.borrow().get(&offset) {
            return Some(Rc::clone(unit));
        }
        let header = self.dwarf.debug_info.header_from_offset(DebugInfoOffset(offset)).ok()?;
        let unit = self.dwarf.unit(header).ok()?;
        let parsed = Rc::new(Parsed::new(unit));
        let mut units = self.units.borrow_mut();
        if units.len() >= UNITS {
            units.clear();
        }
        units.insert(offset, Rc::clone(&parsed));
        Some(parsed)
    }

    /// The unit that holds the entry at `offset` of `.debug_info`.
    pub fn unit_of(&self, offset: usize) -> Option<Rc<Parsed>> {
        let headers = self.headers();
        let index = headers.partition_point(|start| *start <= offset).checked_sub(1)?;
        self.unit_at(*headers.get(index)?)
    }

    /// The `.dwo` file of a skeleton unit, which holds its functions, and the unit in there; `None` when there
    /// is none, it is not there, or it is another build's. Lines and addresses stay with the skeleton.
    pub fn split(&self, skeleton: &Unit<Bytes>, budget: &Rc<Budget>) -> Option<(DebugInfo, Rc<Parsed>)> {
        let id = skeleton.dwo_id?;
        let name = self.dwarf.attr_string(skeleton, skeleton.dwo_name().ok()??).ok()?.text()?;
        let folder = skeleton.comp_dir.as_ref().and_then(Bytes::text).unwrap_or_default();
        let elf = debugfile::split(&name, &folder)?;
        let section = |id: gimli::SectionId| {
            let name = id.dwo_name().map(|name| elf.debug_section(name, budget));
            Ok::<_, Infallible>(name.unwrap_or_else(Source::nothing))
        };
        let Ok(mut dwarf) = Dwarf::load(section);
        dwarf.make_dwo(&self.dwarf);
        let info = Self::of(dwarf);
        let mut headers = info.dwarf.units();
        while let Some(header) = headers.next().ok()? {
            let Some(mut unit) = info.dwarf.unit(header).ok().filter(|unit| unit.dwo_id == Some(id)) else { continue };
            unit.copy_relocated_attributes(skeleton);
            return Some((info, Rc::new(Parsed::new(unit))));
        }
        None
    }

    fn headers(&self) -> &[usize] {
        self.headers.get_or_init(|| {
            let mut offsets = Vec::new();
            let mut units = self.dwarf.units();
            while let Ok(Some(header)) = units.next() {
                offsets.extend(header.debug_info_offset().map(|offset| offset.0));
            }
            offsets
        })
    }

    /// The unit of each target, as pairs of unit offset and target, ascending. Targets of which nothing is
    /// known are absent.
    pub fn units_of(&self, targets: &Targets) -> Vec<(usize, usize)> {
        let mut units = vec![None; targets.len()];
        let mut fuel = super::targets::FUEL;
        self.find_by_aranges(targets, &mut units, &mut fuel);
        if units.contains(&None) {
            self.find_by_roots(targets, &mut units, &mut fuel);
        }
        let pairs = units.into_iter().enumerate().filter_map(|(target, unit)| Some((unit?, target)));
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable();
        pairs
    }

    fn find_by_aranges(&self, targets: &Targets, units: &mut [Option<usize>], fuel: &mut u64) {
        let mut headers = self.dwarf.debug_aranges.headers();
        while let Ok(Some(header)) = headers.next() {
            let mut entries = header.entries();
            while let Ok(Some(entry)) = entries.next() {
                let range = entry.range();
                for target in targets.within(range.begin, range.end, fuel) {
                    if let Some(unit @ None) = units.get_mut(target) {
                        *unit = Some(header.debug_info_offset().0);
                    }
                }
            }
        }
    }

    fn find_by_roots(&self, targets: &Targets, units: &mut [Option<usize>], fuel: &mut u64) {
        let mut headers = self.dwarf.units();
        let mut abbreviations = None;
        while let Ok(Some(header)) = headers.next() {
            if !matches!(header.type_(), UnitType::Compilation | UnitType::Skeleton(_)) {
                continue;
            }
            let Some(offset) = header.debug_info_offset().map(|offset| offset.0) else { continue };
            // A damaged unit is no reason to give up on the others.
            let _ = self.root_ranges(header, &mut abbreviations, |begin, end| {
                for target in targets.within(begin, end, fuel) {
                    if let Some(unit @ None) = units.get_mut(target) {
                        *unit = Some(offset);
                    }
                }
            });
        }
    }

    /// Calls `each` with the address ranges of a unit, parsing only its root entry.
    fn root_ranges(
        &self,
        header: UnitHeader<Bytes>,
        last: &mut Option<(DebugAbbrevOffset, Arc<Abbreviations>)>,
        each: impl FnMut(u64, u64),
    ) -> gimli::Result<()> {
        let place = header.debug_abbrev_offset();
        let abbreviations = match last {
            Some((offset, abbreviations)) if *offset == place => Arc::clone(abbreviations),
            _ => {
                let first = Arc::new(first_abbreviation(&self.dwarf, place)?);
                *last = Some((place, Arc::clone(&first)));
                first
            }
        };
        let code = header.range_from(header.root_offset()..)?.read_uleb128()?;
        let abbreviations = match abbreviations.get(code) {
            Some(_) => abbreviations,
            None => self.dwarf.abbreviations(&header)?,
        };
        let (encoding, kind) = (header.encoding(), self.dwarf.file_type);
        let mut unit = Unit {
            abbreviations: Arc::clone(&abbreviations),
            name: None,
            comp_dir: None,
            low_pc: 0,
            str_offsets_base: DebugStrOffsetsBase::default_for_encoding_and_file(encoding, kind),
            addr_base: gimli::DebugAddrBase(0),
            loclists_base: gimli::DebugLocListsBase::default_for_encoding_and_file(encoding, kind),
            rnglists_base: DebugRngListsBase::default_for_encoding_and_file(encoding, kind),
            line_program: None,
            dwo_id: None,
            header,
        };
        let root = unit.header.entry(&abbreviations, unit.header.root_offset())?;
        if let Some(AttributeValue::DebugAddrBase(base)) =
            root.attr_value(gimli::DW_AT_addr_base).or_else(|| root.attr_value(gimli::DW_AT_GNU_addr_base))
        {
            unit.addr_base = base;
        }
        if let Some(AttributeValue::DebugRngListsBase(base)) = root.attr_value(gimli::DW_AT_rnglists_base) {
            unit.rnglists_base = base;
        }
        if let Some(low) = root.attr_value(gimli::DW_AT_low_pc) {
            unit.low_pc = self.dwarf.attr_address(&unit, low)?.unwrap_or_default();
        }
        let pieces = Pieces {
            low: root.attr_value(gimli::DW_AT_low_pc),
            high: root.attr_value(gimli::DW_AT_high_pc),
            ranges: root.attr_value(gimli::DW_AT_ranges),
        };
        pieces.for_each(&self.dwarf, &unit, each)
    }
}

/// The attributes that say which addresses an entry covers.
#[derive(Default)]
pub struct Pieces {
    /// `DW_AT_low_pc`.
    pub low: Option<AttributeValue<Bytes>>,
    /// `DW_AT_high_pc`.
    pub high: Option<AttributeValue<Bytes>>,
    /// `DW_AT_ranges`.
    pub ranges: Option<AttributeValue<Bytes>>,
}

impl Pieces {
    /// Calls `each` with begin and end of every range. Code that the linker dropped is left at address 0 or 1.
    pub fn for_each(
        self,
        dwarf: &Dwarf<Bytes>,
        unit: &Unit<Bytes>,
        mut each: impl FnMut(u64, u64),
    ) -> gimli::Result<()> {
        if let Some(ranges) = self.ranges {
            let Some(mut list) = dwarf.attr_ranges(unit, ranges)? else { return Ok(()) };
            while let Some(range) = list.next()? {
                if range.begin > 1 {
                    each(range.begin, range.end);
                }
            }
            return Ok(());
        }
        let (Some(low), Some(high)) = (self.low, self.high) else { return Ok(()) };
        let Some(begin) = dwarf.attr_address(unit, low)?.filter(|low| *low > 1) else { return Ok(()) };
        let end = match high {
            AttributeValue::Udata(size) => begin.saturating_add(size),
            high => dwarf.attr_address(unit, high)?.unwrap_or(begin),
        };
        each(begin, end);
        Ok(())
    }
}

/// The first declaration of an abbreviation table, nearly always that of the root entry: the whole table of
/// every unit would be most of the cost of looking at root entries.
fn first_abbreviation(dwarf: &Dwarf<Bytes>, offset: DebugAbbrevOffset) -> gimli::Result<Abbreviations> {
    let mut reader = dwarf.debug_abbrev.reader().clone();
    reader.skip(offset.0)?;
    let mut start = reader.clone();
    if reader.read_uleb128()? != 0 {
        let _tag = reader.read_uleb128()?;
        let _children = reader.read_u8()?;
        loop {
            let (name, form) = (reader.read_uleb128()?, reader.read_uleb128()?);
            if form == u64::from(gimli::DW_FORM_implicit_const.0) {
                reader.read_sleb128()?;
            }
            if (name, form) == (0, 0) {
                break;
            }
        }
    }
    start.truncate(reader.offset_from(&start))?;
    let mut bytes = start.to_slice()?.into_owned();
    bytes.push(0);
    let length = bytes.len() as u64;
    DebugAbbrev::from(Source::memory(bytes).bytes(0, length)).abbreviations(DebugAbbrevOffset(0))
}
