//! A stopped process (SIGSTOP, `^Z`) answers `manhole-cli`, which lends its observer a hand, and stays stopped.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use harness::dump::Dump;
use harness::fixtures::fixture;
use harness::host::{Host, Launch};
use harness::{DEADLINE, Scratch};

const OBSERVER: &str = "Manhole";

/// Waits until `condition`; the message tells what did not come true.
#[track_caller]
fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not in {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The value of a line of a thread's `status`.
fn field(host: &Host, tid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/task/{tid}/status", host.pid())).expect("status");
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
    value.unwrap_or_else(|| panic!("no {key} in {text}")).to_owned()
}

fn is_stopped(host: &Host, tid: i32) -> bool {
    field(host, tid, "State").starts_with('T')
}

fn observer(host: &Host) -> i32 {
    let threads = host.threads();
    threads.iter().find(|(_, name)| name == OBSERVER).unwrap_or_else(|| panic!("no observer in {threads:?}")).0
}

fn all_stopped(host: &Host) -> bool {
    host.threads().into_iter().all(|(tid, _)| is_stopped(host, tid))
}

/// The application's threads are stopped, whatever the observer does.
#[track_caller]
fn assert_application_is_stopped(host: &Host) {
    for (tid, name) in host.threads() {
        assert!(name == OBSERVER || is_stopped(host, tid), "{name} is {}", field(host, tid, "State"));
    }
}

/// What `wait` has to tell of the process by now: "stopped 19", "continued".
fn news(host: &Host) -> Vec<String> {
    let mut news = Vec::new();
    loop {
        let mut status = 0;
        let options = libc::WUNTRACED | libc::WCONTINUED | libc::WNOHANG;
        // SAFETY: waitpid writes one int.
        let pid = unsafe { libc::waitpid(host.pid(), &mut status, options) };
        match pid {
            0 => return news,
            _ if libc::WIFSTOPPED(status) => news.push(format!("stopped {}", libc::WSTOPSIG(status))),
            _ if libc::WIFCONTINUED(status) => news.push("continued".to_owned()),
            _ => panic!("{pid} {status:#x} after {news:?}"),
        }
    }
}

/// Starts a fixture that stops itself. Its stop is the first news of it.
fn stopped(launch: Launch) -> Host {
    // The socket must be there before it stops itself. In a group of its own, since SIGTSTP does nothing to an
    // orphaned one, which that of the tests is when they run in the background.
    let own_group = |command: &mut Command| {
        command.process_group(0);
    };
    let host = launch.option("start_timeout=20").with(own_group).start();
    until("the process is stopped", || all_stopped(&host));
    assert_eq!(news(&host), ["stopped 19"]);
    host
}

/// The process goes on, and has nothing else to tell than that; it ends well.
fn goes_on(host: &mut Host) {
    until("it is stopped again", || all_stopped(host));
    assert_eq!(news(host), [""; 0]);
    host.signal(libc::SIGCONT);
    until("it goes on", || host.threads().iter().all(|&(tid, _)| !is_stopped(host, tid)));
    assert_eq!(news(host), ["continued"]);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_manhole-cli"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end, which must come in time.
fn finish(child: Child) -> Output {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    receiver.recv_timeout(DEADLINE).expect("manhole-cli hangs").expect("wait")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An interactive client.
struct Session {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Session {
    fn start(host: &Host) -> Self {
        let mut child = client(&[&host.pid().to_string()]).spawn().expect("manhole-cli");
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { input: child.stdin.take().expect("piped"), child, lines }
    }

    fn wait_for(&self, words: &str) {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|line: &String| line.contains(words)) {
            let next = self.lines.recv_timeout(DEADLINE);
            seen.push(next.unwrap_or_else(|error| panic!("no {words:?} ({error}) in {seen:#?}")));
        }
    }

    /// Kills the client; returns what it said on standard error.
    fn kill(mut self) -> String {
        self.child.kill().expect("kill");
        text(&finish(self.child).stderr)
    }
}

fn shows_where_it_stopped(dump: &Dump, host: &Host) {
    let main = dump.thread(host.pid());
    assert!(main.state.starts_with('T'), "{main:#?}");
    assert!(main.shows("stuck_here") && main.shows("main"), "{main:#?}");
    assert_eq!((main.truncated.as_deref(), main.capture.as_str()), (None, "proc"), "{main:#?}");
    assert!(dump.named("ender").state.starts_with('T'));
    assert_eq!(dump.threads.len(), host.threads().len());
}

#[test]
fn a_command_is_answered_and_the_process_stays_stopped() {
    let mut host = stopped(Launch::fixture("stopped"));
    for target in [host.pid().to_string(), host.socket().display().to_string()] {
        let output = finish(client(&["-c", "stacks", &target]).spawn().expect("manhole-cli"));
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
        shows_where_it_stopped(&Dump::parse(&text(&output.stdout)), &host);
        until("it is stopped again", || all_stopped(&host));
        assert_eq!(field(&host, observer(&host), "TracerPid"), "0");
    }
    goes_on(&mut host);
}

#[test]
fn a_session_says_so_and_its_violent_end_leaves_the_process_stopped() {
    let mut host = stopped(Launch::fixture("stopped"));
    let mut session = Session::start(&host);
    session.wait_for("stuck_here");
    session.input.write_all(b"threads\n").expect("send");
    session.wait_for("ender");
    // `^Z` must not stop the tracer.
    // SAFETY: plain system call on a child that was not waited for.
    unsafe { libc::kill(session.child.id() as i32, libc::SIGTSTP) };
    session.input.write_all(b"threads\n").expect("send");
    session.wait_for("ender");
    assert!(!is_stopped(&host, observer(&host)));
    assert_application_is_stopped(&host);
    assert_eq!(news(&host), [""; 0]);
    let said = session.kill();
    assert!(said.contains("is stopped (SIGSTOP) and stays so"), "{said}");
    goes_on(&mut host);
}

#[test]
fn a_process_that_goes_on_is_let_go_and_helped_again_when_it_stops_again() {
    let mut host = stopped(Launch::fixture("stopped"));
    let observer = observer(&host);
    let mut session = Session::start(&host);
    session.wait_for("stuck_here");
    assert_ne!(field(&host, observer, "TracerPid"), "0");
    host.signal(libc::SIGCONT);
    until("it is let go", || field(&host, observer, "TracerPid") == "0");
    until("it goes on", || host.threads().iter().all(|&(tid, _)| !is_stopped(&host, tid)));
    assert_eq!(news(&host), ["continued"]);

    host.signal(libc::SIGTSTP);
    until("it is stopped again", || all_stopped(&host));
    assert_eq!(news(&host), ["stopped 20"]);
    session.input.write_all(b"stacks\n").expect("send");
    session.wait_for("stuck_here");
    // One more stop while the observer runs: it takes that signal, and changes nothing.
    host.signal(libc::SIGSTOP);
    session.input.write_all(b"modules\n").expect("send");
    session.wait_for("libmanhole");
    assert_application_is_stopped(&host);
    session.kill();
    goes_on(&mut host);
}

#[test]
fn two_clients_do_not_hinder_each_other() {
    let mut host = stopped(Launch::fixture("stopped"));
    let first = Session::start(&host);
    first.wait_for("stuck_here");
    let mut second = Session::start(&host);
    second.wait_for("stuck_here");
    first.kill();
    second.input.write_all(b"threads\n").expect("send");
    second.wait_for("ender");
    assert_application_is_stopped(&host);
    second.kill();
    goes_on(&mut host);
}

#[test]
fn a_full_queue_of_a_stopped_process_is_emptied_first() {
    let mut host = stopped(Launch::fixture("stopped"));
    let path = host.socket();
    // More than the listener's queue holds: the last ones wait in vain, without blocking.
    let waiting: Vec<_> = (0..80).filter_map(|_| connect_at_once(&path)).collect();
    assert!(waiting.len() < 80, "the queue is not full");
    drop(waiting);
    let output = finish(client(&["-t", "10", "-c", "stacks", &host.pid().to_string()]).spawn().expect("manhole-cli"));
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    goes_on(&mut host);
}

fn connect_at_once(path: &std::path::Path) -> Option<std::os::fd::OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).expect("socket");
    connect(socket.as_raw_fd(), &UnixAddr::new(path).expect("address")).ok()?;
    Some(socket)
}

/// A program that its user may execute but not read is not dumpable: nobody but root may trace it.
#[test]
fn who_may_not_trace_the_process_is_told_what_to_do() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root to be somebody else");
        return;
    }
    let scratch = Scratch::new();
    let program = scratch.path().join("stopped");
    fs::copy(fixture("stopped"), &program).expect("copy");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o711)).expect("chmod");
    let nobody = |command: &mut Command| {
        command.uid(65534).gid(65534);
    };
    let launch = Launch::new(&program).when_it_says("ready").library_copied_to(scratch.path()).with(nobody);
    let mut host = stopped(launch);
    let copy = scratch.path().join("manhole-cli");
    fs::copy(env!("CARGO_BIN_EXE_manhole-cli"), &copy).expect("copy");
    let pid = host.pid().to_string();
    let start = |arguments: &[&str]| {
        let mut command = Command::new(&copy);
        nobody(command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        command.spawn().expect("manhole-cli")
    };

    let output = finish(start(&["-t", "0.5", "-c", "stacks", &pid]));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(&format!("process {pid} is stopped (SIGSTOP): only a client that may ptrace it")), "{said}");
    assert!(said.contains(&format!("continue it with kill -CONT {pid}")), "{said}");

    // A person waits on, and is answered when the process goes on.
    let mut waiting = start(&[&pid]);
    let mut said = BufReader::new(waiting.stderr.take().expect("piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("standard error");
    assert!(line.contains("connected; process") && line.contains("kill -CONT"), "{line}");
    assert!(all_stopped(&host));
    host.signal(libc::SIGCONT);
    waiting.stdin.take().expect("piped").write_all(b"exit\n").expect("send");
    let output = finish(waiting);
    assert_eq!(output.status.code(), Some(0));
    // Not `stuck_here`: the program's symbols cannot be read either.
    assert!(text(&output.stdout).contains("in __libc_start_main"), "{}", text(&output.stdout));
    assert_eq!(news(&host), ["continued"]);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn a_debuggers_hold_is_called_one() {
    let mut host = stopped(Launch::fixture("stopped"));
    let observer = nix::unistd::Pid::from_raw(observer(&host));
    nix::sys::ptrace::seize(observer, nix::sys::ptrace::Options::empty()).expect("seize");
    until("the observer is held", || field(&host, observer.as_raw(), "State").starts_with('t'));
    let output = finish(client(&["-t", "0", "-c", "stacks", &host.pid().to_string()]).spawn().expect("manhole-cli"));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("is stopped by a debugger"), "{said}");
    let _ = nix::sys::wait::waitpid(observer, Some(nix::sys::wait::WaitPidFlag::__WALL)).expect("wait");
    nix::sys::ptrace::detach(observer, None).expect("detach");
    goes_on(&mut host);
}
