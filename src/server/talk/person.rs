//! A person at a terminal: lines, a prompt; or, with `connection_handler=exec`, the answers alone.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

use super::paint::Paint;
use super::{Input, Talk};
use crate::config::Handler;
use crate::protocol::{MAX_COMMAND, PROMPT, Status};
use crate::server::lines::{self, Lines};
use crate::server::outbox::Outbox;

/// A person.
pub struct Person {
    lines: Lines,
    /// No line was taken yet: the first may show that this is a program.
    is_new: bool,
    handler: Handler,
    /// The answer has not ended its line yet.
    mid_line: bool,
    paint: Paint,
}

impl Person {
    /// One whose client is a terminal that shows colours, or is not.
    pub fn new(handler: Handler, colours: bool) -> Self {
        Self { lines: Lines::default(), is_new: true, handler, mid_line: false, paint: Paint::new(colours) }
    }

    /// Whether there are banner, prompt and remarks.
    pub fn converses(&self) -> bool {
        self.handler == Handler::Repl
    }

    /// The answer has not ended its line yet.
    pub fn is_mid_line(&self) -> bool {
        self.mid_line
    }

    /// What has arrived, if it is the request of a program.
    pub fn take_request(&mut self) -> Option<Vec<u8>> {
        (self.is_new && self.lines.as_bytes().starts_with(b"{")).then(|| std::mem::take(&mut self.lines).into_bytes())
    }

    /// Forgets what has arrived.
    pub fn forget(&mut self) {
        self.lines = Lines::default();
    }

    /// Says something that no command asked for, on a line of its own, with a new prompt if one stood there.
    pub fn tell(&mut self, message: &str, is_idle: bool, out: &mut Vec<u8>) {
        if self.converses() {
            let before = if is_idle || self.mid_line { "\n" } else { "" };
            let after = if is_idle { self.prompt() } else { String::new() };
            out.extend_from_slice(format!("{before}# {message}\n{after}").as_bytes());
            self.mid_line = false;
        }
    }

    /// Shows whole lines of the application's standard error, with the prompt again after them.
    pub fn overhear(&self, lines: &[u8], is_idle: bool, outbox: &mut Outbox) {
        let prompt = if is_idle { self.prompt() } else { String::new() };
        if is_idle && !outbox.take_back(prompt.as_bytes()) {
            outbox.end().push(b'\n');
        }
        outbox.end().extend_from_slice(lines);
        outbox.end().extend_from_slice(prompt.as_bytes());
    }

    fn prompt(&self) -> String {
        self.paint.prompt(PROMPT)
    }
}

impl Talk for Person {
    fn push(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
    }

    fn next(&mut self, at_end: bool) -> Option<Input> {
        let input = match self.lines.next(at_end)? {
            lines::Input::Line(line) => {
                let line = String::from_utf8_lossy(&line);
                // Who interrupts when there is nothing to interrupt gets a new prompt.
                Input::Line(if line.trim() == "^C" { String::new() } else { line.trim().to_owned() })
            }
            lines::Input::TooLong => Input::Wrong(format!("a line may have {MAX_COMMAND} bytes")),
            lines::Input::Interrupt => Input::Interrupt,
        };
        self.is_new = false;
        Some(input)
    }

    fn has_input(&self, at_end: bool) -> bool {
        self.lines.has_input(at_end)
    }

    fn is_full(&self) -> bool {
        self.lines.is_full()
    }

    fn take_interrupt(&mut self) -> bool {
        self.lines.take_interrupt()
    }

    fn answer(&mut self, text: &[u8], out: &mut Vec<u8>) {
        self.mid_line = text.last().map_or(self.mid_line, |last| *last != b'\n');
        self.paint.text(text, out);
    }

    fn break_line(&mut self, out: &mut Vec<u8>) {
        // A command of the application may end in the middle of a line.
        if self.mid_line {
            self.answer(b"\n", out);
        }
    }

    fn finish(&mut self, _: Status, _: Option<&str>, out: &mut Vec<u8>) {
        self.break_line(out);
        if self.converses() {
            out.extend_from_slice(self.prompt().as_bytes());
        }
    }
}
