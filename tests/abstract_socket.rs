//! `socket_path=@NAME`: an abstract address. Nothing is left of it however its process ends, and since anybody may
//! take any name, both ends check who is at the other.

mod harness;

use std::fs;
use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::client::{self, run};
use harness::host::{Host, Launch};
use harness::{DEADLINE, Scratch};

const TEMPLATE: &str = "socket_path=@manhole-{pid}";

fn name(pid: i32) -> String {
    format!("@manhole-{pid}")
}

/// Whether somebody listens at `name`.
fn is_taken(name: &str) -> bool {
    let table = fs::read_to_string("/proc/net/unix").expect("/proc/net/unix");
    table.lines().any(|line| line.ends_with(&format!(" {name}")))
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not in {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn cat() -> Launch {
    Launch::new("/bin/cat").option(TEMPLATE)
}

/// Starts it and waits until its name is taken.
fn opened(launch: Launch) -> Host {
    let host = launch.start_only();
    until("a socket", || is_taken(&name(host.pid())));
    host
}

/// Whether `pid` answers at its abstract name.
fn answers(pid: i32) -> bool {
    let outcome = run(&["-c", "threads", &name(pid)]);
    outcome.status.success() && outcome.stdout.contains("Manhole")
}

#[test]
fn nothing_is_left_however_the_process_ends() {
    let scratch = Scratch::new();
    for number in [libc::SIGTERM, libc::SIGKILL, libc::SIGABRT, 0] {
        let mut host = opened(cat().directory(scratch.path()));
        let pid = host.pid();
        assert!(answers(pid));
        assert!(!host.socket().exists(), "a file for an abstract socket");
        if number == 0 {
            host.release();
        } else {
            host.signal(number);
            host.wait();
        }
        assert!(!is_taken(&name(pid)), "signal {number}");
        assert!(!host.socket().exists() && fs::read_dir(scratch.path()).expect("folder").next().is_none());
        run(&["-t", "0", &name(pid)]).is(3, &["nobody listens at @manhole-", &format!("there is no process {pid}")]);
    }
}

#[test]
fn the_client_finds_it_by_pid_and_by_name() {
    let host = opened(cat());
    for target in [host.pid().to_string(), name(host.pid())] {
        let outcome = run(&["-c", "options", &target]);
        outcome.is(0, &[]);
        assert!(outcome.stdout.contains("@manhole-{pid}"), "{outcome:?}");
    }
    let scratch = Scratch::new();
    let odd = format!("socket_path='@{}/con sole'", scratch.path().display());
    let mut host = Launch::new("/bin/cat").option(&odd).start_only();
    host.wait_for_stderr("con sole");
    assert!(run(&["-c", "threads", &host.pid().to_string()]).stdout.contains("Manhole"));
}

#[test]
fn a_taken_name_is_reported_with_its_holder_and_left_alone() {
    let own = format!("manhole-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&own).expect("address");
    let _holder = UnixListener::bind_addr(&address).expect("bind");
    let mut host = Launch::new("/bin/cat").option(&format!("socket_path=@{own}")).start_only();
    host.wait_for_stderr(&format!("@{own} is served by process {}, left alone", std::process::id()));
    // Without pid in the name, the client asks whether the holder is ours, and then trusts what it was told.
    UnixStream::connect_addr(&address).expect("the holder still listens");
    host.tell("x\n");
    host.wait_for_line("x");
}

#[test]
fn exec_takes_the_name_over_and_forked_children_have_their_own() {
    let launch = Launch::new("/bin/sh").args(["-c", "read x; exec cat"]).option(TEMPLATE);
    let mut host = opened(launch);
    host.tell("\n");
    until("exec", || fs::read_to_string(format!("/proc/{}/comm", host.pid())).is_ok_and(|name| name.trim() == "cat"));
    host.tell("echo\n");
    host.wait_for_line("echo");
    until("a new socket", || is_taken(&name(host.pid())));
    let shown = run(&["-c", "modules", &name(host.pid())]).stdout;
    assert!(shown.contains("/cat") && !shown.contains("/dash"), "{shown}");

    let host = opened(Launch::fixture("forking_server").option(TEMPLATE).option("reinstall_delay=0"));
    until("children", || host.children().len() == 3);
    for child in host.children() {
        until("a child's socket", || is_taken(&name(child)));
        assert!(answers(child));
    }
}

#[test]
fn the_client_sends_nothing_to_somebody_who_took_the_name() {
    let sleep = Launch::new("/bin/sleep").args(["100"]).bare().start();
    let address = SocketAddr::from_abstract_name(&name(sleep.pid())[1..]).expect("address");
    let squatter = UnixListener::bind_addr(&address).expect("bind");
    let received = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        squatter.accept().expect("accept").0.read_to_end(&mut bytes).expect("read");
        bytes
    });
    let words = format!("is not process {} but process {}", sleep.pid(), std::process::id());
    run(&["-t", "0", "-c", "stacks", &name(sleep.pid())]).is(3, &[&words]);
    assert_eq!(received.join().expect("squatter"), b"");
}

#[test]
fn the_server_lets_no_other_user_in_although_there_is_no_mode() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let mut host = opened(cat());
    let scratch = Scratch::new();
    let copy = scratch.path().join("manhole-cli");
    fs::copy(client::path(), &copy).expect("copy");
    let mut command = Command::new(copy);
    command.args(["-c", "stacks", &name(host.pid())]).stdin(Stdio::null()).uid(65534).gid(65534);
    client::finish(command).is(3, &["refused: only root and uid 0 may connect, you are uid 65534"]);
    host.wait_for_stderr("refused a client");
}

#[test]
fn in_another_network_namespace_the_client_says_how_to_get_there() {
    if !Command::new("unshare").args(["-n", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no right to make namespaces here");
        return;
    }
    let mut host = Launch::new("unshare").args(["-n", "cat"]).option(TEMPLATE).option("only=cat").start_only();
    let pid = host.pid().to_string();
    host.wait_for_stderr("UDS path");
    let way = format!("nsenter --net --target {pid} manhole-cli @manhole-{pid}");
    run(&["-t", "0", &pid]).is(3, &["another network namespace", &way]);
    run(&["-t", "0", &name(host.pid())]).is(3, &["another network namespace", &way]);
    let mut inside = Command::new("nsenter");
    inside.args(["--net", "--target", &pid]).arg(client::path()).args(["-c", "threads", &name(host.pid())]);
    let outcome = client::finish(inside);
    outcome.is(0, &[]);
    assert!(outcome.stdout.contains("Manhole"));
}
