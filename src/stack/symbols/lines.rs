//! Source files and lines from a unit's line program.
//!
//! Context: the observer. The program is run once for all targets of a unit, and nothing of it is kept.

use gimli::{LineProgramHeader, Unit};

use super::bytes::Bytes;
use super::dwarf::DebugInfo;
use super::targets::{FUEL, Targets};

/// A place in the source: index of the file, and line; line 0 means that the compiler knew none.
pub type Place = (u64, u32);

/// What holds from one row of the program to the next.
#[derive(Clone, Copy)]
struct Row {
    address: u64,
    place: Place,
    is_statement: bool,
    /// The line has a discriminator: one of several pieces of code for one line.
    discriminated: bool,
}

/// The place of each target. What comes before damage is kept.
pub fn places(unit: &Unit<Bytes>, targets: &Targets) -> Vec<Option<Place>> {
    let mut found = vec![None; targets.len()];
    let _ = run(unit, targets, &mut found);
    found
}

fn run(unit: &Unit<Bytes>, targets: &Targets, found: &mut [Option<Place>]) -> gimli::Result<()> {
    let Some(program) = unit.line_program.clone() else { return Ok(()) };
    let mut rows = program.rows();
    let (mut last, mut previous): (Option<Row>, Option<Row>) = (None, None);
    let mut recorded: Option<Place> = None;
    // Code that the linker dropped is left at address 0 or 1.
    let mut dropped = false;
    // Some row at the current address begins a statement.
    let mut statement_here = false;
    let mut fuel = FUEL;
    while let Some((_, row)) = rows.next_row()? {
        let mut now = Row {
            address: row.address(),
            place: (row.file_index(), row.line().map_or(0, |line| line.get().try_into().unwrap_or(0))),
            is_statement: row.is_stmt(),
            discriminated: row.discriminator() != 0,
        };
        if let Some(previous) = previous {
            now.discriminated |= previous.place.1 == now.place.1 && previous.discriminated;
            statement_here &= previous.address == now.address;
        } else {
            (dropped, statement_here) = (now.address <= 1, false);
        }
        if let Some(last) = last.filter(|_| !dropped) {
            for target in targets.within(last.address, now.address, &mut fuel) {
                if let Some(place @ None) = found.get_mut(target) {
                    *place = Some(last.place);
                }
            }
        }
        if row.end_sequence() {
            (last, previous, recorded) = (None, None, None);
            continue;
        }
        if recorded.is_none_or(|before| is_recorded(&now, &before, previous.as_ref(), statement_here)) {
            recorded = Some(now.place);
            // Of several rows at one address, one that begins a statement goes before later ones that do not.
            last =
                last.filter(|last| last.address == now.address && last.is_statement && !now.is_statement).or(Some(now));
        }
        statement_here |= now.is_statement;
        previous = Some(now);
    }
    Ok(())
}

/// Whether gdb takes `now` for a row of its own (`lnp_state_machine::record_line`): not a further piece of the
/// line recorded `before`; nor a change of file at an address where a statement has begun already.
fn is_recorded(now: &Row, before: &Place, previous: Option<&Row>, statement_here: bool) -> bool {
    if before.0 == now.place.0 {
        return before.1 != now.place.1 || !now.discriminated;
    }
    let same_address = previous.is_some_and(|previous| previous.address == now.address);
    !(same_address && statement_here && !now.is_statement)
}

/// The name of file `index` in the line table of `unit`, as gdb prints it: the compilation's own name for its
/// main file; else the recorded name, in its recorded folder. `named` is the unit that names the compilation.
pub fn file_name(info: &DebugInfo, unit: &Unit<Bytes>, named: &Unit<Bytes>, index: u64) -> Option<String> {
    let header = unit.line_program.as_ref()?.header();
    let path = file_path(info, unit, header, index)?;
    let main = named.name.as_ref().and_then(Bytes::text);
    let base = unit.comp_dir.as_ref().and_then(Bytes::text).unwrap_or_default();
    Some(match main {
        Some(main) if absolute(&base, &main) == absolute(&base, &path) => main,
        _ => path,
    })
}

fn absolute(base: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") }
}

fn file_path(info: &DebugInfo, unit: &Unit<Bytes>, header: &LineProgramHeader<Bytes>, index: u64) -> Option<String> {
    let text = |value| info.dwarf.attr_string(unit, value).ok()?.text();
    let file = header.file(index)?;
    let name = text(file.path_name())?;
    // Before DWARF 5, folder 0 is the compilation's own, which is not joined.
    let joined = header.version() >= 5 || file.directory_index() != 0;
    let folder = file.directory(header).filter(|_| joined && !name.starts_with('/')).and_then(text);
    Some(match folder {
        Some(folder) if !folder.is_empty() => format!("{folder}/{name}"),
        _ => name,
    })
}
