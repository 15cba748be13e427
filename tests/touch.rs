//! `signal`, `nice`, `affinity`, `rlimit`, `close`, `dup` and `set`: what they do is what the kernel, gdb and the
//! process itself say afterwards.

mod harness;

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::time::Instant;

use harness::fixtures::has_program;
use harness::host::{Host, Launch};
use harness::session::{Session, read_to_end};
use harness::{DEADLINE, Scratch, is_ours};
use serde_json::Value;

fn host() -> Host {
    Launch::fixture("touched").option("redirect_stderr=False").start()
}

/// Waits until the host has said a line for which `is_it`.
fn hears(host: &mut Host, is_it: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(line) = host.lines().iter().find(|line| is_it(line)) {
            return line.clone();
        }
        assert!(Instant::now() < end, "it does not come; {}", host.story());
        host.look();
    }
}

fn tid_of(host: &Host, name: &str) -> i32 {
    host.threads().into_iter().find(|(_, it)| it == name).unwrap_or_else(|| panic!("no {name}")).0
}

/// The records of an answer in JSON.
fn records(session: &mut Session, line: &str) -> Vec<Value> {
    let answer = session.command(line);
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{line}: {error}: {answer}"))
}

/// A field of `/proc/PID/status` or of a thread's.
fn status(pid: i32, tid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":")).expect("the field");
    line.trim().to_owned()
}

fn nice_of(pid: i32, tid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).expect("stat");
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(16)).expect("field 19").parse().expect("nice")
}

fn link(pid: i32, number: i32) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?.display().to_string())
}

/// What it says about its variables.
fn shows(host: &mut Host) -> String {
    let before = host.lines().len();
    host.tell("show\n");
    let end = Instant::now() + DEADLINE;
    while host.lines().len() == before {
        assert!(Instant::now() < end, "{}", host.story());
        host.look();
    }
    host.lines().last().expect("a line").clone()
}

