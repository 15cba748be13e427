//! Names compared with what gdb and elfutils say about the same files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

/// The modules of this test process, from `/proc/self/maps`.
pub(super) fn own_modules() -> Vec<Module> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut modules: Vec<Module> = Vec::new();
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let Some(path) = fields.get(5).filter(|path| path.starts_with('/') || **path == "[vdso]") else { continue };
        let (start, end) = fields[0].split_once('-').unwrap();
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
        match modules.last_mut().filter(|module| module.path == path.as_bytes()) {
            Some(module) => module.end = end,
            None => {
                let (major, minor) = fields[3].split_once(':').unwrap();
                let [major, minor] = [major, minor].map(|number| u32::from_str_radix(number, 16).unwrap());
                modules.push(Module {
                    path: path.as_bytes().to_vec(),
                    deleted: false,
                    device: libc::makedev(major, minor),
                    inode: fields[4].parse().unwrap(),
                    start,
                    end,
                    bias: start,
                    eh_frame_hdr: 0,
                    build_id: Vec::new(),
                });
            }
        }
    }
    modules
}
