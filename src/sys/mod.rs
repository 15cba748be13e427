//! Thin wrappers over the kernel, and the only room that names libc.
//!
//! Context: any, file by file. Nothing in here calls a libc function that allocates, locks stdio or
//! the loader, or reads the locale; an error is an [`Errno`], whose text is a constant of ours
//! (`strerror` may load a message catalogue, that is, call the application's `malloc`).

pub mod allocator;
pub mod application;
pub mod call;
pub mod clock;
pub mod courier;
pub mod descriptor;
pub mod descriptors;
pub mod diverted;
pub mod dumpable;
pub mod environment;
pub mod exit;
pub mod far;
pub mod files;
pub mod filter;
pub mod fork;
pub mod futex;
pub mod glibc;
pub mod heap;
pub mod inotify;
pub mod kill;
pub mod leaked;
pub mod lent;
pub mod limits;
pub mod link;
pub mod loader;
pub mod memory;
pub mod mounts;
pub mod netlink;
pub mod output;
pub mod own;
pub mod passing;
pub mod pinning;
pub mod pipe;
pub mod poll;
pub mod process;
pub mod procfs;
pub mod ptrace;
pub mod raw;
pub mod sandbox;
pub mod schedule;
pub mod sibling;
pub mod signal;
pub mod slots;
pub mod socket;
pub mod startup;
pub mod stat;
pub mod store;
pub mod switch;
pub mod table;
pub mod thread;
pub mod timers;
pub mod unmap;
pub mod variables;

pub use nix::errno::Errno;

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Errno>;
