//! What the process was started with.
//!
//! Context: the constructor. The environment is read there once, before the application can change it.

/// An environment variable, lossily as text.
pub fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Whether this code was loaded as a shared object, and not linked into the main program (the client,
/// a test): the first object of the loader's list is the main program.
pub fn is_shared_object() -> bool {
    use findshlibs::{SharedLibrary, TargetSharedLibrary};
    let own = is_shared_object as fn() -> bool as usize;
    let mut first = true;
    let mut shared = false;
    TargetSharedLibrary::each(|library| {
        let start = library.actual_load_addr().0;
        let holds = (start..start + library.len()).contains(&own);
        shared |= holds && !first;
        first = false;
    });
    shared
}
