//! Naming addresses: function, offset, inlined frames, file and line.

use std::sync::Arc;

use super::modules::Modules;

/// One (possibly inlined) function at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFrame {
    /// The demangled name; `None` when no symbol covers the address.
    pub function: Option<Arc<str>>,
    /// Bytes from the function's start, for the function that was not inlined.
    pub offset: Option<u64>,
    /// The source file as the debug information has it, with its compilation directory.
    pub file: Option<Arc<str>>,
    /// The line, 0 when unknown.
    pub line: u32,
    /// Inlined into the next element.
    pub inlined: bool,
}

/// Names addresses, with a bounded cache.
#[derive(Default)]
pub struct Symbolizer {}

impl Symbolizer {
    /// Resolves all of `addresses` (see [`super::Frame::lookup_address`]) at once.
    pub fn resolve(&mut self, _modules: &Modules, _addresses: &[u64]) {}

    /// x
    pub fn debug_info(&mut self, _m: &super::modules::Module) -> String {
        String::new()
    }
    /// The functions at `address`, innermost inlined first; empty when nothing is known or it was
    /// not resolved.
    pub fn lookup(&self, _modules: &Modules, _address: u64) -> &[SourceFrame] {
        &[]
    }
}
