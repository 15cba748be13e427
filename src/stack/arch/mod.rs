//! What unwinding must know of an architecture. Both are always compiled; one is native.

pub mod aarch64;
pub mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as native;
#[cfg(target_arch = "x86_64")]
use x86_64 as native;

pub use native::{CALLEE_SAVED, FP, PC, REGISTERS, SP, register_name};
