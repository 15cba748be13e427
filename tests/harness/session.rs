//! One client of a manhole.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use super::DEADLINE;

/// What the server writes when it waits for a command.
pub const PROMPT: &str = "manhole> ";

/// A connected client that has read up to a prompt.
pub struct Session {
    stream: UnixStream,
    greeting: String,
}

impl Session {
    /// Connects to `path` and reads up to the first prompt. An error means that nobody listens there;
    /// a server that accepts and then does not get to its prompt fails the test.
    pub fn open(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        let mut session = Self { stream, greeting: String::new() };
        session.greeting = session.read_to_prompt();
        Ok(session)
    }

    /// What came before the first prompt: banner and stacks.
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// Sends one command, and returns its answer without the prompt.
    pub fn command(&mut self, line: &str) -> String {
        self.stream.write_all(format!("{line}\n").as_bytes()).unwrap_or_else(|error| panic!("send {line:?}: {error}"));
        self.read_to_prompt()
    }

    /// What comes up to the next prompt, without sending anything.
    pub fn answer(&mut self) -> String {
        self.read_to_prompt()
    }

    /// The stream itself.
    pub fn stream(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    /// Sends `line` and reads until the server closes.
    pub fn last_command(mut self, line: &str) -> String {
        self.stream.write_all(format!("{line}\n").as_bytes()).expect("send");
        read_to_end(&mut self.stream)
    }

    fn read_to_prompt(&mut self) -> String {
        let end = Instant::now() + DEADLINE;
        let (mut bytes, mut chunk) = (Vec::new(), [0; 65536]);
        loop {
            // The prompt is the last thing sent until a command comes, and starts a line.
            if bytes.ends_with(PROMPT.as_bytes()) {
                let start = bytes.len() - PROMPT.len();
                if start == 0 || bytes[start - 1] == b'\n' {
                    bytes.truncate(start);
                    return String::from_utf8_lossy(&bytes).into_owned();
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no prompt in {DEADLINE:?}, only:\n{}", String::from_utf8_lossy(&bytes));
            self.stream.set_read_timeout(Some(left)).expect("timeout");
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("closed before its prompt, after:\n{}", String::from_utf8_lossy(&bytes)),
                Ok(length) => bytes.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(error) => panic!("{error} before its prompt, after:\n{}", String::from_utf8_lossy(&bytes)),
            }
        }
    }
}

/// Reads until the server closes; fails the test at the deadline.
pub fn read_to_end(stream: &mut UnixStream) -> String {
    let end = Instant::now() + DEADLINE;
    let (mut bytes, mut chunk) = (Vec::new(), [0; 65536]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not closed in {DEADLINE:?}, only:\n{}", String::from_utf8_lossy(&bytes));
        stream.set_read_timeout(Some(left)).expect("timeout");
        match stream.read(&mut chunk) {
            Ok(0) => return String::from_utf8_lossy(&bytes).into_owned(),
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
            // Reset: the server closed with bytes of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return String::from_utf8_lossy(&bytes).into_owned();
            }
            Err(error) => panic!("{error} after:\n{}", String::from_utf8_lossy(&bytes)),
        }
    }
}
