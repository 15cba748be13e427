//! What the manhole and its client must agree on: socket names, and the framed mode.
//!
//! Context: the observer and the client. Nothing here does input or output, calls libc, or trusts a
//! byte: the decoders hold a bounded part of one line, whatever arrives, and never panic.
//!
//! # Three ways to talk
//! A person (`nc -U`, `socat`, `manhole-cli PID`) connects from an unnamed socket and gets text: banner,
//! stacks, the prompt. A program first binds its own socket to the abstract address
//! `\0manhole-cli/1/PID/NONCE` ([`client_name`]), then connects. The server finds that name where
//! `accept` stores the peer's address, so both know the mode before the first byte and no answer
//! depends on who is faster. It then sends no banner, no stacks and no prompt, and speaks frames:
//!
//! ```text
//! client: ID COMMAND LINE\n
//! server: data ID LENGTH\n  followed by LENGTH raw bytes, any number of times
//!         remark: TEXT\n    why there is no answer yet, any number of times
//!         done ID STATUS\n  STATUS: 0 success, 1 the command failed, 2 usage or unknown command
//! ```
//!
//! Numbers are decimal, without sign or leading zero. Whoever is not let in, and whoever sends
//! what is no frame's request, reads one line `refused: REASON\n` and the end of the stream. A terminal that shows
//! colours says so by the name `\0manhole-cli/terminal/PID/NONCE` ([`terminal_name`]), and is a person otherwise.
//!
//! A program in any language connects like a person and speaks JSON lines: it is one if the first byte that it sends is
//! `{`. Each request is one object on one line, with an `id` that is a number or a string; each gets one line, in order:
//!
//! ```text
//! client: {"id":7,"command":"threads"}\n
//!         {"interrupt":7}\n          ends that request, whether it runs or waits; has no reply of its own
//! server: {"id":7,"data":[RECORD,…],"status":0}\n
//!         {"id":7,"data":[RECORD,…],"error":"SENTENCE","status":1}\n   (1 and 2 as above)
//! ```
//!
//! The records are those of `--json`. A line that is no request is answered with its id, or `null` where none can be made out, and status 2, and the
//! next is read. What a person would have been shown before the first request (banner, stacks, prompt) was partly sent:
//! it stops at the end of a line, and a client skips lines until one begins with `{"id":`. With
//! `connection_handler=exec` there is nothing to skip.
#![forbid(unsafe_code)]

mod frames;
mod requests;

use std::fmt;

pub use frames::{
    Event, EventDecoder, MAX_COMMAND, Malformed, REFUSED, Request, RequestDecoder, Status, encode_data, encode_done,
    encode_refusal, encode_remark, encode_request,
};

pub use requests::{BadMessage, MAX_ID, Message, decode as decode_message, id_of};

/// The version of the framed mode that this build speaks.
pub const VERSION: u32 = 1;

/// Where the socket is, unless the option `socket_path` says otherwise.
pub const DEFAULT_PATH: &str = "/tmp/manhole-{pid}";

/// What the interactive mode prints when it waits for a line; no newline follows.
pub const PROMPT: &str = "manhole> ";

/// The path of the socket of process `pid` when no option changed it.
pub fn default_path(pid: u32) -> String {
    format!("/tmp/manhole-{pid}")
}

/// Why a `socket_path` template cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadTemplate {
    /// `{…}` holds a name that is not a field.
    UnknownField(String),
    /// A `{` without its `}`, or the reverse.
    LoneBrace,
}

impl fmt::Display for BadTemplate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownField(field) => {
                write!(out, "unknown field {{{field}}} in the socket path: {{pid}} and {{name}} are known")
            }
            Self::LoneBrace => write!(out, "lone brace in the socket path: write {{{{ or }}}} for a brace"),
        }
    }
}

/// Replaces `{pid}` and `{name}` in `template`; `{{` and `}}` stand for braces, as in Python's
/// `str.format`. Slashes and control characters in `name` become `_`: a thread may rename itself at
/// will, and must not move the socket to another folder.
pub fn expand_path(template: &str, pid: u32, name: &str) -> Result<String, BadTemplate> {
    let mut path = String::with_capacity(template.len() + 16);
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from_brace) = rest.split_at(at);
        path.push_str(before);
        if let Some(after) = from_brace.strip_prefix("{{") {
            path.push('{');
            rest = after;
        } else if let Some(after) = from_brace.strip_prefix("}}") {
            path.push('}');
            rest = after;
        } else {
            let (field, after) =
                from_brace.strip_prefix('{').and_then(|field| field.split_once('}')).ok_or(BadTemplate::LoneBrace)?;
            match field {
                "pid" => path.push_str(&pid.to_string()),
                "name" => path.extend(name.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c })),
                _ => return Err(BadTemplate::UnknownField(field.to_owned())),
            }
            rest = after;
        }
    }
    path.push_str(rest);
    Ok(path)
}

