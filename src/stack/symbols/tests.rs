//! Names compared with what gdb and elfutils say about the same files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::process::Command;

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
                    first_mapping: (0, 0),
                    first_page: None,
                    dynamic: 0,
                });
            }
        }
    }
    modules
}

/// A module as if `path` were mapped at its own addresses.
fn module_of(path: &str) -> Module {
    let name = std::ffi::CString::new(path).unwrap();
    let file = crate::sys::far::Reached::open(&name, 0, false).unwrap();
    let status = file.status().unwrap();
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
        first_mapping: (0, 0),
        first_page: None,
        dynamic: 0,
    }
}

fn frames_of(path: &str, addresses: &[u64]) -> Vec<(u64, Vec<Named>)> {
    let targets = Targets::new(addresses.to_vec());
    let found = lookup::module(&Live, &module_of(path), &targets);
    targets.addresses().iter().copied().zip(found).collect()
}

/// A folder of its own for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("manhole-symbols-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        for (name, text) in [
            ("kinds.cc", include_str!("fixtures/kinds.cc")),
            ("kinds.rs", include_str!("fixtures/kinds.rs")),
            ("oracle.py", include_str!("fixtures/oracle.py")),
        ] {
            std::fs::write(path.join(name), text).unwrap();
        }
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Runs a command line in the folder; false when the program is missing or fails.
    fn run(&self, line: &str) -> bool {
        let output = Command::new("sh").current_dir(&self.0).args(["-c", line]).output().unwrap();
        output.status.success()
    }

    fn must(&self, line: &str) {
        assert!(self.run(line), "{line}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Addresses all over the code of a file.
fn addresses_of(path: &str, step: usize) -> Vec<u64> {
    let bytes = std::fs::read(path).unwrap();
    let elf = elf::Elf::parse(bytes::Source::memory(bytes)).unwrap();
    let code = elf.sections().iter().filter(|section| section.is_code_at(section.address));
    code.flat_map(|section| (section.address..section.address + section.size).step_by(step)).collect()
}

fn describe(frames: &[Named]) -> String {
    let frame = |frame: &Named| {
        let place = frame.file.as_ref().map_or("-".to_owned(), |file| format!("{file}:{}", frame.line));
        format!("{}|{place}", frame.function.as_deref().unwrap_or("?"))
    };
    let frames: Vec<String> = frames.iter().map(frame).collect();
    if frames.is_empty() { "?|-".to_owned() } else { frames.join(" <- ") }
}

/// gdb's answers.
fn oracle(folder: &Folder, path: &str, addresses: &[u64]) -> Vec<String> {
    let list: String = addresses.iter().map(|address| format!("{address:#x}\n")).collect();
    std::fs::write(folder.path("list"), list).unwrap();
    let output = Command::new("gdb")
        .current_dir(&folder.0)
        .args(["-batch", "-nx", "-ex", "py ADDRESSES='list'", "-x", "oracle.py", path])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.strip_prefix("0x")?.split_once(' ')).map(|(_, rest)| rest.to_owned()).collect()
}

/// Compares with gdb: every name, and every line that we give. Returns how many addresses had lines.
fn compare(folder: &Folder, file: &str, step: usize) -> usize {
    let path = folder.path(file);
    let addresses = addresses_of(&path, step);
    let expected = oracle(folder, &path, &addresses);
    assert_eq!(expected.len(), addresses.len(), "gdb answered about {file}");
    let mut lines = 0;
    for ((address, ours), theirs) in frames_of(&path, &addresses).iter().zip(&expected) {
        // gdb 13 shows the hash of a crate in names of Rust's newer mangling.
        let theirs: Vec<(&str, &str)> = theirs.split(" <- ").map(|frame| frame.rsplit_once('|').unwrap()).collect();
        let ours_text = describe(ours);
        let ours: Vec<(&str, &str)> = ours_text.split(" <- ").map(|frame| frame.rsplit_once('|').unwrap()).collect();
        let context = format!("{file} {address:#x}\nours {ours:?}\ngdb  {theirs:?}");
        // The list of gdb's blocks goes on through a function that another merely contains; `bt` does not.
        assert!(ours.len() <= theirs.len(), "{context}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(ours.0 == theirs.0 || is_known_difference(ours.0, theirs.0), "{context}");
            // We do not repeat the line before where the compiler says that it knows none.
            assert!(ours.1 == "-" || ours.1 == theirs.1, "{context}");
            lines += usize::from(ours.1 != "-");
        }
    }
    lines
}

/// What gdb 13 shows otherwise, and we do not imitate: the hash of a crate in Rust's newer mangling; and a C
/// symbol decoded as if it were Ada's (`main[cold]` for `main.cold`, `uv.io_poll` for `uv__io_poll`). And one where
/// we are wrong: `cpp_demangle` 0.5 takes the first parameter of a constructor template for its return type.
fn is_known_difference(ours: &str, theirs: &str) -> bool {
    let mut text = String::new();
    let mut rest = theirs;
    while let Some((before, after)) = rest.split_once('[') {
        text.push_str(before);
        let hash = after.bytes().take_while(u8::is_ascii_hexdigit).count();
        match after.get(hash..).and_then(|after| after.strip_prefix(']')).filter(|_| hash > 12) {
            Some(after) => rest = after,
            None => {
                text.push('[');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    let as_ada = ours.replace("__", ".").replace(".cold", "[cold]");
    let parameters =
        |name: &str| name.ends_with(')').then(|| name.rfind('(').map(|at| name[..at].to_owned())).flatten();
    let is_template = ours.contains(">(") && theirs.contains(">(");
    if is_template && parameters(ours).is_some() && parameters(ours) == parameters(theirs) {
        return true;
    }
    ours == text || as_ada == theirs || ours == text.replace(": usize>", ">")
}

fn has(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success()
}

#[test]
fn names_and_lines_equal_those_of_gdb() {
    if !has("gdb") || !has("g++") {
        return eprintln!("skipped: needs gdb and g++");
    }
    let folder = Folder::new("gdb");
    for (compiler, options) in [
        ("g++", "-gdwarf-5 -O2"),
        ("g++", "-gdwarf-4 -O0"),
        ("g++", "-gdwarf-4 -O3 -fno-omit-frame-pointer"),
        ("g++", "-gdwarf-5 -O2 -gsplit-dwarf"),
        ("g++", "-gdwarf-4 -O2 -gsplit-dwarf"),
        ("g++", "-O2"),
        ("clang++", "-gdwarf-5 -O2"),
        ("clang++", "-gdwarf-4 -O1"),
        ("rustc", "-g -O"),
        ("rustc", "-g"),
    ] {
        let source = if compiler == "rustc" { "kinds.rs" } else { "kinds.cc" };
        if has(compiler) {
            folder.must(&format!("{compiler} {options} {source} -o kinds"));
            let lines = compare(&folder, "kinds", 61);
            assert!(lines > 10 || !options.contains("-g"), "{compiler} {options}: {lines} lines");
        }
    }
}

/// The same program, its debug information packed and placed in every way that we claim to read.
#[test]
fn every_form_of_debug_information_is_read() {
    if !has("g++") || !has("objcopy") {
        return eprintln!("skipped: needs g++ and objcopy");
    }
    let folder = Folder::new("forms");
    folder.must("g++ -g -O2 -Wl,--build-id kinds.cc -o plain");
    folder.must("g++ -g -O2 -Wl,--build-id=none kinds.cc -o anonymous");
    folder.must("g++ -g -O1 kinds.cc -o other");
    let addresses = addresses_of(&folder.path("plain"), 37);
    let plain = frames_of(&folder.path("plain"), &addresses);
    assert!(plain.iter().filter(|frames| frames.1.len() > 1).count() > 50);
    let split =
        "objcopy --only-keep-debug FILE there/FILE.debug && objcopy -S --add-gnu-debuglink=there/FILE.debug FILE split";
    for (what, line) in [
        ("zlib", "objcopy --compress-debug-sections=zlib plain form"),
        ("zlib-gnu", "objcopy --compress-debug-sections=zlib-gnu plain form"),
        ("zstd", "objcopy --compress-debug-sections=zstd plain form"),
        ("no aranges", "objcopy -R .debug_aranges plain form"),
        ("dwz", "dwz -o form plain"),
        ("dwz multifile", "cp plain form && cp other other2 && dwz -m common -M common form other2"),
        ("debug link", &("mkdir -p .debug there && ".to_owned() + split + " && mv there/* .debug/ && mv split form")),
        (
            "debug link beside, by checksum",
            &("mkdir -p there && ".to_owned() + split + " && mv there/* . && mv split form"),
        ),
    ] {
        let file = if what.contains("checksum") { "anonymous" } else { "plain" };
        let _ = std::fs::remove_file(folder.path("form"));
        if !folder.run(&line.replace("FILE", file)) {
            // An older objcopy may lack zstd, and dwz is not installed everywhere.
            eprintln!("skipped: {what}");
            continue;
        }
        let expected = if file == "plain" { plain.clone() } else { frames_of(&folder.path(file), &addresses) };
        for (found, expected) in frames_of(&folder.path("form"), &addresses).iter().zip(&expected) {
            assert_eq!(found, expected, "{what} {:#x}", found.0);
        }
    }
    // Another build's debug file under the right name is not believed.
    folder.must("mkdir -p .debug && objcopy --only-keep-debug other .debug/anonymous.debug && rm anonymous.debug");
    assert!(
        frames_of(&folder.path("form"), &addresses).iter().all(|frames| frames.1.iter().all(|frame| frame.line == 0))
    );
}

#[test]
fn mini_debug_information_gives_names() {
    if !has("g++") || !has("objcopy") || !has("xz") {
        return eprintln!("skipped: needs g++, objcopy and xz");
    }
    let folder = Folder::new("mini");
    folder.must("g++ -O2 kinds.cc -o plain && strip plain -o bare");
    folder.must("objcopy -S --wildcard --keep-symbol='*' --only-keep-debug plain mini; strip -g mini; xz -k mini");
    folder.must("objcopy --add-section .gnu_debugdata=mini.xz bare packed");
    let addresses = addresses_of(&folder.path("plain"), 37);
    let plain = frames_of(&folder.path("plain"), &addresses);
    assert_eq!(frames_of(&folder.path("packed"), &addresses), plain);
    assert_ne!(frames_of(&folder.path("bare"), &addresses), plain);
}

#[test]
fn a_replaced_file_gives_no_names() {
    if !has("g++") {
        return eprintln!("skipped: needs g++");
    }
    let folder = Folder::new("replaced");
    folder.must("g++ -g -O2 -Wl,--build-id kinds.cc -o program; g++ -g -O2 -Wl,--build-id=none kinds.cc -o anonymous");
    let path = folder.path("program");
    let targets = Targets::new(addresses_of(&path, 97));
    for name in ["program", "anonymous"] {
        // Nothing is mapped at 0: no names can come from memory, nor through map_files.
        let module = Module { start: 16, ..module_of(&folder.path(name)) };
        assert!(lookup::module(&Live, &module, &targets).iter().any(|frames| !frames.is_empty()));
        folder.must(&format!("g++ -O0 -g -Wl,--build-id kinds.cc -o new && mv new {name}"));
        assert!(lookup::module(&Live, &module, &targets).iter().all(Vec::is_empty), "{name}");
        let report = Symbolizer::default().debug_info(&module).to_string();
        assert!(report.contains("deleted or replaced"), "{report}");
    }
}

/// Truncated and altered files: whatever they hold, an answer comes soon.
#[test]
fn damaged_files_are_survived() {
    if !has("g++") {
        return eprintln!("skipped: needs g++");
    }
    let folder = Folder::new("damaged");
    folder
        .must("g++ -g -O1 kinds.cc -o plain && objcopy --compress-debug-sections plain packed; cp plain dwz; dwz dwz");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |bound: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % bound as u64) as usize
    };
    for (name, rounds) in [("plain", 40), ("packed", 20), ("dwz", 20)] {
        let path = folder.path(name);
        let good = std::fs::read(&path).unwrap();
        let module = Module { build_id: Vec::new(), ..module_of(&path) };
        let targets = Targets::new(addresses_of(&path, 211));
        for round in 0..rounds {
            let mut bytes = good.clone();
            match round % 4 {
                0 => bytes.truncate(random(good.len())),
                // All over; in the headers; in the section headers at the end.
                kind => {
                    for _ in 0..1 << random(12) {
                        let span = [good.len(), good.len(), 1024, 4096][kind];
                        let start = if kind == 3 { good.len() - span } else { 0 };
                        bytes[start + random(span)] = random(256) as u8;
                    }
                }
            }
            // Written over the same inode: the module is still that file.
            std::fs::write(&path, &bytes).unwrap();
            let start = std::time::Instant::now();
            lookup::module(&Live, &module, &targets);
            assert!(start.elapsed().as_secs() < 20, "{name} {round}");
        }
    }
}

#[test]
fn a_batch_is_named_cached_and_bounded() {
    let modules = Modules::made_up(own_modules(), Vec::new());
    let own = a_batch_is_named_cached_and_bounded as *const () as u64;
    let epoll_wait = libc::epoll_wait as *const () as u64;
    let mut symbolizer = Symbolizer::with_bound(0);
    symbolizer.resolve(&modules, &[own, epoll_wait, 12]);
    let name = |symbolizer: &Symbolizer, address| {
        symbolizer.lookup(&modules, address).last().and_then(|frame| frame.function.clone()).unwrap_or_default()
    };
    assert!(name(&symbolizer, own).ends_with("a_batch_is_named_cached_and_bounded"));
    assert!(name(&symbolizer, epoll_wait).contains("epoll_wait"));
    assert_eq!(symbolizer.lookup(&modules, epoll_wait).last().unwrap().offset, Some(0));
    assert!(symbolizer.lookup(&modules, 12).is_empty());
    // The next batch finds the cache over its bound: only what is asked for now is there.
    symbolizer.resolve(&modules, &[own]);
    assert_eq!((&*name(&symbolizer, epoll_wait), symbolizer.entries.len()), ("", 1));
    // Another module at the same addresses has nothing to do with this one.
    let others = Modules::made_up(own_modules(), Vec::new());
    assert!(symbolizer.lookup(&others, own).is_empty());
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
        println!("{address:#x} {}", describe(frames));
    }
    let (_, peak) = crate::sys::allocator::usage();
    println!("# {} addresses in {took:?}, peak {} KB", found.len(), peak >> 10);
}
