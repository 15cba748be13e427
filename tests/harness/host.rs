//! A program started for a test, preloaded with the library or bare.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::dump::Dump;
use super::session::Session;
use super::{DEADLINE, fixtures};

/// How long an ended program's output is awaited when a child of it holds the pipe open; without one it ends at once.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How to start a [`Host`].
pub struct Launch {
    command: Command,
    options: String,
    /// Preloaded before the library.
    others: Vec<OsString>,
    bare: bool,
    library: Option<PathBuf>,
    ready: Ready,
}

/// What tells that a program is in its state.
enum Ready {
    /// It writes this line.
    Line(&'static str),
    /// Its manhole answers (or, bare, nothing: it was started).
    Socket,
}

/// A running program.
pub struct Host {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    seen: Vec<String>,
    preloaded: bool,
    /// Its children until now: the sockets of those that die without a goodbye are ours to remove.
    family: Vec<i32>,
}

impl Launch {
    /// `program`, preloaded with the library.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.env_remove("MANHOLE").env_remove("LD_PRELOAD");
        Self { command, options: String::new(), others: Vec::new(), bare: false, library: None, ready: Ready::Socket }
    }

    /// The fixture `name`, which says `ready`.
    pub fn fixture(name: &str) -> Self {
        Self::new(fixtures::fixture(name)).when_it_says("ready")
    }

    /// Without the library: the control.
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Preloads a copy of the library in `directory`, for users who cannot read where it was built.
    pub fn library_copied_to(mut self, directory: &Path) -> Self {
        let copy = directory.join("libmanhole.so");
        std::fs::copy(fixtures::library(), &copy).expect("cannot copy the library");
        self.library = Some(copy);
        self
    }

    /// Also preloads `library`, before ours; bare, it alone.
    pub fn also_preload(mut self, library: impl Into<OsString>) -> Self {
        self.others.push(library.into());
        self
    }

    /// Adds `key=value` to `MANHOLE`.
    pub fn option(mut self, option: &str) -> Self {
        if !self.options.is_empty() {
            self.options.push(',');
        }
        self.options.push_str(option);
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Starts it in `directory`.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// The program is in its state when it has written `line` on its standard output.
    pub fn when_it_says(mut self, line: &'static str) -> Self {
        self.ready = Ready::Line(line);
        self
    }

    /// Anything else of [`Command`].
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Starts it and waits until it is in its state.
    pub fn start(self) -> Host {
        let preloaded = !self.bare;
        let ready = match self.ready {
            Ready::Line(line) => Some(line),
            Ready::Socket => None,
        };
        let mut host = self.start_only();
        match ready {
            Some(line) => host.wait_for_line(line),
            None if preloaded => drop(host.connect()),
            None => (),
        }
        host
    }

    /// Starts it and waits for nothing.
    pub fn start_only(mut self) -> Host {
        let mut libraries = self.others;
        if !self.bare {
            libraries.push(self.library.unwrap_or_else(fixtures::library).into());
        }
        if !libraries.is_empty() {
            self.command.env("LD_PRELOAD", libraries.join(OsStr::new(":")));
        }
        if !self.options.is_empty() {
            self.command.env("MANHOLE", &self.options);
        }
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut self.command);

        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let (mut source, sink) = (child.stderr.take().expect("piped"), stderr.clone());
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = source.read(&mut chunk) {
                sink.lock().expect("stderr").push_str(&String::from_utf8_lossy(&chunk[..length]));
            }
        });
        let stdin = child.stdin.take();
        Host { child, stdin, lines, stderr, seen: Vec::new(), preloaded: !self.bare, family: Vec::new() }
    }
}

/// A program that was just copied may be busy for a moment: a child that another test forked meanwhile has it open for
/// writing until it execs.
fn spawn(command: &mut Command) -> Child {
    let begun = Instant::now();
    loop {
        match command.spawn() {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) && begun.elapsed() < DEADLINE => {
                thread::sleep(Duration::from_millis(5));
            }
            child => return child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")),
        }
    }
}

impl Host {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The manhole's default path.
    pub fn socket(&self) -> PathBuf {
        socket_of(self.pid())
    }

