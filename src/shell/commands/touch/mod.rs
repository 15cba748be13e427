//! The commands that change the application: each says what was, what was done, and what the kernel says afterwards.
//!
//! Context: the observer. What needs the application's descriptor table is done by the actor; everything else by raw
//! system calls of the observer, so that it works in a process whose locks are held for ever.

#![forbid(unsafe_code)]

mod affinity;
mod descriptor;
mod limit;
mod nice;
mod set;
mod signal;
mod threads;
mod value;

use super::super::Command;
use crate::record;
use crate::shell::record::Line;
use crate::sys::filter;

pub const SIGNAL: Command = signal::COMMAND;
pub const NICE: Command = nice::COMMAND;
pub const AFFINITY: Command = affinity::COMMAND;
pub const RLIMIT: Command = limit::COMMAND;
pub const CLOSE: Command = descriptor::CLOSE;
pub const DUP: Command = descriptor::DUP;
pub const SET: Command = set::COMMAND;

/// Refuses where the kernel may kill the application for a call that it never makes itself.
fn unfiltered() -> Result<(), String> {
    if filter::has_grown() { Err(FILTERED.to_owned()) } else { Ok(()) }
}

const FILTERED: &str = "the application has added a seccomp filter, which might kill it for this";

record! {
    /// It was done, and has a consequence that is easily overlooked.
    struct Warning as "warning" {
        /// Which.
        warning: String,
    }
}

impl Line for Warning {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("warning: {}\n", self.warning).as_bytes());
    }
}
