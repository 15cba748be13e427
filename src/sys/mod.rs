//! Thin wrappers over the kernel, and the only room that names libc.
//!
//! Context: any, file by file. Nothing in here calls a libc function that allocates, locks stdio or
//! the loader, or reads the locale; an error is an [`Errno`], whose text is a constant of ours
//! (`strerror` may load a message catalogue, that is, call the application's `malloc`).

pub mod allocator;
pub mod futex;
pub mod memory;
pub mod procfs;
pub mod raw;
pub mod stat;

pub use nix::errno::Errno;

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Errno>;
