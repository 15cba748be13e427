//! `oneshot_on`: no thread of ours, and a signal serves one client on the thread that it interrupts, wherever that
//! is; then the application goes on as if nothing had been.

mod harness;

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::dump::{Dump, Thread};
use harness::fixtures::{self, fixture};
use harness::host::{Host, Launch, socket_of};
use harness::session::{PROMPT, read_to_end};
use harness::{DEADLINE, gdb, is_ours};

const COMMANDS: [&str; 7] = ["help", "stacks", "stacks --group", "stacks --raw", "threads", "modules", "options"];

fn oneshot(launch: Launch) -> Launch {
    launch.option("oneshot_on=USR2")
}

/// `/bin/cat`, blocked in `read`, with its handler in place.
fn cat() -> Host {
    let mut host = oneshot(Launch::new("/bin/cat")).start_only();
    host.wait_for_stderr("SIGUSR2 opens the manhole (oneshot_on)");
    host.wait_until_in_call(libc::SYS_read);
    host
}

/// Numbers and targets of the descriptors of `host`, but for what a log line borrows.
fn descriptors(host: &Host) -> Vec<(String, String)> {
    let folder = fs::read_dir(format!("/proc/{}/fd", host.pid())).expect("fd");
    let mut all: Vec<_> = folder
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().into_string().ok()?, target.to_string_lossy().into_owned()))
        })
        .collect();
    all.sort();
    all
}

/// What the kernel says of the host's signals and threads, which must be the same before and after.
fn signals(host: &Host) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("status");
    let fields = ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd", "Threads"];
    status.lines().filter(|line| fields.iter().any(|field| line.starts_with(field))).map(str::to_owned).collect()
}

/// The interrupted thread is shown whole, and nothing of ours is on its stack.
fn is_first_class(thread: &Thread, inside: &[&str]) {
    assert_eq!(thread.capture, "interrupted", "{thread:#?}");
    assert_eq!((&thread.truncated, &thread.skipped), (&None, &None), "{thread:#?}");
    assert!(thread.frames.iter().all(|frame| !frame.module.contains("libmanhole")), "{thread:#?}");
    let positions: Vec<_> = inside.iter().map(|function| thread.position(function)).collect();
    assert!(positions.iter().all(Option::is_some) && positions.is_sorted(), "{inside:?} in {thread:#?}");
}

