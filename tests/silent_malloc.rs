//! No thread of ours ever calls the application's malloc: an interposed one that aborts stays silent.

mod harness;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use harness::Scratch;
use harness::fixtures::{Compiler, build, fixture};
use harness::host::{Host, Launch};

/// `launch` beside the aborting malloc, whose complaint goes to the file returned.
fn guarded(launch: Launch, scratch: &Scratch) -> (Launch, PathBuf) {
    let log = scratch.path().join("abort.log");
    (launch.also_preload(fixture("abort_on_our_malloc")).env("ABORT_LOG", &log), log)
}

fn every_command(host: &mut Host) {
    let pid = host.pid();
    let mut session = host.connect();
    for command in [
        "help",
        "help stacks",
        "stacks",
        "stacks --group",
        "stacks --raw",
        "stacks --limit 3",
        "stacks no-such-*",
        "stacks --diff 0.05",
        "threads --top 0.05",
        "profile 0.1",
        "profile 0.1 --wall --folded",
        "profile 0.1 --speedscope",
        &format!("stacks {pid}"),
        "threads",
        "syscalls",
        "locks",
        "modules",
        "fds",
        "fds --peers",
        "maps",
        "maps --rss",
        "mem",
        "limits",
        "options",
        "signal URG",
        "nice",
        "affinity",
        "rlimit",
        "dup 1 200",
        "close 200",
        "set/w libc.so.6:optopt = 63",
        "status",
        "cmdline",
        "env",
        "auxv",
        "uptime",
        "cgroup",
        "signals",
        "timers",
        "search text-that-is-not-there",
        "x/20i libc.so.6:puts",
        "sessions",
        "history",
        "!history",
        "complete",
        "complete 'stacks --'",
        "drop",
        "watch 1 'drop; nonsense | head'",
        "stakcs",
        "",
        "stacks --bogus",
        "\u{1}\u{2}",
    ] {
        session.command(command);
    }
    session.last_command("exit");
    drop(host.connect());
}

#[test]
fn every_command_stays_off_the_applications_heap() {
    let matrix = build("unwind_matrix", Compiler::Gnu, &["-O2", "-g", "-pthread"]);
    let matrix_cpp = build("unwind_matrix_cpp", Compiler::Gnu, &["-O0", "-g", "-pthread"]);
    let calls = fixture("blocking_calls");
    let loop_ = fixture("endless_loop");
    let locks = fixture("locks_kinds");
    for program in [matrix, matrix_cpp, calls, loop_, locks] {
        for mode in ["auto", "ptrace", "signal"] {
            let scratch = Scratch::new();
            let launch = Launch::new(&program).option(&format!("capture={mode}")).when_it_says("ready");
            let (launch, log) = guarded(launch, &scratch);
            let mut host = launch.start();
            every_command(&mut host);
            assert_eq!(
                fs::read_to_string(&log).unwrap_or_default(),
                "",
                "{program:?}, capture={mode}; {}",
                host.story()
            );
            assert!(host.is_alive(), "{}", host.story());
            assert_eq!(host.release(), "PASS", "{}", host.story());
        }
    }
}

#[test]
fn the_guard_guards() {
    let scratch = Scratch::new();
    let mut free = Launch::fixture("malloc_guard_control").bare().start();
    assert_eq!(free.release(), "PASS");
    let (launch, log) = guarded(Launch::fixture("malloc_guard_control").bare(), &scratch);
    let mut host = launch.start();
    assert_eq!(host.wait().signal(), Some(libc::SIGABRT), "{}", host.story());
    assert_eq!(fs::read_to_string(log).unwrap(), "Manhole control called malloc\n");
}
