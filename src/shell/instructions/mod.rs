//! One machine instruction as text, as gdb shows it. One architecture is compiled, since each brings a
//! decoder of a megabyte of source; tests compile and run both.
//!
//! Context: the observer. Pure: bytes in, text out; any bytes, since they come from memory.

#![forbid(unsafe_code)]

#[cfg(any(target_arch = "aarch64", test))]
pub mod aarch64;
#[cfg(any(target_arch = "x86_64", test))]
pub mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as native;
#[cfg(target_arch = "x86_64")]
use x86_64 as native;

pub use native::{LONGEST, decode};

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// How many bytes it has.
    pub length: usize,
    /// Its text; `(bad)` for none.
    pub text: String,
    /// The address that an operand names.
    pub target: Option<Target>,
}

/// What an operand names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The text ends with it: a jump or call.
    Shown(u64),
    /// The text has it relative to the program counter only.
    Computed(u64),
}

impl Target {
    /// The address.
    pub fn address(self) -> u64 {
        match self {
            Self::Shown(address) | Self::Computed(address) => address,
        }
    }
}
