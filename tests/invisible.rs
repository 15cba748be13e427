//! The application cannot tell that we are there: descriptors, signals, environment, exit status and output are the
//! same with and without the library, and idle threads of ours never run.

mod harness;

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use harness::host::{Host, Launch};
use harness::is_ours;

/// Output, exit status and standard error of one run of `invisible`, visited before it ends if it is preloaded.
fn run(way: &str, preload: bool, options: &str) -> (Vec<String>, String, String) {
    let mut launch = Launch::fixture("invisible").args([way]);
    if preload {
        launch = launch.option(options);
    } else {
        launch = launch.bare();
    }
    let mut host = launch.start();
    if preload {
        let mut session = host.connect();
        for command in ["stacks", "threads", "modules"] {
            session.command(command);
        }
        // And one that stays connected to the end.
        drop(host.connect());
    }
    host.release();
    let status = host.wait();
    (host.lines().to_vec(), status.to_string(), host.stderr())
}

fn difference(left: &[String], right: &[String]) -> String {
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
    };
    format!("only without:\n  {}\nonly with:\n  {}", only(left, right), only(right, left))
}

#[test]
fn descriptors_signals_environment_output_and_status_are_the_same() {
    for way in ["return", "exit", "_exit", "abort", "term", "segv"] {
        let (without, status, _) = run(way, false, "");
        for options in ["verbose=False", "verbose=False,capture=ptrace", "verbose=False,capture=signal"] {
            // What a session changes of descriptor 2, and that it is put back, is tests/stderr.rs's matter.
            let options = format!("{options},redirect_stderr=False");
            let (with, with_status, stderr) = run(way, true, &options);
            assert!(without == with, "{way}, {options}:\n{}", difference(&without, &with));
            assert_eq!(status, with_status, "{way}, {options}");
            assert_eq!(stderr, "", "{way}, {options}: verbose=False writes nothing");
        }
    }
}

#[test]
fn every_line_of_the_log_has_its_shape() {
    let (_, _, stderr) = run("return", true, "verbose=True");
    assert!(!stderr.is_empty());
    for line in stderr.lines() {
        let rest = line.strip_prefix("Manhole[").unwrap_or_else(|| panic!("not ours: {line}"));
        let (stamp, _) = rest.split_once("]: ").unwrap_or_else(|| panic!("no stamp: {line}"));
        let (pid, time) = stamp.split_once(':').unwrap_or_else(|| panic!("no time: {line}"));
        assert!(pid.parse::<i32>().is_ok() && time.parse::<f64>().is_ok(), "{line}");
    }
}

/// Voluntary and involuntary context switches of every thread of ours.
fn switches(host: &Host) -> Vec<(i32, String, u64)> {
    let ours = host.threads().into_iter().filter(|(_, name)| is_ours(name));
    ours.map(|(tid, name)| {
        let status = fs::read_to_string(format!("/proc/{}/task/{tid}/status", host.pid())).expect("status");
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        let sum = counts.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum();
        (tid, name, sum)
    })
    .collect()
}

#[test]
fn idle_threads_of_ours_do_not_run_for_10_seconds() {
    let mut host = Launch::new("/bin/cat").start();
    // The last client's goodbye is work too: idle begins when the counts stand still.
    let mut before = switches(&host);
    loop {
        sleep(Duration::from_millis(100));
        let now = switches(&host);
        if now == before {
            break;
        }
        before = now;
    }
    assert!(!before.is_empty(), "no thread of ours; {}", host.story());
    // The duration is the claim itself.
    sleep(Duration::from_secs(10));
    assert_eq!(switches(&host), before, "(tid, name, context switches) after and before 10 idle seconds");
}

#[test]
fn at_most_two_threads_are_ours() {
    let host = Launch::new("/bin/cat").start();
    let (ours, rest): (Vec<_>, Vec<_>) = host.threads().into_iter().partition(|(_, name)| is_ours(name));
    assert!((1..=2).contains(&ours.len()), "{ours:?}");
    assert_eq!(rest.len(), 1, "{rest:?}");
}

#[test]
fn the_sockets_name_is_gone_after_a_normal_exit() {
    let mut host = Launch::new("/bin/cat").start();
    let socket = host.socket();
    assert!(socket.exists());
    host.release();
    assert!(!socket.exists(), "{socket:?} was left behind; {}", host.story());
}
