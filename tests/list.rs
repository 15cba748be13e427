//! `manhole-cli list`: what it shows of real processes, what it removes from /tmp, and above all what it leaves alone.
//!
//! Other tests' manholes are in every list: each test looks at its own lines only. Those that make stale sockets take
//! turns, since any list removes all.

mod harness;

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use harness::client::{self, Outcome, run};
use harness::host::{Host, Launch, socket_of};
use harness::{DEADLINE, Scratch};

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The line of process `pid`; its words are split at spaces.
fn line(list: &Outcome, pid: i32) -> Option<Vec<String>> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    list.stdout.lines().map(words).find(|words| words[0] == pid.to_string())
}

#[track_caller]
fn line_of(list: &Outcome, pid: i32) -> Vec<String> {
    line(list, pid).unwrap_or_else(|| panic!("no line of {pid} in {list:#?}"))
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not in {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Removes a file of the test in /tmp, whatever became of it.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A pid that nobody has, and that nobody gets soon: new pids are counted upwards from the last one.
fn free_pid() -> i32 {
    let largest: i32 = fs::read_to_string("/proc/sys/kernel/pid_max").expect("pid_max").trim().parse().expect("number");
    (largest - 5000..largest)
        .rev()
        .find(|pid| !Path::new(&format!("/proc/{pid}")).exists() && fs::symlink_metadata(socket_of(*pid)).is_err())
        .expect("a free pid")
}

/// A stale socket: bound, and its listener is gone.
fn stale(pid: i32) -> Removed {
    drop(UnixListener::bind(socket_of(pid)).expect("bind"));
    Removed(socket_of(pid))
}

fn is_root(what: &str) -> bool {
    let is = nix::unistd::geteuid().is_root();
    if !is {
        eprintln!("skipped: only root can {what}");
    }
    is
}

fn uid() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    user.map_or_else(|| nix::unistd::geteuid().to_string(), |user| user.name)
}

#[test]
fn shows_every_way_of_listening_on_a_line() {
    let scratch = Scratch::new();
    let path = scratch.path().join("odd name");
    let mut hosts: Vec<(Host, String)> = Vec::new();
    for option in ["verbose=True", "socket_path=@manhole-{pid}", &format!("socket_path='{}'", path.display())] {
        let mut host = Launch::new("/bin/cat").option(option).start_only();
        host.wait_for_stderr("UDS path");
        let socket = match hosts.len() {
            0 => host.socket().display().to_string(),
            1 => format!("@manhole-{}", host.pid()),
            _ => path.display().to_string(),
        };
        hosts.push((host, socket));
    }
    let list = run(&["list"]);
    list.is(0, &[]);
    assert!(list.stdout.trim_start().starts_with("PID USER"), "{list:#?}");
    for (host, socket) in &hosts {
        let words = line_of(&list, host.pid());
        assert_eq!(words[1], uid());
        assert_eq!(words[3..5], ["answers", "cat"]);
        assert_eq!(words[5..].join(" "), *socket);
        assert!(words[2].starts_with("00:0"), "{words:?}");
    }
    let json = run(&["list", "--json"]);
    json.is(0, &[]);
    assert!(json.stdout.starts_with("[\n{") && json.stdout.ends_with("}\n]\n"), "{json:#?}");
    for (host, socket) in &hosts {
        let start = format!("{{\"pid\": {}, ", host.pid());
        let object = json.stdout.lines().find(|line| line.starts_with(&start)).expect("an object");
        for part in [r#""state": "answers", "program": "cat""#, &format!(r#""socket": "{socket}""#)] {
            assert!(object.contains(part), "{part} is not in {object}");
        }
    }
}

#[test]
fn shows_who_stops_who_waits_and_who_is_closed_and_not_who_was_told_to_stay_out() {
    let stopped = Launch::new("/bin/cat").start();
    stopped.signal(libc::SIGSTOP);
    let state = |pid| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "));
    until("a stop", || state(stopped.pid()));
    let ready = |launch: Launch| {
        let mut host = launch.start_only();
        host.tell("x\n");
        host.wait_for_line("x");
        host
    };
    let waiting = ready(Launch::new("/bin/cat").option("thread=False"));
    let off = ready(Launch::new("/bin/cat").option("off"));
    let other = ready(Launch::new("/bin/cat").option("only=redis-*"));
    let bare = ready(Launch::new("/bin/cat").bare());
    let list = run(&["list"]);
    list.is(0, &[]);
    assert_eq!(line_of(&list, stopped.pid())[3..], ["stopped", "cat", stopped.socket().to_str().expect("path")]);
    let words = line_of(&list, waiting.pid());
    assert_eq!(words[3..6], ["closed", "cat", "-"]);
    assert_eq!(words[6..].join(" "), format!("(manhole-cli {} says why)", waiting.pid()));
    for absent in [&off, &other, &bare] {
        assert_eq!(line(&list, absent.pid()), None);
    }
}

#[test]
fn who_waits_for_a_signal_is_shown_with_the_way_to_open_it() {
    let mut host = Launch::new("/bin/cat").option("oneshot_on=RTMIN+3").start_only();
    host.tell("x\n");
    host.wait_for_line("x");
    if host.socket().exists() || host.threads().len() > 1 {
        eprintln!("skipped: this library does not know oneshot_on yet");
        return;
    }
    let words = line_of(&run(&["list"]), host.pid());
    assert_eq!(words[3..6], ["waiting", "cat", "-"]);
    assert_eq!(words[6..].join(" "), format!("(manhole-cli -s RTMIN+3 {})", host.pid()));
}

#[test]
fn finds_a_manhole_in_other_pid_and_mount_namespaces() {
    let arguments = ["-fpm", "--kill-child", "--mount-proc"];
    if !Command::new("unshare").args(arguments).arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no right to make namespaces here");
        return;
    }
    // The library must not lie where /tmp of the new world hides it.
    let outside = Path::new("/var/tmp").join(format!("manhole-list-test-{}", std::process::id()));
    fs::create_dir(&outside).expect("a folder in /var/tmp");
    let launch = Launch::new("unshare").args(arguments).option("only=cat").library_copied_to(&outside);
    let mut host = launch.args(["sh", "-c", "mount -t tmpfs none /tmp && exec cat"]).start_only();
    host.wait_for_stderr("UDS path: /tmp/manhole-1");
    fs::remove_dir_all(&outside).expect("remove");
    let inner = host.children()[0];
    let words = line_of(&run(&["list"]), inner);
    assert_eq!(words[3..], ["answers".to_owned(), "cat".to_owned(), format!("/proc/{inner}/root/tmp/manhole-1")]);
    run(&["-c", "threads", &words[5]]).is(0, &[]);
}

