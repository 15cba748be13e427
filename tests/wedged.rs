//! `stacks` answers in a wedged process, tells what it is wedged in, and does not unwedge or end it.

mod harness;

use std::time::Instant;

use harness::dump::{Dump, Thread};
use harness::fixtures::fixture;
use harness::host::{Host, Launch};
use harness::{DEADLINE, Scratch, is_ours};

/// `main` shows `function` at most two frames from its innermost one (the wait itself) or from a signal frame, and is
/// whole: it goes on through main to the first frame.
fn main_is_stuck_in(dump: &Dump, host: &Host, function: &str) {
    let main = dump.thread(host.pid());
    let at = main.position(function).unwrap_or_else(|| panic!("no {function} in {main:#?}"));
    let outer = main.position("main").unwrap_or_else(|| panic!("no main in {main:#?}"));
    assert!(at <= 2 && at < outer, "{function} is frame {at}, main {outer}: {main:#?}");
    assert_eq!(main.truncated, None, "{main:#?}");
}

/// Every thread that the kernel lists is accounted for.
fn every_thread_is_there(dump: &Dump, host: &Host) {
    for (tid, name) in host.threads().into_iter().filter(|(_, name)| !is_ours(name)) {
        assert_eq!(dump.thread(tid).name, name);
    }
}

/// The other commands answer too, a second dump is like the first, and the host goes on and ends well.
fn goes_on(host: &mut Host) {
    let mut session = host.connect();
    let commands = ["help", "options", "threads", "syscalls", "locks", "modules", "stacks --group", "stacks --raw"];
    let facts = ["status", "cmdline", "env", "auxv", "uptime", "cgroup", "signals", "timers", "search nowhere"];
    let over_time = ["stacks --diff 0.05", "threads --top 0.05", "profile 0.05", "profile 0.05 --wall"];
    let of_the_session = ["sessions", "history", "complete", "watch 1 nonsense"];
    for command in commands.into_iter().chain(facts).chain(over_time).chain(of_the_session) {
        assert!(!session.command(command).is_empty(), "{command} is silent; {}", host.story());
    }
    for command in ["fds", "fds --peers", "maps", "maps --rss", "mem", "limits"] {
        let answer = session.command(command);
        assert!(answer.lines().count() > 2 && !answer.contains("error: "), "{command}: {answer}; {}", host.story());
    }
    assert!(Dump::parse(&session.command("stacks")).threads.len() >= 2);
    drop(session);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

/// Dumps until one satisfies: on a loaded machine a running thread may not stop in the time that a dump may cost, and
/// the dump says so; a thread that never stops fails the test.
fn dump_until(host: &mut Host, satisfies: impl Fn(&Dump) -> bool) -> Dump {
    let end = Instant::now() + DEADLINE;
    loop {
        let dump = host.dump();
        if satisfies(&dump) || Instant::now() > end {
            return dump;
        }
    }
}

/// A fixture that wedges itself in the first microseconds of its `main`, when our threads may still be starting.
fn wedged(name: &str) -> Launch {
    Launch::fixture(name).option("start_timeout=20")
}

/// The whole of it for a fixture whose main thread is stuck in `stuck_here`.
fn answers(launch: Launch) {
    let mut host = launch.start();
    let dump = host.dump();
    main_is_stuck_in(&dump, &host, "stuck_here");
    every_thread_is_there(&dump, &host);
    goes_on(&mut host);
}

#[test]
fn with_an_interposed_malloc_lock_held() {
    answers(wedged("wedged_malloc_interposed"));
}

#[test]
fn with_the_glibc_arena_lock_held() {
    let mut host = wedged("wedged_arena").start();
    let dump = host.dump();
    let main = dump.thread(host.pid());
    main_is_stuck_in(&dump, &host, "stuck_here");
    let order = ["stuck_here", "on_tick", "churn_here", "main"].map(|name| main.position(name));
    assert!(order.is_sorted() && order[0].is_some(), "{main:#?}");
    every_thread_is_there(&dump, &host);
    goes_on(&mut host);
}

#[test]
fn with_the_loader_lock_held() {
    let plugin = fixture("wedged_loader_plugin");
    let mut host = wedged("wedged_loader").args([plugin]).start();
    let dump = host.dump();
    main_is_stuck_in(&dump, &host, "stuck_here");
    // The constructor's module was loaded after start, and its frame is named all the same.
    let main = dump.thread(host.pid());
    let stuck = &main.frames[main.position("stuck_here").unwrap()];
    assert!(stuck.module.starts_with("wedged_loader_plugin"), "{stuck:?}");
    every_thread_is_there(&dump, &host);
    goes_on(&mut host);
}

#[test]
fn with_the_stdio_locks_held() {
    answers(wedged("wedged_stdio"));
}

#[test]
fn with_descriptors_exhausted() {
    answers(Launch::fixture("exhausted_descriptors"));
}

#[test]
fn with_descriptors_0_to_1023_closed() {
    answers(Launch::fixture("closed_descriptors"));
}

#[test]
fn in_an_endless_loop() {
    let mut host = Launch::fixture("endless_loop").start();
    let pid = host.pid();
    let dump = dump_until(&mut host, |dump| {
        let main = dump.thread(pid);
        main.capture != "none" && main.syscall.is_none()
    });
    main_is_stuck_in(&dump, &host, "stuck_here");
    let main = dump.thread(host.pid());
    assert_eq!(main.capture, "ptrace", "{main:#?}");
    assert_eq!(main.syscall, None);
    assert!(main.state.starts_with("R"), "{main:#?}");
    goes_on(&mut host);
}

#[test]
fn with_a_smashed_stack() {
    let mut host = Launch::fixture("smashed_stack").start();
    let dump = host.dump();
    let smashed = dump.named("smashed");
    assert!(smashed.shows("stuck_here"), "{smashed:#?}");
    assert!(smashed.truncated.is_some(), "a smashed stack must say truncated: {smashed:#?}");
    // Nothing above the last whole frame is invented.
    assert_eq!(smashed.position("stuck_here"), Some(smashed.frames.len() - 1), "{smashed:#?}");
    main_is_stuck_in(&dump, &host, "main_waits_here");
    goes_on(&mut host);
}

#[test]
fn with_a_frame_chain_that_loops() {
    let mut host = Launch::fixture("frame_loop").start();
    let dump = host.dump();
    let looping = dump.named("looping");
    assert!(looping.truncated.is_some(), "{looping:#?}");
    assert!(looping.frames.len() <= 3, "a loop is no stack: {looping:#?}");
    main_is_stuck_in(&dump, &host, "stuck_here");
    goes_on(&mut host);
}

#[test]
fn with_a_thread_of_100_000_frames() {
    let mut host = Launch::fixture("deep_recursion").start();
    let dump = host.dump();
    let deep = dump.named("deep");
    assert!(deep.position("stuck_here").is_some_and(|at| at <= 2), "{:#?}", &deep.frames[..3]);
    assert!(deep.truncated.as_deref().is_some_and(|it| it.contains("max_frames")), "{:?}", deep.truncated);
    assert!(deep.frames.len() >= 1000, "{} frames", deep.frames.len());
    goes_on(&mut host);

    // With room for it the first frame is reached.
    let mut host = Launch::fixture("deep_recursion").option("max_frames=200000").start();
    // It has just said `ready`: until it is blocked it is a running thread, of which less stack is copied.
    let dump = dump_until(&mut host, |dump| dump.named("deep").capture == "proc");
    let deep = dump.named("deep");
    assert_eq!(deep.truncated, None);
    assert!(deep.frames.len() > 100_000, "{} frames", deep.frames.len());
    assert!(deep.shows("start_thread"));
}

#[test]
fn with_the_main_thread_exited() {
    let mut host = Launch::fixture("main_exited").start();
    let dump = host.dump();
    let survivor = dump.named("survivor");
    assert!(survivor.position("stuck_here").is_some_and(|at| at <= 2), "{survivor:#?}");
    assert!(survivor.shows("start_thread"), "{survivor:#?}");
    assert_eq!(survivor.truncated, None);
    // The zombie has no stack any more: it is named as exited, or listed with the reason.
    let explained =
        |thread: &Thread| thread.tid == host.pid() && (thread.truncated.is_some() || thread.skipped.is_some());
    assert!(dump.exited.contains(&host.pid()) || dump.threads.iter().any(explained), "{dump:#?}");
    goes_on(&mut host);
}

#[test]
fn in_a_changed_root() {
    let scratch = Scratch::new();
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: chroot needs root");
        return;
    }
    // It changes its root before it does anything else: the observer must be away by then.
    answers(Launch::fixture("chrooted").args([scratch.path()]).option("start_timeout=20"));
}

