//! Facts about this process: its threads, the system calls they sit in, its descriptors and sockets.
//!
//! Context: the observer. Everything comes from `/proc` and from memory read by calls that fail
//! instead of faulting; nothing here opens, changes or waits for anything of the application's.
//! Each reading is bounded and fails softly: what cannot be read is not printed, never guessed.

#![cfg_attr(not(test), forbid(unsafe_code))]

pub mod application;
pub mod auxiliary;
pub mod cgroup;
pub mod commandline;
pub mod credentials;
pub mod descriptors;
pub mod environment;
pub mod files;
pub mod limits;
pub mod lines;
pub mod locks;
pub mod mappings;
pub mod memory;
pub mod numbers;
pub mod process;
pub mod residency;
pub mod scan;
pub mod signals;
pub mod sockets;
pub mod strings;
pub mod syscalls;
pub mod threads;
pub mod timers;
pub mod usage;
