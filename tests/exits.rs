//! The end of a process: its name goes, its status stays, and connected clients may finish first, or not.

mod harness;

use std::process::{Command, Stdio};

use harness::dump::Dump;
use harness::family::{identity, is_closed, until};
use harness::fixtures::{has_program, library};
use harness::host::{Host, Launch};
use harness::is_ours;
use harness::session::read_to_end;

/// How a bare run of `exits` ends in this way.
fn bare_status(way: &str) -> String {
    let mut host = Launch::fixture("exits").args([way]).bare().start();
    host.tell("\n\n");
    host.wait().to_string()
}

fn start(way: &str, options: &str) -> Host {
    let mut host = Launch::fixture("exits").args([way]).option(options).start();
    drop(host.connect());
    host
}

#[test]
fn a_normal_end_leaves_no_name_and_the_status_as_it_was() {
    for way in ["return", "exit", "quick_exit", "thread", "_exit"] {
        let mut host = start(way, "");
        host.tell("\n");
        assert_eq!(host.wait().to_string(), bare_status(way), "{way}; {}", host.story());
        assert!(!host.socket().exists(), "{way} left the name");
    }
}

#[test]
fn the_last_threads_end_ends_the_process() {
    let mut host = start("pthread_exit", "");
    host.tell("\n");
    host.wait_for_line("the first thread has ended");
    assert_eq!(host.wait().to_string(), bare_status("pthread_exit"), "{}", host.story());
    assert!(!host.socket().exists());
}

#[test]
fn exit_handlers_of_the_application_are_still_looked_at() {
    let mut host = start("atexit", "");
    host.tell("\n");
    host.wait_for_line("exiting");
    assert!(host.dump().thread(host.pid()).shows("on_exit_wait"));
    host.tell("\n");
    assert_eq!(host.wait().to_string(), bare_status("atexit"));
    assert!(!host.socket().exists());
}

#[test]
fn a_violent_end_has_its_status_and_the_next_start_replaces_the_name() {
    for way in ["abort", "kill"] {
        let mut host = start(way, "");
        let before = identity(&host.socket());
        host.tell("\n");
        assert_eq!(host.wait().to_string(), bare_status(way), "{way}");
        // Nothing of ours runs at such an end; if the name is still there, then as it was, and nobody answers.
        assert!(is_closed(&host.socket()));
        assert!(identity(&host.socket()).is_none_or(|now| Some(now) == before));
    }
    let mut next = Launch::fixture("stale_name").args([library(), "/bin/cat".into()]).bare();
    next = next.env("MANHOLE", "start_timeout=0");
    let mut next = next.start_only();
    assert_eq!(next.dump().thread(next.pid()).name, "cat");
    next.release();
    assert!(!next.socket().exists());
}

#[test]
fn by_sigterm_it_ends_with_that_signal() {
    let mut host = Launch::new("/bin/cat").start();
    host.signal(libc::SIGTERM);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&host.wait()), Some(libc::SIGTERM));
    assert!(is_closed(&host.socket()));
}

/// Whether nothing but a goodbye keeps the host, which was told to end, from ending: its name is gone already.
fn waits_for_its_client(host: &mut Host) {
    until("the name is gone", || !host.socket().exists());
    assert!(is_closed(&host.socket()), "nobody else is let in");
    assert!(host.is_alive(), "{}", host.story());
}

#[test]
fn a_connected_client_finishes_before_the_process_ends() {
    for way in ["return", "exit", "quick_exit", "thread"] {
        let mut host = start(way, "daemon_connection=False");
        let mut session = host.connect();
        host.tell("\n");
        // It is told, and has a prompt.
        assert!(session.answer().contains("daemon_connection=False"));
        waits_for_its_client(&mut host);
        let dump = Dump::parse(&session.command("stacks"));
        assert!(dump.threads.iter().any(|thread| !thread.frames.is_empty()), "{way}: {dump:#?}");
        assert!(host.is_alive(), "{way}: the client is still there");
        drop(session);
        assert_eq!(host.wait().to_string(), bare_status(way), "{way}");
    }
}

#[test]
fn nc_finishes_before_the_process_ends() {
    if !has_program("nc") {
        println!("skipped: no nc");
        return;
    }
    let mut host = start("exit", "");
    let mut nc = Command::new("nc");
    nc.arg("-U").arg(host.socket()).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut nc = nc.spawn().expect("nc");
    host.wait_for_stderr("client 2 connected");
    host.tell("\n");
    waits_for_its_client(&mut host);
    drop(nc.stdin.take());
    nc.kill().expect("kill");
    nc.wait().expect("wait");
    assert_eq!(host.wait().code(), Some(7));
}

#[test]
fn a_command_that_runs_at_exit_is_answered() {
    let mut host = start("exit", "");
    let mut session = host.connect();
    let commands = format!("{}exit\n", "stacks\n".repeat(200));
    std::io::Write::write_all(session.stream(), commands.as_bytes()).expect("send");
    host.tell("\n");
    let text = read_to_end(session.stream());
    let main = format!("ThreadID={}, name=", host.pid());
    assert_eq!(text.matches(&main).count(), 200, "{}", host.story());
    assert_eq!(host.wait().code(), Some(7));
}

#[test]
fn at_once_means_at_once() {
    let mut host = start("_exit", "daemon_connection=False");
    let mut session = host.connect();
    host.tell("\n");
    assert_eq!(host.wait().code(), Some(7));
    read_to_end(session.stream());
    assert!(!host.socket().exists());
}

#[test]
fn a_daemon_connection_holds_nobody_up() {
    for way in ["return", "exit", "quick_exit", "thread"] {
        let mut host = start(way, "daemon_connection=True");
        let mut session = host.connect();
        host.tell("\n");
        assert_eq!(host.wait().to_string(), bare_status(way), "{way}");
        read_to_end(session.stream());
        assert!(!host.socket().exists(), "{way}");
    }
}

#[test]
fn without_clients_nothing_waits() {
    // And at whatever moment of the start it ends: a program of a millisecond leaves nothing.
    for _ in 0..100 {
        let mut host = Launch::new("/bin/true").start_only();
        assert!(host.wait().success());
        assert!(!host.socket().exists(), "{}", host.story());
    }
}

#[test]
fn a_client_that_only_ends_its_sending_gets_its_answer_and_the_next_is_served() {
    let mut host = Launch::fixture("exits").start();
    let mut session = host.connect();
    std::io::Write::write_all(session.stream(), b"stacks\n").expect("send");
    session.stream().shutdown(std::net::Shutdown::Write).expect("shutdown");
    assert!(read_to_end(session.stream()).contains("ThreadID="));
    drop(session);
    drop(host.connect());
}

#[test]
fn a_signal_at_our_threads_does_not_end_the_manhole() {
    // SIGWINCH has a handler nowhere here and is ignored by default; SIGCHLD too. With a mask that lets them in they
    // interrupt nothing, with a handler of the application's they would run it, as that mask says.
    for sigmask in ["None", "[SIGUSR1]"] {
        let mut host = Launch::fixture("exits").option(&format!("sigmask={sigmask}")).start();
        let mut session = host.connect();
        for (tid, _) in host.threads().into_iter().filter(|(_, name)| is_ours(name)) {
            for number in [libc::SIGWINCH, libc::SIGCHLD] {
                // SAFETY: plain system call.
                unsafe { libc::syscall(libc::SYS_tgkill, host.pid(), tid, number) };
            }
        }
        assert!(session.command("stacks").contains("ThreadID="), "sigmask={sigmask}");
        drop(session);
        drop(host.connect());
    }
}
