//! No dump is felt by a system call: no EINTR, no early return, no late timeout, in every capture mode.

mod harness;

use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::dump::Dump;
use harness::fixtures::{Compiler, build};
use harness::host::Launch;
use harness::report_failures;

const MODES: [&str; 4] = ["auto", "proc", "ptrace", "signal"];

/// The names of the threads of `blocking_calls`, one a call.
const CALLS: [&str; 20] = [
    "poll",
    "ppoll",
    "select",
    "epoll_wait",
    "nanosleep",
    "sem_wait",
    "semop",
    "msgrcv",
    "sigtimedwait",
    "sigwaitinfo",
    "recv",
    "recv_timeo",
    "accept",
    "inotify",
    "eventfd",
    "futex_timed",
    "condition",
    "pause",
    "waitid",
    "pipe_read",
];

/// 100 dumps in one capture mode. Whatever the mode, every thread is there, captured or truncated with a reason.
fn hundred_dumps(mode: &str, flags: &[&str]) -> Result<(), String> {
    let program = build("blocking_calls", Compiler::Gnu, flags);
    let mut host = Launch::new(program).option(&format!("capture={mode}")).when_it_says("ready").start();
    let mut session = host.connect();
    let mut truncated = 0;
    for _ in 1..100 {
        let dump = Dump::parse(&session.command("stacks"));
        for call in CALLS {
            let thread = dump.named(call);
            truncated += usize::from(thread.truncated.is_some());
            if thread.frames.is_empty() && thread.truncated.is_none() {
                return Err(format!("{mode} {flags:?}: thread {call} has neither frames nor a reason"));
            }
            if mode == "auto" && !thread.shows("run") {
                return Err(format!("{mode} {flags:?}: thread {call} does not show run: {thread:#?}"));
            }
        }
    }
    drop(session);
    println!("blocking_calls, capture={mode}, {flags:?}: 100 dumps, {truncated} of 2000 stacks truncated");
    let verdict = host.release();
    if verdict == "PASS" { Ok(()) } else { Err(format!("{mode} {flags:?}: {}", host.lines().join("\n"))) }
}

fn hundred_dumps_of_every_build(mode: &str) {
    let builds: [&[&str]; 4] = [
        &["-O2", "-fomit-frame-pointer", "-pthread"],
        &["-O2", "-fno-omit-frame-pointer", "-pthread"],
        &["-O0", "-fomit-frame-pointer", "-pthread"],
        &["-O0", "-fno-omit-frame-pointer", "-pthread"],
    ];
    report_failures(&builds.iter().filter_map(|flags| hundred_dumps(mode, flags).err()).collect::<Vec<_>>());
}

#[test]
fn no_blocked_call_is_disturbed_when_captured_the_gentlest_way() {
    hundred_dumps_of_every_build("auto");
}

#[test]
fn no_blocked_call_is_disturbed_when_captured_from_proc() {
    hundred_dumps_of_every_build("proc");
}

#[test]
fn no_blocked_call_is_disturbed_when_captured_by_ptrace() {
    hundred_dumps_of_every_build("ptrace");
}

#[test]
fn no_blocked_call_is_disturbed_when_captured_by_signal() {
    hundred_dumps_of_every_build("signal");
}

/// `NAME runs=N min_us=N max_us=N eintr=N`: name, max_us.
fn longest(line: &str) -> Option<(&str, u64)> {
    let (name, rest) = line.split_once(" runs=")?;
    let max = rest.split_once("max_us=")?.1.split(' ').next()?.parse().ok()?;
    Some((name, max))
}

/// A timeout of 100 ms under a dump every 20 ms ends within 120 ms, or at most 20 ms after that of a
/// program that nobody looks at and that runs at the same time: what a loaded machine adds, it adds to both.
fn timeouts_are_kept(mode: &str, flags: &[&str]) -> Result<(), String> {
    const SLACK: u64 = 20_000;
    const TIMEOUT: u64 = 100_000;
    let program = build("finite_timeouts", Compiler::Gnu, flags);
    let mut control = Launch::new(&program).bare().when_it_says("ready").start();
    let mut host = Launch::new(&program).option(&format!("capture={mode}")).when_it_says("ready").start();
    let mut session = host.connect();
    let start = Instant::now();
    let mut dumps = 0;
    while start.elapsed() < Duration::from_secs(3) {
        session.command("stacks");
        dumps += 1;
        // The clock drives the load here; no result hangs on it.
        sleep((start + Duration::from_millis(20) * dumps).saturating_duration_since(Instant::now()));
    }
    drop(session);
    let (control_verdict, verdict) = (control.release(), host.release());
    if control_verdict != "PASS" {
        return Err(format!("the control failed: {}", control.lines().join("\n")));
    }
    let mut failures = Vec::new();
    if verdict != "PASS" {
        failures.push(verdict);
    }
    for (line, control_line) in host.lines().iter().zip(control.lines()).filter(|it| it.0.contains("max_us=")) {
        let (Some((name, max)), Some((_, control_max))) = (longest(line), longest(control_line)) else { continue };
        println!("{name}, capture={mode}, {flags:?}: {max} us at most, {control_max} us without {dumps} dumps");
        if max > control_max.max(TIMEOUT) + SLACK {
            failures.push(format!("{name} took {max} us, without dumps {control_max} us"));
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("{mode} {flags:?}: {}\n{}", failures.join(", "), host.lines().join("\n")))
    }
}

#[test]
fn finite_timeouts_are_kept_in_every_capture_mode() {
    let mut failures = Vec::new();
    for flags in [["-O2", "-fomit-frame-pointer", "-pthread"], ["-O2", "-fno-omit-frame-pointer", "-pthread"]] {
        failures.extend(MODES.iter().filter_map(|mode| timeouts_are_kept(mode, &flags).err()));
    }
    report_failures(&failures);
}
