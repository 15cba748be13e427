//! A forked child gets a manhole of its own and nothing of its parent's; a process that becomes another program keeps
//! one name at most.

mod harness;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;

use harness::dump::Dump;
use harness::family::{Relative, descriptors_of, identity, is_closed, listeners_at, ours_of, until};
use harness::fixtures::{fixture, has_program, library};
use harness::host::{Host, Launch, socket_of};
use harness::session::read_to_end;
use harness::{Scratch, is_ours};

/// A host with one living child, made in this way when the host's manhole stood.
fn forked(way: &str, options: &str) -> (Host, Relative) {
    let mut host = Launch::fixture("forked_child").args([way]).option(options).start();
    drop(host.connect());
    host.tell("\n");
    let child = Relative::of(&mut host);
    (host, child)
}

/// Log lines of process `pid` that contain `text`.
fn lines_of(log: &str, pid: i32, text: &str) -> usize {
    let stamp = format!("Manhole[{pid}:");
    log.lines().filter(|line| line.contains(&stamp) && line.contains(text)).count()
}

/// The stacks that are shown are those of `pid`, which waits in `function`.
fn shows(dump: &Dump, pid: i32, function: &str) {
    assert!(dump.threads.iter().all(|thread| thread.process == pid), "not all of process {pid}: {dump:#?}");
    assert!(dump.thread(pid).shows(function), "{:#?}", dump.thread(pid));
    assert_eq!(dump.thread(pid).truncated, None);
}

