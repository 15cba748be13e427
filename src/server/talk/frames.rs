//! The framed mode of `manhole-cli -c`: its requests wait for their turn, its answers go into frames.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

use super::{Input, Talk};
use crate::protocol::{self, MAX_COMMAND, Request, RequestDecoder, Status};

/// A client that speaks frames.
#[derive(Default)]
pub struct Frames {
    decoder: RequestDecoder,
    /// Arrived and not decoded yet.
    bytes: Vec<u8>,
    /// The request that is answered.
    id: u64,
}

impl Talk for Frames {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn next(&mut self, _: bool) -> Option<Input> {
        let mut rest = self.bytes.as_slice();
        let decoded = self.decoder.decode(&mut rest);
        let used = self.bytes.len() - rest.len();
        self.bytes.drain(..used);
        match decoded {
            Ok(None) => None,
            Ok(Some(Request { id, command })) => {
                self.id = id;
                Some(Input::Line(String::from_utf8_lossy(&command).into_owned()))
            }
            Err(error) => {
                let mut refusal = Vec::new();
                protocol::encode_refusal(&error.to_string(), &mut refusal);
                Some(Input::Unreadable(String::from_utf8_lossy(&refusal).into_owned()))
            }
        }
    }

    fn has_input(&self, _: bool) -> bool {
        !self.bytes.is_empty()
    }

    fn is_full(&self) -> bool {
        self.bytes.len() > MAX_COMMAND
    }

    fn answer(&mut self, text: &[u8], out: &mut Vec<u8>) {
        protocol::encode_data(self.id, text, out);
    }

    fn remark(&mut self, text: &str, out: &mut Vec<u8>) {
        protocol::encode_remark(text, out);
    }

    fn finish(&mut self, status: Status, _: Option<&str>, out: &mut Vec<u8>) {
        protocol::encode_done(self.id, status, out);
    }
}
