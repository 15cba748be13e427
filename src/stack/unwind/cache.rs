//! What is known about code addresses, so that a thousand threads at the same place cost one look.
//!
//! Context: the observer. Only addresses in modules are remembered; a JIT may put other code at an
//! address between two dumps. The cache is bounded, and forgets all when it is full or when a module
//! vanished: a pass over the threads fills it again in microseconds an address.

use gimli::UnwindContext;
use rustc_hash::FxHashMap;

use super::pages::Pages;
use super::row::{self, Row, Store};
use super::table::{self, Damaged, Entries};
use crate::stack::arch::{Arch, CallSite};
use crate::stack::modules::Modules;
use crate::sys::memory::Memory;

/// Addresses remembered: some 4 MB.
const MAX_ADDRESSES: usize = 1 << 14;

/// What call frame information there is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cfi {
    /// This.
    Row(Row),
    /// None: code of a JIT, or assembly without it.
    Missing,
    /// Damaged, or beyond what is supported.
    Damaged,
}

/// What is known about the code at an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code {
    pub(super) cfi: Cfi,
    /// The address is the last byte of what can be a call.
    pub(super) ends_call: bool,
}

/// See the file's header.
#[derive(Default)]
pub(super) struct Cache {
    addresses: FxHashMap<u64, Code>,
    /// How far the frame pointer is above the stack pointer at a program counter, if that is fixed.
    distances: FxHashMap<u64, Option<u64>>,
    pub(super) store: Store,
    pub(super) pages: Pages,
    entries: Entries,
    context: Option<Box<UnwindContext<usize>>>,
    generation: u64,
}

impl Cache {
    /// Forgets what may not hold any more.
    pub(super) fn follow(&mut self, modules: &Modules) {
        if self.generation != modules.generation() {
            self.generation = modules.generation();
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.addresses.clear();
        self.distances.clear();
        self.store.clear();
        self.pages.forget();
    }

    /// What is known about the code at `address`; `None` when it is not executable.
    pub(super) fn code<A: Arch>(&mut self, modules: &Modules, text: &impl Memory, address: u64) -> Option<Code> {
        if let Some(code) = self.addresses.get(&address) {
            return Some(*code);
        }
        if !modules.is_executable(address) {
            return None;
        }
        let next = address.wrapping_add(1);
        let Some(module) = modules.find(address) else {
            let ends_call = call_site::<A>(text, next).is_some();
            return Some(Code { cfi: Cfi::Missing, ends_call });
        };
        if self.addresses.len() >= MAX_ADDRESSES {
            self.forget();
        }
        let text = self.pages.over(text);
        let ends_call = call_site::<A>(&text, next).is_some();
        let found = match module.eh_frame_hdr {
            0 => Ok(None),
            header => table::find(&text, header, address, &mut self.entries).and_then(|found| {
                let context = self.context.get_or_insert_with(Box::default);
                if found { row::compile::<A>(&self.entries, address, context, &mut self.store) } else { Ok(None) }
            }),
        };
        let cfi = match found {
            Ok(Some(row)) => Cfi::Row(row),
            Ok(None) => Cfi::Missing,
            Err(Damaged) => Cfi::Damaged,
        };
        let code = Code { cfi, ends_call };
        self.addresses.insert(address, code);
        Some(code)
    }

    /// The distance of the frame pointer from the stack pointer at `pc`, worked out by `work` once.
    pub(super) fn distance(&mut self, pc: u64, work: impl FnOnce(&Store, &Pages) -> Option<u64>) -> Option<u64> {
        if let Some(distance) = self.distances.get(&pc) {
            return *distance;
        }
        if self.distances.len() >= MAX_ADDRESSES {
            self.distances.clear();
        }
        let distance = work(&self.store, &self.pages);
        self.distances.insert(pc, distance);
        distance
    }
}

/// What the instruction before `return_address` calls, if it can be a call.
pub(super) fn call_site<A: Arch>(text: &impl Memory, return_address: u64) -> Option<CallSite> {
    let mut bytes = [0u8; 8];
    let most = A::CALL_BYTES.min(bytes.len());
    // Code may begin less than that before: then from the start of its page.
    let in_page = (return_address.wrapping_sub(1) % 4096) as usize + 1;
    for length in [most, most.min(in_page)] {
        let start = return_address.checked_sub(length as u64)?;
        let before = bytes.get_mut(..length)?;
        if text.read(start, before) == length {
            return A::call_before(before, return_address);
        }
    }
    None
}
