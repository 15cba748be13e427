//! Resource limits of this process (man 2 prlimit).
//!
//! Context: the observer. Limits belong to the process, whichever of its threads sets them.

use super::{Result, raw};

/// No limit (RLIM64_INFINITY).
pub const UNLIMITED: u64 = u64::MAX;

/// A soft limit, which counts, and the hard one, up to which anybody may raise the soft one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// What counts.
    pub soft: u64,
    /// Who lowers it without CAP_SYS_RESOURCE cannot raise it again.
    pub hard: u64,
}

/// The limit of `resource` (`RLIMIT_*`).
pub fn get(resource: u32) -> Result<Limit> {
    exchange(resource, None)
}

/// Sets it; returns the one before.
pub fn set(resource: u32, limit: Limit) -> Result<Limit> {
    exchange(resource, Some(limit))
}

fn exchange(resource: u32, new: Option<Limit>) -> Result<Limit> {
    let mut old = Limit { soft: 0, hard: 0 };
    let new = new.as_ref().map_or(0, |new| std::ptr::from_ref(new) as usize);
    // 0 is the calling process.
    let arguments = [0, resource as usize, new, &raw mut old as usize, 0, 0];
    // SAFETY: the kernel reads two numbers at `new`, if that is not null, and writes two to `old`.
    unsafe { raw::syscall6(libc::SYS_prlimit64, arguments)? };
    Ok(old)
}
