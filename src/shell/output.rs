//! What a command answers, on its way to the client: lines for eyes, or one JSON array.
//!
//! Context: the observer. A command puts records; which form they take is the client's choice (`--json`). In JSON an
//! answer is an array with one record a line, so it can be read as a whole or as it comes.

#![forbid(unsafe_code)]

use super::json::Bytes;
use super::record::Record;
use crate::inspect::strings::Escaped;
use crate::record;
use crate::shell::record::Line;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Lines for eyes.
    Text,
    /// A JSON array of records.
    Json,
    /// The records alone, each as JSON on a line.
    Records,
}

/// An answer, as far as it was not taken yet.
pub struct Output {
    form: Form,
    bytes: Vec<u8>,
    /// JSON: something stands in the array.
    begun: bool,
    /// The sentence of the last error.
    failure: Option<String>,
}

record! {
    /// Why a command did not do, or not finish, what it was asked for.
    pub struct Failure as "error" {
        /// The sentence.
        error: String,
    }
}

record! {
    /// What the application wrote.
    pub struct Text as "text" {
        /// A piece of it, cut anywhere: the pieces joined are what was written.
        text: Bytes,
    }
}

record! {
    /// Something that may be missing from the answer.
    pub struct Missing as "missing" {
        /// The file that it stands in.
        file: Bytes,
        /// Why it is not there.
        why: &'static str,
    }
}

impl Missing {
    /// Part of the answer stands in the file at `path`, whose server is silent.
    pub fn silent(path: Vec<u8>) -> Self {
        Self { file: Bytes(path), why: "its file server does not answer" }
    }
}

impl Line for Missing {
    fn line(&self, out: &mut Vec<u8>) {
        let Self { file, why } = self;
        let line = format!("note: {}: {why}; what stands in this file may be missing above\n", Escaped(&file.0));
        out.extend_from_slice(line.as_bytes());
    }
}

impl Line for Text {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text.0);
    }
}

impl Line for Failure {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("error: {}\n", self.error).as_bytes());
    }
}

impl Output {
    /// Nothing yet.
    pub fn new(form: Form) -> Self {
        Self { form, bytes: Vec::new(), begun: false, failure: None }
    }

    /// Whether records are wanted as JSON.
    pub fn is_json(&self) -> bool {
        self.form != Form::Text
    }

    /// Puts a record.
    pub fn put(&mut self, record: &dyn Record) {
        match self.form {
            Form::Text => record.line(&mut self.bytes),
            Form::Json => {
                self.bytes.extend_from_slice(if self.begun { b",\n" } else { b"[" });
                self.begun = true;
                record.json(&mut self.bytes);
            }
            Form::Records => {
                record.json(&mut self.bytes);
                self.bytes.push(b'\n');
            }
        }
    }

    /// Puts the record of an error.
    pub fn fail(&mut self, error: &str) {
        self.put(&Failure { error: error.to_owned() });
        self.failure = Some(error.to_owned());
    }

    /// The last error that was put.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Puts what the application wrote.
    pub fn text(&mut self, bytes: &[u8]) {
        match self.form {
            Form::Text => self.bytes.extend_from_slice(bytes),
            Form::Json | Form::Records => self.put(&Text { text: Bytes(bytes.to_vec()) }),
        }
    }

    /// What only eyes want: a heading, a remark.
    pub fn note(&mut self, text: impl AsRef<[u8]>) {
        if self.form == Form::Text {
            self.bytes.extend_from_slice(text.as_ref());
        }
    }

    /// The lines for eyes, for what writes many of them; nothing that is written here reaches a JSON answer.
    pub fn lines(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that were not taken yet.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The answer is complete.
    pub fn end(&mut self) {
        if self.form == Form::Json {
            self.bytes.extend_from_slice(if self.begun { b"]\n" } else { b"[]\n" });
        }
    }

    /// Takes what there is.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_however_it_is_taken() {
        let mut output = Output::new(Form::Json);
        let mut all = Vec::new();
        output.note("TITLE\n");
        for error in ["a", "b"] {
            output.fail(error);
            all.extend(output.take());
        }
        output.end();
        all.extend(output.take());
        let expected = "[{\"kind\":\"error\",\"error\":\"a\"},\n{\"kind\":\"error\",\"error\":\"b\"}]\n";
        assert_eq!(String::from_utf8(all).unwrap(), expected);
        let mut nothing = Output::new(Form::Json);
        nothing.end();
        assert_eq!(nothing.take(), b"[]\n");
        let mut text = Output::new(Form::Text);
        text.note("TITLE\n");
        text.fail("a");
        text.end();
        assert_eq!(text.take(), b"TITLE\nerror: a\n");
        let mut records = Output::new(Form::Records);
        records.note("TITLE\n");
        records.fail("a");
        records.text(b"x\n");
        records.end();
        assert_eq!(records.failure(), Some("a"));
        assert_eq!(records.take(), b"{\"kind\":\"error\",\"error\":\"a\"}\n{\"kind\":\"text\",\"text\":\"x\\n\"}\n");
    }
}
