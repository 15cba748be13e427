//! `redirect_stderr`: the operator sees what the application writes on descriptor 2 during a session, the real log
//! has all of it whatever happens, and afterwards nothing is left of us.

mod harness;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use harness::dump::Dump;
use harness::host::{Host, Launch};
use harness::session::{PROMPT, Session};
use harness::{DEADLINE, Scratch};

/// Where the application's standard error goes in a test.
enum Sink {
    Pipe,
    Terminal,
    Socket,
    Null,
    /// A regular file that is opened anew by us.
    File(PathBuf),
    /// The same for a process that may write the file and not read it.
    Secret(PathBuf),
}

/// The fixture, and what its descriptor 2 has delivered.
struct Writer {
    host: Host,
    log: Arc<Mutex<Vec<u8>>>,
    file: Option<PathBuf>,
    answers: u32,
}

fn owned(file: impl IntoRawFd) -> OwnedFd {
    // SAFETY: just taken from its owner.
    unsafe { OwnedFd::from_raw_fd(file.into_raw_fd()) }
}

fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: two ints to fill; no name, terminal settings or size.
    let opened = unsafe { libc::openpty(&mut master, &mut slave, null, null.cast(), null.cast()) };
    assert_eq!(opened, 0, "openpty");
    // SAFETY: freshly opened.
    unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) }
}

