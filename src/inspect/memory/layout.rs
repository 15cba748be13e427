//! Mappings in order, each with what it is for.
//!
//! A mapping is called a thread's stack when the thread's stack pointer lies in it and a guard lies right below it, as
//! C libraries make them; without a guard it may be a larger thing of which the stack is only a part (a coroutine's, an
//! arena of Go), and stays what it is.

#![forbid(unsafe_code)]

use super::stacks::Stacks;
use super::{Kind, Mapping};
use crate::stack::modules::Modules;

/// A mapping and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// It.
    pub mapping: Mapping,
    /// What it is for.
    pub kind: Kind,
    /// The thread that has its stack pointer in it, or in the mapping above of which this is the guard.
    pub thread: Option<i32>,
    /// The file name of the loaded object that it belongs to.
    pub module: Option<Vec<u8>>,
}

/// Looks at each together with its neighbour above.
#[derive(Default)]
pub struct Layout {
    pending: Option<Placed>,
}

impl Layout {
    /// Takes the next mapping, and gives back the one before it.
    pub fn push(&mut self, mapping: Mapping, stacks: &Stacks, modules: &Modules) -> Option<Placed> {
        let thread = stacks.within(mapping.start, mapping.end);
        let below = self.pending.as_mut();
        let guard = below.filter(|below| {
            below.mapping.end == mapping.start && below.mapping.is_closed() && below.mapping.printed.is_empty()
        });
        let is_stack = thread.is_some() && guard.is_some() && mapping.inode == 0;
        if let Some(guard) = guard.filter(|_| is_stack) {
            guard.thread = thread;
        }
        let module = modules.find(mapping.start);
        let kind = mapping.kind(module.is_some(), is_stack);
        let module = module.map(|module| module.name().to_vec());
        self.pending.replace(Placed { mapping, kind, thread, module })
    }

    /// The last one.
    pub fn end(&mut self) -> Option<Placed> {
        self.pending.take()
    }
}
