//! The application's allocator, asked in its own words.
//!
//! Context: the actor only: every function here may take the locks of that allocator.
//!
//! The functions are looked up by name, so there is no dependency on any of these allocators. Which one the process uses
//! is what `malloc` means to it; a name that another module exports does not count.

use std::ffi::{CStr, CString};

use super::loader;

/// Appends what an allocator prints.
pub type Printed = Vec<u8>;

/// `malloc` as the process uses it.
pub struct Heap {
    /// The file of its module.
    pub library: CString,
    base: usize,
    kind: Kind,
}

/// Allocators that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// glibc's own.
    Glibc,
    /// jemalloc, or one with its interface.
    Jemalloc,
    /// gperftools' tcmalloc.
    Tcmalloc,
    /// mimalloc.
    Mimalloc,
    /// None of these.
    Unknown,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Jemalloc => "jemalloc",
            Self::Tcmalloc => "tcmalloc",
            Self::Mimalloc => "mimalloc",
            Self::Unknown => "unknown",
        }
    }
}

/// glibc's `struct mallinfo2` (malloc.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Mallinfo {
    /// Bytes that the arenas have from the kernel.
    pub arena: usize,
    free_chunks: usize,
    fast_chunks: usize,
    /// Blocks with a mapping of their own, and their bytes.
    pub mapped_blocks: usize,
    /// See above.
    pub mapped: usize,
    unused: usize,
    fast: usize,
    /// Bytes in use in arenas.
    pub used: usize,
    /// Bytes free in arenas.
    pub free: usize,
    /// Bytes at the end of the main arena that trimming gives back at once.
    pub top: usize,
}

type Mallctl =
    unsafe extern "C" fn(*const libc::c_char, *mut libc::c_void, *mut usize, *mut libc::c_void, usize) -> i32;
type Sink = unsafe extern "C" fn(*mut libc::c_void, *const libc::c_char);

/// # Safety
/// `printed` is a [`Printed`] that nobody else uses, `text` NUL-terminated.
unsafe extern "C" fn append(printed: *mut libc::c_void, text: *const libc::c_char) {
    // SAFETY: as the caller vouches.
    let printed = unsafe { &mut *printed.cast::<Printed>() };
    // SAFETY: as above.
    printed.extend_from_slice(unsafe { CStr::from_ptr(text) }.to_bytes());
}

/// mimalloc has its arguments the other way round.
///
/// # Safety
/// As [`append`].
unsafe extern "C" fn append_first(text: *const libc::c_char, printed: *mut libc::c_void) {
    // SAFETY: as the caller vouches.
    unsafe { append(printed, text) }
}