#[test]
fn after_dropping_privileges() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: dropping privileges needs root");
        return;
    }
    let mut host = Launch::fixture("dropped_privileges").start();
    let before = dumpable(host.pid());
    let dump = host.dump();
    main_is_stuck_in(&dump, &host, "stuck_here");
    every_thread_is_there(&dump, &host);
    assert_eq!(dumpable(host.pid()), before, "dumpability must be put back");
    goes_on(&mut host);
}

/// Whether the kernel calls `pid` dumpable: its /proc files then belong to its user, otherwise to root.
fn dumpable(pid: i32) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(format!("/proc/{pid}/maps")).expect("stat").uid() != 0
}

#[test]
fn under_seccomp_installed_before_start() {
    // ptrace and process_vm_readv fail with EPERM from the very beginning.
    let mut host = Launch::fixture("seccomp").args(["exec".into(), fixture("wedged_stdio")]).start();
    let dump = host.dump();
    main_is_stuck_in(&dump, &host, "stuck_here");
    goes_on(&mut host);
}

#[test]
fn under_seccomp_installed_after_start() {
    for action in ["errno", "kill"] {
        let mut host = Launch::fixture("seccomp").args([action]).start();
        let dump = host.dump();
        main_is_stuck_in(&dump, &host, "stuck_here");
        let spinning = dump.named("spinning");
        assert!(spinning.truncated.is_some() || spinning.shows("spin_here"), "{action}: {spinning:#?}");
        every_thread_is_there(&dump, &host);
        goes_on(&mut host);
    }
}

/// SIGSTOP stops every thread of a process, ours too: only `manhole-cli` can lend ours a hand (tests/stopped.rs). Another client's connection waits in the
/// listener's queue, and is answered as soon as the process goes on.
#[test]
fn stopped_by_sigstop_answers_when_continued() {
    use std::os::unix::net::UnixStream;
    // It stops itself in its first call: the socket must be there before.
    let mut host = Launch::fixture("stopped").option("start_timeout=20").start();
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", host.pid())).expect("stat");
    while !stat().contains(") T ") {
        std::thread::yield_now();
    }
    let mut waiting = UnixStream::connect(host.socket()).expect("a stopped process still has its socket");
    host.signal(libc::SIGCONT);
    let dump = host.dump();
    main_is_stuck_in(&dump, &host, "stuck_here");
    use std::io::Write;
    waiting.write_all(b"exit\n").expect("send");
    let text = harness::session::read_to_end(&mut waiting);
    assert!(text.contains("stuck_here"), "{text}");
    goes_on(&mut host);
}
