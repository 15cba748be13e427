//! What the process was started with.
//!
//! Context: the constructor, and the C API once more for the name. The environment is read there once, before the application can change it.

use super::process;

/// An environment variable, lossily as text.
pub fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Whether this code was loaded as a shared object, and not linked into the main program (the client,
/// a test): whether the main program's segments, which the kernel names in the auxiliary vector
/// (`AT_PHDR`), hold it. Costs no call and no lock.
pub fn is_shared_object() -> bool {
    let headers = process::auxiliary(libc::AT_PHDR) as *const libc::Elf64_Phdr;
    let count = process::auxiliary(libc::AT_PHNUM) as usize;
    if headers.is_null() {
        return true;
    }
    // SAFETY: the kernel mapped the main program and put its program headers there, `count` of them.
    let headers = unsafe { std::slice::from_raw_parts(headers, count) };
    let own_table = headers.iter().find(|header| header.p_type == libc::PT_PHDR).map_or(0, |header| header.p_vaddr);
    // An executable that is not position-independent has its table where it says; others have a bias.
    let bias = if own_table == 0 { 0 } else { (headers.as_ptr() as u64).wrapping_sub(own_table) };
    let own = is_shared_object as fn() -> bool as usize as u64;
    !headers.iter().filter(|header| header.p_type == libc::PT_LOAD).any(|header| {
        let start = header.p_vaddr.wrapping_add(bias);
        (start..start.wrapping_add(header.p_memsz)).contains(&own)
    })
}

/// Where this library lies, as `(path, load bias)`. Takes the loader's lock: constructor only.
pub fn own_module() -> Option<(String, usize)> {
    use findshlibs::{IterationControl, SharedLibrary, TargetSharedLibrary};
    let own = own_module as fn() -> Option<(String, usize)> as usize;
    let mut found = None;
    TargetSharedLibrary::each(|library| {
        let start = library.actual_load_addr().0;
        if !(start..start + library.len()).contains(&own) {
            return IterationControl::Continue;
        }
        found = Some((library.name().to_string_lossy().into_owned(), library.virtual_memory_bias().0));
        IterationControl::Break
    });
    found
}

/// The name that the program was called by, as libc noted it before any constructor ran.
pub fn called_name() -> String {
    unsafe extern "C" {
        static program_invocation_short_name: *const libc::c_char;
    }
    // SAFETY: glibc sets this pointer at start (man 3 program_invocation_short_name).
    let name = unsafe { program_invocation_short_name };
    if name.is_null() {
        return String::new();
    }
    // SAFETY: not null, and NUL-terminated: the end of argv[0].
    unsafe { std::ffi::CStr::from_ptr(name) }.to_string_lossy().into_owned()
}
