//! Clients of every kind, welcome and not: none disturbs another or the host.

mod harness;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use harness::DEADLINE;
use harness::dump::{Dump, Thread};
use harness::host::{Host, Launch};
use harness::session::{PROMPT, Session, read_to_end};

/// A host with 20 threads that do nothing. Its sessions tell each other nothing about standard error.
fn host() -> Host {
    Launch::fixture("blocking_calls").option("redirect_stderr=False").start()
}

/// The host still serves, and its calls were not disturbed.
fn unharmed(mut host: Host) {
    let dump = host.dump();
    assert!(dump.threads.iter().any(|thread| thread.tid == host.pid()), "{}", host.story());
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn many_clients_at_once() {
    let mut host = host();
    drop(host.connect());
    let path = host.socket();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let path = path.clone();
            thread::spawn(move || {
                let mut session = Session::open(&path).expect("connect");
                let first = Dump::parse(session.greeting()).threads.len();
                for _ in 0..5 {
                    assert_eq!(Dump::parse(&session.command("stacks")).threads.len(), first);
                }
                first
            })
        })
        .collect();
    for client in clients {
        assert!(client.join().expect("a client failed") >= 21);
    }
    unharmed(host);
}

#[test]
fn a_slow_client_gets_everything_and_delays_nobody() {
    let mut host = host();
    let mut fast = host.connect();
    let mut slow = UnixStream::connect(host.socket()).expect("connect");
    slow.set_read_timeout(Some(DEADLINE)).expect("timeout");
    slow.write_all(b"stacks\nhelp\nexit\n").expect("send");
    let (mut text, mut byte) = (Vec::new(), [0]);
    for turn in 0..3000 {
        slow.read_exact(&mut byte).expect("one byte");
        text.push(byte[0]);
        if turn % 300 == 0 {
            assert!(fast.command("help").contains("stacks"));
        }
    }
    text.extend(read_to_end(&mut slow).into_bytes());
    let text = String::from_utf8(text).expect("UTF-8");
    assert_eq!(text.matches(PROMPT).count(), 3, "greeting, stacks, help: {text}");
    unharmed(host);
}

/// Resident memory of `pid`, in bytes.
fn resident(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("statm");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("resident pages") * 4096
}