impl Writer {
    fn start(sink: Sink, options: &[&str]) -> Self {
        let mut file = None;
        let mut secret = false;
        let (theirs, ours) = match sink {
            Sink::Pipe => {
                let (read, write) = std::io::pipe().expect("pipe");
                (owned(write), Some(owned(read)))
            }
            Sink::Terminal => {
                let (master, slave) = terminal();
                (slave, Some(master))
            }
            Sink::Socket => {
                let (left, right) = UnixStream::pair().expect("socketpair");
                (owned(left), Some(owned(right)))
            }
            Sink::Null => (owned(OpenOptions::new().write(true).open("/dev/null").expect("/dev/null")), None),
            Sink::File(path) => {
                file = Some(path.clone());
                (owned(OpenOptions::new().append(true).create(true).open(path).expect("a log")), None)
            }
            Sink::Secret(path) => {
                secret = true;
                file = Some(path.clone());
                let log = OpenOptions::new().append(true).create(true).open(&path).expect("a log");
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o200)).expect("chmod");
                (owned(log), None)
            }
        };
        let log = Arc::new(Mutex::new(Vec::new()));
        if let Some(ours) = ours {
            let sink = log.clone();
            thread::spawn(move || {
                let (mut source, mut chunk) = (File::from(ours), [0; 65536]);
                while let Ok(count @ 1..) = source.read(&mut chunk) {
                    sink.lock().expect("log").extend_from_slice(&chunk[..count]);
                }
            });
        }
        let number = theirs.as_raw_fd();
        let mut launch = Launch::fixture("stderr_writer");
        if secret {
            // A name of its own: under /tmp another user's, of an earlier process of this number, may be in the way.
            let folder = file.as_ref().and_then(|file| file.parent()).expect("a folder");
            launch = launch.library_copied_to(folder).option(&format!("socket_path='{}/{{pid}}'", folder.display()));
        }
        for option in options {
            launch = launch.option(option);
        }
        let launch = launch.with(|command| {
            // SAFETY: plain system calls between fork and exec.
            unsafe {
                command.pre_exec(move || {
                    libc::dup2(number, 2);
                    // A group of its own, for the test that kills it.
                    libc::setpgid(0, 0);
                    if secret {
                        libc::syscall(libc::SYS_setgroups, 0, 0);
                        libc::setgid(65534);
                        libc::setuid(65534);
                    }
                    Ok(())
                })
            };
        });
        let host = launch.start();
        drop(theirs);
        Self { host, log, file, answers: 0 }
    }

    /// Has the fixture do something; its answer.
    fn ask(&mut self, command: &str) -> String {
        self.answers += 1;
        let prefix = format!("{} ", self.answers);
        self.host.tell(&format!("{command}\n"));
        let end = Instant::now() + DEADLINE;
        loop {
            self.host.read_lines();
            if let Some(line) = self.host.lines().iter().find_map(|line| line.strip_prefix(&prefix)) {
                return line.to_owned();
            }
            assert!(Instant::now() < end, "no answer to {command:?}; {}", self.host.story());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// What the real log has.
    fn log(&self) -> String {
        match &self.file {
            Some(path) => String::from_utf8_lossy(&fs::read(path).expect("the log")).into_owned(),
            None => String::from_utf8_lossy(&self.log.lock().expect("log")).replace("\r\n", "\n"),
        }
    }

    fn wait_for_log(&mut self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let log = self.log();
            if log.contains(text) {
                return log;
            }
            assert!(Instant::now() < end, "no {text:?} in the log:\n{log}\n{}", self.host.story());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until descriptor 2 is no longer the file that `before` says, or everything is again as that says.
    fn wait_until(&mut self, before: &str, same: bool) -> String {
        let end = Instant::now() + DEADLINE;
        let file = |text: &str| text.split(" descriptor").next().unwrap_or_default().to_owned();
        loop {
            let now = self.ask("describe");
            if if same { now == before } else { file(&now) != file(before) } {
                return now;
            }
            assert!(Instant::now() < end, "{now}, before {before}; {}", self.host.story());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// A session that has the tap.
    fn tapped(&mut self) -> (Session, String) {
        let before = self.ask("describe");
        let session = self.host.connect();
        self.wait_until(&before, false);
        (session, before)
    }

    fn pass(mut self) {
        assert_eq!(self.host.release(), "PASS", "{}", self.host.story());
    }
}

/// Reads until `text` has come.
fn wait_for(session: &mut Session, text: &str) -> String {
    let (end, stream) = (Instant::now() + DEADLINE, session.stream());
    let (mut bytes, mut chunk) = (Vec::new(), [0; 65536]);
    loop {
        let seen = String::from_utf8_lossy(&bytes).into_owned();
        if seen.contains(text) {
            return seen;
        }
        let left = end.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "no {text:?}, only:\n{seen}");
        stream.set_read_timeout(Some(left)).expect("timeout");
        match stream.read(&mut chunk) {
            Ok(0) => panic!("closed before {text:?}, after:\n{seen}"),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(_) => (),
        }
    }
}

/// The processes in `pid`'s memory, by name.
fn pumps(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let all = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_threads = all.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let mut found: Vec<i32> = std::iter::once(text)
        .chain(of_threads)
        .flat_map(|text| text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<i32>>())
        .filter(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "Manhole pump\n"))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn wait_for_no_pump(pid: i32) {
    let end = Instant::now() + DEADLINE;
    while !pumps(pid).is_empty() {
        assert!(Instant::now() < end, "a pump of {pid} stays");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn whatever_descriptor_2_is_the_operator_and_the_log_see_it_and_it_is_the_same_afterwards() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    let kinds = [
        ("pipe", Sink::Pipe, true),
        ("terminal", Sink::Terminal, true),
        ("socket", Sink::Socket, true),
        ("null", Sink::Null, true),
        ("file", Sink::File(path("file")), false),
        ("a file that it may not read", Sink::Secret(path("secret")), true),
    ];
    for (name, sink, is_tapped) in kinds {
        if matches!(sink, Sink::Secret(_)) && !nix::unistd::geteuid().is_root() {
            println!("skipped: becoming another user needs root");
            continue;
        }
        let is_null = matches!(sink, Sink::Null);
        let mut writer = Writer::start(sink, &[]);
        writer.ask("say before");
        let before = writer.ask("describe");
        let mut session = match name {
            "a file that it may not read" => {
                let path = path(&writer.host.pid().to_string());
                writer.host.connect_to(&path)
            }
            _ => writer.host.connect(),
        };
        let during = if is_tapped { writer.wait_until(&before, false) } else { writer.ask("describe") };
        assert_eq!(during != before, is_tapped, "{name}");
        writer.ask("say during the session");
        let seen = wait_for(&mut session, PROMPT);
        assert_eq!(seen, format!("\nduring the session\n{PROMPT}"), "{name}");
        // A dump works as ever, and no line of it is cut.
        let answer = session.command("stacks");
        assert!(Dump::parse(&answer).threads.iter().any(|thread| thread.tid == writer.host.pid()), "{name}: {answer}");
        writer.ask("mutter half a ");
        writer.ask("say line");
        let seen = wait_for(&mut session, PROMPT);
        assert_eq!(seen, format!("\nhalf a line\n{PROMPT}"), "{name}");
        drop(session);
        writer.wait_until(&before, true);
        writer.ask("say after");
        assert_eq!(writer.ask("children"), "wait -1 errno 10 signals 0", "{name}");
        wait_for_no_pump(writer.host.pid());
        if !is_null {
            let log = writer.wait_for_log("after\n");
            let words: Vec<&str> = log.lines().filter(|line| !line.starts_with("Manhole[")).collect();
            assert_eq!(words, ["before", "during the session", "half a line", "after"], "{name}");
        }
        writer.pass();
    }
}

/// Thread and number of a line of the flood.
fn parse(line: &str) -> (usize, usize) {
    let words: Vec<&str> = line.split(' ').collect();
    let ["thread", thread, "line", number] = words[..] else { panic!("mixed up: {line:?}") };
    (thread.parse().expect("thread"), number.parse().expect("line"))
}

/// Every thread's lines, in order, each once.
fn assert_complete(log: &str, lines: usize) {
    let mut next = [0; 4];
    for line in log.lines().filter(|line| !line.starts_with("Manhole[")) {
        let (thread, number) = parse(line);
        assert_eq!(number, next[thread], "thread {thread}");
        next[thread] += 1;
    }
    assert_eq!(next, [lines / 4; 4]);
}

#[test]
fn an_operator_who_does_not_read_costs_neither_time_nor_lines() {
    const LINES: usize = 100_000;
    let mut writer = Writer::start(Sink::Pipe, &[]);
    let (session, before) = writer.tapped();
    let time = writer.ask(&format!("flood {LINES}"));
    drop(session);
    writer.wait_until(&before, true);
    let end = Instant::now() + DEADLINE;
    while writer.log().matches("thread").count() < LINES && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    assert_complete(&writer.log(), LINES);
    let bare = writer.ask(&format!("flood {LINES}"));
    println!("{LINES} lines by 4 threads: {time} with a session that does not read, {bare} without a session");
    writer.pass();
}

#[test]
fn sessions_that_come_and_go_in_the_middle_of_it_cost_no_line() {
    const LINES: usize = 1_000_000;
    let mut writer = Writer::start(Sink::Pipe, &["verbose=False"]);
    let before = writer.ask("describe");
    drop(writer.host.connect());
    let socket = writer.host.socket();
    let stop = Arc::new(AtomicBool::new(false));
    let visitor = thread::spawn({
        let stop = stop.clone();
        move || {
            let mut visits = 0;
            while !stop.load(Ordering::Relaxed) {
                drop(Session::open(&socket).expect("connect"));
                visits += 1;
            }
            visits
        }
    });
    writer.ask(&format!("flood {LINES}"));
    stop.store(true, Ordering::Relaxed);
    let visits = visitor.join().expect("the visitor");
    writer.wait_until(&before, true);
    let end = Instant::now() + DEADLINE;
    while writer.log().matches('\n').count() < LINES && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    let log = writer.log();
    let (mut seen, mut last, mut exchanged) = (vec![[false; LINES / 4]; 4], [0; 4], 0);
    for line in log.lines() {
        let (thread, number) = parse(line);
        assert!(!std::mem::replace(&mut seen[thread][number], true), "twice: {line}");
        exchanged += usize::from(number < last[thread]);
        last[thread] = number;
    }
    assert!(seen.iter().flatten().all(|seen| *seen), "lines are missing");
    println!("{visits} sessions during {LINES} lines without a pause: {exchanged} lines after their successor");
    writer.pass();
}

#[test]
fn an_operator_who_reads_again_is_told_what_was_skipped() {
    let scratch = Scratch::new();
    for sink in [Sink::Pipe, Sink::File(scratch.path().join("log"))] {
        let mut writer = Writer::start(sink, &[]);
        let is_tapped = writer.file.is_none();
        let mut session = if is_tapped { writer.tapped().0 } else { writer.host.connect() };
        writer.ask("flood 100000");
        let mut text = wait_for(&mut session, "bytes of stderr skipped]\n");
        // The pipes between are still full at first.
        for number in 0.. {
            writer.ask(&format!("say end {number}."));
            if text.contains("end ") {
                break;
            }
            text += &wait_for(&mut session, "\n");
        }
        let shown = text.lines().filter(|line| line.starts_with("thread ")).count();
        assert!(shown > 100 && shown < 100_000, "{shown} lines shown");
        drop(session);
        writer.pass();
    }
}

#[test]
fn a_killed_client_leaves_descriptor_2_as_it_was() {
    let mut writer = Writer::start(Sink::Pipe, &[]);
    let before = writer.ask("describe");
    let script = "import socket,sys,time\ns=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);time.sleep(1000)";
    let mut client = Command::new("python3").args(["-c", script]).arg(writer.host.socket()).spawn().expect("python3");
    writer.wait_until(&before, false);
    client.kill().expect("kill -9");
    client.wait().expect("wait");
    writer.wait_until(&before, true);
    writer.ask("say still here");
    writer.wait_for_log("still here");
    writer.pass();
}

#[test]
fn one_session_has_it_and_the_next_gets_it() {
    let mut writer = Writer::start(Sink::Pipe, &[]);
    let (mut first, before) = writer.tapped();
    let mut second = writer.host.connect();
    assert!(
        second.greeting().contains("# standard error is shown to client 1") || {
            wait_for(&mut second, "# standard error is shown to client 1");
            true
        }
    );
    writer.ask("say to the first");
    wait_for(&mut first, "to the first");
    assert!(!second.command("help").contains("to the first"));
    let tapped = writer.ask("describe");
    drop(first);
    writer.wait_until(&tapped, false);
    writer.wait_until(&before, false);
    writer.ask("say to the second");
    wait_for(&mut second, "to the second");
    drop(second);
    writer.wait_until(&before, true);
    writer.pass();
}

#[test]
fn children_by_fork_and_by_spawn_write_to_the_log() {
    let mut writer = Writer::start(Sink::Pipe, &[]);
    let (mut session, before) = writer.tapped();
    writer.ask("say before the fork");
    // The forked child describes its own descriptor 2: the original.
    let child = writer.ask("fork a forked child");
    assert_eq!(child, before, "in the child descriptor 2 is the original");
    let log = writer.wait_for_log("a forked child");
    assert!(log.find("before the fork") < log.find("a forked child"), "{log}");
    let scratch = Scratch::new();
    let fifo = scratch.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let fifo = fifo.display();
    writer.ask(&format!("spawn echo a spawned child >&2; read line <{fifo}; echo outlived the session >&2"));
    wait_for(&mut session, "a spawned child");
    drop(session);
    writer.wait_until(&before, true);
    assert_eq!(pumps(writer.host.pid()).len(), 1, "the child has its pump");
    fs::write(fifo.to_string(), "go on\n").expect("the child reads it");
    writer.wait_for_log("outlived the session");
    writer.ask("reap");
    assert_eq!(writer.ask("children"), "wait -1 errno 10 signals 0");
    wait_for_no_pump(writer.host.pid());
    writer.pass();
}

/// Resident and shared bytes of a process.
fn resident(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).expect("statm");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("resident") * 4096
}

#[test]
fn an_exec_in_place_goes_on_writing_and_its_old_memory_is_given_back() {
    let mut writer = Writer::start(Sink::Pipe, &[]);
    writer.ask("grow");
    let (session, _) = writer.tapped();
    let pump = pumps(writer.host.pid())[0];
    assert!(resident(pump) > 64 << 20, "it shares the memory of its maker");
    // Standard error with the closed session between, and without the memory; then elsewhere: the pump is done.
    writer
        .host
        .tell("exec echo one >&2; read x; echo two >&2; read x; echo three >&2; exec 2>/dev/null; read x; echo PASS\n");
    writer.wait_for_log("one\n");
    drop(session);
    writer.host.tell("\n");
    writer.wait_for_log("two\n");
    let end = Instant::now() + DEADLINE;
    while resident(pump) > 8 << 20 {
        assert!(Instant::now() < end, "the pump keeps {} bytes", resident(pump));
        thread::sleep(Duration::from_millis(5));
    }
    writer.host.tell("\n");
    writer.wait_for_log("three\n");
    assert!(is_running(pump), "the pump is dead");
    // It holds nothing of the log any more, and waits for its parent's end so as not to send a SIGCHLD.
    while fs::read_dir(format!("/proc/{pump}/fd")).expect("the pump").count() > 1 {
        assert!(Instant::now() < end, "the pump holds descriptors");
        thread::sleep(Duration::from_millis(5));
    }
    writer.host.tell("\n");
    writer.host.wait();
    assert!(writer.host.lines().last().is_some_and(|line| line == "PASS"), "{}", writer.host.story());
    while Path::new(&format!("/proc/{pump}/fd/0")).exists() || is_running(pump) {
        assert!(Instant::now() < end, "the pump outlives everybody");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Neither gone nor a zombie.
fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[test]
fn last_words_reach_the_log() {
    for way in ["abort", "kill", "group", "exit"] {
        for turn in 0..20 {
            let mut writer = Writer::start(Sink::Pipe, &["daemon_connection=True", "verbose=False"]);
            let (session, _) = writer.tapped();
            let words = format!("last words {turn} by {way}");
            writer.host.tell(&format!("{way} {words}\n"));
            writer.host.wait();
            writer.wait_for_log(&format!("{words}\n"));
            drop(session);
        }
    }
}

#[test]
fn a_killed_pump_is_no_harm() {
    let mut writer = Writer::start(Sink::Pipe, &[]);
    let (mut session, before) = writer.tapped();
    for pump in pumps(writer.host.pid()) {
        // SAFETY: a process of the fixture's, just found.
        unsafe { libc::kill(pump, libc::SIGKILL) };
    }
    for number in 0..50 {
        writer.ask(&format!("say word {number}."));
    }
    wait_for(&mut session, "# standard error is not shown: its pump has been killed");
    writer.wait_until(&before, true);
    let log = writer.wait_for_log("word 49.");
    let words = log.lines().filter(|line| line.starts_with("word "));
    assert!(words.eq((0..50).map(|number| format!("word {number}."))), "{log}");
    assert!(session.command("help").contains("stacks"));
    drop(session);
    wait_for_no_pump(writer.host.pid());
    writer.pass();
}

#[test]
fn an_application_that_closes_everything_loses_nothing() {
    let mut writer = Writer::start(Sink::Pipe, &[]);
    let (mut session, _) = writer.tapped();
    writer.ask("closefrom");
    writer.ask("say after closing");
    wait_for(&mut session, "after closing");
    drop(session);
    writer.ask("say after the session");
    writer.wait_for_log("after the session");
    // And it can be had again.
    let (mut session, _) = writer.tapped();
    writer.ask("say again");
    wait_for(&mut session, "again");
    writer.wait_for_log("again");
    drop(session);
    writer.pass();
}

#[test]
fn what_the_application_puts_on_descriptor_2_stays() {
    let scratch = Scratch::new();
    let mut writer = Writer::start(Sink::Pipe, &[]);
    let (mut session, _) = writer.tapped();
    let path = scratch.path().join("elsewhere");
    writer.ask(&format!("reopen {}", path.display()));
    let own = writer.ask("describe");
    wait_for_no_pump(writer.host.pid());
    // The kept original goes when we notice.
    let file = own.split(" open ").next().expect("a description").to_owned();
    let end = Instant::now() + DEADLINE;
    // Followed there from the beginning of the file on.
    writer.ask("say elsewhere");
    wait_for(&mut session, "elsewhere");
    drop(session);
    let now = writer.ask("describe");
    assert!(now.starts_with(&file), "{now}, not {own}");
    assert!(Instant::now() < end);
    assert!(fs::read_to_string(path).expect("the file").contains("elsewhere\n"));
    writer.pass();
}

#[test]
fn rotation_and_copytruncate_are_followed() {
    let scratch = Scratch::new();
    let path = scratch.path().join("log");
    let mut writer = Writer::start(Sink::File(path.clone()), &[]);
    writer.ask("say not of the session");
    let mut session = writer.host.connect();
    writer.ask("say one");
    assert!(!wait_for(&mut session, "one\n").contains("not of the session"));
    fs::copy(&path, scratch.path().join("log.1")).expect("copy");
    File::options().write(true).open(&path).and_then(|file| file.set_len(0)).expect("truncate");
    writer.ask("say two");
    wait_for(&mut session, "two\n");
    fs::rename(&path, scratch.path().join("log.2")).expect("rename");
    writer.ask("say three, into the old file");
    writer.ask(&format!("reopen {}", path.display()));
    writer.ask("say four");
    let seen = wait_for(&mut session, "four\n");
    assert!(seen.contains("three, into the old file\n"), "{seen}");
    drop(session);
    writer.pass();
}

#[test]
fn switched_off_it_shows_nothing_and_changes_nothing() {
    for options in [["redirect_stderr=False"], ["connection_handler=exec"]] {
        let mut writer = Writer::start(Sink::Pipe, &options);
        let before = writer.ask("describe");
        let path = writer.host.socket();
        let end = Instant::now() + DEADLINE;
        let mut stream = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
        };
        stream.write_all(b"options\n").expect("send");
        let mut chunk = [0; 65536];
        assert!(stream.read(&mut chunk).expect("an answer") > 0);
        writer.ask("say unseen");
        assert_eq!(writer.ask("describe"), before, "{options:?}");
        stream.write_all(b"help\nexit\n").expect("send");
        let rest = harness::session::read_to_end(&mut stream);
        assert!(rest.contains("stacks") && !rest.contains("unseen"), "{options:?}: {rest}");
        assert!(writer.wait_for_log("unseen").contains("unseen\n"));
        writer.pass();
    }
}

/// Launches the fixture with `number` as its standard error, and returns a session that was told why it is not shown.
fn untouched(number: i32, told: &str) -> (Host, Session) {
    let mut host = Launch::fixture("stderr_writer")
        .option("verbose=False")
        .with(|command| {
            // SAFETY: a plain system call between fork and exec.
            unsafe {
                command.stdin(Stdio::piped()).pre_exec(move || {
                    libc::dup2(number, 2);
                    Ok(())
                })
            };
        })
        .start();
    let mut session = host.connect();
    let told = format!("# standard error is not shown: descriptor 2 is {told}");
    if !session.greeting().contains(&told) {
        wait_for(&mut session, &told);
    }
    (host, session)
}

#[test]
fn a_pipe_in_packet_mode_is_left_alone_and_the_operator_told() {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_DIRECT | libc::O_CLOEXEC) }, 0);
    // SAFETY: both are new and ours.
    let [mut read, write] = ends.map(|end| unsafe { File::from_raw_fd(end) });
    let (mut host, session) = untouched(write.as_raw_fd(), "a pipe in packet mode (O_DIRECT)");
    drop(write);
    host.tell("say one\nsay two\n");
    let mut message = [0; 64];
    for expected in [&b"one\n"[..], b"two\n"] {
        let count = read.read(&mut message).expect("a message");
        assert_eq!(&message[..count], expected);
    }
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn the_kernels_log_is_left_alone_and_the_operator_told() {
    let Ok(log) = OpenOptions::new().write(true).open("/dev/kmsg") else {
        println!("skipped: no /dev/kmsg");
        return;
    };
    let (mut host, session) = untouched(log.as_raw_fd(), "/dev/kmsg");
    drop(session);
    assert_eq!(host.release(), "PASS");
}

#[test]
fn a_datagram_socket_is_left_alone_and_the_operator_told() {
    let (left, right) = UnixDatagram::pair().expect("socketpair");
    let (mut host, session) = untouched(left.as_raw_fd(), "a datagram socket");
    drop(left);
    host.tell("say one\nsay two\n");
    right.set_read_timeout(Some(DEADLINE)).expect("timeout");
    let mut message = [0; 64];
    let count = right.recv(&mut message).expect("a message");
    assert_eq!(&message[..count], b"one\n");
    drop(session);
    assert_eq!(host.release(), "PASS");
}
