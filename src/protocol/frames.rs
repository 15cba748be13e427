//! The lines and frames of the framed mode: writing them, and reading them from a stream in pieces.
//!
//! Context: the observer and the client. Appends to a `Vec`, or takes from a slice; no input or output. A
//! decoder holds at most one line, checked against its limit before it is stored, and never panics.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::Write;

use super::number;

/// What the only line sent to an unwelcome client begins with.
pub const REFUSED: &str = "refused: ";

/// What a line begins with that says why there is no answer yet.
pub const REMARK: &str = "remark: ";

/// Longest command line, in bytes, without its identifier and newline.
pub const MAX_COMMAND: usize = 64 * 1024;

/// An identifier has at most 20 digits (2^64 - 1), and one space follows.
const MAX_REQUEST: usize = MAX_COMMAND + 21;

/// Longest first line of a frame: `data `, two numbers of 20 digits, a space. A refusal may be longer.
const MAX_HEADER: usize = 5 + 20 + 1 + 20;
const MAX_REFUSAL: usize = 1024;

/// How a command ended; also the exit status of `manhole-cli -c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The command did what it was asked for.
    Success,
    /// The command was understood and could not do it.
    Failed,
    /// No such command, or wrong arguments.
    Usage,
}

impl Status {
    /// The number on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
        }
    }

    fn from_code(code: u64) -> Option<Self> {
        [Self::Success, Self::Failed, Self::Usage].into_iter().find(|status| u64::from(status.code()) == code)
    }
}

/// Why a stream is not what this module describes. The stream cannot be read on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A line that is longer than any allowed one.
    LineTooLong,
    /// A request that does not begin with its identifier.
    Request,
    /// A line that is neither `data`, `done` nor `refused`.
    Header,
}

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::LineTooLong => "a line is too long",
            Self::Request => "a request must be: ID COMMAND LINE, with a decimal ID",
            Self::Header => "neither a data, nor a done, nor a refused line",
        })
    }
}

/// Appends a request. `command` must not hold a newline; what follows one would be another request.
pub fn encode_request(id: u64, command: &str, out: &mut Vec<u8>) {
    // Writing into a Vec cannot fail.
    let _ = writeln!(out, "{id} {command}");
}

/// Appends one piece of output of command `id`; nothing for an empty one.
pub fn encode_data(id: u64, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        let _ = writeln!(out, "data {id} {}", bytes.len());
        out.extend_from_slice(bytes);
    }
}

/// Appends the end of command `id`.
pub fn encode_done(id: u64, status: Status, out: &mut Vec<u8>) {
    let _ = writeln!(out, "done {id} {}", status.code());
}

/// Appends a refusal; line ends in `reason` become spaces, and it is cut to what a client accepts.
pub fn encode_refusal(reason: &str, out: &mut Vec<u8>) {
    encode_line(REFUSED, reason, out);
}

/// The same for a remark on the command that runs.
pub fn encode_remark(remark: &str, out: &mut Vec<u8>) {
    encode_line(REMARK, remark, out);
}

fn encode_line(kind: &str, text: &str, out: &mut Vec<u8>) {
    let room = MAX_REFUSAL - kind.len();
    let end = (0..=text.len().min(room)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    out.extend_from_slice(kind.as_bytes());
    let kept = text.get(..end).unwrap_or_default();
    out.extend(kept.bytes().map(|byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }));
    out.push(b'\n');
}

/// One command as a program sends it. The bytes of `command` are the client's: perhaps no UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the client; the answer carries it.
    pub id: u64,
    /// The command line, without its newline.
    pub command: Vec<u8>,
}

/// Reads requests from a stream that arrives in pieces.
#[derive(Debug, Default)]
pub struct RequestDecoder {
    line: Line,
}

impl RequestDecoder {
    /// A decoder at the start of a stream.
    pub const fn new() -> Self {
        Self { line: Line::new() }
    }

    /// Takes bytes off the front of `input`, up to the end of one request. `None` when `input` is used
    /// up without one: call again with the bytes that follow.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Request>, Malformed> {
        let Some(line) = self.line.take(input, MAX_REQUEST)? else { return Ok(None) };
        let split = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
        let (id, command) = line.split_at(split);
        let id = number(id).ok_or(Malformed::Request)?;
        Ok(Some(Request { id, command: command.get(1..).unwrap_or_default().to_vec() }))
    }
}

