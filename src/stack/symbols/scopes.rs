//! The namespaces and classes of a unit, to qualify the names inside them.
//!
//! Context: the observer. Built for a unit only when a name needs it: an entry does not say what it is in,
//! so this takes a pass over the whole unit.

use gimli::{DwTag, Unit, UnitOffset};

use super::bytes::Bytes;

/// Scopes of one unit at most.
const MOST: usize = 1 << 18;

/// A namespace or class, and the entries that it spans.
#[derive(Debug)]
struct Scope {
    start: usize,
    end: usize,
    parent: Option<usize>,
}

/// All scopes of a unit, in the order of their entries.
#[derive(Debug, Default)]
pub struct Scopes(Vec<Scope>);

fn is_scope(tag: DwTag) -> bool {
    matches!(
        tag,
        gimli::DW_TAG_namespace
            | gimli::DW_TAG_module
            | gimli::DW_TAG_structure_type
            | gimli::DW_TAG_class_type
            | gimli::DW_TAG_union_type
            | gimli::DW_TAG_interface_type
            | gimli::DW_TAG_enumeration_type
    )
}

impl Scopes {
    /// Reads the unit. What comes before a damaged entry is kept.
    pub fn collect(unit: &Unit<Bytes>) -> Self {
        let mut scopes = Self::default();
        let _ = scopes.read(unit);
        scopes
    }

    fn read(&mut self, unit: &Unit<Bytes>) -> gimli::Result<()> {
        let mut entries = unit.entries_raw(None)?;
        // Open scopes, innermost last: depth and index.
        let mut open: Vec<(isize, usize)> = Vec::new();
        while !entries.is_empty() {
            let (depth, offset) = (entries.next_depth(), entries.next_offset().0);
            while let Some((_, index)) = open.pop_if(|scope| scope.0 >= depth) {
                if let Some(scope) = self.0.get_mut(index) {
                    scope.end = offset;
                }
            }
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            if abbreviation.has_children() && is_scope(abbreviation.tag()) && self.0.len() < MOST {
                let parent = open.last().map(|scope| scope.1);
                open.push((depth, self.0.len()));
                self.0.push(Scope { start: offset, end: usize::MAX, parent });
            }
            entries.skip_attributes(abbreviation.attributes())?;
        }
        Ok(())
    }

    /// The offsets of the scopes around the entry at `offset`, innermost first.
    pub fn around(&self, offset: UnitOffset) -> impl Iterator<Item = UnitOffset> {
        let before = self.0.partition_point(|scope| scope.start < offset.0).checked_sub(1);
        let chain = std::iter::successors(before, |index| self.0.get(*index).and_then(|scope| scope.parent));
        let scopes = chain.filter_map(|index| self.0.get(index));
        scopes.filter(move |scope| scope.end > offset.0).map(|scope| UnitOffset(scope.start))
    }
}
