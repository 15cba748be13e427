//! `manhole-cli list`: every manhole of this machine that we may see, a line each; stale sockets in /tmp are removed.
//!
//! Context: the client. Looking is passive but for two things: an observer that would let us in is asked for nothing
//! (an empty request, which its log shows as a client that came and went), and a file in /tmp that no listening socket
//! in sight belongs to is connected to. A session with a manhole is never opened, so none that serves a single client
//! (`oneshot_on`, python-manhole's too) is used up.

mod leftovers;
mod probe;
mod processes;

use std::collections::HashSet;
use std::fmt::Write;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use manhole::inspect::strings::Escaped;
use nix::unistd::{Uid, User};

use crate::process::{self, Status};
use crate::{Result, output};

/// How far a manhole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was asked, and answered.
    Answers,
    /// It was asked, and did not answer in time.
    Silent,
    /// Somebody listens; not asked.
    Listening,
    /// The process is stopped.
    Stopped,
    /// It opens when a signal comes.
    Waiting,
    /// The library is loaded, and nobody listens.
    Closed,
    /// A socket in /tmp that nobody listens at.
    Stale,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Silent => "silent",
            Self::Listening => "listening",
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::Closed => "closed",
            Self::Stale => "stale",
        }
    }
}

/// One line.
#[derive(Debug)]
pub struct Entry {
    /// Nothing when nobody vouches for it.
    pub pid: Option<u32>,
    /// Of the process, or the owner of the file.
    pub uid: Option<u32>,
    pub program: String,
    pub uptime: Option<Duration>,
    pub state: State,
    /// As one can give it to `manhole-cli`.
    pub socket: Option<PathBuf>,
    pub note: String,
}

impl Entry {
    /// What is known about process `pid`.
    pub fn of(pid: u32, state: State, socket: Option<PathBuf>) -> Self {
        let [file, first_thread, _] = process::names(pid);
        Self {
            pid: Some(pid),
            uid: Status::read(pid).map(|status| status.effective_uid),
            program: if file.is_empty() { first_thread } else { file },
            uptime: process::uptime(pid),
            state,
            socket,
            note: String::new(),
        }
    }
}

/// Lists; 0, or 1 when a stale socket that is ours to remove could not be removed.
pub fn run(timeout: Duration, json: bool) -> Result<ExitCode> {
    let mut entries = processes::find();
    probe::ask(&mut entries, timeout);
    let known: HashSet<PathBuf> = entries.iter().filter_map(|entry| entry.socket.clone()).collect();
    let (found, all_removed) = leftovers::find(&known);
    merge(&mut entries, found);
    entries.sort_by_key(|entry| (entry.pid.unwrap_or(u32::MAX), entry.socket.clone()));
    let text = if json { as_json(&entries) } else { as_lines(&entries) };
    output::write_all(io::stdout().as_fd(), text.as_bytes())?;
    Ok(ExitCode::from(u8::from(!all_removed)))
}

/// Adds what was found by its file, unless that is a process's which we know: one that changed its namespace or its root
/// is seen from two sides.
fn merge(entries: &mut Vec<Entry>, found: Vec<Entry>) {
    for file in found {
        match entries.iter_mut().find(|entry| entry.pid.is_some() && entry.pid == file.pid) {
            Some(entry) if entry.state == State::Closed => *entry = file,
            Some(entry) if is_same_name(entry, &file) && file.state == State::Listening => {}
            _ => entries.push(file),
        }
    }
}

fn is_same_name(one: &Entry, other: &Entry) -> bool {
    let name = |entry: &Entry| entry.socket.as_ref().and_then(|path| path.file_name().map(ToOwned::to_owned));
    name(one).is_some() && name(one) == name(other)
}

