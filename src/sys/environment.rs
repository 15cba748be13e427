//! Where the C library keeps the environment.
//!
//! Context: any. Only the address is taken: the application may change what stands there at any moment, so it is read
//! as all of its memory is, by calls that fail.

unsafe extern "C" {
    /// environ(7). The loader resolves it as it does for the application, to the copy that all use.
    static environ: *const *const libc::c_char;
}

/// The address of `environ`.
pub fn address() -> u64 {
    (&raw const environ) as u64
}