    /// What it wrote on standard error until now: the library's log, mostly.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("stderr").clone()
    }

    /// The lines of standard output read until now.
    pub fn lines(&self) -> &[String] {
        &self.seen
    }

    /// Reads what it has written on its standard output, for a moment.
    pub fn look(&mut self) {
        self.seen.extend(self.lines.recv_timeout(Duration::from_millis(5)));
        self.read_lines();
    }

    /// Takes the lines of standard output that have come, waiting for none.
    pub fn read_lines(&mut self) {
        self.seen.extend(self.lines.try_iter());
    }

    /// Waits until it writes `line`.
    pub fn wait_for_line(&mut self, line: &str) {
        let end = Instant::now() + DEADLINE;
        while self.seen.last().map(String::as_str) != Some(line) {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(next) => self.seen.push(next),
                Err(RecvTimeoutError::Timeout) => panic!("no line {line:?} in {DEADLINE:?}; {}", self.story()),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without a line {line:?}; {}", self.story()),
            }
        }
    }

    /// Waits until its standard error contains `text`, and returns all of it.
    pub fn wait_for_stderr(&mut self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let all = self.stderr();
            if all.contains(text) {
                return all;
            }
            assert!(Instant::now() < end, "no {text:?} on standard error in {DEADLINE:?}; {}", self.story());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until its first thread sits in system call `number`.
    pub fn wait_until_in_call(&mut self, number: libc::c_long) {
        let end = Instant::now() + DEADLINE;
        let path = format!("/proc/{}/syscall", self.pid());
        while !std::fs::read_to_string(&path).is_ok_and(|call| call.starts_with(&format!("{number} "))) {
            assert!(Instant::now() < end, "it is not in call {number} in {DEADLINE:?}; {}", self.story());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Writes to its standard input.
    pub fn tell(&mut self, text: &str) {
        self.stdin.as_mut().expect("standard input").write_all(text.as_bytes()).expect("write to standard input");
    }

    /// Connects to its manhole, retrying until that stands.
    pub fn connect(&mut self) -> Session {
        let path = self.socket();
        self.connect_to(&path)
    }

    /// Connects to the manhole at `path`, retrying until that stands, and reads up to the first prompt.
    pub fn connect_to(&mut self, path: &Path) -> Session {
        let end = Instant::now() + DEADLINE;
        loop {
            match Session::open(path) {
                Ok(session) => return session,
                Err(error) => {
                    if let Ok(Some(status)) = self.child.try_wait() {
                        panic!("it ended ({status}) before {path:?} answered; {}", self.story());
                    }
                    assert!(Instant::now() < end, "cannot connect to {path:?}: {error}; {}", self.story());
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    /// Connects and returns the stacks shown on connect.
    pub fn dump(&mut self) -> Dump {
        Dump::parse(self.connect().greeting())
    }

    /// Ends a fixture by a line on its standard input; returns its last line.
    pub fn release(&mut self) -> String {
        self.family.extend(self.children());
        if let Some(mut stdin) = self.stdin.take() {
            // It may be gone already; its last line tells.
            let _ = stdin.write_all(b"\n");
        }
        self.wait();
        self.seen.last().cloned().unwrap_or_default()
    }

    /// Waits until it ends.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        // The pipe closes when the program ends; a child of its own that holds it open must not hang us.
        loop {
            match self.lines.recv_timeout(Duration::from_millis(10)) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    if let Some(status) = self.child.try_wait().expect("wait") {
                        // What it wrote last may still be on its way through the reading thread.
                        while let Ok(line) = self.lines.recv_timeout(LAST_WORDS) {
                            self.seen.push(line);
                        }
                        return status;
                    }
                    assert!(Instant::now() < end, "it did not end in {DEADLINE:?}; {}", self.story());
                    thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, number: i32) {
        // SAFETY: plain system call on a child that was not waited for.
        unsafe { libc::kill(self.pid(), number) };
    }

    /// The children of this process (as forking servers have), of whichever thread, in order of their numbers; without
    /// the pump of a session that sees standard error, which is no child that its `wait` would find.
    pub fn children(&self) -> Vec<i32> {
        let of = |tid| std::fs::read_to_string(format!("/proc/{}/task/{tid}/children", self.pid())).unwrap_or_default();
        let all: Vec<String> = self.threads().into_iter().map(|(tid, _)| of(tid)).collect();
        let mut children: Vec<i32> =
            all.iter().flat_map(|text| text.split_whitespace()).filter_map(|word| word.parse().ok()).collect();
        children.retain(|pid| !is_live_pump(*pid));
        children.sort_unstable();
        children
    }

    /// Thread ids and names, from `/proc`.
    pub fn threads(&self) -> Vec<(i32, String)> {
        threads_of(self.pid())
    }

    /// Everything known about it, for a failure's message.
    pub fn story(&mut self) -> String {
        self.read_lines();
        let status = self.child.try_wait();
        let preloaded = if self.preloaded { "preloaded" } else { "bare" };
        format!(
            "pid {} ({preloaded}), status {status:?}, stdout {:?}, stderr:\n{}",
            self.pid(),
            self.seen,
            self.stderr()
        )
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let children = self.children();
        for child in &children {
            // SAFETY: plain system call; a child of our child, which is still alive to keep its pid.
            unsafe { libc::kill(*child, libc::SIGKILL) };
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Killed or ended by `_exit`, they cannot remove their sockets.
        for pid in self.family.iter().chain(&children).chain([&self.pid()]) {
            let _ = std::fs::remove_file(socket_of(*pid));
        }
    }
}

fn is_live_pump(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.contains("(Manhole pump)") && !stat.contains("(Manhole pump) Z")
}

/// The manhole's default path in process `pid`.
pub fn socket_of(pid: i32) -> PathBuf {
    PathBuf::from(format!("/tmp/manhole-{pid}"))
}

/// Thread ids and names of `pid`, from `/proc`.
pub fn threads_of(pid: i32) -> Vec<(i32, String)> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut threads: Vec<(i32, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let tid = entry.file_name().to_str()?.parse().ok()?;
            let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
            Some((tid, name.trim_end_matches('\n').to_owned()))
        })
        .collect();
    threads.sort_unstable();
    threads
}