/// The whole of it: the child's own stacks, the parent's socket untouched, one line in the log, and no name left.
fn child_has_its_own(way: &str, options: &str) {
    let (mut host, child) = forked(way, options);
    let parents = identity(&host.socket());
    shows(&Dump::parse(child.connect().greeting()), child.0, "child_waits_here");
    shows(&host.dump(), host.pid(), "parent_waits_here");
    assert_eq!(identity(&host.socket()), parents, "{way}: the parent's socket was touched");
    assert_eq!((listeners_at(&host.socket()), listeners_at(&socket_of(child.0))), (1, 1), "{way}");

    let log = host.wait_for_stderr(&format!("/tmp/manhole-{}", child.0));
    assert_eq!(lines_of(&log, child.0, "Fork detected"), 1, "{way}: {log}");
    assert_eq!(lines_of(&log, host.pid(), "Fork detected"), 0, "{way}: {log}");
    let line = log.lines().find(|line| line.contains("Fork detected")).unwrap_or_default();
    assert!(line.contains("Reinstalling Manhole"), "{line}");

    child.signal(libc::SIGTERM);
    if way != "twice" {
        host.wait_for_line("child ended 0x300");
    }
    until("the child's name is gone", || !socket_of(child.0).exists());
    assert_eq!(identity(&host.socket()), parents, "{way}: the child's end took the parent's socket");
    drop(host.connect());
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn a_forked_child_has_its_own_after_reinstall_delay() {
    child_has_its_own("fork", "");
}

#[test]
fn a_forked_child_has_the_locals() {
    let (mut host, child) = forked("fork", r#"locals={"k1": 0x11, "k2": "v2"}"#);
    let answer = child.connect().command("locals");
    assert!(answer.contains("k1") && answer.contains("0x11") && answer.contains("v2"), "{answer}");
    child.signal(libc::SIGTERM);
    host.wait_for_line("child ended 0x300");
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn a_child_forked_by_another_thread_has_its_own() {
    child_has_its_own("thread", "reinstall_delay=0.05");
}

#[test]
fn a_child_of_forkpty_has_its_own() {
    child_has_its_own("forkpty", "reinstall_delay=0.05");
}

#[test]
fn a_grandchild_has_its_own() {
    child_has_its_own("twice", "reinstall_delay=0.05");
}

#[test]
fn without_a_delay_it_comes_at_once() {
    child_has_its_own("fork", "reinstall_delay=0");
}

#[test]
fn a_child_that_is_told_to_wait_is_silent_until_then() {
    let (mut host, child) = forked("fork", "reinstall_delay=3600");
    // What it will have is parked already; what it says and opens comes after the delay.
    assert!(ours_of(child.0) > 0);
    child.signal(libc::SIGTERM);
    host.wait_for_line("child ended 0x300");
    assert_eq!(lines_of(&host.stderr(), child.0, ""), 0, "{}", host.story());
    assert!(!socket_of(child.0).exists());
}

/// What becomes a daemon leaves no name of the process that it was: that one went by `_exit`.
fn daemon_leaves_one_name(way: &str) {
    let mut host = Launch::fixture("forked_child").args([way]).option("reinstall_delay=0.05").start();
    drop(host.connect());
    host.tell("\n");
    let daemon = Relative::of(&mut host);
    assert!(host.wait().success(), "{}", host.story());
    shows(&Dump::parse(daemon.connect().greeting()), daemon.0, "child_waits_here");
    until("the first process's name is gone", || !host.socket().exists());
    daemon.signal(libc::SIGTERM);
    until("the daemon's name is gone", || !socket_of(daemon.0).exists());
}

#[test]
fn a_daemon_leaves_no_name_of_its_first_process() {
    daemon_leaves_one_name("daemon");
}

#[test]
fn a_daemon_that_forked_twice_leaves_no_name_of_its_first_process() {
    daemon_leaves_one_name("daemon-twice");
}

/// No thread and no name in the child, and none will come: what a child gets is there when `fork` returns.
fn child_has_none(options: &str) {
    let (mut host, child) = forked("fork", options);
    assert_eq!(ours_of(child.0), 0, "{options}");
    assert!(is_closed(&socket_of(child.0)), "{options}");
    child.signal(libc::SIGTERM);
    host.wait_for_line("child ended 0x300");
    assert_eq!(lines_of(&host.stderr(), child.0, ""), 0, "{options}: {}", host.story());
    drop(host.connect());
}

#[test]
fn patch_fork_false_means_none() {
    child_has_none("patch_fork=False");
}

#[test]
fn a_fixed_socket_path_stays_the_parents() {
    let scratch = Scratch::new();
    let path = scratch.path().join("socket");
    let options = format!("reinstall_delay=0,socket_path='{}'", path.display());
    let mut host = Launch::fixture("forked_child").args(["fork"]).option(&options).start();
    let mut session = host.connect_to(&path);
    let before = identity(&path);
    host.tell("\n");
    let child = Relative::of(&mut host);
    assert_eq!(ours_of(child.0), 0);
    // The client that was there before the fork is served after it.
    shows(&Dump::parse(&session.command("stacks")), host.pid(), "parent_waits_here");
    child.signal(libc::SIGTERM);
    host.wait_for_line("child ended 0x300");
    assert_eq!(identity(&path), before);
    shows(&Dump::parse(host.connect_to(&path).greeting()), host.pid(), "parent_waits_here");
}

#[test]
fn a_socket_path_with_pid_is_the_childs_too() {
    let scratch = Scratch::new();
    let template = scratch.path().join("of-{pid}");
    let options = format!("reinstall_delay=0,socket_path='{}'", template.display());
    let mut host = Launch::fixture("forked_child").args(["fork"]).option(&options).start();
    let of = |pid: i32| scratch.path().join(format!("of-{pid}"));
    drop(host.connect_to(&of(host.pid())));
    host.tell("\n");
    let child = Relative::of(&mut host);
    shows(&Dump::parse(host.connect_to(&of(child.0)).greeting()), child.0, "child_waits_here");
    child.signal(libc::SIGTERM);
    host.wait_for_line("child ended 0x300");
    assert!(!of(child.0).exists());
    assert!(of(host.pid()).exists());
}

#[test]
fn a_client_in_the_middle_of_its_output_stays_the_parents() {
    let (mut host, bare) = (
        Launch::fixture("forked_child")
            .args(["fork"])
            .option("reinstall_delay=0")
            // It shows in the descriptors while a client is there: see tests/stderr.rs.
            .option("redirect_stderr=False")
            .start(),
        Launch::fixture("forked_child").args(["fork"]).bare(),
    );
    drop(host.connect());
    let mut client = UnixStream::connect(host.socket()).expect("connect");
    // More than the socket's buffers take, and nobody reads it.
    client.write_all("stacks\n".repeat(500).as_bytes()).expect("send");
    until("the buffer is full", || {
        let mut waiting = 0;
        // SAFETY: FIONREAD writes one int.
        unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&client), libc::FIONREAD, &mut waiting) };
        waiting > 100_000
    });
    host.tell("\n");
    let child = Relative::of(&mut host);
    drop(child.connect());
    let mut control = bare.start();
    control.tell("\n");
    let kin = Relative::of(&mut control);
    let numbers = |pid| descriptors_of(pid).into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(numbers(child.0), numbers(kin.0), "descriptors of the forked child, and of one without the library");
    assert_eq!(numbers(host.pid()), numbers(control.pid()));
    // The parent dies; were the child to hold its connection, there would be no end.
    host.signal(libc::SIGKILL);
    assert!(read_to_end(&mut client).contains("ThreadID="));
    assert!(child.exists(), "the child lives");
    drop(child.connect());
}

#[test]
fn a_thousand_forks_in_a_row_leave_nothing() {
    let mut host = Launch::fixture("fork_storm").args(["1", "1000", "_exit"]).start();
    drop(host.connect());
    host.tell("\n");
    host.wait_for_line("ends");
    assert!(host.children().is_empty());
    // The kernel wakes who joins a thread before /proc forgets it.
    until("one thread is left", || host.threads().iter().filter(|(_, name)| !is_ours(name)).count() == 1);
    drop(host.connect());
    assert_eq!(host.release(), "PASS", "{}", host.story());
    assert_eq!(lines_of(&host.stderr(), host.pid(), "Fork detected"), 0);
    let strays = host.stderr().lines().filter(|line| line.contains("Fork detected")).count();
    assert_eq!(strays, 0, "children of a millisecond say nothing: {}", host.story());
}

