//! Finding the file that a module was loaded from, and the files that hold its debug information.
//!
//! Context: the observer. A file is only believed when it provably belongs to the module: a name at the
//! same path may by now be another build, whose symbols would put false names on every frame. Proof is the
//! build ID; where there is none, device and inode of what is mapped, or the debug link's checksum.
//! debuginfod is never asked: a debugger that waits for a network is no debugger for a wedged machine.

use std::ffi::CString;
use std::rc::Rc;

use super::super::modules::Module;
use super::bytes::Source;
use super::elf::Elf;
use crate::sys::far::{self, Reached};
use crate::sys::stat;

/// Where distributions install debug information.
const DEBUG_FOLDER: &str = "/usr/lib/debug";
/// A debug file without a build ID is read as a whole for its checksum, up to this size.
const MOST_CHECKSUMMED: u64 = 512 << 20;

/// A file with debug information for a module.
pub struct DebugFile {
    /// The file.
    pub elf: Elf,
    /// Where it is.
    pub path: Vec<u8>,
}

fn open(path: &[u8], far: bool) -> Option<(Elf, stat::Status)> {
    // A FIFO must not make us wait for its writer.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = Reached::open(&CString::new(path).ok()?, flags, far).ok()?;
    let status = file.status().ok().filter(stat::Status::is_regular)?;
    Some((Elf::parse(Source::file(Rc::new(file), status.size))?, status))
}

/// The same where the path tells whether the file is far.
fn open_named(path: &[u8]) -> Option<(Elf, stat::Status)> {
    open(path, far::is_far_path(path))
}

/// The very file that `module` was mapped from; `None` when it cannot be had any more.
pub fn of_module(module: &Module) -> Option<Elf> {
    if !module.path.starts_with(b"/") {
        return None;
    }
    let is_same = |(elf, status): &(Elf, stat::Status), path_only: bool| match module.build_id.as_slice() {
        [] => !path_only || (status.device, status.inode) == (module.device, module.inode),
        // On overlay and btrfs the numbers in `maps` are not those of `stat`: the build ID decides alone.
        id => elf.build_id() == id,
    };
    let far = far::is_far(module.device, &module.path);
    let by_path = || open(&module.path, far || far::is_far_path(&module.path)).filter(|opened| is_same(opened, true));
    // Reaches the mapped file itself, deleted or not, but needs CAP_CHECKPOINT_RESTORE (man 5 proc).
    let by_mapping = || open(&map_file(module), far).filter(|opened| is_same(opened, false));
    let missed = far::missed();
    let by_path = || by_path().or_else(|| if far::missed() == missed { by_mapping() } else { None });
    let found = if module.deleted { by_mapping() } else { by_path() };
    found.map(|opened| opened.0)
}

/// `/proc/self/map_files/START-END` of the module's first mapping.
fn map_file(module: &Module) -> Vec<u8> {
    let (start, end) = module.first_mapping;
    format!("/proc/self/map_files/{start:x}-{end:x}").into_bytes()
}

/// `/usr/lib/debug/.build-id/ab/cdef.debug`.
fn build_id_path(id: &[u8]) -> Option<Vec<u8>> {
    let (first, rest) = id.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{DEBUG_FOLDER}/.build-id/{first:02x}/{rest}.debug").into_bytes())
}

fn folder(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

/// The file that the debug information of `module` (whose own file is `elf`, if it could be opened) was
/// split off into. Adds the places where it was looked for to `looked`.
pub fn separate(module: &Module, elf: Option<&Elf>, looked: &mut Vec<Vec<u8>>) -> Option<DebugFile> {
    let id = match elf {
        Some(elf) if module.build_id.is_empty() => elf.build_id(),
        _ => &module.build_id,
    };
    if let Some(path) = build_id_path(id) {
        if let Some((elf, _)) = open_named(&path).filter(|(elf, _)| elf.build_id() == id) {
            return Some(DebugFile { elf, path });
        }
        looked.push(path);
    }
    let (name, checksum) = elf?.debug_link()?;
    if name.contains(&b'/') {
        return None;
    }
    let folder = folder(&module.path);
    let places = [
        [folder, b"/", name.as_slice()].concat(),
        [folder, b"/.debug/", name.as_slice()].concat(),
        [DEBUG_FOLDER.as_bytes(), folder, b"/", name.as_slice()].concat(),
    ];
    for path in places {
        let belongs = |elf: &Elf| match (id, elf.build_id()) {
            ([], _) | (_, []) => elf.crc32(MOST_CHECKSUMMED) == Some(checksum),
            (wanted, found) => wanted == found,
        };
        // A file may link to its own name: it is not its own debug file.
        if path != module.path
            && let Some((elf, _)) = open_named(&path).filter(|(elf, _)| belongs(elf))
        {
            return Some(DebugFile { elf, path });
        }
        looked.push(path);
    }
    None
}

/// dwz's alternate file, which holds what several debug files have in common, of the debug file `elf` at `path`.
pub fn alternate(elf: &Elf, path: &[u8]) -> Option<Elf> {
    let (name, id) = elf.alternate_link()?;
    let named = if name.starts_with(b"/") { name } else { [folder(path), b"/", name.as_slice()].concat() };
    let places = [Some(named), build_id_path(&id)].into_iter().flatten();
    places
        .filter_map(|path| open_named(&path))
        .find(|(elf, _)| !id.is_empty() && elf.build_id() == id)
        .map(|opened| opened.0)
}

/// The `.dwo` file of a split unit: `name`, in the compilation's folder if it is relative.
pub fn split(name: &str, compilation_folder: &str) -> Option<Elf> {
    let path = if name.starts_with('/') { name.to_owned() } else { format!("{compilation_folder}/{name}") };
    open_named(path.as_bytes()).map(|opened| opened.0)
}
