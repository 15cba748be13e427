//! Thousands of forks by several threads end, and so does every dump that is asked for meanwhile.

mod harness;

use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::Scratch;
use harness::dump::Dump;
use harness::host::Launch;

/// A storm of `children` by four threads under a dump every 10 ms; every answer is whole.
fn storm(children: u32, how: &str, options: &str) {
    let scratch = Scratch::new();
    let path = |pid: &str| scratch.path().join(pid);
    let launch = Launch::fixture("fork_storm").args(["4", &children.to_string(), how]);
    let launch = launch.option("verbose=False").option(&format!("socket_path='{}'", path("{pid}").display()));
    let mut host = launch.option(options).start();
    let path = path(&host.pid().to_string());
    let mut session = host.connect_to(&path);
    let begun = Instant::now();
    host.tell("\n");
    let mut dumps = 0;
    while host.lines().last().map(String::as_str) != Some("ends") {
        let dump = Dump::parse(&session.command("stacks"));
        // By signals alone a thread that waits is not shown, with a reason.
        let main = dump.thread(host.pid());
        assert!(main.shows("main") || main.truncated.is_some() && options.contains("signal"), "{main:#?}");
        dumps += 1;
        // The claim's own rhythm.
        sleep(Duration::from_millis(10));
        assert!(host.is_alive(), "{}", host.story());
        host.read_lines();
        assert!(begun.elapsed() < 3 * harness::DEADLINE, "the storm does not end; {}", host.story());
    }
    println!("{children} children, {how}, {options}: {dumps} dumps in {:?}", begun.elapsed());
    assert!(dumps > 1);
    drop(session);
    assert!(host.children().is_empty(), "zombies");
    let after = Dump::parse(host.connect_to(&path).greeting());
    assert_eq!(after.application().count(), 1, "{after:#?}");
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn ten_thousand_children_under_dumps() {
    storm(10_000, "_exit", "capture=auto");
}

#[test]
fn children_of_a_process_whose_threads_are_being_stopped() {
    storm(1_000, "_exit", "capture=ptrace");
    storm(1_000, "_exit", "capture=signal");
}

#[test]
fn children_that_open_manholes_at_once() {
    storm(1_000, "_exit", "reinstall_delay=0");
}

#[test]
fn children_that_become_other_programs_under_dumps() {
    storm(1_000, "exec", "capture=auto");
}