#[test]
fn fork_handlers_of_the_application_run_as_ever() {
    for neighbour in [false, true] {
        let launch = Launch::fixture("atfork").bare().env("MANHOLE", "reinstall_delay=0");
        // The last in the list is initialised first.
        let launch = launch.also_preload(harness::fixtures::library());
        let launch = if neighbour { launch.also_preload(fixture("atfork_neighbour")) } else { launch };
        let mut host = launch.start();
        drop(host.connect());
        host.tell("\n");
        let child = Relative::of(&mut host);
        shows(&Dump::parse(child.connect().greeting()), child.0, "main");
        shows(&host.dump(), host.pid(), "main");
        assert_eq!(host.release(), "PASS", "{}", host.story());
    }
}

fn execs(who: &str, preload: &str) -> Launch {
    Launch::fixture("execs").args([who, preload, "/bin/cat"]).option("reinstall_delay=0.3")
}

#[test]
fn a_child_that_becomes_another_program_at_once_has_that_programs_manhole_only() {
    let mut host = execs("child", "keep").start();
    drop(host.connect());
    host.tell("\n");
    let child = Relative::of(&mut host);
    let session = child.connect();
    let dump = Dump::parse(session.greeting());
    assert!(dump.threads.iter().all(|thread| thread.process == child.0), "{dump:#?}");
    assert_eq!(dump.thread(child.0).name, "cat");
    assert_eq!(listeners_at(&socket_of(child.0)), 1);
    assert!((1..=2).contains(&ours_of(child.0)));
    drop(session);
    // `cat` shares the standard input: its end ends it.
    assert_eq!(host.release(), "PASS", "{}", host.story());
    assert!(host.lines().iter().any(|line| line == "child ended 0"), "{}", host.story());
    assert!(!socket_of(child.0).exists());
    let log = host.stderr();
    assert_eq!(lines_of(&log, child.0, "UDS path"), 1, "{log}");
    assert_eq!(lines_of(&log, child.0, "Fork detected"), 0, "a fork and exec says nothing: {log}");
}

#[test]
fn a_child_that_becomes_a_program_without_the_library_has_none() {
    let mut host = execs("child", "drop").start();
    drop(host.connect());
    host.tell("\n");
    let child = Relative::of(&mut host);
    until("it is another program", || std::fs::read(format!("/proc/{}/comm", child.0)).is_ok_and(|it| it == b"cat\n"));
    assert_eq!(ours_of(child.0), 0);
    assert_eq!(host.release(), "PASS", "{}", host.story());
    assert!(!socket_of(child.0).exists());
    assert_eq!(lines_of(&host.stderr(), child.0, ""), 0, "{}", host.story());
}

#[test]
fn exec_replaces_the_old_socket() {
    let mut host = execs("self", "keep").start();
    drop(host.connect());
    let before = identity(&host.socket());
    host.tell("\n");
    until("another socket", || identity(&host.socket()).is_some_and(|now| Some(now) != before));
    assert_eq!(host.dump().thread(host.pid()).name, "cat");
    assert_eq!(listeners_at(&host.socket()), 1);
    host.release();
    assert!(!host.socket().exists());
}

#[test]
fn exec_without_the_library_leaves_a_name_that_nobody_serves() {
    let mut host = execs("self", "drop").start();
    let mut session = host.connect();
    host.tell("\n");
    // The connection ends with the old image.
    assert_eq!(read_to_end(session.stream()), "");
    until("nobody listens", || is_closed(&host.socket()));
    assert!(host.socket().exists());
    let pid = host.pid().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_manhole-cli")).args(["-t", "0", "-c", "stacks", &pid]).output();
    let output = output.expect("manhole-cli");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("has no manhole") && said.contains("left over"), "{said}");
    assert!(host.is_alive());
}

#[test]
fn a_handler_that_forks_may_interrupt_a_fork() {
    if !has_program("strace") {
        return println!("skipped: no strace");
    }
    // glibc forks by clone, and makes threads by clone3.
    let preload = format!("LD_PRELOAD={}", library().display());
    let strace = Launch::new("strace").bare().args(["-o", "/dev/null", "-e", "trace=clone"]);
    let strace = strace.args(["-e", "inject=clone:signal=USR1:when=1", "-E", &preload, "-E", "MANHOLE=verbose=False"]);
    let mut host = strace.args([fixture("fork_in_handler")]).when_it_says("ready").start();
    host.tell("\n");
    host.wait_for_line("forked twice");
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

/// Neither an install nor a release can be found half done, with a lock of ours held, by a handler that forks.
#[test]
fn a_handler_may_fork_while_the_manhole_is_installed_and_released() {
    let mut host = Launch::fixture("forks_while_changing").bare().env("MANHOLE", "thread=False").start();
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

/// In a new pid namespace nobody can tell whether the parent lives: its socket is not touched.
#[test]
fn a_child_in_a_pid_namespace_of_its_own_leaves_its_parents_socket_alone() {
    if !Command::new("unshare").args(["-pf", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no right to make namespaces here");
        return;
    }
    let mut host = Launch::fixture("pid_namespace").start();
    drop(host.connect());
    let before = identity(&host.socket());
    host.tell("\n");
    host.wait_for_line("child over");
    assert_eq!(identity(&host.socket()), before);
    drop(host.connect());
}