#[test]
fn a_socket_left_by_sigkill_is_removed_and_said_so() {
    let _turn = turn();
    let mut host = Launch::new("/bin/cat").start();
    let (pid, path) = (host.pid(), host.socket());
    host.signal(libc::SIGKILL);
    host.wait();
    assert!(path.exists());
    let list = run(&["list"]);
    list.is(0, &[]);
    let words = line_of(&list, pid);
    assert_eq!((words[3].as_str(), words.last().map(String::as_str)), ("stale", Some("(removed)")));
    assert!(!path.exists());
    assert_eq!(line(&run(&["list"]), pid), None);
}

#[test]
fn a_socket_left_by_exec_into_a_program_without_a_manhole_is_removed_though_its_pid_lives() {
    let _turn = turn();
    let mut host = Launch::new("/bin/sh").args(["-c", "read x; unset LD_PRELOAD; exec cat"]).start();
    let path = host.socket();
    host.tell("\n");
    let comm = format!("/proc/{}/comm", host.pid());
    until("exec", || fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "cat"));
    run(&["-t", "0", &host.pid().to_string()]).is(3, &["is left over from another process"]);
    assert_eq!(line_of(&run(&["list"]), host.pid()).last().map(String::as_str), Some("(removed)"));
    assert!(!path.exists() && host.is_alive());
}

