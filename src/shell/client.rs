//! Whoever a command works for.
//!
//! Context: the observer. Each session has one, and lends it to the [`World`](super::World) for each step of its jobs.

#![forbid(unsafe_code)]

use crate::config::level::Level;
use crate::sys::clock;

/// A connected client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its number among all clients.
    pub number: u64,
    /// Its process, in our pid namespace; 0 if it is not visible there.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// What it may do. It never rises.
    pub level: Level,
    /// When it came, in nanoseconds of the monotonic clock.
    pub since: u64,
}

impl Client {
    /// One that has just come.
    pub fn new(number: u64, pid: i32, uid: u32, level: Level) -> Self {
        Self { number, pid, uid, level, since: clock::monotonic() }
    }

    /// Nobody, who may only look.
    pub fn nobody() -> Self {
        Self { number: 0, pid: 0, uid: 0, level: Level::Observe, since: 0 }
    }

    /// Whether it may use what needs `level`; if not, a sentence that says why.
    pub fn may(&self, level: Level, what: &str) -> Result<(), String> {
        if self.level >= level {
            return Ok(());
        }
        let (has, needs) = (self.level.name(), level.name());
        Err(format!("{what} needs the level {needs}, and this session has {has}"))
    }
}