/// What a client reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The next bytes of the output of command `id`: a whole frame or a part of one. Never empty.
    Data {
        /// The command.
        id: u64,
        /// Its output.
        bytes: &'a [u8],
    },
    /// Command `id` has ended.
    Done {
        /// The command.
        id: u64,
        /// How.
        status: Status,
    },
    /// Why the command that runs has not answered yet.
    Remark(String),
    /// The server does not talk to us, and why. The end of the stream follows.
    Refused(String),
}

/// Reads a server's frames from a stream that arrives in pieces.
#[derive(Debug, Default)]
pub struct EventDecoder {
    line: Line,
    /// The command whose data is being read and how many bytes of its frame are still to come.
    open: Option<(u64, u64)>,
}

impl EventDecoder {
    /// A decoder at the start of a stream.
    pub const fn new() -> Self {
        Self { line: Line::new(), open: None }
    }

    /// Takes bytes off the front of `input`, up to the end of one event; data are handed on as they
    /// are, so a frame may be of any length. `None` when `input` is used up without an event.
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Malformed> {
        loop {
            if let Some((id, left)) = self.open {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let (bytes, rest) = input.split_at(count);
                *input = rest;
                let left = left - count as u64;
                self.open = (left > 0).then_some((id, left));
                if !bytes.is_empty() {
                    return Ok(Some(Event::Data { id, bytes }));
                }
                if left > 0 {
                    return Ok(None);
                }
            }
            let Some(line) = self.line.take(input, MAX_REFUSAL)? else { return Ok(None) };
            if let Some(reason) = line.strip_prefix(REFUSED.as_bytes()) {
                return Ok(Some(Event::Refused(String::from_utf8_lossy(reason).into_owned())));
            }
            if let Some(remark) = line.strip_prefix(REMARK.as_bytes()) {
                return Ok(Some(Event::Remark(String::from_utf8_lossy(remark).into_owned())));
            }
            if line.len() > MAX_HEADER {
                return Err(Malformed::Header);
            }
            let mut words = line.split(|&byte| byte == b' ');
            let (Some(kind), Some(id), Some(value), None) = (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(Malformed::Header);
            };
            let (id, value) = number(id).zip(number(value)).ok_or(Malformed::Header)?;
            match (kind, Status::from_code(value)) {
                (b"data", _) => self.open = Some((id, value)),
                (b"done", Some(status)) => return Ok(Some(Event::Done { id, status })),
                _ => return Err(Malformed::Header),
            }
        }
    }
}

/// A line that arrives in pieces, held up to a limit.
#[derive(Debug, Default)]
struct Line {
    start: Vec<u8>,
}

impl Line {
    const fn new() -> Self {
        Self { start: Vec::new() }
    }

