//! Which glibc runs.
//!
//! Context: any. The function returns a constant string.

use std::ffi::CStr;

/// Major and minor version of the glibc that runs, as (2, 36).
pub fn version() -> (u32, u32) {
    // SAFETY: it has no preconditions.
    let text = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: it returns a NUL-terminated constant.
    let text = unsafe { CStr::from_ptr(text) };
    let mut parts = text.to_str().unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_one_that_rust_runs_on() {
        assert!(super::version() >= (2, 17), "{:?}", super::version());
    }
}