/// The name of an abstract address, without its leading NUL byte, if `path` stands for one: `@name`.
/// A file of such a name is written `./@name`.
pub fn abstract_name(path: &str) -> Option<&str> {
    path.strip_prefix('@').filter(|name| !name.is_empty())
}

/// The pid in the last part of a path made from [`DEFAULT_PATH`]'s last part: `…/manhole-42` and
/// `@manhole-42` are 42.
pub fn pid_in_path(path: &str) -> Option<u32> {
    let name = abstract_name(path).unwrap_or(path).rsplit('/').next()?.strip_prefix("manhole-")?;
    number(name.as_bytes()).and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid > 0)
}

/// The abstract address, without its leading NUL byte, to which a client that wants frames binds its
/// socket before it connects. The nonce makes it free: addresses are one space per network namespace.
pub fn client_name(pid: u32, nonce: u64) -> String {
    format!("manhole-cli/{VERSION}/{pid}/{nonce:016x}")
}

/// The abstract address, without its leading NUL byte, to which a client binds that shows colours: a person's, on a
/// terminal. A server that does not know it takes it for any person's.
pub fn terminal_name(pid: u32, nonce: u64) -> String {
    format!("manhole-cli/terminal/{pid}/{nonce:016x}")
}

/// Whether a peer's abstract address (without the leading NUL) is a [`terminal_name`].
pub fn is_terminal(peer: &[u8]) -> bool {
    peer.strip_prefix(b"manhole-cli/terminal/").is_some_and(is_pid_and_nonce)
}

/// The version of the framed mode that a peer asks for by its abstract address (without the leading
/// NUL); nothing when the name is not a [`client_name`], that is, for a person. A server that does not
/// speak the version refuses.
pub fn requested_version(peer: &[u8]) -> Option<u32> {
    let rest = peer.strip_prefix(b"manhole-cli/")?;
    let (version, rest) = rest.split_at(rest.iter().position(|&byte| byte == b'/')?);
    let version = number(version).and_then(|version| u32::try_from(version).ok())?;
    rest.strip_prefix(b"/").is_some_and(is_pid_and_nonce).then_some(version)
}

fn is_pid_and_nonce(name: &[u8]) -> bool {
    let mut parts = name.split(|&byte| byte == b'/');
    let is_nonce = |nonce: &[u8]| !nonce.is_empty() && nonce.iter().all(u8::is_ascii_hexdigit);
    parts.next().and_then(number).is_some() && parts.next().is_some_and(is_nonce) && parts.next().is_none()
}

/// A decimal number in its only spelling: digits, no sign, no leading zero.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits.len() > 1 && digits.first() == Some(&b'0')) {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn expands_the_fields_of_a_path() {
        assert_eq!(expand_path(DEFAULT_PATH, 42, "redis").unwrap(), default_path(42));
        assert_eq!(expand_path("/run/{name}/{{x}}.{pid}", 7, "a/../b\n").unwrap(), "/run/a_.._b_/{x}.7");
        assert_eq!(expand_path("/run/{user}", 7, "a"), Err(BadTemplate::UnknownField("user".into())));
        for lone in ["/run/{pid", "/run/pid}", "}"] {
            assert_eq!(expand_path(lone, 7, "a"), Err(BadTemplate::LoneBrace), "{lone}");
        }
    }

    #[test]
    fn finds_the_pid_in_a_default_path_only() {
        assert_eq!(pid_in_path("/x/manhole-42"), Some(42));
        assert_eq!(pid_in_path("manhole-1"), Some(1));
        assert_eq!(pid_in_path("@manhole-42"), Some(42));
        for other in [
            "/x/@manhole-42",
            "@@manhole-42",
            "/tmp/manhole-",
            "/tmp/manhole-0",
            "/tmp/manhole-42x",
            "/tmp/manhole-042",
            "/manhole-1/s",
            "42",
        ] {
            assert_eq!(pid_in_path(other), None, "{other}");
        }
    }

    #[test]
    fn a_client_name_asks_for_its_version() {
        assert_eq!(requested_version(client_name(42, 0xbeef).as_bytes()), Some(VERSION));
        assert_eq!(requested_version(b"manhole-cli/2/1/ff"), Some(2));
        for other in [&b""[..], b"manhole-cli/1", b"manhole-cli/1/2", b"manhole-cli/1/2/", b"manhole-cli/1/2/xyz"] {
            assert_eq!(requested_version(other), None);
        }
        assert_eq!(requested_version(b"manhole-cli/1/2/ff/3"), None);
        assert_eq!(requested_version(b"manhole-cli/01/2/ff"), None);
        let terminal = terminal_name(42, 7);
        assert!(is_terminal(terminal.as_bytes()) && requested_version(terminal.as_bytes()).is_none());
        assert!(!is_terminal(client_name(42, 7).as_bytes()) && !is_terminal(b"manhole-cli/terminal/x/ff"));
    }
}