#[test]
fn signals_go_to_the_process_or_to_one_thread() {
    let mut host = host();
    let pid = host.pid();
    let mut session = host.connect();
    let answer = session.command("signal USR1");
    assert!(answer.starts_with(&format!("SIGUSR1 → process {pid}: handled by on_signal (0x")), "{answer}");
    hears(&mut host, |line| line == format!("got {} from {pid} in {pid}", libc::SIGUSR1));
    let worker = tid_of(&host, "worker_a");
    let answer = session.command(&format!("signal sigrtmin+3 {worker}"));
    assert!(answer.starts_with(&format!("SIGRTMIN+3 → thread {worker} (worker_a): handled by on_signal")), "{answer}");
    hears(&mut host, |line| line == format!("got {} from {pid} in {worker}", libc::SIGRTMIN() + 3));
    let record = &records(&mut session, &format!("signal 10 {worker} --json"))[0];
    assert_eq!((&record["signal"], &record["tid"]), (&"SIGUSR1".into(), &worker.into()));
    assert_eq!((&record["symbol"], &record["blocked"]), (&"on_signal".into(), &false.into()));
    hears(&mut host, |line| line == format!("got 10 from {pid} in {worker}"));
    assert_eq!(session.command("signal PIPE"), format!("SIGPIPE → process {pid}: ignored\n"));
    assert_eq!(session.command("signal CHLD"), format!("SIGCHLD → process {pid}: default: does nothing\n"));
    // It stays pending, and the kernel says so.
    let answer = session.command("signal USR2 --force");
    let expected = format!(
        "SIGUSR2 → process {pid}: default: ends the process, unless a thread waits for it; pending, every thread blocks it\n"
    );
    assert_eq!(answer, expected);
    let pending = u64::from_str_radix(&status(pid, pid, "ShdPnd"), 16).expect("a mask");
    assert_eq!(pending, 1 << (libc::SIGUSR2 - 1));
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn a_signal_that_would_end_or_stop_the_process_takes_force() {
    let mut host = host();
    let pid = host.pid();
    let mut session = host.connect();
    let own = host.threads().into_iter().find(|(_, name)| is_ours(name)).expect("a thread of ours").0;
    for (line, why) in [
        ("signal TERM", "SIGTERM has the default disposition, which ends the process; --force"),
        ("signal SEGV", "ends the process with a core dump"),
        ("signal 9", "SIGKILL has the default disposition"),
        ("signal STOP", "stops the process, the manhole too"),
        ("signal RTMIN+9", "ends the process"),
        ("signal 32", "belongs to the C library"),
        ("signal 0", "is no signal"),
        ("signal NONE", "is no signal"),
        ("signal USR1 1", "there is no thread 1"),
        ("signal USR1 -1", "is no thread id"),
        (&format!("signal USR1 {own}"), "is the manhole's own"),
        ("signal", "takes a signal"),
    ] {
        let answer = session.command(line);
        assert!(answer.starts_with("error: ") && answer.contains(why), "{line}: {answer}");
    }
    assert!(host.is_alive());
    assert!(!host.lines().iter().any(|line| line.starts_with("got")), "{}", host.story());
    // A stopped process serves again when it goes on.
    std::io::Write::write_all(session.stream(), b"signal STOP --force\n").expect("send");
    let end = Instant::now() + DEADLINE;
    while !status(pid, pid, "State").starts_with('T') {
        assert!(Instant::now() < end, "it does not stop");
        std::thread::yield_now();
    }
    host.signal(libc::SIGCONT);
    let expected = format!("SIGSTOP → process {pid}: default: stops the process, the manhole too\n");
    assert_eq!(session.answer(), expected);
    // What is said before the end arrives.
    std::io::Write::write_all(session.stream(), b"signal TERM --force\n").expect("send");
    let answer = read_to_end(session.stream());
    assert_eq!(answer, format!("SIGTERM → process {pid}: default: ends the process, unless a thread waits for it\n"));
    assert_eq!(host.wait().signal(), Some(libc::SIGTERM));
}

#[test]
fn nice_of_all_of_some_and_of_one() {
    let mut host = host();
    let pid = host.pid();
    let mut session = host.connect();
    let theirs = |host: &Host| -> Vec<i32> {
        host.threads().into_iter().filter(|(_, name)| !is_ours(name)).map(|(tid, _)| tid).collect()
    };
    let base = nice_of(pid, pid);
    let answer = session.command("nice");
    assert_eq!(answer.lines().count(), theirs(&host).len(), "{answer}");
    assert!(answer.lines().all(|line| line.ends_with(&format!("other     nice {base}"))), "{answer}");
    let answer = session.command("nice 5");
    assert!(answer.lines().all(|line| line.ends_with(&format!("nice {base} → 5"))), "{answer}");
    for (tid, name) in host.threads() {
        assert_eq!(nice_of(pid, tid), if is_ours(&name) { base } else { 5 }, "{name}");
    }
    let changed = records(&mut session, "nice worker_* 7 --json");
    assert_eq!(changed.len(), 2);
    for record in &changed {
        assert_eq!((&record["before"], &record["nice"]), (&5.into(), &7.into()));
        assert_eq!(nice_of(pid, record["tid"].as_i64().expect("tid") as i32), 7);
    }
    let worker = tid_of(&host, "worker_a");
    assert!(session.command(&format!("nice {worker} +9")).ends_with("nice 7 → 9\n"));
    assert!(session.command(&format!("nice {worker}")).ends_with("nice 9\n"));
    assert_eq!((nice_of(pid, worker), nice_of(pid, pid)), (9, 5));
    let own = host.threads().into_iter().find(|(_, name)| is_ours(name)).expect("a thread of ours").0;
    for (line, why) in [
        ("nice nobody 5", "no thread of the application matches \"nobody\""),
        ("nice 'Manhole*' 5", "no thread of the application matches"),
        (&format!("nice {own} 5"), "is the manhole's own"),
        ("nice worker_a 20", "is no value from -20 to 19"),
        ("nice a b c", "in two words"),
    ] {
        let answer = session.command(line);
        assert!(answer.starts_with("error: ") && answer.contains(why), "{line}: {answer}");
    }
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn what_the_kernel_refuses_is_said_for_each_thread() {
    // SAFETY: geteuid has no conditions.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: not root");
        return;
    }
    let scratch = Scratch::new();
    let launch = Launch::fixture("touched").option("redirect_stderr=False").library_copied_to(scratch.path());
    let mut host = launch
        .with(|command| {
            command.uid(65534).gid(65534);
        })
        .start();
    let pid = host.pid();
    let mut session = host.connect();
    let base = nice_of(pid, pid);
    let answer = session.command(&format!("nice {}", base - 3));
    assert_eq!(answer.lines().count(), 4, "{answer}");
    assert!(answer.lines().all(|line| line.contains("refused: to lower it takes CAP_SYS_NICE")), "{answer}");
    assert_eq!(nice_of(pid, pid), base);
    let refused = records(&mut session, &format!("nice worker_* {} --json", base - 3));
    assert!(refused.len() == 2 && refused.iter().all(|record| record["kind"] == "refused"), "{refused:?}");
    let hard = limit_of(pid, "Max open files").1;
    let answer = session.command(&format!("rlimit nofile :{}", hard.parse::<u64>().expect("a number") + 1));
    assert!(
        answer.contains(&format!("to raise the hard limit nofile above {hard} takes CAP_SYS_RESOURCE")),
        "{answer}"
    );
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn affinity_is_what_the_kernel_took() {
    let mut host = host();
    let pid = host.pid();
    let all = status(pid, pid, "Cpus_allowed_list");
    let mut session = host.connect();
    let answer = session.command("affinity");
    assert!(answer.lines().all(|line| line.ends_with(&format!("processors {all}"))), "{answer}");
    let first = all.split([',', '-']).next().expect("a processor");
    let answer = session.command(&format!("affinity {first}"));
    let change = if all == first { format!("{all} → {first}") } else { format!("processors {all} → {first}") };
    assert!(answer.lines().all(|line| line.ends_with(&change)), "{answer}");
    for (tid, name) in host.threads() {
        let expected = if is_ours(&name) { all.as_str() } else { first };
        assert_eq!(status(pid, tid, "Cpus_allowed_list"), expected, "{name}");
    }
    if has_program("taskset") {
        let output = Command::new("taskset").args(["-cp", &pid.to_string()]).output().expect("taskset");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.trim().ends_with(&format!("affinity list: {first}")), "{shown}");
    }
    let worker = tid_of(&host, "worker_a");
    let record = &records(&mut session, &format!("affinity {worker} all --json"))[0];
    assert_eq!((&record["before"], &record["processors"]), (&first.into(), &all.clone().into()));
    assert_eq!(status(pid, worker, "Cpus_allowed_list"), all);
    assert_eq!(status(pid, pid, "Cpus_allowed_list"), first);
    let answer = session.command("affinity worker_b 0-63");
    assert!(answer.contains("more are not there, or not allowed") || all == "0-63", "{answer}");
    assert_eq!(status(pid, tid_of(&host, "worker_b"), "Cpus_allowed_list"), all);
    for (line, why) in [("affinity worker_b x", "is no list of processors"), ("affinity nobody", "no thread")] {
        let answer = session.command(line);
        assert!(answer.starts_with("error: ") && answer.contains(why), "{line}: {answer}");
    }
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

/// Soft and hard limit, as `/proc/PID/limits` has them.
fn limit_of(pid: i32, title: &str) -> (String, String) {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let line = text.lines().find_map(|line| line.strip_prefix(title)).unwrap_or_else(|| panic!("no {title}: {text}"));
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().expect("soft"), words.next().expect("hard"))
}

#[test]
fn limits_are_those_of_the_kernel() {
    let titles = [
        ("as", "Max address space"),
        ("core", "Max core file size"),
        ("cpu", "Max cpu time"),
        ("data", "Max data size"),
        ("fsize", "Max file size"),
        ("locks", "Max file locks"),
        ("memlock", "Max locked memory"),
        ("msgqueue", "Max msgqueue size"),
        ("nice", "Max nice priority"),
        ("nofile", "Max open files"),
        ("nproc", "Max processes"),
        ("rss", "Max resident set"),
        ("rtprio", "Max realtime priority"),
        ("rttime", "Max realtime timeout"),
        ("sigpending", "Max pending signals"),
        ("stack", "Max stack size"),
    ];
    let mut host = host();
    let pid = host.pid();
    let mut session = host.connect();
    let all = records(&mut session, "rlimit --json");
    assert_eq!(all.len(), titles.len());
    let shown = |value: &Value| value.as_u64().map_or("unlimited".to_owned(), |value| value.to_string());
    for (record, (name, title)) in all.iter().zip(titles) {
        assert_eq!(record["name"], name);
        assert_eq!((shown(&record["soft"]), shown(&record["hard"])), limit_of(pid, title), "{name}");
    }
    let hard = limit_of(pid, "Max open files").1;
    let before = limit_of(pid, "Max open files").0;
    let answer = session.command("rlimit nofile 256");
    assert_eq!(answer, format!("nofile      soft {before} → 256  hard {hard}\n"));
    assert_eq!(limit_of(pid, "Max open files"), ("256".to_owned(), hard.clone()));
    let answer = session.command("rlimit nofile 4");
    assert!(answer.contains("warning: ") && answer.contains("are at or above it; they stay open"), "{answer}");
    assert_eq!(limit_of(pid, "Max open files").0, "4");
    let answer = session.command("rlimit nofile 2");
    assert!(answer.starts_with("error: with less than 3 the manhole can let nobody in"), "{answer}");
    session.command("rlimit nofile 256");
    session.command("rlimit RLIMIT_STACK 1M:2G");
    assert_eq!(limit_of(pid, "Max stack size"), ((1 << 20).to_string(), (2u64 << 30).to_string()));
    let record = &records(&mut session, "rlimit stack :64M --json")[0];
    assert_eq!((&record["kind"], &record["hard_before"]), (&"limit_changed".into(), &(2u64 << 30).into()));
    assert_eq!((&record["soft"], &record["hard"]), (&(1 << 20).into(), &(64 << 20).into()));
    let answer = session.command("rlimit core 0");
    assert!(answer.starts_with("core "), "{answer}");
    assert_eq!(limit_of(pid, "Max core file size").0, "0");
    let answer = session.command("rlimit as 1M");
    assert!(answer.contains("are in use already: every new mapping fails"), "{answer}");
    session.command("rlimit as unlimited");
    for (line, why) in [
        ("rlimit files", "is no limit: as, core"),
        ("rlimit stack 65M", "is above the hard limit 64M"),
        ("rlimit stack 2:1", "is above the hard one"),
        ("rlimit nofile 1K", "is neither a number nor unlimited"),
        ("rlimit stack x", "a number of bytes"),
        ("rlimit cpu 0", "the kernel would send SIGXCPU at once"),
        ("rlimit cpu 0:0", "the kernel would send SIGKILL at once"),
    ] {
        let answer = session.command(line);
        assert!(answer.starts_with("error: ") && answer.contains(why), "{line}: {answer}");
    }
    if has_program("prlimit") {
        let arguments = ["--nofile", "--raw", "--noheadings", "-o", "SOFT", "--pid", &pid.to_string()];
        let output = Command::new("prlimit").args(arguments).output().expect("prlimit");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "256");
    }
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

/// The two sockets and the file of the fixture.
fn numbers(host: &Host) -> [i32; 3] {
    let line = host.lines().iter().find(|line| line.starts_with("sockets")).expect("the line");
    let found: Vec<i32> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    found.try_into().expect("three")
}

#[test]
fn a_descriptor_is_closed_and_a_blocked_reader_wakes_by_a_shutdown_only() {
    let mut host = host();
    let pid = host.pid();
    let mut session = host.connect();
    let [socket, peer, file] = numbers(&host);
    let path = link(pid, file).expect("open");
    let answer = session.command(&format!("close {file}"));
    assert_eq!(answer, format!("closed {file}: {path} rw\n"));
    assert_eq!(link(pid, file), None);
    host.tell(&format!("write {file}\n"));
    hears(&mut host, |line| line == format!("wrote {file} -1"));
    // The reader does not notice a close, nor that its peer goes, while it blocks.
    let dup = &records(&mut session, &format!("dup {socket} --json"))[0];
    let copy = dup["fd"].as_i64().expect("a number") as i32;
    assert_eq!((copy, link(pid, copy)), (file, link(pid, socket)));
    let closed = &records(&mut session, &format!("close {socket} --json"))[0];
    assert_eq!((&closed["kind"], &closed["fd"], &closed["now"]), (&"closed".into(), &socket.into(), &Value::Null));
    assert_eq!(link(pid, socket), None);
    assert!(!host.lines().iter().any(|line| line.starts_with("worker")), "{}", host.story());
    let answer = session.command(&format!("close {copy} --shutdown"));
    assert!(answer.starts_with(&format!("shut down {copy}: ")), "{answer}");
    for name in ["worker_a", "worker_b"] {
        hears(&mut host, |line| line == format!("{name} read 0"));
    }
    assert!(link(pid, copy).is_some() && link(pid, peer).is_some());
    for (line, why) in [
        (format!("close {file}99"), "is not open"),
        ("close -1".to_owned(), "is no descriptor"),
        ("close 1 --shutdown".to_owned(), "is no socket"),
        ("close".to_owned(), "takes one descriptor"),
        ("dup 77".to_owned(), "descriptor 77 is not open"),
        ("dup 1 1".to_owned(), "is 1 already"),
        ("dup 1 99999999".to_owned(), "is not below the limit"),
    ] {
        let answer = session.command(&line);
        assert!(answer.starts_with("error: ") && answer.contains(why), "{line}: {answer}");
    }
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn a_descriptor_takes_the_place_of_another_in_one_step() {
    let scratch = Scratch::new();
    let log = scratch.path().join("log");
    // With a session that sees standard error: descriptor 2 is a pipe of ours meanwhile.
    let mut host = Launch::fixture("touched").start();
    let pid = host.pid();
    let original = link(pid, 2);
    let mut session = host.connect();
    let end = Instant::now() + DEADLINE;
    while link(pid, 2) == original {
        assert!(Instant::now() < end, "descriptor 2 stays {original:?}");
        std::thread::yield_now();
    }
    let [_, peer, file] = numbers(&host);
    // What the manhole keeps there is not for an operator's hands.
    let listing = fs::read_dir(format!("/proc/{pid}/fd")).expect("fd");
    let kept = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let kept = kept.filter(|number| *number > 100).find(|number| link(pid, *number) == original).expect("the original");
    for line in [format!("close {kept}"), format!("dup {file} {kept}"), format!("dup {kept}")] {
        let answer = session.command(&line);
        assert!(answer.starts_with("error: ") && answer.contains("is the manhole's"), "{line}: {answer}");
    }
    assert_eq!(link(pid, kept), original);
    // A duplicate of standard error is one of what it was.
    let copy = records(&mut session, "dup 2 --json")[0]["fd"].as_i64().expect("a number") as i32;
    assert_eq!(link(pid, copy), original);
    // The process's log goes elsewhere from now on.
    fs::write(&log, "").expect("the log");
    let answer = session.command(&format!("dup {file} {peer}"));
    assert!(answer.starts_with(&format!("{peer} is a duplicate of {file}: ")), "{answer}");
    assert_eq!(link(pid, peer), link(pid, file));
    let answer = session.command(&format!("dup {file} 2"));
    assert!(answer.contains("through a pipe of the manhole") && answer.contains("manhole-touched"), "{answer}");
    host.tell("write 2\n");
    hears(&mut host, |line| line == "wrote 2 6");
    drop(session);
    let path = format!("/proc/{pid}/fd/{file}");
    let end = Instant::now() + DEADLINE;
    while link(pid, 2) != link(pid, file) || !fs::read_to_string(&path).is_ok_and(|text| text.contains("hello")) {
        assert!(Instant::now() < end, "{:?} {:?}; {}", link(pid, 2), link(pid, file), host.story());
        std::thread::yield_now();
    }
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn variables_are_written_by_their_size() {
    let mut host = host();
    let pid = host.pid();
    let mut session = host.connect();
    assert_eq!(shows(&mut host), "1 -1 2 3 0.5 0.25 old 1,2 0");
    let answer = session.command("set config_level = 3");
    assert!(answer.starts_with("config_level (0x") && answer.ends_with("), 4 bytes: 1 → 3\n"), "{answer}");
    for line in ["set flag=-128", "set width = 0x7fff", "set counter = -5", "set/f ratio = 1.5", "set/f scale = -2.25"]
    {
        let answer = session.command(line);
        assert!(answer.contains(" → "), "{line}: {answer}");
    }
    assert!(session.command("set/s name = \"a b c d\"").ends_with("string: \"old\" → \"a b c d\"\n"));
    assert!(session.command("set/w four+4 = 9").starts_with("four+0x4 (0x"));
    assert!(session.command("set/g head = &first_node").contains("8 bytes: 0 → "));
    assert_eq!(shows(&mut host), "3 -128 32767 -5 1.5 -2.25 a b c d 1,9 1");
    let record = &records(&mut session, "set counter = 18446744073709551615 --json")[0];
    assert_eq!((&record["before"], &record["written"], &record["after"]), (&"-5".into(), &"-1".into(), &"-1".into()));
    assert_eq!((&record["symbol"], &record["shared"]), (&"counter".into(), &false.into()));
    let address = record["address"].as_str().expect("an address").to_owned();
    assert!(session.command(&format!("set/g {address} = 0x10")).contains("counter (0x"));
    // No thread has ever seen a half of it: the fixture would not end with PASS.
    for half in 1..300u64 {
        let answer = session.command(&format!("set word = {}", half << 32 | half));
        assert!(answer.contains("8 bytes: "), "{answer}");
    }
    if has_program("gdb") {
        let print = ["-ex", "print config_level", "-ex", "print counter", "-ex", "print/x word", "-ex", "print name"];
        let mut gdb = Command::new("timeout");
        gdb.args(["120", "gdb", "-nx", "-q", "-batch", "-iex", "set debuginfod enabled off"]);
        let output = gdb.args(["-p", &pid.to_string()]).args(print).output().expect("gdb");
        let text = String::from_utf8_lossy(&output.stdout);
        for expected in ["$1 = 3\n", "$2 = 16\n", "$3 = 0x12b0000012b\n", "$4 = \"a b c d\"\n"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn what_must_not_be_written_is_refused_and_nothing_is_changed() {
    let mut host = host();
    let pid = host.pid();
    let mut session = host.connect();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let ours = maps.lines().find(|line| line.contains("libmanhole") && line.contains(" rw-p ")).expect("our statics");
    let ours = ours.split('-').next().expect("an address").to_owned();
    let before = shows(&mut host);
    for (line, why) in [
        ("set/g 0x10 = 1", "not mapped"),
        ("set fixed = 1", "is read-only: file "),
        ("set/b *readonly_page = 1", "is read-only: "),
        ("set/b *code_page = 1", "is executable: "),
        ("set/b main = 1", "is read-only: "),
        ("set/b *beyond_page = 1", "it is mapped, but cannot be read"),
        ("set mine = 1", "is thread-local"),
        ("set four = 1", "it has 16 bytes"),
        ("set/s name = \"12345678\"", "8 bytes and a NUL do not fit into its 8"),
        ("set flag = 256", "256 does not fit into 1 byte"),
        ("set config_level = -2147483649", "does not fit into 4 bytes"),
        ("set config_level = x", "is no integer"),
        ("set config_level = 1.5", "is no integer"),
        ("set/f width = 1", "it has 2 bytes"),
        ("set/g width = 1", "width has 2 bytes: "),
        ("set/w config_level+1 = 1", "is not aligned"),
        ("set/g 0x7ffffffffffffff8+8 = 1", "not mapped"),
        ("set 0x1000 = 1", "its size is unknown"),
        ("set/s &name+0 = longer", "the string there is shorter"),
        ("set nothing_such = 1", "no symbol or local nothing_such"),
        ("set config_level", "takes SYMBOL = VALUE"),
        ("set/q config_level = 1", "no format 'q'"),
        (&format!("set/g 0x{ours} = 1"), "belongs to the manhole"),
    ] {
        let answer = session.command(line);
        assert!(answer.starts_with("error: ") && answer.contains(why), "{line}: {answer}");
    }
    assert_eq!(shows(&mut host), before);
    // Our threads' stacks and heap, wherever the answer to a command has just been.
    for name in ["Manhole", "Manhole actor"] {
        let tid = tid_of(&host, name);
        let call = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).expect("syscall");
        let Some(sp) = call.split_whitespace().nth(7) else { continue };
        let answer = session.command(&format!("set/b {sp} = 1"));
        assert!(answer.contains("belongs to the manhole"), "{name}: {answer}");
    }
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

/// A harmless line of each command, and what it needs.
const LINES: [(&str, &str); 7] = [
    ("signal URG", "operate"),
    ("nice", "operate"),
    ("affinity", "operate"),
    ("rlimit", "operate"),
    ("close 99", "admin"),
    ("dup 1", "admin"),
    ("set config_level = 1", "admin"),
];

#[test]
fn each_needs_its_level() {
    let mut host = Launch::fixture("touched").option("redirect_stderr=False,level=observe").start();
    let mut session = host.connect();
    let refused = |session: &mut Session, has: &str, line: &str, needs: &str| {
        let name = line.split(' ').next().expect("a word");
        let why = format!("error: {name} needs the level {needs}, and this session has {has}\n");
        assert_eq!(session.command(line), why);
    };
    for (line, needs) in LINES {
        refused(&mut session, "observe", line, needs);
    }
    assert_eq!(host.release(), "PASS", "{}", host.story());
    let mut host = self::host();
    let mut session = host.connect();
    session.command("drop operate");
    for (line, needs) in LINES {
        match needs {
            "admin" => refused(&mut session, "operate", line, needs),
            _ => assert!(!session.command(line).starts_with("error"), "{line}"),
        }
    }
    session.command("drop observe");
    for (line, needs) in LINES {
        refused(&mut session, "observe", line, needs);
    }
    assert_eq!(host.release(), "PASS", "{}", host.story());
}

#[test]
fn a_process_whose_heap_is_locked_for_ever_can_be_touched() {
    let mut host = Launch::fixture("wedged_malloc_interposed").option("start_timeout=20").start();
    let mut session = host.connect();
    for (line, part) in [
        ("signal URG", "default: does nothing"),
        ("nice 3", " → 3"),
        ("affinity all", "processors"),
        ("rlimit core 0", "core "),
        ("dup 1 50", "50 is a duplicate of 1"),
        ("close 50", "closed 50"),
        ("set arena_used = 0x1000000", " → 16777216"),
    ] {
        let answer = session.command(line);
        assert!(answer.contains(part), "{line}: {answer}; {}", host.story());
    }
    drop(session);
    assert_eq!(host.release(), "PASS", "{}", host.story());
}
