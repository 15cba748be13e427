//! `manhole-cli` and real processes: the tests of python-manhole's client, and what it says when there is no way in.

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::client::{self, run};
use harness::host::{Host, Launch};
use harness::{DEADLINE, Scratch};

/// A person at the client.
struct Dialogue {
    child: Child,
    stdin: ChildStdin,
    shown: Arc<Mutex<String>>,
}

impl Dialogue {
    fn open(arguments: &[&str]) -> Self {
        let mut command = client::command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("manhole-cli");
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut stdout, sink) = (child.stdout.take().expect("piped"), shown.clone());
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut chunk) {
                sink.lock().expect("shown").push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        });
        let stdin = child.stdin.take().expect("piped");
        Self { child, stdin, shown }
    }

    /// Waits until the client has shown all of `texts`.
    #[track_caller]
    fn sees(&self, texts: &[&str]) {
        let end = Instant::now() + DEADLINE;
        loop {
            let shown = self.shown.lock().expect("shown").clone();
            let Some(missing) = texts.iter().find(|text| !shown.contains(**text)) else { return };
            assert!(Instant::now() < end, "no {missing:?} in {DEADLINE:?}, only: {shown}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn types(&mut self, line: &str) {
        self.stdin.write_all(line.as_bytes()).expect("type");
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Banner, stacks, prompt; a command, and its answer.
#[track_caller]
fn converses(arguments: &[&str], host: &Host) {
    let mut dialogue = Dialogue::open(arguments);
    dialogue.sees(&[&format!("(pid {})", host.pid()), "ThreadID=", "manhole> "]);
    dialogue.types("help options\n");
    dialogue.sees(&["value came from"]);
}

/// Processes whose manhole is opened by SIGUSR2, the one way and the other.
#[track_caller]
fn opens_by(arguments: &[&str]) {
    for option in ["activate_on=USR2", "oneshot_on=USR2"] {
        let mut host = Launch::new("/bin/cat").option(option).start_only();
        // Its constructors are done.
        host.tell("echo\n");
        host.wait_for_line("echo");
        converses(&[arguments, &[&host.pid().to_string()]].concat(), &host);
    }
}

#[test]
fn a_pid_opens_its_manhole() {
    let host = Launch::new("/bin/cat").start();
    converses(&[&host.pid().to_string()], &host);
}

#[test]
fn a_path_opens_its_manhole() {
    let host = Launch::new("/bin/cat").start();
    converses(&[&format!("/tmp/manhole-{}", host.pid())], &host);
}

#[test]
fn a_pid_opens_its_manhole_at_an_unusual_path() {
    let scratch = Scratch::new();
    // Longer than an address, by way of /proc.
    let path = scratch.path().join("x".repeat(100 - scratch.path().as_os_str().len())).join("it");
    fs::create_dir(path.parent().expect("folder")).expect("mkdir");
    let mut host = Launch::new("/bin/cat").option(&format!("socket_path={}", path.display())).start_only();
    host.wait_for_stderr("UDS path");
    converses(&[&host.pid().to_string()], &host);
}

#[test]
fn usr2_is_sent_first() {
    opens_by(&["-USR2"]);
}

#[test]
fn signal_usr2_is_sent_first() {
    opens_by(&["--signal=USR2"]);
}

#[test]
fn signal_sigusr2_is_sent_first() {
    opens_by(&["-s", "SIGUSR2"]);
}

#[test]
fn a_signal_by_its_number_is_sent_first() {
    opens_by(&["-s", "12"]);
}

#[test]
fn a_word_that_is_neither_pid_nor_path_is_wrong_usage() {
    run(&["asdfasdf"]).is(2, &["asdfasdf", "expected 1234, /tmp/manhole-1234"]);
}

#[test]
fn a_signal_number_that_does_not_exist_is_wrong_usage() {
    run(&["-s", "12341234", "12341234"]).is(2, &["12341234", "--signal", "no such signal", "from 1 to 64"]);
}

#[test]
fn help_names_python_manholes_options() {
    let help = run(&["--help"]);
    help.is(0, &[]);
    for part in
        ["Usage: manhole-cli [OPTIONS]", "--timeout <SECONDS>", "[default: 1]", "-1, --USR1", "-USR1", "-2, --USR2"]
    {
        assert!(help.stdout.contains(part), "{part} is not in {}", help.stdout);
    }
    for part in ["-USR2", "-s, --signal <SIGNAL>", "list", "@NAME", "Exit status: 0 success"] {
        assert!(help.stdout.contains(part), "{part} is not in {}", help.stdout);
    }
}

/// A process whose library is loaded and has come to its decision.
fn closed(options: &str) -> Host {
    let mut host = Launch::new("/bin/cat").option(options).start_only();
    host.tell("x\n");
    host.wait_for_line("x");
    host
}

#[track_caller]
fn says(host: &Host, words: &[&str]) {
    run(&["-t", "0", "-c", "stacks", &host.pid().to_string()]).is(3, words);
}

#[test]
fn says_which_option_keeps_it_closed() {
    says(&closed("off"), &["it was started with MANHOLE=off"]);
    says(&closed("only=redis-*"), &["its names (cat, cat, cat) match none of only=redis-*"]);
    says(&closed("thread=False"), &["the program itself must call manhole_install()"]);
    says(&closed("verbos=1"), &["wrong options, MANHOLE: unknown option \"verbos\"; did you mean verbose?"]);
    let waiting = closed("oneshot_on=RTMIN+3");
    says(&waiting, &[&format!("opens when a signal comes (oneshot_on): manhole-cli -s RTMIN+3 {}", waiting.pid())]);
    let waiting = closed("oneshot_on=USR2");
    says(&waiting, &[&format!("opens when a signal comes (oneshot_on): manhole-cli -USR2 {}", waiting.pid())]);
    let mut unable = closed("socket_path=/proc/nonexistent/x");
    unable.wait_for_stderr("runs on without a manhole");
    let log = format!("its log, lines that begin with Manhole[{}:", unable.pid());
    says(&unable, &["libmanhole.so is loaded and does not listen", &log]);
}

#[test]
fn says_that_the_loader_did_not_find_the_library() {
    // Cargo has the loader search the folder of the library.
    let elsewhere = |command: &mut std::process::Command| {
        command.env_remove("LD_LIBRARY_PATH");
    };
    let launch = || Launch::new("/bin/sleep").args(["100"]).bare().with(elsewhere);
    let sleep = |preload: &str| launch().env("LD_PRELOAD", preload).start();
    let exec = |host: &Host| {
        let end = Instant::now() + DEADLINE;
        while !fs::read_to_string(format!("/proc/{}/comm", host.pid())).is_ok_and(|name| name.trim() == "sleep") {
            assert!(Instant::now() < end, "no exec");
        }
    };
    let absent = sleep("/proc/nonexistent/libmanhole.so");
    exec(&absent);
    says(&absent, &["started with LD_PRELOAD=/proc/nonexistent/libmanhole.so", "there is no such file where it lives"]);
    let bare_name = sleep("libother.so libmanhole.so");
    exec(&bare_name);
    says(&bare_name, &["LD_PRELOAD=libmanhole.so", "give the whole path"]);
    let scratch = Scratch::new();
    let wrong = scratch.path().join("libmanhole.so");
    fs::write(&wrong, "no library").expect("write");
    let wrong = sleep(wrong.to_str().expect("path"));
    exec(&wrong);
    says(&wrong, &["though the file is there", "standard error says why"]);
}

#[test]
fn says_that_a_forked_child_opens_later_or_never() {
    // The subshell is forked and executes nothing itself.
    let forks = |options: &str| {
        let host = Launch::new("/bin/sh").args(["-c", "(while read x; do :; done; sleep 100; :) & echo ready; wait"]);
        host.option(options).when_it_says("ready").start()
    };
    let child = |host: &Host| host.children()[0].to_string();
    let host = forks("reinstall_delay=30");
    let words = ["a forked child opens after reinstall_delay=30.0 s: wait with -t 31"];
    run(&["-t", "0", &child(&host)]).is(3, &words);
    let host = forks("patch_fork=False");
    run(&["-t", "0", &child(&host)]).is(3, &[&format!("it was forked from process {}", host.pid()), "patch_fork"]);
    // With the default timeout the default delay is waited for.
    let host = forks("verbose=True");
    run(&["-t", "10", "-c", "threads", &child(&host)]).is(0, &[]);
}

#[test]
fn says_that_a_set_user_id_program_ignores_the_preload() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can make a program set-user-ID to another user");
        return;
    }
    let scratch = Scratch::new();
    let program = scratch.path().join("cat");
    fs::copy("/bin/cat", &program).expect("copy");
    std::os::unix::fs::chown(&program, Some(65534), Some(65534)).expect("chown");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("chmod");
    let mut host = Launch::new(&program).start_only();
    host.tell("x\n");
    host.wait_for_line("x");
    says(&host, &["it gains privileges when started", "LD_PRELOAD is ignored", "start it as the user that it becomes"]);
}

/// A process that handles or blocks SIGUSR2 itself, and never opens a socket.
fn takes_usr2(how: &str, options: &str) -> Host {
    let script = format!("{how}; $| = 1; print \"ready\\n\"; sleep 1 while 1");
    Launch::new("perl").args(["-MPOSIX", "-e", &script]).option(options).when_it_says("ready").start()
}

#[test]
fn says_what_likely_became_of_a_signal_that_opened_nothing() {
    const HANDLES: &str = "$SIG{USR2} = sub {}";
    let usr2 = |host: &Host| run(&["-USR2", "-t", "0.1", &host.pid().to_string()]);

    let replaced = takes_usr2(HANDLES, "oneshot_on=USR2");
    let log = format!("look for Manhole[{}: in its log", replaced.pid());
    usr2(&replaced).is(3, &["SIGUSR2 was sent, but", "likely the application put a handler of its own over", &log]);

    let never_set = takes_usr2(HANDLES, "socket_path=/proc/nonexistent/x");
    usr2(&never_set).is(3, &["SIGUSR2 was sent, but", "neither activate_on nor oneshot_on", "in its log"]);

    let blocked = "sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGUSR2))";
    usr2(&takes_usr2(blocked, "oneshot_on=USR2")).is(3, &["every thread of the process blocks it"]);

    let another = takes_usr2(HANDLES, "oneshot_on=USR1");
    let way = format!("opens when a signal comes (oneshot_on): manhole-cli -USR1 {}", another.pid());
    usr2(&another).is(3, &["SIGUSR2 was sent, but", &way]);
}

/// A client on a terminal of its own, which is its controlling one, so that the key ^C is a signal to it.
struct Terminal {
    child: Child,
    master: fs::File,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    fn open(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        use std::os::fd::{FromRawFd, OwnedFd};
        use std::os::unix::process::CommandExt;
        let (mut master, mut slave) = (-1, -1);
        let null = std::ptr::null_mut();
        // SAFETY: two ints to fill; no name, terminal settings or size.
        let opened = unsafe { libc::openpty(&mut master, &mut slave, null, null.cast(), null.cast()) };
        assert_eq!(opened, 0, "openpty");
        // SAFETY: freshly opened.
        let (master, slave) = unsafe { (fs::File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let mut command = client::command(arguments);
        command.env_remove("NO_COLOR").env("TERM", "xterm").envs(environment.iter().copied());
        let copies = (slave.try_clone().expect("dup"), slave.try_clone().expect("dup"));
        command.stdin(copies.0).stdout(copies.1).stderr(slave);
        // SAFETY: three system calls in the forked child.
        unsafe {
            command.pre_exec(|| {
                // Whoever runs the tests in the background of a shell ignores it, and so would the client.
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().expect("manhole-cli");
        drop(command);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut source, sink) = (master.try_clone().expect("dup"), shown.clone());
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut chunk) {
                sink.lock().expect("shown").push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        });
        Self { child, master, shown }
    }

    fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("type");
    }

    /// Waits until `text` is shown, and forgets everything up to it.
    #[track_caller]
    fn sees(&self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let mut shown = self.shown.lock().expect("shown");
            if let Some(at) = shown.find(text) {
                let seen = shown[..at + text.len()].to_owned();
                shown.drain(..at + text.len());
                return seen;
            }
            assert!(Instant::now() < end, "no {text:?} in {DEADLINE:?}, only: {shown:?}");
            drop(shown);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn ends(&mut self) -> std::process::ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const BOLD_PROMPT: &str = "\x1b[1mmanhole> \x1b[0m";

#[test]
fn colours_are_for_terminals_that_want_them() {
    let mut host = Launch::new("/bin/cat").option("redirect_stderr=False").start();
    let pid = host.pid().to_string();
    let mut terminal = Terminal::open(&[&pid], &[]);
    let greeting = terminal.sees(BOLD_PROMPT);
    assert!(greeting.contains("\x1b[1m######### ProcessID="), "{greeting:?}");
    terminal.types("nonsense\n");
    terminal.sees("\x1b[31merror: unknown command \"nonsense\"; try help\x1b[0m\r\n");
    terminal.types("stacks --limit 1 | grep truncated | head 1\n");
    terminal.sees("\x1b[33mtruncated:");
    terminal.sees(BOLD_PROMPT);
    // Filters see no colour, JSON has none.
    terminal.types("stacks | grep [1m | count\n");
    terminal.sees("\n0\r\n");
    terminal.types("threads 1 --json\n");
    let json = terminal.sees("}]\r\n");
    assert!(json.contains("\n[{\"kind\":\"error\""), "{json:?}");
    terminal.types("\u{4}");
    assert!(terminal.ends().success());
    for environment in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = Terminal::open(&[&pid], &[environment]);
        let greeting = plain.sees("manhole> ");
        assert!(greeting.contains("\r\n######### ProcessID=") && !greeting.contains('\x1b'), "{greeting:?}");
    }
    // Neither a pipe nor any other client is a terminal.
    let mut piped = Dialogue::open(&[&pid]);
    piped.types("nonsense\n");
    piped.sees(&["error: unknown command"]);
    assert!(!piped.shown.lock().expect("shown").contains('\x1b'));
    assert!(!host.connect().greeting().contains('\x1b'));
}

/// ^C never ends a client that is answered: it ends what runs, or gives a new prompt.
#[test]
fn the_key_c_interrupts_and_the_key_d_leaves() {
    let host = Launch::new("/bin/cat").option("redirect_stderr=False").start();
    let mut terminal = Terminal::open(&[&host.pid().to_string()], &[("NO_COLOR", "1")]);
    terminal.sees("manhole> ");
    terminal.types("watch 60 drop\n");
    terminal.sees("has the level admin\r\n");
    terminal.types("\u{3}");
    terminal.sees("manhole> ");
    // At the prompt, also twice in a second.
    for _ in 0..3 {
        terminal.types("half a li\u{3}");
        assert!(terminal.sees("\r\nmanhole> ").contains("^C"));
    }
    terminal.types("\u{4}");
    assert!(terminal.ends().success());
}

#[test]
fn a_second_c_ends_a_client_that_is_not_answered() {
    let host = Launch::new("/bin/cat").option("redirect_stderr=False").start();
    let mut terminal = Terminal::open(&[&host.pid().to_string()], &[("NO_COLOR", "1")]);
    terminal.sees("manhole> ");
    // The observer stands still, held by a debugger.
    let observer = fs::read_dir(format!("/proc/{}/task", host.pid())).expect("task").find_map(|task| {
        let path = task.expect("entry").path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        (name.trim() == "Manhole").then(|| path.file_name()?.to_str()?.parse::<i32>().ok())?
    });
    let observer = nix::unistd::Pid::from_raw(observer.expect("the observer"));
    nix::sys::ptrace::attach(observer).expect("attach");
    nix::sys::wait::waitpid(observer, Some(nix::sys::wait::WaitPidFlag::__WALL)).expect("stopped");
    terminal.types("\u{3}");
    std::thread::sleep(Duration::from_millis(50));
    terminal.types("\u{3}");
    assert_eq!(terminal.ends().code(), Some(130));
    nix::sys::ptrace::detach(observer, None).expect("detach");
}

/// The remote command ends with it.
#[test]
fn with_a_command_the_key_c_ends_both() {
    use std::os::unix::process::ExitStatusExt;
    let mut host = Launch::new("/bin/cat").option("redirect_stderr=False, verbose=True").start();
    let mut terminal = Terminal::open(&["-c", "watch 60 drop", &host.pid().to_string()], &[]);
    assert!(!terminal.sees("has the level admin").contains("\x1b["));
    terminal.types("\u{3}");
    // Which a shell reports as 130.
    assert_eq!(terminal.ends().signal(), Some(libc::SIGINT));
    let log = host.wait_for_stderr("given up: its client left (");
    assert!(log.contains("): watch 60 drop"), "{log}");
}
