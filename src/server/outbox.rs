//! What waits to be sent to one client, with the memory of how long it takes nothing.
//!
//! Context: the observer. Sends what the kernel takes now, and never waits. What is put in is bounded by whoever puts:
//! jobs pause while [`Outbox::is_full`].

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::sys::socket::Socket;
use crate::sys::{Errno, Result};

/// A job pauses while more than this waits.
const HIGH: usize = 256 << 10;

/// Bytes on their way to a client.
pub struct Outbox {
    bytes: Vec<u8>,
    /// As many of them are gone.
    sent: usize,
    /// The last byte that is gone ended a line.
    at_line: bool,
    /// Since when the client takes nothing although there is something.
    stuck_since: Option<Instant>,
    patience: Duration,
}

impl Outbox {
    /// An empty one, for a client that must take something within `patience`.
    pub fn new(patience: Duration) -> Self {
        Self { bytes: Vec::new(), sent: 0, at_line: true, stuck_since: None, patience }
    }

    /// Where what is to be sent is appended.
    pub fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that are not sent yet.
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether so much waits that no more should be made.
    pub fn is_full(&self) -> bool {
        self.waiting() >= HIGH
    }

    /// When the client will have taken nothing for too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.stuck_since.map(|since| since + self.patience)
    }

    /// Takes `tail` off the end, if it was not sent.
    pub fn take_back(&mut self, tail: &[u8]) -> bool {
        let is_there = self.bytes.get(self.sent..).unwrap_or_default().ends_with(tail);
        if is_there {
            self.bytes.truncate(self.bytes.len() - tail.len());
        }
        is_there
    }

    /// Drops what was not sent, but for the rest of a line of which something was: what follows begins a line.
    pub fn drop_lines(&mut self) {
        let unsent = self.bytes.get(self.sent..).unwrap_or_default();
        let kept = match unsent.iter().position(|byte| *byte == b'\n') {
            _ if self.at_line => 0,
            Some(newline) => newline + 1,
            None => unsent.len(),
        };
        self.bytes.truncate(self.sent + kept);
        let ends = if kept > 0 { self.bytes.ends_with(b"\n") } else { self.at_line };
        if !ends {
            self.bytes.push(b'\n');
        }
    }

    /// Sends what the kernel takes.
    pub fn send(&mut self, socket: &Socket, now: Instant) -> Result<()> {
        let before = self.sent;
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match socket.send(rest) {
                Ok(count) => self.sent += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        let is_stuck = self.waiting() > 0 && self.sent == before;
        self.stuck_since = if is_stuck { self.stuck_since.or(Some(now)) } else { None };
        if self.sent > before {
            self.at_line = self.bytes.get(self.sent - 1) == Some(&b'\n');
        }
        if self.waiting() == 0 || self.sent >= HIGH {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_ends_at_a_line() {
        for (sent, unsent, left) in [
            ("", "banner\nstacks\n", ""),
            ("ban", "ner\nstacks\nmore", "ner\n"),
            ("banner\n", "stacks\nmore", ""),
            ("banner\nmanhole", "> ", "> \n"),
            ("banner\nmanhole> ", "", "\n"),
        ] {
            let mut outbox = Outbox::new(Duration::ZERO);
            outbox.bytes = format!("{sent}{unsent}").into_bytes();
            outbox.sent = sent.len();
            outbox.at_line = sent.is_empty() || sent.ends_with('\n');
            outbox.drop_lines();
            assert_eq!(outbox.bytes[outbox.sent..], *left.as_bytes(), "{sent:?} {unsent:?}");
        }
    }
}