impl Heap {
    /// Finds it.
    pub fn find() -> Option<Self> {
        let place = loader::place(loader::symbol(c"malloc")?)?;
        let mut heap = Self { library: place.path, base: place.base, kind: Kind::Unknown };
        let known = [
            (c"mallctl", Kind::Jemalloc),
            (c"MallocExtension_GetNumericProperty", Kind::Tcmalloc),
            (c"mi_process_info", Kind::Mimalloc),
            (c"mallinfo2", Kind::Glibc),
        ];
        let found = known.into_iter().find(|(name, _)| heap.function(name).is_some());
        heap.kind = found.map_or(Kind::Unknown, |(_, kind)| kind);
        Some(heap)
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// A function of the module that `malloc` is from.
    fn function(&self, name: &CStr) -> Option<usize> {
        loader::symbol(name).filter(|address| loader::place(*address).is_some_and(|place| place.base == self.base))
    }

    /// glibc's totals over all arenas.
    pub fn mallinfo(&self) -> Option<Mallinfo> {
        let function = self.function(c"mallinfo2")?;
        // SAFETY: glibc's function of that name has this type.
        let function = unsafe { std::mem::transmute::<usize, unsafe extern "C" fn() -> Mallinfo>(function) };
        // SAFETY: it takes nothing.
        Some(unsafe { function() })
    }

    /// What glibc's `malloc_info` writes: XML.
    pub fn malloc_info(&self) -> Option<Printed> {
        unsafe extern "C" {
            fn open_memstream(text: *mut *mut libc::c_char, length: *mut usize) -> *mut libc::FILE;
        }
        let function = self.function(c"malloc_info")?;
        // SAFETY: glibc's function of that name has this type.
        let function = unsafe {
            std::mem::transmute::<usize, unsafe extern "C" fn(libc::c_int, *mut libc::FILE) -> i32>(function)
        };
        let (mut text, mut length) = (std::ptr::null_mut::<libc::c_char>(), 0usize);
        // SAFETY: both outlive the stream.
        let stream = unsafe { open_memstream(&raw mut text, &raw mut length) };
        if stream.is_null() {
            return None;
        }
        // SAFETY: a stream of ours.
        unsafe { function(0, stream) };
        // SAFETY: as above; not used again.
        unsafe { libc::fclose(stream) };
        // SAFETY: closing has made `length` bytes there.
        let printed = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) }.to_vec();
        // SAFETY: from the application's malloc, not used again.
        unsafe { libc::free(text.cast()) };
        Some(printed)
    }

    fn mallctl(&self) -> Option<Mallctl> {
        let function = self.function(c"mallctl")?;
        // SAFETY: jemalloc's function of that name has this type.
        Some(unsafe { std::mem::transmute::<usize, Mallctl>(function) })
    }

    /// One of jemalloc's numbers, as of the last [`Self::refresh_statistics`].
    pub fn jemalloc(&self, name: &CStr) -> Option<u64> {
        let (function, mut value, mut size) = (self.mallctl()?, 0u64, size_of::<u64>());
        // SAFETY: it writes at most `size` bytes.
        let error = unsafe { function(name.as_ptr(), (&raw mut value).cast(), &raw mut size, std::ptr::null_mut(), 0) };
        (error == 0).then_some(value)
    }

    /// Has jemalloc count anew.
    pub fn refresh_statistics(&self) {
        let Some(function) = self.mallctl() else { return };
        let mut epoch = 1u64;
        let (none, size) = (std::ptr::null_mut::<libc::c_void>(), size_of::<u64>());
        // SAFETY: it reads eight bytes.
        let _ = unsafe { function(c"epoch".as_ptr(), none, std::ptr::null_mut(), (&raw mut epoch).cast(), size) };
    }

    /// One of tcmalloc's numbers.
    pub fn tcmalloc(&self, name: &CStr) -> Option<u64> {
        type Get = unsafe extern "C" fn(*const libc::c_char, *mut usize) -> i32;
        let function = self.function(c"MallocExtension_GetNumericProperty")?;
        // SAFETY: tcmalloc's function of that name has this type.
        let function = unsafe { std::mem::transmute::<usize, Get>(function) };
        let mut value = 0;
        // SAFETY: it writes one number.
        (unsafe { function(name.as_ptr(), &raw mut value) } != 0).then_some(value as u64)
    }

    /// The bytes that mimalloc has committed.
    pub fn mimalloc_committed(&self) -> Option<u64> {
        type Get = unsafe extern "C" fn(
            *mut [usize; 8],
            *mut usize,
            *mut usize,
            *mut usize,
            *mut usize,
            *mut usize,
            *mut usize,
            *mut usize,
        );
        let function = self.function(c"mi_process_info")?;
        // SAFETY: mimalloc's function of that name has eight pointers to numbers, each of which may be null.
        let function = unsafe { std::mem::transmute::<usize, Get>(function) };
        let (none, mut committed) = (std::ptr::null_mut::<usize>(), 0usize);
        // SAFETY: it writes one number.
        unsafe { function(none.cast(), none, none, none, none, &raw mut committed, none, none) };
        Some(committed as u64)
    }

    /// What the allocator itself prints about itself.
    pub fn printed(&self) -> Option<Printed> {
        let mut printed = Printed::new();
        let to = (&raw mut printed).cast::<libc::c_void>();
        match self.kind {
            Kind::Glibc => return self.malloc_info(),
            Kind::Jemalloc => {
                type Print = unsafe extern "C" fn(Sink, *mut libc::c_void, *const libc::c_char);
                let function = self.function(c"malloc_stats_print")?;
                // SAFETY: jemalloc's function of that name has this type.
                let function = unsafe { std::mem::transmute::<usize, Print>(function) };
                // SAFETY: `to` lives until it returns.
                unsafe { function(append, to, std::ptr::null()) };
            }
            Kind::Mimalloc => {
                type First = unsafe extern "C" fn(*const libc::c_char, *mut libc::c_void);
                let function = self.function(c"mi_stats_print_out")?;
                // SAFETY: mimalloc's function of that name has this type.
                let function =
                    unsafe { std::mem::transmute::<usize, unsafe extern "C" fn(First, *mut libc::c_void)>(function) };
                // SAFETY: `to` lives until it returns.
                unsafe { function(append_first, to) };
            }
            Kind::Tcmalloc => {
                let function = self.function(c"MallocExtension_GetStats")?;
                // SAFETY: tcmalloc's function of that name has this type.
                let function =
                    unsafe { std::mem::transmute::<usize, unsafe extern "C" fn(*mut u8, libc::c_int)>(function) };
                printed.resize(64 << 10, 0);
                // SAFETY: it writes at most that many bytes, the last of them NUL.
                unsafe { function(printed.as_mut_ptr(), 64 << 10) };
                printed.truncate(printed.iter().position(|byte| *byte == 0).unwrap_or(0));
            }
            Kind::Unknown => return None,
        }
        Some(printed)
    }

    /// Has it give memory back to the kernel; false when it cannot.
    pub fn trim(&self) -> bool {
        match self.kind {
            Kind::Glibc => {
                // SAFETY: libc's own.
                unsafe { libc::malloc_trim(0) };
                true
            }
            Kind::Jemalloc => {
                let Some(function) = self.mallctl() else { return false };
                let none = std::ptr::null_mut::<libc::c_void>();
                // MALLCTL_ARENAS_ALL (jemalloc.h).
                // SAFETY: it takes and gives nothing.
                unsafe { function(c"arena.4096.purge".as_ptr(), none, std::ptr::null_mut(), none, 0) == 0 }
            }
            Kind::Tcmalloc => {
                let Some(function) = self.function(c"MallocExtension_ReleaseFreeMemory") else { return false };
                // SAFETY: tcmalloc's function of that name takes nothing.
                let function = unsafe { std::mem::transmute::<usize, unsafe extern "C" fn()>(function) };
                // SAFETY: as above.
                unsafe { function() };
                true
            }
            Kind::Mimalloc => {
                let Some(function) = self.function(c"mi_collect") else { return false };
                // SAFETY: mimalloc's function of that name takes a bool.
                let function = unsafe { std::mem::transmute::<usize, unsafe extern "C" fn(bool)>(function) };
                // SAFETY: as above.
                unsafe { function(true) };
                true
            }
            Kind::Unknown => false,
        }
    }
}
