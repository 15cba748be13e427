//! `call`, `load`, `setenv`, and the guard that survives their crashes.

mod harness;

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::DEADLINE;
use harness::dump::Dump;
use harness::fixtures::fixture;
use harness::host::{Host, Launch};
use harness::session::Session;
use serde_json::Value;

fn host() -> Host {
    Launch::fixture("calls").option("redirect_stderr=False").start()
}

/// The `result` record of a call.
fn result(session: &mut Session, line: &str) -> Value {
    let answer = session.command(&format!("{line} --json"));
    let parsed: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{line}: {error}: {answer}"));
    assert_eq!(parsed[0]["kind"], "result", "{line}: {answer}");
    parsed[0].clone()
}

/// What the fixture answers to `line`: its handlers are what they were, and nothing else has run.
fn looks(host: &mut Host, round: u32) {
    host.tell("look\n");
    host.wait_for_line(&format!("look 1 1 1 {round}"));
}

#[test]
fn arguments_arrive_and_results_come_back() {
    let mut host = host();
    let mut session = host.connect();
    for (line, expected) in [
        ("call/d add(2, -3)", "= -1\n"),
        ("call add(2, 3)", "= 0x5  long 5  int 5\n"),
        ("call/dg twelve(1,2,3,4,5,6,7,8,9,10,11,12)", "= 650\n"),
        (r#"call/f mix(3, 1.5, 0.25f, "a; b | \"c\" # d")"#, "= 4.75\n"),
        ("call/fw half(3.0f)", "= 1.5\n"),
        ("call/d is_big(0xffffffff)", "= 1\n"),
        ("call/c letter(2)", "= 99 'c'\n"),
        ("call/dg second_of(&table)", "= 9\n"),
        ("call/d (*hook)(4, 5)", "= 9\n"),
        ("call/d *hook(4,5)", "= 9\n"),
        ("call/dg strlen(\"12345\")", "= 5\n"),
        ("call/d fails()", "= -1\nerrno = 2 (ENOENT: No such file or directory)\n"),
        ("call/d errno_now()", "= 0\n"),
    ] {
        assert_eq!(session.command(line), expected, "{line}");
    }
    host.wait_for_line("mix 3 1.5 0.25 a; b | \"c\" # d");
    // The callee may keep a string.
    session.command("call keep(\"kept for ever\")");
    assert!(session.command("call/s get_kept()").ends_with(" \"kept for ever\"\n"));
    assert!(session.command("call/a where()").ends_with(" <table>\n"));
    // libc has an old version of it, too, for programs that were linked long ago.
    assert!(session.command("call/s memcpy(&said, \"copied\", 7)").ends_with(" \"copied\"\n"));
    // C's own printf knows how many floats there are.
    assert_eq!(session.command("call/d dprintf(1, \"%d %.2f %s\\n\", 7, 1.5, \"x\")"), "= 9\n");
    host.wait_for_line("7 1.50 x");
    let record = result(&mut session, "call/d fails()");
    assert_eq!((&record["int"], &record["errno"], &record["text"]), (&(-1).into(), &2.into(), &"-1".into()));
    assert_eq!(record["value"], "0xffffffff");
    assert_eq!(host.release(), "PASS");
}

/// What the callee changed of the processor's state does not reach the manhole, or the next call.
#[test]
fn a_call_leaves_nothing_behind_in_the_processor() {
    let mut host = host();
    let mut session = host.connect();
    let third = session.command("call/f third(1.0)");
    session.command("call checks_alignment()");
    session.command("call rounds_up()");
    assert_eq!(session.command("call/f third(1.0)"), third);
    assert_eq!(session.command("call/d add(1, 1)"), "= 2\n");
    assert_eq!(host.release(), "PASS");
}

/// A call may destroy the thread that it runs on: that is told, and the process lives on.
#[test]
fn a_call_that_destroys_its_thread_costs_the_actor_and_nothing_else() {
    for (call, told, how) in [
        // As far as the frame to which a crash returns, which lies a mebibyte above the call.
        ("smashes(0x100800)", "crashed: call smashes: SIGSEGV, ", "call smashes has destroyed its stack"),
        (
            "ends_thread()",
            "error: call ends_thread: it has ended its thread; the process goes on",
            "call ends_thread has ended it",
        ),
    ] {
        let mut host = host();
        let mut session = host.connect();
        let answer = session.command(&format!("call {call}"));
        assert!(answer.starts_with(told), "{answer}");
        let after = session.command("call/d add(1, 1)");
        assert!(after.starts_with("error: ") && after.contains(how), "{after}");
        assert!(session.command("fds 1").contains(" pipe "), "{}", session.command("fds 1"));
        assert!(session.command("stacks").contains("in main+"));
        looks(&mut host, 0);
        assert!(no_guard(&host), "a guard is left");
        assert_eq!(host.release(), "PASS", "{call}");
    }
}

#[test]
fn what_is_left_goes_on_and_that_is_said() {
    let mut host = host();
    let mut session = host.connect();
    session.stream().write_all(b"call --unguarded usleep(10000000)\n").expect("a line");
    let mut other = host.connect();
    let begun = Instant::now();
    while !other.command("threads \"Manhole actor\"").contains("nanosleep") {
        assert!(begun.elapsed() < DEADLINE, "the call does not begin");
    }
    session.stream().write_all(b"^C\n").expect("a line");
    let answer = session.answer();
    assert!(
        answer.contains("error: interrupted: it was left, and goes on on the thread `Manhole actor`\n"),
        "{answer}"
    );
}

#[test]
fn what_is_no_function_is_not_called() {
    let mut host = host();
    let mut session = host.connect();
    let answer = session.command("call libc.so.6:vfork()");
    assert!(answer.starts_with("error: libc.so.6:vfork cannot be called from here"), "{answer}");
    for (line, expected) in [
        ("call &table(1)", "&table is no function"),
        ("call 16(1)", "16 is no function: 0x10 is not mapped"),
        ("call nosuch()", "no symbol or local nosuch"),
        ("call add", "a call is written FUNCTION("),
        ("call add(1,)", "an argument is missing"),
        ("call/2d add(1,2)", "one result"),
        ("call add(\"x", "never closed"),
        ("load calls_plugin.so", "no absolute path"),
        ("load /nowhere/plugin.so", "cannot open shared object file"),
        ("setenv PATH", "has no ="),
    ] {
        let answer = session.command(line);
        assert!(answer.starts_with("error: ") && answer.contains(expected), "{line}: {answer}");
    }
    session.command("drop operate");
    for line in ["call getpid()", "load /nowhere.so", "setenv A=b", "unsetenv A"] {
        assert!(session.command(line).contains("needs the level admin"), "{line}");
    }
    assert_eq!(host.release(), "PASS");
}

/// Each way to crash: the signal, and the functions of its stack, innermost first, as far as they are the fixture's.
#[test]
fn a_crash_is_shown_with_its_stack_and_the_process_lives_on() {
    let mut host = host();
    let mut session = host.connect();
    let crashes: &[(&str, &str, &[&str])] = &[
        ("segfaults()", "SIGSEGV, nothing is mapped at 0x10", &["deep_write", "segfaults"]),
        ("aborts()", "SIGABRT, abort", &["aborts"]),
        ("divides(0)", "SIGFPE, an integer divided by zero", &["divides"]),
        ("illegal()", "SIGILL, an illegal instruction", &["illegal"]),
        ("buses()", "SIGBUS, no memory behind the address", &["buses"]),
        ("jumps_to_null()", "SIGSEGV, nothing is mapped at 0x0", &["jumps_to_null"]),
        ("double_free()", "SIGABRT, abort", &["double_free"]),
        ("blocked_segfault()", "SIGSEGV, nothing is mapped at 0x10", &["deep_write", "segfaults", "blocked_segfault"]),
        ("sealed_segfault()", "SIGSEGV, nothing is mapped at 0x10", &["deep_write", "segfaults", "sealed_segfault"]),
        ("smashes(100000)", "SIGSEGV, ", &[]),
        (
            "jumps_wildly()",
            "SIGSEGV, an address that no memory can have, or a privileged instruction, on",
            &["jumps_wildly"],
        ),
        ("exits_thread()", "SIGABRT, abort", &["exits_thread"]),
        ("overflows(0)", "SIGSEGV, the memory there does not allow it", &["overflows", "overflows", "overflows"]),
    ];
    for (round, (call, signal, functions)) in crashes.iter().enumerate() {
        let answer = session.command(&format!("call {call}"));
        let name = call.split('(').next().expect("a name");
        assert!(answer.starts_with(&format!("crashed: call {name}: {signal}")), "{answer}");
        let (_, stack) = answer.split_once("\n\n").expect("a stack");
        let dump = Dump::parse(stack);
        let thread = dump.named("Manhole actor");
        let whole = !["overflows(0)", "smashes(100000)"].contains(call);
        for function in *functions {
            assert!(thread.shows(function), "{function}: {answer}");
        }
        assert_eq!(!answer.contains("truncated:"), whole, "{answer}");
        // Nothing of ours is in it.
        assert!(!answer.contains("libmanhole"), "{answer}");
        looks(&mut host, u32::try_from(round).expect("a number"));
        assert_eq!(session.command("call/d add(1, 1)"), "= 2\n");
    }
    // No handler ran for any of these; it still runs for the application's own.
    assert_eq!(session.command("call/d count_handled()"), "= 0\n");
    host.tell("crash\n");
    host.wait_for_line("handled 1");
    // What was locked stays locked.
    assert!(session.command("call locks_and_crashes()").starts_with("crashed: "));
    assert_eq!(session.command("call/d try_lock()"), format!("= {}\n", libc::EBUSY));
    // A child that a call forks has its own crashes.
    assert_eq!(session.command("call/d forks()"), format!("= {}\n", libc::SIGSEGV));
    let answer = session.command("call segfaults() --json");
    let records: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((&records[0]["kind"], &records[0]["signal"]), (&"crash".into(), &"SIGSEGV".into()));
    assert_eq!((&records[0]["address"], &records[1]["kind"]), (&"0x10".into(), &"stack".into()));
    assert_eq!(records[1]["frames"][1]["function"], "segfaults");
    assert!(no_guard(&host), "a guard is left");
    assert_eq!(host.release(), "PASS");
}

/// What a call prints reaches the operator and the standard output, in order, and a crash does not keep it.
#[test]
fn what_a_call_prints_is_shown_when_wanted() {
    let mut host = host();
    let mut session = host.connect();
    assert_eq!(session.command("call/d puts(\"before\")"), "= 7\n");
    assert_eq!(session.command("call/d --stdout puts(\"printed\")"), "printed\n= 8\n");
    let answer = session.command("call --stdout --unguarded dprintf(1, \"%d words\\n\", 2)");
    assert_eq!(answer, "2 words\n= 0x8  long 8  int 8\n");
    assert!(session.command("call --stdout aborts()").starts_with("crashed: call aborts"));
    assert_eq!(session.command("call/d --stdout puts(\"after\")"), "after\n= 6\n");
    // What was kept in the library's buffer comes first.
    for line in ["before", "printed", "2 words", "after"] {
        host.wait_for_line(line);
    }
    let target = std::fs::read_link(format!("/proc/{}/fd/1", host.pid())).expect("descriptor 1");
    assert!(target.to_string_lossy().starts_with("pipe:"), "{target:?}");
    // The actor has one for a moment when it rings the observer.
    let numbers = || std::fs::read_dir(format!("/proc/{}/fd", host.pid())).expect("fd").count();
    let least = || (0..50).map(|_| numbers()).min();
    let before = least();
    session.command("call --stdout puts(\"again\")");
    let start = Instant::now();
    while least() != before {
        assert!(start.elapsed() < DEADLINE, "{before:?} descriptors became {:?}", least());
    }
    assert_eq!(host.release(), "PASS");
}

/// No process of ours is beside the host.
fn no_guard(host: &Host) -> bool {
    host.children().is_empty()
}

#[test]
fn exceptions_end_where_the_manhole_called() {
    let mut host = Launch::fixture("calls_throw").option("redirect_stderr=False").start();
    let mut session = host.connect();
    assert_eq!(session.command("call/d catches(1)"), "= 4\n");
    assert_eq!(session.command("call/d ns::twice(int)(21)"), "= 42\n");
    let answer = session.command("call throws(1)");
    assert!(answer.starts_with("crashed: call throws: SIGABRT, abort"), "{answer}");
    assert!(answer.contains("std::terminate") && answer.contains(" in throws+"), "{answer}");
    assert_eq!(session.command("call/d catches(0)"), "= 7\n");
    assert_eq!(host.release(), "PASS");
}

fn send(session: &mut Session, line: &str) {
    session.stream().write_all(format!("{line}\n").as_bytes()).expect("send");
}

/// Asks until the answer has all of `texts`.
fn ask_until(session: &mut Session, line: &str, texts: &[&str]) -> String {
    let end = Instant::now() + DEADLINE;
    loop {
        let answer = session.command(line);
        if texts.iter().all(|text| answer.contains(text)) {
            return answer;
        }
        assert!(Instant::now() < end, "no {texts:?}: {answer}");
    }
}

#[test]
fn a_call_that_hangs_or_spins_is_seen_and_can_be_left() {
    let mut host = host();
    let (mut first, mut second) = (host.connect(), host.connect());
    send(&mut first, "call/d hangs()");
    // Once it blocks, it is seen without being touched.
    ask_until(&mut second, "stacks 'Manhole actor'", &["capture=proc", " in hangs+"]);
    host.tell("open\n");
    assert_eq!(first.answer(), "= 1\n");
    send(&mut first, "call spins()");
    // It runs: only the guard can stop it.
    ask_until(&mut second, "stacks 'Manhole actor'", &["capture=ptrace", " in spins+"]);
    // A guard that dies lets go.
    let guard = *host.children().first().expect("a guard");
    // SAFETY: kill touches no memory.
    unsafe { libc::kill(guard, libc::SIGKILL) };
    ask_until(&mut second, "stacks 'Manhole actor'", &["capture=ptrace", " in spins+"]);
    drop(first);
    assert!(second.command("threads").contains("Manhole actor"));
    assert!(host.is_alive());
}

#[test]
fn a_call_may_end_the_process_or_become_another_program() {
    let mut host = host();
    let answer = host.connect().command("call exits()");
    assert!(!answer.contains("crashed"), "{answer}");
    assert_eq!(host.wait().code(), Some(3), "{}", host.story());
    let mut host = self::host();
    let mut session = host.connect();
    send(&mut session, "call execs()");
    host.wait_for_line("executed");
    assert_eq!(host.release(), "PASS");
}

#[test]
fn where_ptrace_is_refused_it_takes_unguarded() {
    let mut host = host();
    let mut session = host.connect();
    let actor = host.threads().into_iter().find(|(_, name)| name == "Manhole actor").expect("an actor").0;
    let mut tracer = Command::new("strace")
        .args(["-e", "none", "-o", "/dev/null", "-p", &actor.to_string()])
        .spawn()
        .expect("strace");
    let end = Instant::now() + DEADLINE;
    let status = format!("/proc/{}/task/{actor}/status", host.pid());
    while std::fs::read_to_string(&status).expect("status").contains("TracerPid:\t0\n") {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(2));
    }
    let answer = session.command("call add(1, 2)");
    assert!(answer.contains("there can be no guard") && answer.contains("--unguarded"), "{answer}");
    assert_eq!(session.command("call/d --unguarded add(1, 2)"), "= 3\n");
    let _ = tracer.kill();
    let _ = tracer.wait();
    assert_eq!(session.command("call/d add(1, 2)"), "= 3\n");
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_plugin_registers_commands_and_their_crashes_are_survived() {
    let mut host = host();
    let mut session = host.connect();
    let plugin = fixture("calls_plugin");
    let path = plugin.to_str().expect("UTF-8");
    let answer = session.command(&format!("load {path} start"));
    assert!(answer.contains(": loaded, handle 0x") && answer.ends_with("= 0x2a  long 42  int 42\n"), "{answer}");
    assert!(session.command("modules").contains("calls_plugin"));
    assert_eq!(session.command("greet"), "hello\n");
    let answer = session.command("crash");
    assert!(answer.starts_with("crashed: crash: SIGSEGV, nothing is mapped at 0x10") && answer.contains(" in crash+"));
    assert_eq!(session.command("greet"), "hello\n");
    assert!(session.command(&format!("load {path}")).contains("was loaded before"));
    let answer = session.command(&format!("load {path} nothing"));
    assert!(answer.contains("undefined symbol: nothing"), "{answer}");
    assert_eq!(host.release(), "PASS");
}

#[test]
fn the_environment_is_changed_as_the_application_sees_it() {
    let mut host = host();
    let mut session = host.connect();
    assert_eq!(session.command("setenv 'CALLS=a b'"), "CALLS: not set -> \"a b\"\n");
    assert!(session.command("call/s getenv(\"CALLS\")").ends_with(" \"a b\"\n"));
    assert_eq!(session.command("call/d system(\"test \\\"$CALLS\\\" = 'a b'\")"), "= 0\n");
    assert_eq!(session.command("setenv CALLS="), "CALLS: \"a b\" -> \"\"\n");
    assert_eq!(session.command("unsetenv CALLS"), "CALLS: \"\" -> not set\n");
    assert_eq!(session.command("call/s getenv(\"CALLS\")"), "= NULL\n");
    assert_eq!(host.release(), "PASS");
}