#[test]
fn what_is_no_stale_socket_is_left_alone() {
    let _turn = turn();
    let scratch = Scratch::new();
    // A file, a folder, a link to a stale socket, and one to nothing.
    let target = scratch.path().join("stale");
    drop(UnixListener::bind(&target).expect("bind"));
    let mut untouched: Vec<Removed> = Vec::new();
    let mut next = |make: &dyn Fn(&Path)| {
        let path = socket_of(free_pid());
        make(&path);
        untouched.push(Removed(path));
    };
    next(&|path| fs::write(path, "precious").expect("write"));
    next(&|path| symlink(&target, path).expect("link"));
    next(&|path| symlink("/proc/nonexistent", path).expect("link"));
    // Names that are not quite a manhole's.
    for name in ["manhole-", "manhole-0", "manhole-1x", "manhole-007", "xmanhole-1"] {
        let path = PathBuf::from(format!("/tmp/{name}"));
        if fs::symlink_metadata(&path).is_err() {
            drop(UnixListener::bind(&path).expect("bind"));
            untouched.push(Removed(path));
        }
    }
    let folder = socket_of(free_pid());
    fs::create_dir(&folder).expect("mkdir");
    let list = run(&["list"]);
    fs::remove_dir(&folder).expect("the folder is still there");
    list.is(0, &[]);
    for Removed(path) in &untouched {
        let kind = fs::symlink_metadata(path).unwrap_or_else(|_| panic!("{path:?} was removed: {list:#?}")).file_type();
        assert!(!list.stdout.lines().any(|line| line.ends_with(&format!(" {}", path.display()))) || kind.is_socket());
    }
    assert!(fs::symlink_metadata(&target).is_ok_and(|file| file.file_type().is_socket()), "a link was followed");
}

#[test]
fn a_live_socket_of_a_stranger_and_one_about_to_listen_are_left_alone() {
    let _turn = turn();
    let live = Removed(socket_of(free_pid()));
    let _listener = UnixListener::bind(&live.0).expect("bind");
    let list = run(&["list"]);
    let mine = list.stdout.lines().find(|line| line.contains(live.0.to_str().expect("path"))).expect("a line");
    assert!(mine.contains("listening") && live.0.exists(), "{list:#?}");

    let bound = Removed(socket_of(free_pid()));
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    );
    let socket = socket.expect("socket");
    let address = nix::sys::socket::UnixAddr::new(&bound.0).expect("address");
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address).expect("bind");
    let list = run(&["list"]);
    list.is(0, &[]);
    assert!(list.stdout.contains("(kept: a process may be about to listen there)") && bound.0.exists(), "{list:#?}");
}

#[test]
fn a_user_removes_his_own_and_root_anybodys() {
    if !is_root("be another user") {
        return;
    }
    let _turn = turn();
    let scratch = Scratch::new();
    let copy = scratch.path().join("manhole-cli");
    fs::copy(client::path(), &copy).expect("copy");
    let as_nobody = || {
        let mut command = Command::new(&copy);
        command.args(["list"]).stdin(Stdio::null()).uid(65534).gid(65534);
        client::finish(command)
    };
    let (roots, nobodys) = (stale(free_pid()), stale(free_pid()));
    std::os::unix::fs::chown(&nobodys.0, Some(65534), Some(65534)).expect("chown");
    as_nobody().is(0, &[]);
    assert!(roots.0.exists(), "nobody removed root's");
    assert!(!nobodys.0.exists(), "nobody's is still there");

    let nobodys = stale(free_pid());
    std::os::unix::fs::chown(&nobodys.0, Some(65534), Some(65534)).expect("chown");
    run(&["list"]).is(0, &[]);
    assert!(!roots.0.exists() && !nobodys.0.exists(), "root removes both");
}

#[test]
fn a_socket_that_cannot_be_removed_is_status_1() {
    // The client may lie in /tmp itself: it is started through a descriptor.
    let read_only = "exec 3<\"$0\" && mount -t tmpfs none /tmp && perl -MIO::Socket::UNIX -e \
                     'IO::Socket::UNIX->new(Local => \"/tmp/manhole-2147480000\", Listen => 1) or die' && \
                     mount -o remount,ro /tmp && exec /proc/self/fd/3 list";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", read_only]).arg(client::path()).stdin(Stdio::null());
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no right to make namespaces here");
        return;
    }
    let list = client::finish(command);
    list.is(1, &[]);
    assert!(list.stdout.contains("(cannot be removed: Read-only file system)"), "{list:#?}");
}

#[test]
fn list_takes_no_command_and_no_signal() {
    run(&["-c", "stacks", "list"]).is(2, &["list takes neither a command nor a signal"]);
    run(&["-USR2", "list"]).is(2, &["list takes neither"]);
    run(&["--json", "1"]).is(2, &["--json goes with list"]);
}
