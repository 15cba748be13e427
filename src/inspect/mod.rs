//! x
pub mod process;
pub mod strings;
pub mod syscalls;
pub mod threads;
