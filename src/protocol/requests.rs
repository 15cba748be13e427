//! The requests of the JSON-lines mode: one flat JSON object (RFC 8259) a line.
//!
//! Context: the observer. Takes a slice that is one line; no input or output, no memory beyond the line's, no panic.
//! A parser of our own, since a request is no more than two members that are strings or numbers: serde_json would cost
//! 40 KB of the library, a fiftieth of it.
#![forbid(unsafe_code)]

use std::fmt;

/// Longest identifier, in bytes as it is written.
pub const MAX_ID: usize = 128;

/// What a line asks for. An identifier is kept as it was written, quotes included, and answered so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// `{"id": 7, "command": "threads"}`: run this.
    Run {
        /// A number or a string.
        id: String,
        /// The command line.
        command: String,
    },
    /// `{"interrupt": 7}`: end that request, which runs or waits; nothing if it does neither.
    Interrupt {
        /// The one that is meant.
        id: String,
    },
}

/// Why a line is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadMessage {
    /// It is longer than any line may be.
    TooLong,
    /// Some bytes of it are no UTF-8.
    NotUtf8,
    /// What was expected where something else stands, and at which byte.
    Expected(&'static str, usize),
    /// A member that no request has: the begin of its name.
    Unknown(String),
    /// A member stands there twice.
    Twice(&'static str),
    /// A member that is not there.
    Missing(&'static str),
    /// The identifier is too long.
    LongId,
    /// `interrupt` stands alone.
    NotAlone,
}

impl fmt::Display for BadMessage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(out, "a line may have {} bytes", super::MAX_COMMAND),
            Self::NotUtf8 => write!(out, "the line is no UTF-8"),
            Self::Expected(what, at) => write!(out, "{what} expected at byte {at}"),
            Self::Unknown(name) => write!(out, "unknown member {name:?}: there are id, command, interrupt"),
            Self::Twice(name) => write!(out, "the member {name:?} stands there twice"),
            Self::Missing(name) => write!(out, "the member {name:?} is missing"),
            Self::LongId => write!(out, "an id may have {MAX_ID} bytes"),
            Self::NotAlone => write!(out, "interrupt stands alone, without id and command"),
        }
    }
}

/// What `line` asks for.
pub fn decode(line: &[u8]) -> Result<Message, BadMessage> {
    let text = std::str::from_utf8(line).map_err(|_| BadMessage::NotUtf8)?;
    let mut parser = Parser { text, at: 0 };
    let (mut id, mut command, mut interrupt) = (None, None, None);
    parser.expect('{', "{")?;
    if !parser.takes('}') {
        loop {
            let name = parser.string()?;
            parser.expect(':', ":")?;
            match name.as_str() {
                "id" => put("id", &mut id, parser.identifier()?)?,
                "command" => put("command", &mut command, parser.string()?)?,
                "interrupt" => put("interrupt", &mut interrupt, parser.identifier()?)?,
                _ => return Err(BadMessage::Unknown(name.chars().take(40).collect())),
            }
            if parser.takes('}') {
                break;
            }
            parser.expect(',', ", or }")?;
        }
    }
    parser.skip_blanks();
    if parser.at < text.len() {
        return parser.fail("the end of the line");
    }
    match (id, command, interrupt) {
        (None, None, Some(id)) => Ok(Message::Interrupt { id }),
        (_, _, Some(_)) => Err(BadMessage::NotAlone),
        (None, _, None) => Err(BadMessage::Missing("id")),
        (_, None, None) => Err(BadMessage::Missing("command")),
        (Some(id), Some(command), None) => Ok(Message::Run { id, command }),
    }
}

/// The identifier of a line that is no request, if it begins as one: its answer then carries that.
pub fn id_of(line: &[u8]) -> Option<String> {
    let mut parser = Parser { text: std::str::from_utf8(line).ok()?, at: 0 };
    parser.expect('{', "{").ok()?;
    loop {
        let name = parser.string().ok()?;
        parser.expect(':', ":").ok()?;
        let value = parser.identifier().ok()?;
        if name == "id" {
            return Some(value).filter(|id| id.len() <= MAX_ID);
        }
        parser.expect(',', ",").ok()?;
    }
}

