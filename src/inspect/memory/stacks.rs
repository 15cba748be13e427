//! Where the threads have their stacks, as far as that can be known without stopping them.
//!
//! Context: the observer, some threads a step. A thread that sits in a system call says its stack pointer; one that
//! runs does not, and its stack is not told from other memory.

#![forbid(unsafe_code)]

use std::time::Instant;

use crate::inspect::threads;
use crate::sys::{Result, procfs};

/// Stack pointers of threads.
pub struct Stacks {
    rest: std::vec::IntoIter<i32>,
    /// Ascending, once all of them are known.
    pointers: Vec<(u64, i32)>,
    own: i32,
    /// Threads whose stack pointer the kernel would not say.
    pub unknown: usize,
}

impl Stacks {
    /// Those of this process's threads; `own` is the one that asks.
    pub fn new(own: i32) -> Result<Self> {
        let rest = procfs::thread_ids()?.into_iter();
        Ok(Self { rest, pointers: Vec::new(), own, unknown: 0 })
    }

    /// Learns more of them until `end`; false when there is no more to learn.
    pub fn step(&mut self, end: Instant) -> bool {
        let here = 0u8;
        while Instant::now() < end {
            let Some(tid) = self.rest.next() else {
                self.pointers.sort_unstable();
                return false;
            };
            let pointer = if tid == self.own { Some(&raw const here as u64) } else { threads::stack_pointer(tid) };
            match pointer {
                Some(pointer) => self.pointers.push((pointer, tid)),
                None => self.unknown += 1,
            }
        }
        true
    }

    /// The thread whose stack pointer lies from `start` to before `end`, the lowest if there are several.
    pub fn within(&self, start: u64, end: u64) -> Option<i32> {
        let first = self.pointers.partition_point(|(pointer, _)| *pointer < start);
        let (pointer, tid) = self.pointers.get(first)?;
        (*pointer < end).then_some(*tid)
    }
}