#[test]
fn a_client_that_never_reads_is_bounded_and_dropped() {
    let mut host = Launch::fixture("deep_recursion").option("client_timeout=1").start();
    let mut other = host.connect();
    other.command("stacks");
    let before = resident(host.pid());
    let mut deaf = UnixStream::connect(host.socket()).expect("connect");
    // 200 answers of some 100 KB each, none of which it takes.
    deaf.write_all("stacks\n".repeat(200).as_bytes()).expect("send");
    let log = host.wait_for_stderr("took no output");
    assert!(log.lines().any(|line| line.contains("dropped")), "{log}");
    let grown = resident(host.pid()).saturating_sub(before);
    assert!(grown < 16 << 20, "the host grew by {grown} bytes for a client that reads nothing");
    assert!(Dump::parse(&other.command("stacks")).threads.len() >= 3);
    drop(deaf);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_megabyte_without_a_newline() {
    let mut host = host();
    let mut other = host.connect();
    let mut session = host.connect();
    let megabyte = vec![b'x'; 1 << 20];
    let mut stream = session.stream().try_clone().expect("clone");
    let writer = thread::spawn(move || stream.write_all(&megabyte).and_then(|()| stream.write_all(b"\n")));
    assert!(other.command("help").contains("stacks"));
    writer.join().expect("writer").expect("the server reads on");
    let answer = session.answer();
    assert!(answer.contains("error"), "{answer}");
    unharmed(host);
}

#[test]
fn binary_junk() {
    let mut host = host();
    let mut state = 1_u32;
    for _ in 0..20 {
        let mut session = host.connect();
        // A linear congruential generator: junk, but the same junk at every run.
        let junk: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(16384)
        .collect();
        let stream = session.stream();
        stream.write_all(&junk).expect("send");
        stream.write_all(b"\nexit\n").expect("send");
        read_to_end(stream);
    }
    unharmed(host);
}

#[test]
fn half_a_utf_8_character() {
    let mut host = host();
    let mut session = host.connect();
    session.stream().write_all(b"stacks \xe2\x82").expect("send");
    let answer = session.command("");
    assert!(!answer.is_empty());
    assert!(session.command("help").contains("stacks"));
    let stream = session.stream();
    stream.write_all(b"\xf0\x9f").expect("send");
    stream.shutdown(Shutdown::Write).expect("shutdown");
    read_to_end(stream);
    unharmed(host);
}

#[test]
fn a_client_that_vanishes_in_the_middle() {
    let mut host = Launch::fixture("deep_recursion").start();
    drop(host.connect());
    for bytes in 0..50 {
        let mut stream = UnixStream::connect(host.socket()).expect("connect");
        stream.write_all("stacks\n".repeat(3).as_bytes()).expect("send");
        stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
        let mut some = vec![0; bytes * 20];
        stream.read_exact(&mut some).expect("read");
    }
    assert!(host.dump().threads.len() >= 3);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn exit_and_end_of_input_close() {
    let mut host = host();
    assert_eq!(host.connect().last_command("exit"), "");
    let mut session = host.connect();
    session.stream().write_all(b"help").expect("send");
    session.stream().shutdown(Shutdown::Write).expect("shutdown");
    // A last line without its newline is a line.
    assert!(read_to_end(session.stream()).contains("stacks"));
    unharmed(host);
}

#[test]
fn an_unknown_command_names_the_nearest() {
    let mut host = host();
    let mut session = host.connect();
    let answer = session.command("stakcs");
    assert!(answer.contains("stakcs") && answer.contains("stacks"), "{answer}");
    unharmed(host);
}

#[test]
fn stacks_takes_a_tid_a_name_a_limit_and_groups() {
    let mut host = host();
    let mut session = host.connect();
    let pid = host.pid();
    let one = Dump::parse(&session.command(&format!("stacks {pid}")));
    assert_eq!(one.threads.iter().map(|it| it.tid).collect::<Vec<_>>(), [pid]);
    let named = Dump::parse(&session.command("stacks recv*"));
    let mut names: Vec<_> = named.threads.iter().map(|it| it.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["recv", "recv_timeo"]);
    let limited = Dump::parse(&session.command("stacks --limit 2"));
    // The limit counts frames of the stack; functions inlined into one come with it.
    let frames = |thread: &Thread| thread.frames.iter().filter(|frame| !frame.inlined).count();
    assert!(limited.application().all(|thread| frames(thread) <= 2), "{limited:#?}");
    let grouped = session.command("stacks --group");
    assert!(grouped.contains("ThreadID="), "{grouped}");
    unharmed(host);
}

/// Connects as user and group `id`. Credentials are a thread's own in the kernel; glibc's setuid would spread
/// them over the process, the raw call does not.
fn knock_as(id: libc::uid_t, path: PathBuf) -> std::io::Result<String> {
    let knock = move || {
        // SAFETY: plain system calls that change this thread's credentials; the thread ends with this closure.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_setgroups, 0, 0), 0, "setgroups");
            assert_eq!(libc::syscall(libc::SYS_setresgid, id, id, id), 0, "setresgid");
            assert_eq!(libc::syscall(libc::SYS_setresuid, id, id, id), 0, "setresuid");
        }
        let mut stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let _ = stream.write_all(b"exit\n");
        Ok(read_to_end(&mut stream))
    };
    thread::spawn(knock).join().expect("the knocking thread failed")
}

fn open_to_everyone(path: &PathBuf) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(path, mode).expect("chmod");
}

#[test]
fn a_stranger_gets_one_line_and_the_door() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: becoming other users needs root");
        return;
    }
    let mut host = host();
    drop(host.connect());
    // The first lock is the mode: a stranger cannot even connect.
    assert_eq!(knock_as(12345, host.socket()).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    // Without it the second holds.
    open_to_everyone(&host.socket());
    let answer = knock_as(12345, host.socket()).expect("connect");
    assert_eq!(answer.lines().count(), 1, "{answer}");
    assert!(!answer.contains("ThreadID") && !answer.contains(PROMPT), "{answer}");
    let own = std::process::id();
    let log = host.wait_for_stderr("refused");
    assert!(log.contains(&format!("pid={own} uid=12345 gid=12345")), "{log}");
    unharmed(host);
}

#[test]
fn a_host_of_another_user_lets_that_user_and_root_in() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: becoming other users needs root");
        return;
    }
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let scratch = harness::Scratch::new();
    let mut host = Launch::new("/bin/cat")
        .library_copied_to(scratch.path())
        .with(|command| {
            command.uid(NOBODY).gid(NOBODY);
        })
        .start();
    assert!(host.dump().threads.iter().any(|thread| thread.name == "cat"), "{}", host.story());
    open_to_everyone(&host.socket());
    assert!(knock_as(NOBODY, host.socket()).expect("connect").contains("ThreadID="));
    assert!(!knock_as(12345, host.socket()).expect("connect").contains("ThreadID="));
}

#[test]
fn a_held_connection_does_not_keep_the_host_from_ending_if_it_is_a_daemon() {
    let mut host = Launch::new("/bin/cat").option("daemon_connection=True").start();
    let mut session = host.connect();
    let start = Instant::now();
    host.release();
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?} to end", start.elapsed());
    read_to_end(session.stream());
}
