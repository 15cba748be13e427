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
    let mut last: Option<Row> = None;
    // Code that the linker dropped is left at address 0 or 1.
    let mut dropped = false;
    let mut fuel = FUEL;
    while let Some((_, row)) = rows.next_row()? {
        let mut now = Row {
            address: row.address(),
            place: (row.file_index(), row.line().map_or(0, |line| line.get().try_into().unwrap_or(0))),
            is_statement: row.is_stmt(),
        };
        dropped |= last.is_none() && now.address <= 1;
        if let Some(last) = last.filter(|_| !dropped) {
            for target in targets.within(last.address, now.address, &mut fuel) {
                if let Some(place @ None) = found.get_mut(target) {
                    *place = Some(last.place);
                }
            }
            // Of several rows at one address the last holds, except that gdb prefers one that begins a
            // statement over later ones of the same file that do not.
            if last.address == now.address
                && last.is_statement
                && !now.is_statement
                && last.place.0 == now.place.0
                && last.place.1 != 0
            {
                now = last;
            }
        }
        last = (!row.end_sequence()).then_some(now);
        dropped &= last.is_some();
    }
    Ok(())
}

/// The name of file `index`, as gdb prints it: the unit's own name for its main file; else the recorded name,
/// in its recorded folder.
pub fn file_name(info: &DebugInfo, unit: &Unit<Bytes>, index: u64) -> Option<String> {
    let header = unit.line_program.as_ref()?.header();
    let path = file_path(info, unit, header, index)?;
    let main = unit.name.as_ref().and_then(Bytes::text);
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
