//! Options that python-manhole has and no other file here is about: connection_handler, sigmask.

mod harness;

use std::io::Write;
use std::os::unix::net::UnixStream;

use harness::host::{Host, Launch};
use harness::session::read_to_end;

fn field(host: &Host, name: &str, key: &str) -> String {
    let (tid, _) = host.threads().into_iter().find(|(_, thread)| thread == name).expect("the thread");
    let status = std::fs::read_to_string(format!("/proc/{}/task/{tid}/status", host.pid())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).expect("the line");
    line.trim().to_owned()
}

/// `exec`: no banner, no stacks, no prompt; a command a line. Also 200 times in a row.
#[test]
fn the_exec_handler_answers_and_says_nothing_else() {
    let mut host = Launch::new("/bin/cat").option("connection_handler=exec, start_timeout=20").start_only();
    host.tell("started\n");
    host.wait_for_line("started");
    for round in 0..200 {
        let mut stream = UnixStream::connect(host.socket()).expect("connect");
        stream.write_all(b"\nhelp exit\nexit\nhelp\n").expect("send");
        let answer = read_to_end(&mut stream);
        assert!(answer.starts_with("exit \nLeave."), "round {round}: {answer:?}");
        assert!(answer.ends_with("Level: observe.\n"), "round {round}: {answer:?}");
    }
    let log = host.wait_for_stderr("client 200 ");
    assert!(log.contains(") runs: help exit\n"), "{log}");
    host.release();
    assert!(host.wait().success(), "{}", host.story());
}

#[test]
fn sigmask_blocks_what_it_says() {
    // glibc keeps 32 and 33 open whatever is asked for.
    for (option, mask) in
        [("ALL_SIGNALS", "fffffffe7ffbfeff"), ("[USR1, 12]", "0000000000000a00"), ("None", &"0".repeat(16))]
    {
        let mut host = Launch::new("/bin/cat").option(&format!("sigmask={option}")).start();
        for name in ["Manhole", "Manhole actor"] {
            assert_eq!(field(&host, name, "SigBlk"), mask, "{option}: {name}; {}", host.story());
        }
    }
}

#[test]
fn signals_that_the_application_blocks_are_not_taken_by_our_threads() {
    let mut host = Launch::fixture("signal_thief").args(["pending"]).start();
    host.wait_for_line("nobody");
    assert_eq!(host.release(), "PASS");
}

#[test]
fn with_an_empty_sigmask_our_threads_take_them() {
    let mut host = Launch::fixture("signal_thief").args(["taken"]).option("sigmask=None, start_timeout=20").start();
    host.wait_for_line("a manhole's");
    assert_eq!(host.release(), "PASS");
}
