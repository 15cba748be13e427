//! Facts of the process: how it was started, as whom it runs, in which environment and groups, since when; its signals
//! and timers.
//!
//! Context: the observer. Each command reads files of `/proc` and memory, and changes nothing.

#![forbid(unsafe_code)]

mod auxiliary;
mod cgroup;
mod commandline;
mod environment;
mod signals;
mod status;
mod timers;
mod uptime;

use super::{Cut, fail, no_arguments, once};
use crate::inspect::application;
use crate::inspect::strings::Escaped;
use crate::shell::World;
use crate::stack::capture::dumpable::Dumpable;
use crate::sys::{Errno, Result as SysResult, procfs};

pub use auxiliary::COMMAND as AUXV;
pub use cgroup::COMMAND as CGROUP;
pub use commandline::COMMAND as CMDLINE;
pub use environment::COMMAND as ENV;
pub use signals::COMMAND as SIGNALS;
pub use status::COMMAND as STATUS;
pub use timers::COMMAND as TIMERS;
pub use uptime::COMMAND as UPTIME;

/// The threads of the manhole.
fn ours(world: &World) -> Vec<i32> {
    let own = world.interruption.is_none().then_some(world.own_tid);
    own.into_iter().chain(world.manhole.actor.tid()).collect()
}

/// A thread of the application's that lives.
pub(super) fn application_thread(world: &World) -> Result<i32, String> {
    application::thread(&ours(world)).ok_or_else(|| match procfs::thread_ids() {
        Ok(_) => "no thread of the application lives".to_owned(),
        Err(error) => format!("cannot list /proc/self/task: {}", error.desc()),
    })
}

/// Reads what belongs to root in a process that dropped its privileges, unless that is made dumpable meanwhile.
fn readable<T>(read: impl Fn() -> SysResult<T>) -> SysResult<T> {
    let first = read();
    if !matches!(first, Err(Errno::EACCES | Errno::EPERM)) {
        return first;
    }
    let mut dumpable = Dumpable::default();
    if dumpable.allow() { read() } else { first }
}

/// A fact on a line: its name, and what it is.
fn fact(out: &mut Vec<u8>, name: &str, value: impl std::fmt::Display) {
    out.extend_from_slice(format!("{name:<18} {value}\n").as_bytes());
}

/// Words between double quotes where one has a blank, as a shell would want them.
fn quoted(words: &[Vec<u8>]) -> String {
    let word = |word: &Vec<u8>| {
        let is_plain = !word.is_empty()
            && word.iter().all(|byte| byte.is_ascii_graphic() && !b"\"'\\$`&|;<>()*?#~".contains(byte));
        if is_plain { Escaped(word).to_string() } else { format!("\"{}\"", Escaped(word)) }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}