/// Waits until no socket has the name of `host`.
fn wait_until_closed(host: &mut Host) {
    let end = Instant::now() + DEADLINE;
    while host.socket().exists() {
        assert!(Instant::now() < end, "the socket stays; {}", host.story());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Two rounds in the fixture `oneshot_inside`.
fn serves_inside(what: &str, functions: &[&str]) {
    serves(oneshot(Launch::fixture("oneshot_inside")).args([what.into(), fixture("oneshot_plugin")]), functions);
}

fn serves(launch: Launch, functions: &[&str]) {
    let mut host = launch.start_only();
    for line in ["went on", "went on again"] {
        let mut session = host.connect();
        let dump = Dump::parse(session.greeting());
        assert!(dump.banner.contains("stands still: it was interrupted by SIGUSR2"), "{}", dump.banner);
        is_first_class(dump.thread(host.pid()), functions);
        assert!(dump.named("ender").capture != "none", "{dump:#?}");
        for command in COMMANDS {
            assert!(!session.command(command).contains("error:"), "{command}");
        }
        assert!(host.threads().iter().all(|(_, name)| !is_ours(name)), "{:?}", host.threads());
        session.last_command("exit");
        host.wait_for_line(line);
    }
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn a_signal_inside_malloc() {
    serves_inside("malloc", &["interrupted_here", "carve", "malloc", "inside", "main"]);
}

#[test]
fn a_signal_inside_printf() {
    serves_inside("printf", &["interrupted_here", "write_slowly", "inside", "main"]);
}

#[test]
fn a_signal_inside_dlopen() {
    serves_inside("dlopen", &["interrupted_here", "inside", "main"]);
}

#[test]
fn a_signal_inside_malloc_of_a_program_that_opened_the_library_itself() {
    let launch = Launch::fixture("oneshot_inside").bare().option("thread=False");
    let arguments = ["malloc".into(), fixture("oneshot_plugin"), fixtures::library()];
    serves(launch.args(arguments), &["interrupted_here", "carve", "malloc", "inside", "main"]);
}

#[test]
fn the_c_function_serves_its_caller() {
    let mut host = oneshot(Launch::fixture("calls_oneshot")).args(["twice"]).start_only();
    let session = host.connect();
    let dump = Dump::parse(session.greeting());
    assert!(dump.banner.contains("stands still: it called manhole_oneshot()"), "{}", dump.banner);
    let main = dump.thread(host.pid());
    assert_eq!((main.capture.as_str(), main.position("asks_here")), ("own", Some(0)), "{main:#?}");
    assert!(main.position("main").is_some() && main.truncated.is_none(), "{main:#?}");
    host.tell("\n");
    host.wait_for_line("other is done");
    drop(session);
    host.wait_for_line("PASS");
    let mut host = Launch::fixture("calls_oneshot").args(["none"]).option("thread=False").start_only();
    host.wait_for_line("PASS");
}

#[test]
fn a_release_ends_an_oneshot() {
    let mut host = oneshot(Launch::fixture("calls_oneshot")).args(["release"]).start_only();
    let mut session = host.connect();
    host.tell("\n");
    host.wait_for_line("PASS");
    assert_eq!(read_to_end(session.stream()), "");
    assert!(!host.socket().exists());
}

/// With so little address space left that not even what we keep in reserve suffices.
#[test]
fn without_memory_the_oneshot_ends_and_the_application_goes_on() {
    let mut host = oneshot(Launch::fixture("oneshot_out_of_memory")).start_only();
    host.wait_for_line("ready");
    let before = descriptors(&host);
    host.tell("\n");
    let answer = visit_when_there(&mut host);
    assert!(!answer.ends_with(PROMPT), "{answer}");
    host.wait_for_stderr("out of memory: the oneshot ends; the application goes on");
    host.wait_for_line("went on");
    assert!(!host.socket().exists());
    assert_eq!(descriptors(&host), before);
    host.tell("\n");
    host.wait_for_line("PASS");
}

#[test]
fn the_handler_needs_little_of_a_small_stack() {
    for way in ["stack", "alternate", "late"] {
        let mut host = oneshot(Launch::fixture("oneshot_small_stack")).args([way]).start_only();
        host.wait_for_line("ready");
        let mut session = host.connect();
        let dump = Dump::parse(session.greeting());
        is_first_class(dump.named("small"), &["interrupted_here", "small"]);
        if way == "late" {
            host.tell("\n");
            host.wait_for_line("late");
        }
        session.command("stacks");
        drop(session);
        host.wait_for_line("went on");
        assert_eq!(host.release(), "PASS", "{way}; {}", host.story());
    }
}

#[test]
fn no_thread_and_no_descriptor_but_while_it_serves_and_a_restarted_read() {
    let mut host = cat();
    let before = (descriptors(&host), signals(&host));
    assert!(!host.socket().exists(), "no socket before the signal");
    for round in 0..3 {
        host.wait_until_in_call(libc::SYS_read);
        host.signal(libc::SIGUSR2);
        let session = host.connect();
        let dump = Dump::parse(session.greeting());
        assert_eq!(dump.threads.len(), 1, "round {round}: {dump:#?}");
        is_first_class(dump.thread(host.pid()), &[]);
        assert!(dump.thread(host.pid()).frames[0].function.contains("read"), "{dump:#?}");
        assert_eq!(host.threads().len(), 1, "{:?}", host.threads());
        drop(session);
        wait_until_closed(&mut host);
        host.tell(&format!("after {round}\n"));
        host.wait_for_line(&format!("after {round}"));
        assert_eq!((descriptors(&host), signals(&host)), before, "round {round}");
    }
    host.release();
    assert!(host.wait().success(), "{}", host.story());
}

#[test]
fn one_client_is_served_and_a_second_is_told_so() {
    let mut host = cat();
    host.signal(libc::SIGUSR2);
    let session = host.connect();
    let mut second = UnixStream::connect(host.socket()).expect("the listener listens");
    second.set_read_timeout(Some(DEADLINE)).expect("timeout");
    let mut answer = String::new();
    second.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("one client is served here"), "{answer}");
    drop(session);
    wait_until_closed(&mut host);
    host.tell("on\n");
    host.wait_for_line("on");
}

#[test]
fn the_interrupted_stack_is_the_one_that_gdb_sees() {
    if !fixtures::has_program("gdb") {
        return println!("skipped: no gdb");
    }
    let mut host = cat();
    let mut bare = Launch::new("/bin/cat").bare().start_only();
    bare.wait_until_in_call(libc::SYS_read);
    let theirs: Vec<_> = gdb::stacks(bare.pid()).remove(0).frames.into_iter().map(|frame| frame.function).collect();
    host.signal(libc::SIGUSR2);
    let dump = host.dump();
    let ours: Vec<_> = dump.thread(host.pid()).frames.iter().map(|frame| frame.function.clone()).collect();
    let names = |all: &[String]| -> Vec<String> {
        // gdb knows `read` by its inner name, and unnamed frames by none.
        all.iter().filter(|name| name.starts_with("__libc_start") || *name == "_start").cloned().collect()
    };
    assert_eq!(ours.len(), theirs.len(), "{ours:?}\n{theirs:?}");
    assert_eq!(names(&ours), names(&theirs));
}

/// What a client reads up to the prompt or the end; `None` when nobody listens.
fn visit(path: &Path) -> Option<String> {
    let mut stream = UnixStream::connect(path).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
    let (mut answer, mut chunk) = (Vec::new(), [0; 65536]);
    while !answer.ends_with(PROMPT.as_bytes()) {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&answer)),
        }
    }
    Some(String::from_utf8_lossy(&answer).into_owned())
}

