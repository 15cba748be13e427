//! `activate_on`: no socket until the signal comes, and then a manhole like any other.

mod harness;

use harness::dump::Dump;
use harness::host::{Host, Launch, socket_of};
use harness::is_ours;

fn cat() -> Host {
    let mut host = Launch::new("/bin/cat").option("activate_on=USR1").start_only();
    host.wait_for_stderr("SIGUSR1 opens the manhole (activate_on)");
    host.wait_until_in_call(libc::SYS_read);
    host
}

#[test]
fn no_socket_before_the_signal_and_one_after_and_a_second_is_harmless() {
    let mut host = cat();
    host.tell("before\n");
    host.wait_for_line("before");
    assert!(!host.socket().exists());
    host.signal(libc::SIGUSR1);
    let mut session = host.connect();
    let dump = Dump::parse(session.greeting());
    let main = dump.thread(host.pid());
    assert!(main.frames[0].function.contains("read") && main.truncated.is_none(), "{main:#?}");
    host.signal(libc::SIGUSR1);
    assert!(session.command("threads").contains("cat"));
    drop(host.connect());
    host.tell("after\n");
    host.wait_for_line("after");
    drop(session);
    host.release();
    assert!(host.wait().success() && !host.socket().exists(), "{}", host.story());
}

#[test]
fn a_process_that_ends_without_the_signal_never_had_a_socket() {
    let mut host = cat();
    host.release();
    assert!(host.wait().success(), "{}", host.story());
    assert!(!host.stderr().contains("UDS path"), "{}", host.stderr());
}

#[test]
fn a_storm_of_signals_activates_once() {
    let mut host = Launch::fixture("signal_storm").option("activate_on=USR2").start();
    for _ in 0..20 {
        let dump = host.dump();
        assert!(dump.named("storm").capture != "none" || dump.named("storm").truncated.is_some(), "{dump:#?}");
    }
    host.wait_for_line("storm over");
    assert_eq!(host.stderr().matches("UDS path").count(), 1, "{}", host.stderr());
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn the_handler_before_ours_is_called_and_put_back() {
    for way in ["siginfo", "plain"] {
        let launch = Launch::fixture("oneshot_chain").option("thread=False").args([way, "activate_on=USR2"]);
        let mut host = launch.start();
        host.wait_for_line("went on");
        assert_eq!(host.release(), "PASS", "{way}; {}", host.story());
    }
}

#[test]
fn a_handler_that_the_application_installs_later_is_reported() {
    let mut host = Launch::fixture("own_handler_later").option("activate_on=USR2").start_only();
    assert!(host.wait().success(), "{}", host.story());
    let log = host.wait_for_stderr("own handler");
    assert!(log.contains("the application has installed its own handler for SIGUSR2: activate_on is off"), "{log}");
}

#[test]
fn a_forked_child_keeps_the_signal() {
    let mut host = Launch::fixture("keeps_signal").option("activate_on=USR2").start();
    let child = host.children()[0];
    assert!(!socket_of(child).exists() && !host.socket().exists());
    // SAFETY: a child of our child, which lives as long as that.
    unsafe { libc::kill(child, libc::SIGUSR2) };
    let session = host.connect_to(&socket_of(child));
    let dump = Dump::parse(session.greeting());
    assert!(dump.thread(child).position("child_waits_here").is_some(), "{dump:#?}");
    assert!(!host.socket().exists(), "the parent did not get it");
    assert!(host.threads().iter().any(|(_, name)| is_ours(name)));
    drop(session);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}