    /// The next line without its newline, if `input` completes one. The limit is checked before anything
    /// is stored.
    fn take(&mut self, input: &mut &[u8], limit: usize) -> Result<Option<Vec<u8>>, Malformed> {
        let newline = input.iter().position(|&byte| byte == b'\n');
        let (piece, rest) = input.split_at(newline.unwrap_or(input.len()));
        if self.start.len() + piece.len() > limit {
            return Err(Malformed::LineTooLong);
        }
        self.start.extend_from_slice(piece);
        *input = rest.get(1..).unwrap_or_default();
        Ok(newline.map(|_| std::mem::take(&mut self.start)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn requests(pieces: &[&[u8]]) -> Result<Vec<Request>, Malformed> {
        let (mut decoder, mut all) = (RequestDecoder::new(), Vec::new());
        for mut piece in pieces.iter().copied() {
            while let Some(request) = decoder.decode(&mut piece)? {
                all.push(request);
            }
            assert!(piece.is_empty());
        }
        Ok(all)
    }

    /// Events with adjacent data of one command joined, so that the cutting does not show.
    fn events(pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<String>), Malformed> {
        let (mut decoder, mut data, mut others) = (EventDecoder::new(), Vec::new(), Vec::new());
        for mut piece in pieces.iter().copied() {
            while let Some(event) = decoder.decode(&mut piece)? {
                match event {
                    Event::Data { bytes, .. } => {
                        assert!(!bytes.is_empty());
                        data.extend_from_slice(bytes);
                    }
                    other => others.push(format!("{other:?}")),
                }
            }
            assert!(piece.is_empty());
        }
        Ok((data, others))
    }

    #[test]
    fn requests_survive_any_cutting() {
        let mut stream = Vec::new();
        encode_request(1, "stacks --group", &mut stream);
        encode_request(u64::MAX, "", &mut stream);
        stream.extend_from_slice(b"7 \xff\xc3 half\r\n9\n");
        let expected = [(1, &b"stacks --group"[..]), (u64::MAX, b""), (7, b"\xff\xc3 half\r"), (9, b"")]
            .map(|(id, command)| Request { id, command: command.to_vec() });
        for cut in 0..=stream.len() {
            assert_eq!(requests(&[&stream[..cut], &stream[cut..]]).unwrap(), expected);
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(requests(&bytes).unwrap(), expected);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in ["\n", "stacks\n", " 1 stacks\n", "+1 x\n", "-1 x\n", "01 x\n", "18446744073709551616 x\n"] {
            assert_eq!(requests(&[bad.as_bytes()]), Err(Malformed::Request), "{bad}");
        }
    }

    #[test]
    fn a_request_without_end_is_refused_before_it_is_stored() {
        let mut longest = Vec::new();
        encode_request(u64::MAX, &"x".repeat(MAX_COMMAND), &mut longest);
        assert_eq!(requests(&[&longest]).unwrap()[0].command.len(), MAX_COMMAND);
        let mut decoder = RequestDecoder::new();
        let chunk = [b'1'; 4096];
        let failed = (0..1000).find(|_| decoder.decode(&mut &chunk[..]).is_err());
        assert_eq!(failed, Some(MAX_REQUEST / 4096));
        assert!(decoder.line.start.capacity() <= 2 * MAX_REQUEST);
    }

    #[test]
    fn frames_survive_any_cutting() {
        let mut stream = Vec::new();
        encode_data(3, b"data 3 5\nraw \0\xff", &mut stream);
        encode_data(3, b"", &mut stream);
        stream.extend_from_slice(b"data 3 0\n");
        encode_remark("it\ntakes long", &mut stream);
        encode_done(3, Status::Failed, &mut stream);
        encode_refusal("no\nmore", &mut stream);
        let expected = (
            b"data 3 5\nraw \0\xff".to_vec(),
            ["Remark(\"it takes long\")", "Done { id: 3, status: Failed }", "Refused(\"no more\")"]
                .map(str::to_owned)
                .to_vec(),
        );
        for cut in 0..=stream.len() {
            assert_eq!(events(&[&stream[..cut], &stream[cut..]]).unwrap(), expected, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(&bytes).unwrap(), expected);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for bad in ["\n", "hello\n", "done 1\n", "done 1 3\n", "done 1 0 \n", "data 1 -1\n", "data  1 2\n"] {
            assert_eq!(events(&[bad.as_bytes()]), Err(Malformed::Header), "{bad}");
        }
        let long = vec![b'x'; MAX_REFUSAL + 1];
        assert_eq!(events(&[&long]), Err(Malformed::LineTooLong));
    }

    #[test]
    fn a_huge_length_holds_no_memory() {
        let mut decoder = EventDecoder::new();
        let mut input = &b"data 1 18446744073709551615\nabc"[..];
        assert_eq!(decoder.decode(&mut input).unwrap(), Some(Event::Data { id: 1, bytes: b"abc" }));
        assert_eq!(decoder.decode(&mut input).unwrap(), None);
        assert_eq!(decoder.line.start.capacity(), 0);
    }

    #[test]
    fn a_long_refusal_is_cut_between_characters() {
        let mut stream = Vec::new();
        encode_refusal(&"ü".repeat(2000), &mut stream);
        let (_, others) = events(&[&stream]).unwrap();
        assert!(stream.len() <= MAX_REFUSAL + 1 && others[0].ends_with("üü\")"));
    }

    /// A poor man's fuzzing that every `cargo test` does: mutations of a valid stream, fixed seed.
    #[test]
    fn no_bytes_make_a_decoder_panic() {
        let mut stream = Vec::new();
        encode_request(12, "stacks", &mut stream);
        encode_data(12, b"hello", &mut stream);
        encode_done(12, Status::Success, &mut stream);
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            let mut bytes = stream.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 20) as u8;
            }
            let cut = (state >> 40) as usize % bytes.len();
            let _ = requests_quietly(&[&bytes[..cut], &bytes[cut..]]);
            let _ = events_quietly(&[&bytes[..cut], &bytes[cut..]]);
        }
    }

    fn requests_quietly(pieces: &[&[u8]]) -> Result<(), Malformed> {
        let mut decoder = RequestDecoder::new();
        for mut piece in pieces.iter().copied() {
            while decoder.decode(&mut piece)?.is_some() {}
        }
        Ok(())
    }

    fn events_quietly(pieces: &[&[u8]]) -> Result<(), Malformed> {
        let mut decoder = EventDecoder::new();
        for mut piece in pieces.iter().copied() {
            while decoder.decode(&mut piece)?.is_some() {}
        }
        Ok(())
    }
}
