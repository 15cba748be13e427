//! The name of a function from its entry in the debug information, as gdb's `bt` prints it.
//!
//! Context: the observer. An entry often names nothing itself: an inlined or out-of-line copy points at its
//! abstract origin, that at a declaration inside a class, and dwz moves either into a partial unit or the
//! alternate file. References are followed a bounded number of times.

use std::rc::Rc;

use gimli::{AttributeValue, DebuggingInformationEntry, UnitOffset};

use super::bytes::Bytes;
use super::demangle::{Style, demangle};
use super::dwarf::{DebugInfo, Parsed};
use super::scopes::Scopes;

/// References followed from one entry.
const MOST_HOPS: usize = 16;

/// An entry somewhere in a file or its alternate.
struct Place<'a> {
    info: &'a DebugInfo,
    unit: Rc<Parsed>,
    offset: UnitOffset,
}

impl<'a> Place<'a> {
    fn entry(&self) -> Option<DebuggingInformationEntry<Bytes>> {
        self.unit.unit.entry(self.offset).ok()
    }

    fn text(&self, value: Option<AttributeValue<Bytes>>) -> Option<String> {
        self.info.dwarf.attr_string(&self.unit.unit, value?).ok()?.text().filter(|text| !text.is_empty())
    }

    /// The entry that `value` refers to.
    fn follow(&self, value: AttributeValue<Bytes>) -> Option<Place<'a>> {
        let (info, offset) = match value {
            AttributeValue::UnitRef(offset) => {
                return Some(Place { info: self.info, unit: Rc::clone(&self.unit), offset });
            }
            AttributeValue::DebugInfoRef(offset) => (self.info, offset),
            AttributeValue::DebugInfoRefSup(offset) => (self.info.alternate.as_deref()?, offset),
            _ => return None,
        };
        let unit = info.unit_of(offset.0)?;
        let offset = offset.to_unit_offset(&unit.unit.header)?;
        Some(Place { info, unit, offset })
    }

    /// The names of the namespaces and classes around this entry, outermost first, each followed by `::`.
    fn qualifiers(&self) -> String {
        let scopes = self.unit.scopes.get_or_init(|| Scopes::collect(&self.unit.unit));
        let mut names: Vec<String> = scopes.around(self.offset).filter_map(|offset| self.scope(offset)).collect();
        names.reverse();
        names.iter().flat_map(|name| [name.as_str(), "::"]).collect()
    }

    /// The name of a namespace or class; `None` for an unnamed class.
    fn scope(&self, offset: UnitOffset) -> Option<String> {
        let mut place = Place { info: self.info, unit: Rc::clone(&self.unit), offset };
        for _ in 0..MOST_HOPS {
            let entry = place.entry()?;
            if let Some(name) = place.text(entry.attr_value(gimli::DW_AT_name)) {
                return Some(name);
            }
            match entry.attr_value(gimli::DW_AT_extension).or_else(|| entry.attr_value(gimli::DW_AT_specification)) {
                Some(next) => place = place.follow(next)?,
                None if entry.tag() == gimli::DW_TAG_namespace => return Some("(anonymous namespace)".to_owned()),
                None => return None,
            }
        }
        None
    }
}

/// The name of the function at `offset` of `unit`.
pub fn name(info: &DebugInfo, unit: &Rc<Parsed>, offset: UnitOffset) -> Option<String> {
    // Most entries are copies of a few functions, inlined here and there: remember those.
    let entry = unit.unit.entry(offset).ok()?;
    let origin = match entry.attr_value(gimli::DW_AT_abstract_origin) {
        Some(AttributeValue::UnitRef(origin)) if entry.attr(gimli::DW_AT_linkage_name).is_none() => origin,
        _ => offset,
    };
    unit.names.get(origin.0, || find(info, unit, origin))
}

fn find(info: &DebugInfo, unit: &Rc<Parsed>, offset: UnitOffset) -> Option<String> {
    let is_rust = unit.language == Some(gimli::DW_LANG_Rust);
    let mut place = Place { info, unit: Rc::clone(unit), offset };
    let (mut named, mut mangled) = (None, None);
    for _ in 0..MOST_HOPS {
        let entry = place.entry()?;
        // gdb names Rust functions by their entries, with generic arguments; others by what the linker sees.
        if !is_rust {
            let linkage = entry
                .attr_value(gimli::DW_AT_linkage_name)
                .or_else(|| entry.attr_value(gimli::DW_AT_MIPS_linkage_name));
            if let Some(linkage) = place.text(linkage) {
                match demangle(&linkage, Style::Function) {
                    None if linkage.starts_with("_Z") => mangled = mangled.or(Some(linkage)),
                    name => return name.or(Some(linkage)),
                }
            }
        }
        let text = place.text(entry.attr_value(gimli::DW_AT_name));
        let next = entry
            .attr_value(gimli::DW_AT_abstract_origin)
            .or_else(|| entry.attr_value(gimli::DW_AT_specification))
            .and_then(|next| place.follow(next));
        let Some(next) = next else {
            // The last entry is the declaration: it lies where the function belongs.
            named = text.map(|text| (text, place)).or(named);
            break;
        };
        named =
            named.or(
                text.map(|text| (text, Place { info: place.info, unit: Rc::clone(&place.unit), offset: place.offset }))
            );
        place = next;
    }
    let Some((text, place)) = named else { return mangled };
    let qualified = matches!(
        unit.language,
        Some(
            gimli::DW_LANG_Rust
                | gimli::DW_LANG_C_plus_plus
                | gimli::DW_LANG_C_plus_plus_03
                | gimli::DW_LANG_C_plus_plus_11
                | gimli::DW_LANG_C_plus_plus_14
                | gimli::DW_LANG_C_plus_plus_17
                | gimli::DW_LANG_C_plus_plus_20
                | gimli::DW_LANG_D
        )
    );
    Some(if qualified { place.qualifiers() + &text } else { text })
}
