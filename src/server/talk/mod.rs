//! How a client talks: its bytes become lines to run, and answers become bytes.
//!
//! Context: the observer. Three ways, documented in [`crate::protocol`]: a person's ([`person`]), a program's JSON lines
//! ([`program`]), the frames of `manhole-cli -c` ([`frames`]). What has arrived and was not run yet is bounded: a session
//! reads no more while it [`Talk::is_full`].

#![forbid(unsafe_code)]

pub mod frames;
pub mod paint;
pub mod person;
pub mod program;

use crate::protocol::Status;

/// What to do next for a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Run these commands.
    Line(String),
    /// Answer with this error.
    Wrong(String),
    /// The key ^C, and nothing runs.
    Interrupt,
    /// Say this; what follows cannot be understood.
    Unreadable(String),
}

/// A way to talk.
pub trait Talk {
    /// Takes in what has arrived.
    fn push(&mut self, bytes: &[u8]);

    /// What to do next; at the end of the stream, what is left counts as a whole line.
    fn next(&mut self, at_end: bool) -> Option<Input>;

    /// Whether [`Self::next`] has something.
    fn has_input(&self, at_end: bool) -> bool;

    /// Whether so much has arrived that no more may be read while a command runs.
    fn is_full(&self) -> bool;

    /// Whether the running command is to end.
    fn take_interrupt(&mut self) -> bool {
        false
    }

    /// A piece of the answer to the line that was taken last.
    fn answer(&mut self, text: &[u8], out: &mut Vec<u8>);

    /// Why there is no answer yet, for who waits for one and is no person.
    fn remark(&mut self, _: &str, _: &mut Vec<u8>) {}

    /// What follows was not asked of the command: it begins a line.
    fn break_line(&mut self, _: &mut Vec<u8>) {}

    /// The end of that answer; `error` is why its status is what it is.
    fn finish(&mut self, status: Status, error: Option<&str>, out: &mut Vec<u8>);
}
