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

/// A module as if `path` were mapped at its own addresses.
fn module_of(path: &str) -> Module {
    let name = std::ffi::CString::new(path).unwrap();
    let file = crate::sys::procfs::File::open(&name).unwrap();
    let status = crate::sys::stat::of(&file).unwrap();
    let elf = elf::Elf::parse(bytes::Source::file(std::rc::Rc::new(file), status.size)).unwrap();
    Module {
        path: path.as_bytes().to_vec(),
        deleted: false,
        device: status.device,
        inode: status.inode,
        start: 0,
        end: u64::MAX,
        bias: 0,
        eh_frame_hdr: 0,
        build_id: elf.build_id().to_vec(),
    }
}

fn frames_of(path: &str, addresses: &[u64]) -> Vec<(u64, Vec<Named>)> {
    let targets = Targets::new(addresses.to_vec());
    let found = lookup::module(&Live, &module_of(path), &targets);
    targets.addresses().iter().copied().zip(found).collect()
}

/// `MANHOLE_FILE`, `MANHOLE_ADDRESSES` (a file with one address a line): prints frames and the time taken.
#[test]
#[ignore = "a tool"]
fn print_frames() {
    let file = std::env::var("MANHOLE_FILE").unwrap();
    let list = std::fs::read_to_string(std::env::var("MANHOLE_ADDRESSES").unwrap()).unwrap();
    let hexadecimal = |line: &str| u64::from_str_radix(line.trim().trim_start_matches("0x"), 16).unwrap();
    let addresses: Vec<u64> = list.lines().map(hexadecimal).collect();
    let start = std::time::Instant::now();
    let found = frames_of(&file, &addresses);
    let took = start.elapsed();
    for (address, frames) in &found {
        let frame = |frame: &Named| {
            let place = match &frame.file {
                Some(file) => format!("{file}:{}", frame.line),
                None => "-".to_owned(),
            };
            format!("{}|{place}", frame.function.as_deref().unwrap_or("?"))
        };
        let mut frames: Vec<String> = frames.iter().map(frame).collect();
        if frames.is_empty() {
            frames.push("?|-".to_owned());
        }
        println!("{address:#x} {}", frames.join(" <- "));
    }
    let (_, peak) = crate::sys::allocator::usage();
    println!("# {} addresses in {took:?}, peak {} KB", found.len(), peak >> 10);
}
