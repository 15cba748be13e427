//! The modules of this process: what is mapped where, from which file, with which build ID.
//!
//! Context: the observer. Read from `/proc/self/maps` and from memory, never through
//! `dl_iterate_phdr`, whose loader lock a wedged thread may hold for ever.

// The tests make mappings; the library has none of it here.
#![cfg_attr(not(test), forbid(unsafe_code))]

pub mod elf;
pub mod maps;
mod survey;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::memory::Memory;
use crate::sys::procfs::File;

/// One loaded object: the executable, a shared library, the vdso.
#[derive(Debug, Default)]
pub struct Module {
    /// The path as `/proc/self/maps` gives it, without ` (deleted)`; `[vdso]` for the vdso.
    pub path: Vec<u8>,
    /// Its file was deleted or replaced since it was mapped.
    pub deleted: bool,
    /// Device and inode of the mapped file, to tell a replaced file; 0 for the vdso.
    pub device: u64,
    /// See `device`.
    pub inode: u64,
    /// The lowest and highest address that it covers, by its program headers; by its mappings when
    /// those are unreadable.
    pub start: u64,
    /// See `start`.
    pub end: u64,
    /// Start and end of its first mapping: `/proc/self/map_files/START-END` is the file that memory
    /// holds, even when it was deleted or replaced.
    pub first_mapping: (u64, u64),
    /// A digest of its first page in memory, to tell another build of the same file at the same place; `None` when it
    /// could not be read.
    pub first_page: Option<u64>,
    /// The load bias: address in memory minus address in the file's program headers.
    pub bias: u64,
    /// Address of `.eh_frame_hdr` in memory (PT_GNU_EH_FRAME), 0 when there is none.
    pub eh_frame_hdr: u64,
    /// Address of the dynamic section in memory (PT_DYNAMIC), 0 when there is none.
    pub dynamic: u64,
    /// The build ID (NT_GNU_BUILD_ID), empty when there is none.
    pub build_id: Vec<u8>,
}

impl Module {
    /// The last part of its path.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// All modules and executable ranges at one moment.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    /// Ascending by `start`.
    modules: Vec<Arc<Module>>,
    /// What addresses belong to which module, ascending: one range a module, but where another
    /// file was mapped into a hole of it.
    ranges: Vec<(u64, u64, usize)>,
    /// Executable mappings, ascending, adjacent ones merged, as `(start, end)`.
    executable: Vec<(u64, u64)>,
    /// See [`Modules::generation`].
    generation: u64,
}

/// The last generation given out: no two states that differ in an address share one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

