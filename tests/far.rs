//! A process whose program, files and log are on a file server that falls silent, as NFS does: nothing hangs, and what
//! is missing is said. The server is FUSE, which takes root.

mod harness;

use std::time::{Duration, Instant};

use harness::fixtures::{fixture, library};
use harness::host::{Host, Launch};
use harness::records::{of_kind, records};
use harness::session::Session;
use harness::{DEADLINE, Scratch};

/// The program, on its server.
struct Far {
    host: Host,
    server: i32,
    scratch: Scratch,
}

impl Far {
    fn start() -> Option<Self> {
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root || std::fs::File::open("/dev/fuse").is_err() {
            eprintln!("skipped: needs root and /dev/fuse");
            return None;
        }
        let scratch = Scratch::new();
        let [source, mount] = ["source", "mount"].map(|name| scratch.path().join(name));
        for folder in [&source, &mount] {
            std::fs::create_dir(folder).expect("a folder");
        }
        std::fs::copy(fixture("far_reader"), source.join("program")).expect("a copy");
        std::fs::write(source.join("data"), vec![7; 4096 * 1000]).expect("data");
        std::fs::write(source.join("log"), "").expect("a log");
        let mut host = Launch::fixture("far_files")
            .bare()
            .args([&source, &mount, &mount.join("program"), &mount.join("data")])
            .env("FAR_PRELOAD", library())
            .env("FAR_STDERR", mount.join("log"))
            .start();
        let server = host.lines().iter().find_map(|line| line.strip_prefix("server ")?.parse().ok());
        let server = server.unwrap_or_else(|| panic!("no server: {}", host.story()));
        Some(Self { host, server, scratch })
    }

    fn fall_silent(&self) {
        self.tell(nix::sys::signal::Signal::SIGUSR1);
    }

    fn speak(&self) {
        self.tell(nix::sys::signal::Signal::SIGUSR2);
    }

    fn tell(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.server), signal).expect("the server");
    }

    /// Waits until the thread that reads waits for the server.
    fn wait_until_stuck(&self, session: &mut Session) {
        let start = Instant::now();
        let mut before = String::new();
        loop {
            let now = session.command("threads | grep pread64");
            if !now.is_empty() && now == before {
                return;
            }
            before = now;
            assert!(start.elapsed() < DEADLINE, "{before}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Frames of the first thread that are named after `function`.
fn frames(session: &mut Session, function: &str) -> String {
    session.command(&format!("stacks | grep \"in {function}+\" | count")).trim().to_owned()
}

#[test]
fn a_server_that_answers_is_asked() {
    let Some(mut far) = Far::start() else { return };
    let mut session = far.host.connect();
    assert_eq!(frames(&mut session, "waits"), "6");
    assert_eq!(frames(&mut session, "reads_far"), "1");
    let found = session.command("modules | grep -A1 program");
    assert!(!found.contains("file server"), "{found}");
    assert!(session.command("x/2i waits").contains("<waits>"));
    assert!(session.command("cmdline").contains("mount/program"));
    assert!(records(&mut session, "cmdline --json")[0]["replaced"] == false);
    let log = std::fs::read_to_string(far.scratch.path().join("source/log")).expect("the log");
    assert!(log.contains("runs: cmdline --json"), "{log}");
    drop(session);
    // Who asked it is gone: what is left is the server.
    let start = Instant::now();
    while far.host.children() != [far.server] {
        assert!(start.elapsed() < DEADLINE, "{:?}", far.host.children());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_silent_server_holds_nobody_up() {
    let Some(mut far) = Far::start() else { return };
    far.fall_silent();
    let mut session = far.host.connect();
    far.wait_until_stuck(&mut session);
    // Where the stack goes is in memory; what it is called is in the file.
    let stacks = session.command("stacks");
    let unnamed = stacks.lines().filter(|line| line.contains("in ?? (program)")).count();
    assert!(unnamed >= 9, "{stacks}");
    assert!(stacks.contains("__libc_start_call_main"), "{stacks}");
    let note = "mount/program: its file server does not answer; what stands in this file may be missing above\n";
    assert!(stacks.ends_with(note), "{stacks}");
    let missing = of_kind(records(&mut session, "stacks --json"), "missing");
    assert!(missing[0]["file"].as_str().expect("a path").ends_with("mount/program"), "{missing:?}");
    // Not called stripped, deleted or replaced: nobody knows.
    let found = session.command("sym waits");
    assert!(found.starts_with("error: no symbol waits\nnote: "), "{found}");
    let modules = session.command("modules");
    assert!(modules.contains("(a file server does not answer)") && !modules.contains("deleted"), "{modules}");
    assert!(records(&mut session, "cmdline --json")[0]["replaced"].is_null());
    let fds = session.command("fds | grep mount/data");
    assert!(fds.contains("(fuse is not asked)"), "{fds}");
    for line in [
        "threads",
        "syscalls",
        "locks",
        "maps",
        "mem",
        "signals",
        "status",
        "env",
        "auxv",
        "limits",
        "malloc",
        "timers",
        "search nothing",
        "cgroup",
        "uptime",
        "profile 0.2",
        "stacks --diff 0.2",
        "call/d getppid()",
        "x/4xw $main",
    ] {
        session.command(line);
    }
    let copy = session.command("dup 3");
    assert!(copy.contains(" is a duplicate of 3: not open → ") && copy.contains("mount/data"), "{copy}");
    // More sessions, while the log is silent, too: no line of it leaves a descriptor of ours open.
    let observer = far.host.threads().iter().find(|(_, name)| name == "Manhole").expect("the observer").0;
    let table = format!("/proc/{}/task/{observer}/fd", far.host.pid());
    let open = || std::fs::read_dir(&table).expect("its table").count();
    let mut other = far.host.connect();
    assert!(other.command("sessions").lines().count() >= 2);
    let before = open();
    for _ in 0..20 {
        other.command("threads");
        other = far.host.connect();
    }
    // The observer closes the last ones in its own time.
    let start = Instant::now();
    while open() > before + 1 {
        assert!(start.elapsed() < DEADLINE, "{before} descriptors became {}", open());
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(other);

    far.speak();
    let start = Instant::now();
    while frames(&mut session, "waits") != "6" {
        assert!(start.elapsed() < DEADLINE, "{}", session.command("stacks"));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!session.command("stacks").contains("note: "));
}

/// What is known from before stays known.
#[test]
fn names_from_before_are_kept() {
    let Some(mut far) = Far::start() else { return };
    let mut session = far.host.connect();
    assert_eq!(frames(&mut session, "waits"), "6");
    far.fall_silent();
    far.wait_until_stuck(&mut session);
    assert_eq!(frames(&mut session, "waits"), "6");
}