fn as_lines(entries: &[Entry]) -> String {
    let heading = ["PID", "USER", "UPTIME", "STATE", "PROGRAM", "SOCKET"].map(str::to_owned);
    let mut rows = vec![heading];
    rows.extend(entries.iter().map(|entry| {
        let mut last = entry.socket.as_ref().map_or("-".to_owned(), |path| escaped(&path.to_string_lossy()));
        if !entry.note.is_empty() {
            let _ = write!(last, " ({})", escaped(&entry.note));
        }
        [
            entry.pid.map_or("-".to_owned(), |pid| pid.to_string()),
            entry.uid.map_or("-".to_owned(), user),
            entry.uptime.map_or("-".to_owned(), elapsed),
            entry.state.word().to_owned(),
            if entry.program.is_empty() { "-".to_owned() } else { escaped(&entry.program) },
            last,
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let [pid, user, uptime, state, program] = [0, 1, 2, 3, 4].map(width);
    rows.iter().fold(String::new(), |mut text, [a, b, c, d, e, last]| {
        // Numbers to the right, words to the left.
        let _ = writeln!(text, "{a:>pid$} {b:user$} {c:>uptime$} {d:state$} {e:program$} {last}");
        text
    })
}

fn as_json(entries: &[Entry]) -> String {
    let text = |text: &str| format!("\"{}\"", json_escaped(text));
    let number = |number: Option<u32>| number.map_or("null".to_owned(), |number| number.to_string());
    let objects: Vec<String> = entries
        .iter()
        .map(|entry| {
            format!(
                r#"{{"pid": {}, "uid": {}, "user": {}, "uptime_seconds": {}, "state": {}, "program": {}, "socket": {}, "note": {}}}"#,
                number(entry.pid),
                number(entry.uid),
                entry.uid.map_or("null".to_owned(), |uid| text(&user(uid))),
                entry.uptime.map_or("null".to_owned(), |uptime| format!("{:.2}", uptime.as_secs_f64())),
                text(entry.state.word()),
                text(&entry.program),
                entry.socket.as_ref().map_or("null".to_owned(), |path| text(&path.to_string_lossy())),
                text(&entry.note),
            )
        })
        .collect();
    if objects.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", objects.join(",\n")) }
}

/// Names are the processes' own choice, and the terminal is ours.
fn escaped(text: &str) -> String {
    Escaped(text.as_bytes()).to_string()
}

/// For the inside of a JSON string (RFC 8259, section 7).
fn json_escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, character| {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            _ if character.is_control() => drop(write!(out, "\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
        out
    })
}

fn user(uid: u32) -> String {
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| uid.to_string(), |user| user.name)
}

/// `[days-]HH:MM:SS`, as ps(1) prints it.
fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days == 0 { clock } else { format!("{days}-{clock}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            pid: Some(42),
            uid: Some(0),
            program: "a\"\x1b".to_owned(),
            uptime: Some(Duration::from_secs(93_784)),
            state: State::Stale,
            socket: Some("/tmp/manhole-42".into()),
            note: "removed".to_owned(),
        }
    }

    #[test]
    fn lines_are_aligned_and_safe_on_a_terminal() {
        let nobody = Entry { pid: None, uid: None, program: String::new(), uptime: None, socket: None, ..entry() };
        let text = as_lines(&[entry(), nobody]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "PID USER     UPTIME STATE PROGRAM SOCKET");
        assert_eq!(lines[1], r#" 42 root 1-02:03:04 stale a\"\x1b /tmp/manhole-42 (removed)"#);
        assert_eq!(lines[2], "  - -             - stale -       - (removed)");
    }

    #[test]
    fn json_is_one_array() {
        assert_eq!(as_json(&[]), "[]\n");
        let expected = "[\n{\"pid\": 42, \"uid\": 0, \"user\": \"root\", \"uptime_seconds\": 93784.00, \"state\": \"stale\", \
                        \"program\": \"a\\\"\\u001b\", \"socket\": \"/tmp/manhole-42\", \"note\": \"removed\"}\n]\n";
        assert_eq!(as_json(&[entry()]), expected);
    }
}