impl Modules {
    /// All modules, ascending by address.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Module>> {
        self.modules.iter()
    }

    /// The module whose mappings hold `address`.
    pub fn find(&self, address: u64) -> Option<&Arc<Module>> {
        let index = self.ranges.partition_point(|range| range.1 <= address);
        let (start, _, module) = self.ranges.get(index)?;
        if *start <= address { self.modules.get(*module) } else { None }
    }

    /// Whether `address` lies in executable memory.
    pub fn is_executable(&self, address: u64) -> bool {
        let index = self.executable.partition_point(|range| range.1 <= address);
        self.executable.get(index).is_some_and(|range| range.0 <= address)
    }

    /// Changes whenever a module vanished or changed since an earlier look, so that what is
    /// remembered by address must be forgotten. New modules at free addresses do not change it.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Looks again at `/proc/thread-self/maps` (that of `self` is empty once the first thread has exited). Modules that did not change stay the same `Arc`.
    pub fn refresh(&mut self, memory: &impl Memory) -> crate::sys::Result<()> {
        self.read(&File::open(c"/proc/thread-self/maps")?, memory)
    }

    /// Whether every module of the last look is still in memory, and the same: what has been unwound since then
    /// went through these. A microsecond a module, where another look at `maps` costs one a thread.
    pub fn still_stand(&self, memory: &impl Memory) -> bool {
        self.modules.iter().all(|module| survey::is_same_page(memory, module))
    }

    /// Looks at the `maps` file of the process whose memory is `memory`.
    pub(crate) fn read(&mut self, maps: &File, memory: &impl Memory) -> crate::sys::Result<()> {
        let survey = survey::Survey::take(maps)?;
        let (modules, ranges) = survey.modules(memory, &self.modules);
        // Both lists ascend by address, and an unchanged module is the same allocation.
        let mut new = modules.iter();
        let kept = self.modules.iter().all(|old| new.any(|module| Arc::ptr_eq(old, module)));
        if !kept || self.generation == 0 {
            self.generation = GENERATION.fetch_add(1, Ordering::Relaxed) + 1;
        }
        self.modules = modules;
        self.ranges = ranges;
        self.executable = survey.into_executable();
        Ok(())
    }

    /// Modules made up for a test: each covers its range.
    #[cfg(test)]
    pub(crate) fn made_up(modules: Vec<Module>, executable: Vec<(u64, u64)>) -> Self {
        let ranges = modules.iter().enumerate().map(|(index, module)| (module.start, module.end, index)).collect();
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed) + 1;
        Self { modules: modules.into_iter().map(Arc::new).collect(), ranges, executable, generation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::Live;

    #[test]
    fn this_process_has_itself_libc_and_the_vdso() {
        let mut modules = Modules::default();
        modules.refresh(&Live).unwrap();
        let here = this_process_has_itself_libc_and_the_vdso as fn() as usize as u64;
        assert!(modules.is_executable(here));
        let own = modules.find(here).unwrap();
        assert_eq!(
            std::fs::canonicalize(std::str::from_utf8(&own.path).unwrap()).unwrap(),
            std::env::current_exe().unwrap()
        );
        assert!(own.eh_frame_hdr != 0 && own.dynamic != 0);
        use std::os::unix::fs::MetadataExt;
        let status = std::fs::metadata("/proc/self/exe").unwrap();
        assert_eq!(own.inode, status.ino());

        let libc = modules.find(libc::getpid as *const () as u64).unwrap();
        assert!(libc.path.windows(4).any(|part| part == b"libc"));
        assert!(!libc.build_id.is_empty());
        let vdso = modules.iter().find(|module| module.path == b"[vdso]").unwrap();
        assert!(vdso.eh_frame_hdr != 0);
        assert!(!modules.is_executable(&raw const modules as u64));
        for pair in modules.ranges.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "{pair:x?}");
        }
        // Every object that the loader knows, with its bias.
        for library in loaded() {
            let module = modules.find(library.1).unwrap_or_else(|| panic!("{library:x?}"));
            assert_eq!(module.bias, library.0);
        }
        let before = modules.clone();
        modules.refresh(&Live).unwrap();
        assert_eq!(before.generation(), modules.generation());
        assert!(before.iter().all(|old| modules.iter().any(|new| Arc::ptr_eq(old, new))));
    }

    /// Nothing in `maps` tells a rebuilt plugin that came to the same place from the one that was there.
    #[test]
    fn another_build_at_the_same_place_is_another_module() {
        struct Rebuilt(u64);
        impl Memory for Rebuilt {
            fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
                let count = Live.read(address, buffer);
                let at = self.0.checked_sub(address).and_then(|at| usize::try_from(at).ok());
                if let Some(byte) = at.and_then(|at| buffer[..count].get_mut(at)) {
                    *byte ^= 1;
                }
                count
            }
        }
        let mut modules = Modules::default();
        modules.refresh(&Live).unwrap();
        let before = modules.clone();
        let libc = libc::getpid as *const () as u64;
        let first = before.find(libc).unwrap().start;
        // A byte of the section headers' offset, which no reader of this process looks at.
        modules.refresh(&Rebuilt(first + 40)).unwrap();
        assert!(!Arc::ptr_eq(before.find(libc).unwrap(), modules.find(libc).unwrap()));
        assert_ne!(before.generation(), modules.generation());
        let here = another_build_at_the_same_place_is_another_module as fn() as usize as u64;
        assert!(Arc::ptr_eq(before.find(here).unwrap(), modules.find(here).unwrap()));
    }

    #[test]
    fn a_module_that_is_unmapped_does_not_stand_any_more() {
        struct Without(u64);
        impl Memory for Without {
            fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
                if address == self.0 { 0 } else { Live.read(address, buffer) }
            }
        }
        let mut modules = Modules::default();
        modules.refresh(&Live).unwrap();
        assert!(modules.still_stand(&Live));
        let libc = modules.find(libc::getpid as *const () as u64).unwrap().first_mapping.0;
        assert!(!modules.still_stand(&Without(libc)));
    }

    /// Bias and an address inside, of every object, by the loader's own account.
    fn loaded() -> Vec<(u64, u64)> {
        use findshlibs::{Segment, SharedLibrary};
        let mut found = Vec::new();
        findshlibs::TargetSharedLibrary::each(|library| {
            let bias = library.virtual_memory_bias().0 as u64;
            let segment = library.segments().find(|segment| segment.is_load()).unwrap();
            found.push((bias, segment.actual_virtual_memory_address(library).0 as u64));
        });
        assert!(found.len() >= 3);
        found
    }

    /// `cargo test --release --lib many_mappings -- --ignored --nocapture`.
    #[test]
    #[ignore = "measures"]
    fn cost_of_many_mappings() {
        let (page, count) = (4096, 20_000);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping aliases nothing.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), page * count, libc::PROT_READ, flags, -1, 0) };
        for index in (0..count).step_by(2) {
            // SAFETY: the page lies in the mapping, to which nobody refers.
            unsafe { libc::mprotect(start.byte_add(index * page), page, libc::PROT_NONE) };
        }
        let mut modules = Modules::default();
        let time = |work: &mut dyn FnMut()| {
            let begin = std::time::Instant::now();
            (0..20).for_each(|_| work());
            begin.elapsed().as_secs_f64() * 1e9 / 20.0 / count as f64
        };
        let raw = time(&mut || {
            let mut buffer = vec![0; 16384];
            let file = File::open(c"/proc/self/maps").unwrap();
            let mut offset = 0;
            while let count @ 1.. = file.read_at(&mut buffer, offset).unwrap() {
                offset += count as u64;
            }
        });
        let refresh = time(&mut || modules.refresh(&Live).unwrap());
        println!("{refresh:.0} ns a line, of which the kernel takes {raw:.0}");
        // SAFETY: nobody refers to the mapping.
        unsafe { libc::munmap(start, page * count) };
    }
}
