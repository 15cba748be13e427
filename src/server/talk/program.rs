//! A program that speaks JSON lines: requests wait in order, each gets one line of answer.
//!
//! Context: the observer. A reply begins before its command has ended and grows with what that puts, so nothing large
//! is kept: `{"id":7,"data":[` record, record … `],"status":0}`.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::{Input, Talk};
use crate::protocol::{self, BadMessage, MAX_COMMAND, Message, Status};
use crate::server::lines::{self, Lines};
use crate::shell::json;

/// A line that waits for its turn.
struct Waiting {
    /// Its identifier and its command.
    request: Result<(String, String), (Option<String>, BadMessage)>,
    /// It is to end as soon as it begins.
    interrupted: bool,
    /// Bytes of the line.
    length: usize,
}

/// A program.
#[derive(Default)]
pub struct Program {
    lines: Lines,
    queue: VecDeque<Waiting>,
    /// Bytes of the lines in the queue.
    held: usize,
    /// The identifier of the request that is answered, as it was written; none if that was no request.
    id: Option<String>,
    /// That one is to end.
    interrupted: bool,
    /// Its answer has begun.
    has_begun: bool,
    /// A record of it was sent.
    has_record: bool,
}

impl Program {
    /// Puts a line into the queue; one that interrupts acts at once.
    fn take(&mut self, input: lines::Input) {
        let (length, decoded) = match input {
            // Blank lines between requests ask for nothing.
            lines::Input::Line(line) if line.trim_ascii().is_empty() => return,
            lines::Input::Line(line) => {
                let decoded = protocol::decode_message(&line);
                (line.len(), decoded.map_err(|error| (protocol::id_of(&line), error)))
            }
            lines::Input::TooLong => (0, Err((None, BadMessage::TooLong))),
            // The key ^C is nothing that a program types.
            lines::Input::Interrupt => return,
        };
        let request = match decoded {
            Ok(Message::Interrupt { id }) => return self.interrupt(&id),
            Ok(Message::Run { id, command }) => Ok((id, command)),
            Err(error) => Err(error),
        };
        self.held += length;
        self.queue.push_back(Waiting { request, interrupted: false, length });
    }

    /// Interrupts the request `id`: the one that runs, else the first that waits, else none.
    fn interrupt(&mut self, id: &str) {
        if self.id.as_deref() == Some(id) {
            self.interrupted = true;
            return;
        }
        let is_meant = |waiting: &&mut Waiting| waiting.request.as_ref().is_ok_and(|(other, _)| other == id);
        if let Some(waiting) = self.queue.iter_mut().find(is_meant) {
            waiting.interrupted = true;
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            out.extend_from_slice(b"{\"id\":");
            out.extend_from_slice(self.id.as_deref().unwrap_or("null").as_bytes());
            out.extend_from_slice(b",\"data\":[");
        }
    }
}

impl Talk for Program {
    fn push(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
        while let Some(input) = self.lines.next(false) {
            self.take(input);
        }
    }

    fn next(&mut self, at_end: bool) -> Option<Input> {
        if self.queue.is_empty() {
            let last = self.lines.next(at_end)?;
            self.take(last);
        }
        let Waiting { request, interrupted, length } = self.queue.pop_front()?;
        self.held -= length;
        (self.has_begun, self.has_record, self.interrupted) = (false, false, interrupted);
        match request {
            Ok((id, command)) => {
                self.id = Some(id);
                Some(Input::Line(command))
            }
            Err((id, error)) => {
                self.id = id;
                Some(Input::Wrong(error.to_string()))
            }
        }
    }

    fn has_input(&self, at_end: bool) -> bool {
        !self.queue.is_empty() || self.lines.has_input(at_end)
    }

    fn is_full(&self) -> bool {
        self.held + self.lines.as_bytes().len() > MAX_COMMAND
    }

    fn take_interrupt(&mut self) -> bool {
        std::mem::take(&mut self.interrupted)
    }

    /// `text` is whole records, each a line.
    fn answer(&mut self, text: &[u8], out: &mut Vec<u8>) {
        for record in text.split(|byte| *byte == b'\n').filter(|record| !record.is_empty()) {
            self.begin(out);
            out.extend_from_slice(if std::mem::replace(&mut self.has_record, true) { b"," } else { b"" });
            out.extend_from_slice(record);
        }
    }

    fn finish(&mut self, status: Status, error: Option<&str>, out: &mut Vec<u8>) {
        self.begin(out);
        out.push(b']');
        if status != Status::Success {
            out.extend_from_slice(b",\"error\":");
            json::string(error.unwrap_or("the command gave no reason"), out);
        }
        out.extend_from_slice(format!(",\"status\":{}}}\n", status.code()).as_bytes());
        // It is not the one that runs any more.
        self.id = None;
        self.interrupted = false;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_request_whatever_it_answers() {
        let (mut program, mut out) = (Program::default(), Vec::new());
        program.push(b"{\"id\":7,\"command\":\"a\"}\n\nx\n{\"id\":\"b\",\"command\":\"c\"}");
        assert_eq!(program.next(false), Some(Input::Line("a".to_owned())));
        program.answer(b"{\"x\":1}\n{\"x\":2}\n", &mut out);
        program.answer(b"", &mut out);
        program.answer(b"{\"x\":3}\n", &mut out);
        program.finish(Status::Failed, Some("no \"luck\""), &mut out);
        assert_eq!(program.next(false), Some(Input::Wrong("{ expected at byte 0".to_owned())));
        program.finish(Status::Usage, Some("y"), &mut out);
        assert_eq!(program.next(false), None);
        assert_eq!(program.next(true), Some(Input::Line("c".to_owned())));
        program.finish(Status::Success, None, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"id\":7,\"data\":[{\"x\":1},{\"x\":2},{\"x\":3}],\"error\":\"no \\\"luck\\\"\",\"status\":1}\n\
             {\"id\":null,\"data\":[],\"error\":\"y\",\"status\":2}\n{\"id\":\"b\",\"data\":[],\"status\":0}\n"
        );
    }

    #[test]
    fn an_interrupt_finds_its_request_and_no_other() {
        let mut program = Program::default();
        program.push(
            b"{\"interrupt\":1}\n{\"id\":1,\"command\":\"a\"}\n{\"id\":2,\"command\":\"b\"}\n{\"interrupt\":2}\n",
        );
        program.next(false).unwrap();
        assert!(!program.take_interrupt());
        program.push(b"{\"interrupt\":\"1\"}\n");
        assert!(!program.take_interrupt());
        program.push(b"{\"interrupt\":1}\n");
        assert!(program.take_interrupt() && !program.take_interrupt());
        program.finish(Status::Failed, None, &mut Vec::new());
        program.next(false).unwrap();
        assert!(program.take_interrupt());
    }
}
