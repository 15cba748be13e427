//! Under other people's tools: strace and gdb, as parents and attached, and a container's seccomp filter. The
//! application does what it would without the library, and the manhole answers or says why not.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use harness::dump::Dump;
use harness::family::{Relative, is_closed, until};
use harness::fixtures::{fixture, has_program, library};
use harness::host::{Host, Launch, socket_of};
use harness::{DEADLINE, is_ours};

fn has(program: &str) -> bool {
    let has = has_program(program);
    if !has {
        println!("skipped: no {program}");
    }
    has
}

/// A field of `/proc/PID/task/TID/status`.
fn field(pid: i32, tid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t")).unwrap_or_default().to_owned()
}

/// Whether every thread of the application is traced.
fn is_traced(host: &Host) -> bool {
    let mut threads = host.threads().into_iter().filter(|(_, name)| !is_ours(name));
    threads.all(|(tid, _)| field(host.pid(), tid, "TracerPid") != "0")
}

/// A tool attached to a host, which speaks and is spoken to.
struct Tool {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Tool {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { input: child.stdin.take().expect("piped"), child, lines }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("tell the tool");
    }

    fn wait_for(&self, words: &str) {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|line: &String| line.contains(words)) {
            let next = self.lines.recv_timeout(DEADLINE);
            seen.push(next.unwrap_or_else(|error| panic!("no {words:?} ({error}) in {seen:#?}")));
        }
    }

    fn interrupt(&mut self) {
        // SAFETY: plain system call on a child that was not waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        self.child.wait().expect("wait");
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every thread of the application is in the dump, with frames or a reason, and at least the blocked ones with frames.
fn answers(dump: &Dump) {
    assert!(dump.application().count() > 0, "{dump:#?}");
    for thread in dump.application() {
        assert!(!thread.frames.is_empty(), "{thread:#?}");
    }
}

/// `fixture` started by strace, bare or preloaded; the process itself is strace's child.
fn under_strace(arguments: &[&str], preload: bool) -> (Host, Option<Relative>) {
    let mut launch = Launch::new("strace").bare().args(["-f", "-o", "/dev/null"]);
    if preload {
        launch = launch.args(["-E".into(), format!("LD_PRELOAD={}", library().display())]);
        launch = launch.args(["-E", "MANHOLE=verbose=False,start_timeout=20,redirect_stderr=False"]);
    }
    launch = launch.args([fixture(arguments[0])]).args(&arguments[1..]).when_it_says("ready");
    let host = launch.start();
    let child = host.children().first().map(|pid| Relative(*pid));
    (host, child)
}

#[test]
fn started_by_strace_it_behaves_as_ever_and_answers() {
    if !has("strace") {
        return;
    }
    // What differs between two runs of anything: the environment that we added for ourselves.
    let run = |preload: bool| {
        let (mut host, child) = under_strace(&["invisible", "exit"], preload);
        let child = child.expect("strace's child");
        if preload {
            let mut session = child.connect();
            answers(&Dump::parse(session.greeting()));
            for _ in 0..3 {
                answers(&Dump::parse(&session.command("stacks")));
            }
            drop(session);
        }
        host.release();
        let status = host.wait().to_string();
        (host.lines().to_vec(), status)
    };
    let ((without, bare_status), (with, status)) = (run(false), run(true));
    assert_same("strace", &with, &without);
    assert_eq!(bare_status, status);
}

#[test]
fn attached_and_detached_strace_changes_nothing() {
    if !has("strace") {
        return;
    }
    let mut host = Launch::fixture("invisible").start();
    let mut session = host.connect();
    let pid = host.pid().to_string();
    for _ in 0..2 {
        let mut strace = Tool::start(Command::new("strace").args(["-f", "-o", "/dev/null", "-p", &pid]));
        until("strace is attached", || is_traced(&host));
        answers(&Dump::parse(&session.command("stacks")));
        answers(&host.dump());
        strace.interrupt();
        until("strace is gone", || field(host.pid(), host.pid(), "TracerPid") == "0");
        answers(&Dump::parse(&session.command("stacks")));
    }
    drop(session);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn forks_under_strace_go_on() {
    if !has("strace") {
        return;
    }
    let (mut host, child) = under_strace(&["fork_storm", "4", "200", "_exit"], true);
    let child = child.expect("strace's child");
    let mut session = child.connect();
    host.tell("\n");
    while host.lines().last().map(String::as_str) != Some("ends") {
        assert!(session.command("stacks").contains("ThreadID="));
        assert!(host.is_alive(), "{}", host.story());
        host.read_lines();
    }
    drop(session);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn started_by_gdb_it_runs_to_its_end_and_answers() {
    if !has("gdb") {
        return;
    }
    let program = fixture("exits");
    let preload = format!("set environment LD_PRELOAD {}", library().display());
    // Its own standard input and output, so that gdb's are its.
    let commands = ["set startup-with-shell off", &preload, "set environment MANHOLE verbose=False", "run exit"];
    let mut launch = Launch::new("gdb").bare().args(["-nx", "-q", "-batch"]);
    for command in commands {
        launch = launch.args(["-ex", command]);
    }
    let mut host = launch.args(["-ex", "info program", "--args"]).args([&program]).when_it_says("ready").start();
    let child =
        host.children().into_iter().find(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|it| it == program));
    let child = Relative(child.unwrap_or_else(|| panic!("gdb has no such child; {}", host.story())));
    let mut session = child.connect();
    answers(&Dump::parse(session.greeting()));
    answers(&Dump::parse(&session.command("stacks")));
    drop(session);
    host.tell("\n");
    host.wait();
    let ended = host.lines().iter().any(|line| line.contains("exited with code 07"));
    assert!(ended, "{}", host.story());
    assert!(!socket_of(child.0).exists());
}

#[test]
fn while_gdb_holds_it_the_client_says_so_and_afterwards_it_answers() {
    if !has("gdb") {
        return;
    }
    let mut host = Launch::fixture("invisible").start();
    let mut session = host.connect();
    let pid = host.pid().to_string();
    let mut gdb = Tool::start(Command::new("gdb").args(["-nx", "-q", "-p", &pid]));
    gdb.tell("echo attached\\n");
    gdb.wait_for("attached");
    let output = Command::new(env!("CARGO_BIN_EXE_manhole-cli")).args(["-t", "0.2", "-c", "stacks", &pid]).output();
    let output = output.expect("manhole-cli");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("debugger"), "{said}");
    // While it runs under gdb, it answers.
    gdb.tell("continue&");
    gdb.tell("echo continued\\n");
    gdb.wait_for("continued");
    answers(&Dump::parse(&session.command("stacks")));
    gdb.tell("interrupt");
    until("it is stopped", || field(host.pid(), host.pid(), "State").starts_with('t'));
    gdb.tell("detach");
    gdb.tell("quit");
    gdb.child.wait().expect("wait");
    answers(&Dump::parse(&session.command("stacks")));
    drop(session);
    answers(&host.dump());
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

/// `invisible` under a filter that denies these calls.
fn under_filter(denied: &str, preload: bool) -> Host {
    let library = if preload { library().into_os_string() } else { "".into() };
    let launch = Launch::fixture("seccomp_container").bare();
    // What a session changes of descriptor 2 is the matter of tests/stderr.rs.
    // While the observer starts it tries, in a process of its own, what the filter would do to it.
    let launch = launch.env("MANHOLE", "start_timeout=20,redirect_stderr=False");
    launch.args([library, denied.into(), fixture("invisible").into(), "exit".into()]).start()
}

/// Fails with the lines that only one of them has.
fn assert_same(what: &str, with: &[String], without: &[String]) {
    let pairs = with.iter().zip(without).filter(|(with, without)| with != without);
    let differences: Vec<_> = pairs.map(|(with, without)| format!("with {with:?}, without {without:?}")).collect();
    assert!(differences.is_empty() && with.len() == without.len(), "{what}: {differences:#?}");
}

#[test]
fn under_a_containers_filter_it_answers_and_does_no_harm() {
    let all = "ptrace,process_vm_readv,process_vm_writev,pidfd_getfd,pidfd_open,close_range,kcmp,perf_event_open";
    for denied in
        ["ptrace", "process_vm_readv,process_vm_writev", "pidfd_getfd,pidfd_open", "close_range", "unshare", all]
    {
        let mut control = under_filter(denied, false);
        control.release();
        let mut host = under_filter(denied, true);
        let mut session = host.connect();
        answers(&Dump::parse(session.greeting()));
        for command in ["threads", "modules", "stacks"] {
            assert!(!session.command(command).is_empty(), "{denied}: {command}");
        }
        drop(session);
        // Threads that run, and forked children, have the filter too.
        assert_eq!(host.release(), "PASS", "{denied}: {}", host.story());
        assert_same(denied, host.lines(), control.lines());
        assert!(!host.socket().exists());
    }
}

#[test]
fn without_any_way_to_a_table_of_its_own_it_says_so_and_stays_away() {
    let mut control = under_filter("all", false);
    control.release();
    let mut host = under_filter("all", true);
    let log = host.wait_for_stderr("descriptor table");
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(is_closed(&host.socket()));
    assert_eq!(host.release(), "PASS", "{}", host.story());
    assert_same("all", host.lines(), control.lines());
}

/// A child that is forked while the observer tries what the filter does inherits nothing of the trial.
#[test]
fn forks_at_the_start_under_a_filter_are_as_ever() {
    for _ in 0..30 {
        let arguments = [library().into_os_string(), "ptrace".into(), fixture("fork_storm").into()];
        let launch = Launch::fixture("seccomp_container").bare().args(arguments);
        let mut host = launch.env("MANHOLE", "verbose=False").args(["1", "20", "_exit"]).start_only();
        host.tell("\n");
        host.wait_for_line("ends");
        host.tell("\n");
        host.wait_for_line("PASS");
        assert!(host.wait().success());
    }
}