fn visit_when_there(host: &mut Host) -> String {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = visit(&host.socket()) {
            return answer;
        }
        assert!(Instant::now() < end, "no socket; {}", host.story());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_storm_of_signals_ends() {
    let mut host = oneshot(Launch::fixture("signal_storm")).start_only();
    host.wait_for_line("ready");
    let mut served = 0;
    let end = Instant::now() + DEADLINE;
    // A client comes and goes as long as there is a socket; the last signal may open it once more.
    loop {
        match visit(&host.socket()).as_deref() {
            // One that came in the moment between two oneshots is told so.
            Some(answer) if !answer.ends_with(PROMPT) => assert!(answer.contains("(oneshot)"), "{answer:?}"),
            Some(answer) => {
                let dump = Dump::parse(answer.strip_suffix(PROMPT).unwrap());
                is_first_class(dump.thread(host.pid()), &["main"]);
                served += 1;
            }
            None if host.story().contains("storm over") && !host.socket().exists() => break,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
        assert!(Instant::now() < end, "{}", host.story());
    }
    assert!(served > 0);
    assert!(host.stderr().contains("that came during the oneshot"), "{}", host.stderr());
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn the_handler_before_ours_is_called_as_by_the_kernel_and_put_back() {
    for way in ["siginfo", "plain"] {
        let options = "oneshot_on=USR2";
        let launch = Launch::fixture("oneshot_chain").option("thread=False").args([way, options]);
        let mut host = launch.start();
        drop(host.connect());
        host.wait_for_line("went on");
        assert_eq!(host.release(), "PASS", "{way}; {}", host.story());
    }
}

#[test]
fn a_handler_that_the_application_installs_later_is_reported() {
    let mut host = oneshot(Launch::fixture("own_handler_later")).start_only();
    assert!(host.wait().success(), "{}", host.story());
    let log = host.wait_for_stderr("own handler");
    assert!(log.contains("the application has installed its own handler for SIGUSR2: oneshot_on is off"), "{log}");
    assert_eq!(host.lines(), ["PASS"]);
}

#[test]
fn a_forked_child_keeps_the_signal() {
    let mut host = oneshot(Launch::fixture("keeps_signal")).start();
    host.wait_for_stderr("opens the manhole");
    let child = host.children()[0];
    // SAFETY: a child of our child, which lives as long as that.
    unsafe { libc::kill(child, libc::SIGUSR2) };
    let session = host.connect_to(&socket_of(child));
    is_first_class(Dump::parse(session.greeting()).thread(child), &["child_waits_here", "main"]);
    drop(session);
    host.signal(libc::SIGUSR2);
    let dump = host.dump();
    is_first_class(dump.thread(host.pid()), &["main"]);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn a_child_forked_meanwhile_holds_nothing_and_keeps_the_signal() {
    let mut host = oneshot(Launch::fixture("forks_during_oneshot")).start_only();
    let mut session = host.connect();
    host.tell("\n");
    host.wait_for_line("forked");
    let child = host.children()[0];
    session.command("stacks");
    // With a copy in the child there would be no end.
    session.last_command("exit");
    host.wait_for_line("went on");
    assert!(!host.socket().exists());
    let open = fs::read_dir(format!("/proc/{child}/fd")).expect("fd").count();
    assert_eq!(open, descriptors(&host).len());
    // SAFETY: a child of our child, which lives as long as that.
    unsafe { libc::kill(child, libc::SIGUSR2) };
    let session = host.connect_to(&socket_of(child));
    is_first_class(Dump::parse(session.greeting()).thread(child), &["forker"]);
    drop(session);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn a_blocked_signal_is_warned_of() {
    let block = |command: &mut std::process::Command| {
        use std::os::unix::process::CommandExt;
        let block = || {
            // SAFETY: a set on the stack, and the mask of a child that is about to exec.
            unsafe {
                let mut set = std::mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, libc::SIGUSR2);
                libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            }
            Ok(())
        };
        // SAFETY: async-signal-safe calls only.
        unsafe { command.pre_exec(block) };
    };
    let mut host = oneshot(Launch::new("/bin/cat")).with(block).start_only();
    host.wait_for_stderr("SIGUSR2 is blocked in this thread");
}

#[test]
fn a_console_for_a_crash_shows_the_faulting_frame_and_then_the_process_dies_of_it() {
    let mut host = Launch::fixture("crash").option("oneshot_on=SEGV").start_only();
    let mut session = host.connect();
    let dump = Dump::parse(session.greeting());
    assert!(dump.banner.contains("SIGSEGV at address 0x10, and the process dies of that"), "{}", dump.banner);
    is_first_class(dump.thread(host.pid()), &["faulting_here", "middle", "main"]);
    assert_eq!(dump.thread(host.pid()).position("faulting_here"), Some(0));
    assert!(!session.command("modules").is_empty());
    drop(session);
    assert_eq!(host.wait().signal(), Some(libc::SIGSEGV), "{}", host.story());
    assert!(!host.socket().exists());
}

#[test]
fn the_other_signals_act_as_ever_while_it_serves() {
    let mut host = cat();
    host.signal(libc::SIGUSR2);
    let _session = host.connect();
    host.signal(libc::SIGTERM);
    assert_eq!(host.wait().signal(), Some(libc::SIGTERM), "{}", host.story());
}

#[test]
fn one_signal_for_both_options_is_a_conflict_and_the_application_runs_on() {
    let mut host = Launch::new("/bin/cat").option("oneshot_on=USR2,activate_on=USR2").start_only();
    let log = host.wait_for_stderr("ConfigurationConflict");
    assert!(log.contains("the application runs on without a manhole"), "{log}");
    host.tell("runs\n");
    host.wait_for_line("runs");
}

#[test]
fn stacks_are_dumped_from_a_crash_handler() {
    for (way, innermost) in [("crash", vec!["main"]), ("malloc", vec!["malloc", "main"])] {
        let mut host = Launch::fixture("dump_in_handler").args([way]).option("thread=False").start_only();
        host.wait_for_line("PASS");
        let dump = Dump::parse(&host.lines().join("\n"));
        let main = dump.thread(host.pid());
        let wanted = [&["crash_handler", "<signal handler called>", "faulting_here"], innermost.as_slice()].concat();
        let positions: Vec<_> = wanted.iter().map(|function| main.position(function)).collect();
        assert!(positions.iter().all(Option::is_some) && positions.is_sorted(), "{wanted:?} in {main:#?}");
        assert_eq!((positions[0], &main.truncated), (Some(0), &None), "{main:#?}");
        assert!(dump.named("reader").position("reader").is_some(), "{dump:#?}");
    }
}

#[test]
fn a_broken_pipe_is_an_error_of_a_dump_and_no_signal() {
    let mut host = Launch::fixture("dump_in_handler").args(["broken"]).option("thread=False").start_only();
    host.wait_for_line("PASS");
}
