//! The dynamic loader, asked.
//!
//! Context: the actor only: it takes the loader's lock, which a thread of the application may hold for ever, and calls
//! the application's malloc and code.

use std::ffi::{CStr, CString};

/// What the loader knows of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file of its module.
    pub path: CString,
    /// Where that is loaded.
    pub base: usize,
}

/// A loaded module's handle. It is never closed: what was looked up in it stays.
#[derive(Clone, Copy, Debug)]
pub struct Module(*mut libc::c_void);

impl Module {
    /// The module of the file `path` if it is loaded. An empty path is the program's.
    pub fn loaded(path: &CStr) -> Option<Self> {
        let name = if path.is_empty() { std::ptr::null() } else { path.as_ptr() };
        // SAFETY: NUL-terminated or null; nothing new is loaded.
        let handle = unsafe { libc::dlopen(name, libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        (!handle.is_null()).then_some(Self(handle))
    }

    /// The handle as the loader gave it.
    pub fn from_address(address: usize) -> Self {
        Self(std::ptr::with_exposed_provenance_mut(address))
    }

    /// The address of what `name` means in it and in what it needs, an indirect function's choice made.
    pub fn symbol(self, name: &CStr) -> Option<usize> {
        // SAFETY: a handle from the loader, and a NUL-terminated name.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!address.is_null()).then(|| address.addr())
    }
}

/// The address of what `name` means to the whole program.
pub fn symbol(name: &CStr) -> Option<usize> {
    Module(libc::RTLD_DEFAULT).symbol(name)
}

/// The module that `address` lies in.
pub fn place(address: usize) -> Option<Place> {
    let mut information = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the loader compares the address, and fills in what there is room for.
    if unsafe { libc::dladdr(std::ptr::with_exposed_provenance(address), information.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: all zeros, or filled in.
    let information = unsafe { information.assume_init() };
    if information.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the loader's own string, which lives as long as the module.
    let path = unsafe { CStr::from_ptr(information.dli_fname) }.to_owned();
    Some(Place { path, base: information.dli_fbase.addr() })
}

/// The address of `dlopen`.
pub fn open_function() -> usize {
    libc::dlopen as *const () as usize
}

/// Why the last request of this thread failed, in the loader's words.
pub fn error() -> String {
    // SAFETY: null, or a string that lives until the next request.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the loader does not say why".to_owned();
    }
    // SAFETY: not null, NUL-terminated.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
