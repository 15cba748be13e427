//! The functions that cover an address: the one that was compiled there, and those inlined into it.
//!
//! Context: the observer. One pass over the entries of a unit serves all its targets.

use gimli::{AttributeValue, Range, Unit, UnitOffset};

use super::bytes::Bytes;
use super::dwarf::{DebugInfo, Pieces};
use super::targets::{FUEL, Targets};

/// Inlined functions at one address at most.
const DEEPEST: usize = 128;

/// A function at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its entry in the unit.
    pub offset: UnitOffset,
    /// It was inlined, and was called from here: index of the file, and line.
    pub call: Option<(u64, u32)>,
    /// Where it starts, if the address is in the part that begins with its entry point; a part that the
    /// compiler moved away (`.cold`) has no meaningful offset.
    pub start: Option<u64>,
    depth: isize,
    /// The piece of its code that the address is in.
    range: Range,
}

/// What one pass over a unit yields: for each target, the functions around it, outermost first.
pub struct Functions {
    chains: Vec<Vec<Link>>,
}

impl Functions {
    /// The functions of `unit` around each of `targets`. What comes before a damaged entry is kept.
    pub fn find(info: &DebugInfo, unit: &Unit<Bytes>, targets: &Targets) -> Vec<Vec<Link>> {
        let mut functions = Self { chains: vec![Vec::new(); targets.len()] };
        let _ = functions.read(info, unit, targets);
        functions.chains
    }

    fn read(&mut self, info: &DebugInfo, unit: &Unit<Bytes>, targets: &Targets) -> gimli::Result<()> {
        let mut entries = unit.entries_raw(None)?;
        // Functions around the current entry, innermost last: depth and offset.
        let mut open: Vec<(isize, UnitOffset)> = Vec::new();
        let mut fuel = FUEL;
        while !entries.is_empty() {
            let (depth, offset) = (entries.next_depth(), entries.next_offset());
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            let inlined = match abbreviation.tag() {
                gimli::DW_TAG_subprogram => false,
                gimli::DW_TAG_inlined_subroutine => true,
                _ => {
                    entries.skip_attributes(abbreviation.attributes())?;
                    continue;
                }
            };
            while open.pop_if(|function| function.0 >= depth).is_some() {}
            let (mut pieces, mut call) = (Pieces::default(), (0, 0));
            for specification in abbreviation.attributes() {
                let attribute = entries.read_attribute(*specification)?;
                match attribute.name() {
                    gimli::DW_AT_low_pc => pieces.low = Some(attribute.value()),
                    gimli::DW_AT_high_pc => pieces.high = Some(attribute.value()),
                    gimli::DW_AT_ranges => pieces.ranges = Some(attribute.value()),
                    gimli::DW_AT_call_file => {
                        call.0 = match attribute.value() {
                            AttributeValue::FileIndex(index) => index,
                            value => value.udata_value().unwrap_or_default(),
                        }
                    }
                    gimli::DW_AT_call_line => {
                        call.1 = attribute.udata_value().and_then(|line| line.try_into().ok()).unwrap_or_default();
                    }
                    _ => {}
                }
            }
            let mut entry = None;
            // A range list that cannot be read makes this function unknown, not the others.
            let _ = pieces.for_each(&info.dwarf, unit, |begin, end| {
                let start = *entry.get_or_insert(begin);
                for target in targets.within(begin, end, &mut fuel) {
                    let link = Link {
                        offset,
                        call: inlined.then_some(call),
                        start: (start == begin).then_some(start),
                        depth,
                        range: Range { begin, end },
                    };
                    if let Some(chain) = self.chains.get_mut(target) {
                        add(chain, link, &open);
                    }
                }
            });
            if abbreviation.has_children() {
                open.push((depth, offset));
            }
        }
        Ok(())
    }
}

/// Puts `link` under the functions found so far, if it is nested in the last of them.
fn add(chain: &mut Vec<Link>, link: Link, open: &[(isize, UnitOffset)]) {
    let is_open = |last: &Link| {
        let index = open.binary_search_by_key(&last.depth, |function| function.0);
        index.is_ok_and(|index| open.get(index).is_some_and(|function| function.1 == last.offset))
    };
    let nested = chain.last().is_some_and(|last| last.depth < link.depth && is_open(last));
    if link.call.is_some() {
        if nested && chain.len() < DEEPEST {
            chain.push(link);
        }
        return;
    }
    // A function of its own, inside another (a nested function, a method of a local class) or beside it (an
    // alias, or merged code): gdb takes the innermost, and the last of equals.
    if chain.first().is_none_or(|first| nested || link.range.begin > first.range.begin || link.range == first.range) {
        chain.clear();
        chain.push(link);
    }
}
