//! `manhole-cli` against servers that this file plays itself: no manhole is involved.
//!
//! A server in a thread of this process is process `std::process::id()` to the client; where it must be
//! somebody else, a perl one-liner listens (perl-base is in every Debian).

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use manhole::protocol::{self, RequestDecoder, Status};

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("manhole-client-test.{}.{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The socket's name that promises this very process.
    fn own_socket(&self) -> PathBuf {
        self.join(&format!("manhole-{}", std::process::id()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves one client in a thread.
fn serve<R: Send + 'static>(path: &Path, talk: impl FnOnce(UnixStream) -> R + Send + 'static) -> JoinHandle<R> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || talk(listener.accept().unwrap().0))
}

fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_manhole-cli"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end, which must come within 20 seconds.
fn finish(child: Child) -> Output {
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    receiver.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("manhole-cli {pid} hangs")).unwrap()
}

fn run(arguments: &[&str]) -> Output {
    finish(client(arguments).spawn().unwrap())
}

#[track_caller]
fn assert_ends(output: &Output, code: i32, words: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "stderr: {stderr}");
    assert!(stderr.contains(words), "{words:?} is not in: {stderr}");
    assert_eq!(stderr.is_empty(), words.is_empty(), "stderr: {stderr}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Reads the one request of a framed client, whose name must ask for frames.
fn request(stream: &mut UnixStream) -> protocol::Request {
    let peer = stream.peer_addr().unwrap();
    assert_eq!(peer.as_abstract_name().and_then(protocol::requested_version), Some(protocol::VERSION));
    let mut decoder = RequestDecoder::new();
    loop {
        let mut buffer = [0; 7];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the client left without a request");
        if let Some(request) = decoder.decode(&mut &buffer[..count]).unwrap() {
            return request;
        }
    }
}

/// A child that runs `script` and has said `ready`.
fn perl(script: &str, arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Killed {
    let mut command = Command::new("perl");
    command.args(["-MIO::Socket::UNIX", "-e", script]).args(arguments).stdout(Stdio::piped());
    prepare(&mut command);
    let mut child = Killed(command.spawn().unwrap());
    let mut ready = [0; 6];
    child.0.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
    child
}

/// Listens at its argument, greets whoever comes, and reads what he says until he leaves.
const LISTENER: &str = r#"$| = 1; $s = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die "$ARGV[0]: $!";
    print "ready\n"; while ($c = $s->accept) { print $c "hello\n"; 1 while <$c>; close $c; }"#;

#[test]
fn a_command_prints_its_data_and_exits_with_its_status() {
    for status in [Status::Success, Status::Failed, Status::Usage] {
        let folder = Folder::new();
        let server = serve(&folder.own_socket(), move |mut stream| {
            let request = request(&mut stream);
            let mut answer = Vec::new();
            protocol::encode_data(request.id, b"raw \0\xff\x1b[1m\n", &mut answer);
            protocol::encode_data(request.id, &vec![b'x'; 300_000], &mut answer);
            protocol::encode_done(request.id, status, &mut answer);
            stream.write_all(&answer).unwrap();
            request.command
        });
        let output = run(&["-c", "stacks --group", text(&folder.own_socket())]);
        assert_ends(&output, i32::from(status.code()), "");
        assert_eq!(output.stdout.len(), b"raw \0\xff\x1b[1m\n".len() + 300_000);
        assert!(output.stdout.starts_with(b"raw \0\xff\x1b[1m\nxxx"));
        assert_eq!(server.join().unwrap(), b"stacks --group");
    }
}

#[test]
fn a_refusal_is_shown() {
    for arguments in [&["-c", "stacks"][..], &[]] {
        let folder = Folder::new();
        let server = serve(&folder.own_socket(), |mut stream| {
            let mut answer = Vec::new();
            protocol::encode_refusal("uid 1000 is not let in", &mut answer);
            stream.write_all(&answer).unwrap();
        });
        let output = run(&[arguments, &[text(&folder.own_socket())]].concat());
        server.join().unwrap();
        assert_eq!(output.status.code(), Some(3));
        let shown = if arguments.is_empty() { output.stdout } else { output.stderr };
        assert!(String::from_utf8_lossy(&shown).contains("refused: uid 1000 is not let in\n"));
    }
}

#[test]
fn a_server_that_leaves_early_or_speaks_no_frames_is_a_lost_connection() {
    for (answer, words) in [(&b""[..], "its end came before"), (b"data 1 5\nab", "its end came before")] {
        let folder = Folder::new();
        serve(&folder.own_socket(), move |mut stream| stream.write_all(answer).unwrap());
        assert_ends(&run(&["-c", "stacks", text(&folder.own_socket())]), 3, words);
    }
    for answer in ["manhole> hello\n", "done 2 0\n", "done 1 7\n"] {
        let folder = Folder::new();
        serve(&folder.own_socket(), move |mut stream| {
            stream.write_all(answer.as_bytes()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert_ends(&run(&["-c", "stacks", text(&folder.own_socket())]), 3, "connection lost");
    }
}

#[test]
fn a_session_relays_both_ways_and_ends_with_the_server() {
    let folder = Folder::new();
    let server = serve(&folder.own_socket(), |mut stream| {
        assert!(stream.peer_addr().unwrap().is_unnamed());
        stream.write_all(b"\xff banner\nmanhole> ").unwrap();
        let mut line = [0; 7];
        stream.read_exact(&mut line).unwrap();
        stream.write_all(b"bye\n").unwrap();
        line
    });
    let mut child = client(&[text(&folder.own_socket())]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut banner = [0; 18];
    child.stdout.as_mut().unwrap().read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"\xff banner\nmanhole> ");
    stdin.write_all(b"exit \xfe\n").unwrap();
    assert_eq!(&server.join().unwrap(), b"exit \xfe\n");
    let output = finish(child);
    assert_ends(&output, 0, "");
    assert_eq!(output.stdout, b"bye\n");
    drop(stdin);
}

#[test]
fn the_end_of_input_is_passed_on_and_the_rest_is_still_shown() {
    let folder = Folder::new();
    let server = serve(&folder.own_socket(), |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&vec![b'y'; 1_000_000]).unwrap();
        all
    });
    let mut child = client(&[text(&folder.own_socket())]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"help").unwrap();
    let output = finish(child);
    assert_ends(&output, 0, "");
    assert_eq!(output.stdout.len(), 1_000_000);
    assert_eq!(server.join().unwrap(), b"help");
}

#[test]
fn what_the_server_sends_is_shown_at_once() {
    let folder = Folder::new();
    let (shown, seen) = mpsc::channel();
    let server = serve(&folder.own_socket(), move |mut stream| {
        for number in 0..5 {
            stream.write_all(format!("line{number}\n").as_bytes()).unwrap();
            // The next one comes only when the client has shown this one.
            assert_eq!(seen.recv_timeout(Duration::from_secs(20)).unwrap(), number);
        }
    });
    let mut child = client(&[text(&folder.own_socket())]).stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    for number in 0..5 {
        let mut line = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(line, *format!("line{number}\n").as_bytes());
        shown.send(number).unwrap();
    }
    server.join().unwrap();
    assert_ends(&finish(child), 0, "");
    drop(stdin);
}

#[test]
fn a_server_that_does_not_read_does_not_stop_its_output() {
    let folder = Folder::new();
    let server = serve(&folder.own_socket(), |mut stream| {
        stream.write_all(&vec![b'y'; 4_000_000]).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.len()
    });
    let mut child = client(&[text(&folder.own_socket())]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let typing = std::thread::spawn(move || stdin.write_all(&vec![b'x'; 4_000_000]).unwrap());
    let output = finish(child);
    assert_ends(&output, 0, "");
    assert_eq!(output.stdout.len(), 4_000_000);
    typing.join().unwrap();
    assert_eq!(server.join().unwrap(), 4_000_000);
}

#[test]
fn closed_output_ends_the_client_even_while_nothing_happens() {
    let folder = Folder::new();
    let server = serve(&folder.own_socket(), |mut stream| stream.read_to_end(&mut Vec::new()).unwrap());
    let mut child = client(&[text(&folder.own_socket())]).stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    drop(child.stdout.take());
    assert_ends(&finish(child), 141, "");
    server.join().unwrap();
    drop(stdin);
}

#[test]
fn nothing_is_sent_to_a_server_that_is_not_the_named_process() {
    let folder = Folder::new();
    let somebody = Killed(Command::new("sleep").arg("60").spawn().unwrap());
    let path = folder.join(&format!("manhole-{}", somebody.0.id()));
    let server = serve(&path, |mut stream| stream.read_to_end(&mut Vec::new()).unwrap());
    let output = run(&["-t", "0", "-c", "stacks", text(&path)]);
    assert_ends(&output, 3, &format!("is not process {} but process {}", somebody.0.id(), std::process::id()));
    assert_eq!(server.join().unwrap(), 0);
}

#[test]
fn nothing_is_sent_to_a_stranger_at_a_path_that_names_nobody() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can start a process of another user");
        return;
    }
    let folder = Folder::new();
    let path = folder.join("console");
    let stranger = perl(LISTENER, &[text(&path)], |command| {
        command.uid(65534).gid(65534);
    });
    let words = format!("its server is process {} of uid 65534, neither root nor you", stranger.0.id());
    assert_ends(&run(&["-t", "0", text(&path)]), 3, &words);
}

#[test]
fn waits_for_the_socket_to_appear() {
    let folder = Folder::new();
    let path = folder.own_socket();
    let child = client(&["-t", "10", text(&path)]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    serve(&path, |mut stream| stream.write_all(b"here\n").unwrap());
    let output = finish(child);
    assert_ends(&output, 0, "");
    assert_eq!(output.stdout, b"here\n");
}

#[test]
fn says_why_there_is_no_way_in() {
    let folder = Folder::new();
    let begun = Instant::now();
    assert_ends(&run(&["-t", "60", "2147483647"]), 3, "no process 2147483647");
    assert!(begun.elapsed() < Duration::from_secs(30), "waited for a process that is not there");

    let sleep = Killed(Command::new("sleep").arg("60").spawn().unwrap());
    let pid = sleep.0.id().to_string();
    assert_ends(&run(&["-t", "0", &pid]), 3, &format!("process {pid} has no manhole: libmanhole.so is not loaded"));
    assert_ends(&run(&["-t", "0", &format!("/tmp/manhole-{pid}")]), 3, "libmanhole.so is not loaded");

    let path = folder.own_socket();
    assert_ends(&run(&["-t", "0", text(&path)]), 3, "does not exist");
    drop(UnixListener::bind(&path).unwrap());
    assert_ends(&run(&["-t", "0", text(&path)]), 3, "nobody listens at");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert_ends(&run(&["-t", "0", text(&path)]), 3, "is no socket");
    let long = folder.join(&"x".repeat(120));
    assert_ends(&run(&["-t", "9", text(&long)]), 3, "at most 107 bytes");
}

#[test]
fn says_that_a_static_program_cannot_have_a_manhole() {
    let folder = Folder::new();
    let (source, program) = (folder.join("static.c"), folder.join("static"));
    fs::write(&source, "#include <unistd.h>\nint main(void) { pause(); return 0; }\n").unwrap();
    let built = Command::new("gcc").arg("-static").arg(&source).arg("-o").arg(&program).output();
    if !built.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: gcc -static does not work here");
        return;
    }
    let child = Killed(Command::new(&program).spawn().unwrap());
    assert_ends(&run(&["-t", "0", &child.0.id().to_string()]), 3, "statically linked");
}

#[test]
fn a_socket_in_the_applications_own_descriptor_table_is_not_taken_for_its_manhole() {
    let folder = Folder::new();
    let server = perl(&format!("$0 = 'Manhole'; {LISTENER}"), &[text(&folder.join("its own"))], |_| {});
    let output = run(&["-t", "0", &server.0.id().to_string()]);
    assert_ends(&output, 3, "libmanhole.so is not loaded");
}

#[test]
fn finds_a_process_in_other_pid_and_mount_namespaces() {
    let script = format!(r#"system("mount -t tmpfs none /tmp") == 0 or die; {LISTENER}"#);
    let namespaced = Command::new("unshare").args(["-fpm", "--mount-proc", "true"]).output();
    if !namespaced.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no right to make namespaces here");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["-fpm", "--kill-child", "--mount-proc", "perl", "-MIO::Socket::UNIX", "-e", &script]);
    let mut parent = Killed(command.arg("/tmp/manhole-1").stdout(Stdio::piped()).spawn().unwrap());
    parent.0.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let id = parent.0.id();
    let child = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap().trim().to_owned();

    let output = run(&[&child]);
    assert_ends(&output, 0, "");
    assert_eq!(output.stdout, b"hello\n");
    let output = run(&[&format!("/proc/{child}/root/tmp/manhole-1")]);
    assert_ends(&output, 0, "");
    assert_eq!(output.stdout, b"hello\n");
}

#[test]
fn a_signal_is_sent_first_and_only_to_whom_it_does_not_kill() {
    let folder = Folder::new();
    // Starts to listen when it gets the signal, as a manhole with activate_on does.
    let script = format!(r#"$SIG{{USR1}} = sub {{ $go = 1 }}; $| = 1; print "ready\n"; 1 until $go; {LISTENER}"#);
    let server = perl(&script, &["waiting"], |command| {
        command.current_dir(&folder.0);
    });
    let path = folder.join(&format!("manhole-{}", server.0.id()));
    // The name must promise the pid, which is not known before the start.
    std::os::unix::fs::symlink("waiting", &path).unwrap();
    let output = run(&["-1", "-t", "10", text(&path)]);
    assert_ends(&output, 0, "");
    assert_eq!(output.stdout, b"hello\n");

    let mut sleep = Killed(Command::new("sleep").arg("60").spawn().unwrap());
    let pid = sleep.0.id().to_string();
    assert_ends(&run(&["-s", "RTMIN+3", "-t", "0", &pid]), 3, "SIGRTMIN+3 not sent");
    assert_ends(&run(&["-USR2", "-t", "0", &pid]), 3, "SIGUSR2 not sent");
    assert!(sleep.0.try_wait().unwrap().is_none());
    assert_ends(&run(&["-1", "-t", "0", text(&folder.join("console"))]), 2, "a signal needs a pid");
}

#[test]
fn a_stopped_process_is_not_waited_for_by_a_command() {
    let folder = Folder::new();
    let server = perl(LISTENER, &["s"], |command| {
        command.current_dir(&folder.0);
    });
    let path = folder.join(&format!("manhole-{}", server.0.id()));
    std::os::unix::fs::symlink("s", &path).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.0.id() as i32), nix::sys::signal::SIGSTOP).unwrap();
    assert_ends(&run(&["-t", "0.2", "-c", "stacks", text(&path)]), 3, "is stopped");
}

#[test]
fn wrong_usage_is_2() {
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["--nonsense", "1"]).status.code(), Some(2));
    assert_ends(&run(&["-c", "a\nb", "1"]), 2, "a command is one line");
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}