fn put(name: &'static str, place: &mut Option<String>, value: String) -> Result<(), BadMessage> {
    place.replace(value).map_or(Ok(()), |_| Err(BadMessage::Twice(name)))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, BadMessage> {
        Err(BadMessage::Expected(what, self.at))
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    /// Takes `wanted`, and blanks before it, if it is next.
    fn takes(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        let is_next = self.rest().starts_with(wanted);
        self.at += if is_next { wanted.len_utf8() } else { 0 };
        is_next
    }

    fn expect(&mut self, wanted: char, name: &'static str) -> Result<(), BadMessage> {
        if self.takes(wanted) { Ok(()) } else { self.fail(name) }
    }

    /// A number or a string, as it is written.
    fn identifier(&mut self) -> Result<String, BadMessage> {
        self.skip_blanks();
        let from = self.at;
        if self.rest().starts_with('"') {
            self.string()?;
        } else {
            let is_part = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
            let rest = self.rest();
            let length = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
            if !is_number(rest.get(..length).unwrap_or_default()) {
                return self.fail("a number or a string");
            }
            self.at += length;
        }
        let written = self.text.get(from..self.at).unwrap_or_default();
        if written.len() > MAX_ID { Err(BadMessage::LongId) } else { Ok(written.to_owned()) }
    }

    fn string(&mut self) -> Result<String, BadMessage> {
        self.expect('"', "a string")?;
        let mut value = String::new();
        loop {
            let rest = self.rest();
            let end = rest.find(|c: char| matches!(c, '"' | '\\' | '\0'..='\u{1f}')).unwrap_or(rest.len());
            value.push_str(rest.get(..end).unwrap_or_default());
            self.at += end;
            match self.rest().bytes().next() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(value);
                }
                Some(b'\\') => value.push(self.escape()?),
                _ => return self.fail("\" at the end of a string"),
            }
        }
    }

    /// One escaped character; of the basic plane's surrogates only pairs are characters.
    fn escape(&mut self) -> Result<char, BadMessage> {
        let escaped = self.rest().as_bytes().get(1).copied();
        let character = match escaped {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unit_escape(),
            _ => return self.fail("an escape sequence"),
        };
        self.at += 2;
        Ok(character)
    }

    fn unit_escape(&mut self) -> Result<char, BadMessage> {
        let unit = |text: &str| {
            let digits = text.strip_prefix("\\u")?.get(..4)?;
            digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
        };
        let Some(first) = unit(self.rest()) else { return self.fail("four hexadecimal digits") };
        let units = std::iter::once(first).chain(unit(self.rest().get(6..).unwrap_or_default()));
        match char::decode_utf16(units).next() {
            Some(Ok(character)) => {
                self.at += 6 * character.len_utf16();
                Ok(character)
            }
            _ => self.fail("an escape sequence that is a character"),
        }
    }
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`
fn is_number(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(left, right)| (left, Some(right)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(left, right)| (left, Some(right)));
    is_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(|exponent| is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn run(id: &str, command: &str) -> Result<Message, BadMessage> {
        Ok(Message::Run { id: id.to_owned(), command: command.to_owned() })
    }

    #[test]
    fn requests_as_programs_write_them() {
        assert_eq!(decode(br#"{"id": 7, "command": "threads --top"}"#), run("7", "threads --top"));
        assert_eq!(decode(b"{\"command\":\"\",\"id\":\"a\\u00e9\\\"\"}\r"), run(r#""a\u00e9\"""#, ""));
        let escapes = r#" { "id" :-1.5e+3, "command" : "\"\\\/\b\f\n\r\t\u00fc\ud83d\ude00ü" } "#;
        assert_eq!(decode(escapes.as_bytes()), run("-1.5e+3", "\"\\/\u{8}\u{c}\n\r\tü😀ü"));
        assert_eq!(decode(br#"{"interrupt":"x"}"#), Ok(Message::Interrupt { id: "\"x\"".to_owned() }));
    }

    #[test]
    fn what_is_no_request_is_said() {
        let says = |line: &str| decode(line.as_bytes()).unwrap_err().to_string();
        assert_eq!(says("{}"), "the member \"id\" is missing");
        assert_eq!(says(r#"{"id":1}"#), "the member \"command\" is missing");
        assert_eq!(says(r#"{"id":1,"cmd":"x"}"#), "unknown member \"cmd\": there are id, command, interrupt");
        assert_eq!(says(r#"{"id":1,"id":2}"#), "the member \"id\" stands there twice");
        assert_eq!(says(r#"{"id":1,"interrupt":2}"#), "interrupt stands alone, without id and command");
        assert_eq!(says("stacks"), "{ expected at byte 0");
        assert_eq!(says(r#"{"id":1,"command":"x"} y"#), "the end of the line expected at byte 23");
        assert_eq!(says(r#"{"id":null"#), "a number or a string expected at byte 6");
        assert_eq!(says(r#"{"id":1 "#), ", or } expected at byte 8");
        assert_eq!(says(r#"{"id":1,}"#), "a string expected at byte 8");
        assert_eq!(says(r#"{"id":1,"command":"x"#), "\" at the end of a string expected at byte 20");
        assert_eq!(says(&format!("{{\"id\":\"{}\"}}", "x".repeat(MAX_ID))), "an id may have 128 bytes");
        assert_eq!(decode(b"{\"id\":1,\"command\":\"\xff\"}"), Err(BadMessage::NotUtf8));
        for wrong in ["01", "1.", ".5", "+1", "1e", "--1", "1e+", "Infinity"] {
            assert!(says(&format!("{{\"id\":{wrong}}}")).starts_with("a number or a string"), "{wrong}");
        }
        for wrong in [r"\x", r"\u12", r"\ud800", r"\udc00\ud800", r"\u+123", "\t"] {
            assert!(decode(format!("{{\"command\":\"{wrong}\"}}").as_bytes()).is_err(), "{wrong}");
        }
    }

    /// serde_json reads the same out of it, whenever both read it at all, and refuses nothing that we take.
    #[test]
    fn agrees_with_serde_json() {
        let seed = r#"{"id": -7.25e1, "command": "th\u00e9 \ud83d\ude00\n\"x\\"}"#.as_bytes();
        let mut state = 7u64;
        let mut both = 0;
        for _ in 0..200_000 {
            let mut line = seed.to_vec();
            for _ in 0..2 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % line.len();
                line[at] = br#"{}":,\u0d8e9 -.bn"#[(state >> 20) as usize % 17];
            }
            if let Ok(Message::Run { id, command }) = decode(&line) {
                let value = match serde_json::from_slice::<serde_json::Value>(&line) {
                    // It keeps numbers as doubles, we as they are written.
                    Err(error) if error.to_string().starts_with("number out of range") => continue,
                    value => value.unwrap(),
                };
                assert_eq!(value["command"], command);
                assert_eq!(value["id"], serde_json::from_str::<serde_json::Value>(&id).unwrap());
                both += 1;
            }
        }
        assert!(both > 1000, "{both}");
    }
}
