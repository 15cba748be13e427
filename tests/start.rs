//! The way in: options, the socket's path and mode, and when to stay out. Whatever fails costs one log line, and the
//! application goes on.

mod harness;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use harness::fixtures::{Compiler, build, library};
use harness::host::{Host, Launch};
use harness::{Scratch, is_ours};

/// `cat`, with these options.
fn cat(options: &str) -> Launch {
    Launch::new("/bin/cat").option(options)
}

/// Whether a host runs as if we were not there; it has echoed a line, so its constructors are done.
fn works_without_us(host: &mut Host) -> bool {
    host.tell("echo\n");
    host.wait_for_line("echo");
    host.threads().iter().all(|(_, name)| !is_ours(name)) && !host.socket().exists()
}

/// The host has one line of ours on standard error, with all of `parts`, and runs without us.
fn one_line_with(launch: Launch, parts: &[&str]) {
    let mut host = launch.start_only();
    let log = host.wait_for_stderr("\n");
    // Threads of ours that cannot open their socket end by themselves.
    host.tell("echo\n");
    host.wait_for_line("echo");
    let end = std::time::Instant::now() + harness::DEADLINE;
    while host.threads().iter().any(|(_, name)| is_ours(name)) {
        assert!(std::time::Instant::now() < end, "a thread of ours stays; {}", host.story());
        std::thread::yield_now();
    }
    let ours: Vec<&str> = log.lines().filter(|line| line.starts_with("Manhole[")).collect();
    assert_eq!(ours.len(), 1, "{log}");
    for part in parts {
        assert!(ours[0].contains(part), "{part:?} is not in {log}");
    }
    assert!(host.is_alive());
}

#[test]
fn off_means_out() {
    let mut host = cat("off").start_only();
    assert!(works_without_us(&mut host));
    assert_eq!(host.stderr(), "");
}

#[test]
fn unset_or_empty_means_the_defaults() {
    for launch in [Launch::new("/bin/cat"), Launch::new("/bin/cat").env("MANHOLE", "")] {
        let mut host = launch.start();
        assert!(!host.dump().threads.is_empty());
    }
}

#[test]
fn wrong_options_cost_one_line_that_names_them() {
    one_line_with(cat("verbsoe=True"), &["verbsoe", "verbose"]);
    one_line_with(cat("start_timeout=soon"), &["start_timeout", "soon", "seconds"]);
    one_line_with(cat("verbose=True,verbose=True"), &["verbose", "twice"]);
    one_line_with(cat("socket_path=\"/tmp/unfinished"), &["closing quote", "/tmp/unf"]);
    one_line_with(cat("=,=,,(("), &[]);
}

#[test]
fn python_manholes_spelling_is_understood() {
    let scratch = Scratch::new();
    let path = scratch.path().join("a,b");
    for options in [
        format!("socket_path=\"{}\",verbose=False,strict=True,start_timeout=0.5", path.display()),
        format!("sigmask=None, socket_path='{}' , patch_fork=False", path.display()),
    ] {
        let mut host = cat(&options).start_only();
        assert!(host.connect_to(&path).greeting().contains("ThreadID="), "{options}");
        host.release();
    }
}

#[test]
fn socket_path_takes_pid_and_name() {
    let scratch = Scratch::new();
    let mut host = cat(&format!("socket_path=\"{}/{{name}}.{{pid}}\"", scratch.path().display())).start_only();
    let path = scratch.path().join(format!("cat.{}", host.pid()));
    drop(host.connect_to(&path));
    host.release();
    assert!(!path.exists(), "left behind");
}

#[test]
fn only_opens_in_programs_of_that_name() {
    drop(cat("only='c?t'").start());
    drop(cat("only=['python*','cat']").start());
    let mut other = cat("only='redis*'").start_only();
    assert!(works_without_us(&mut other));
    assert_eq!(other.stderr(), "");
    // One exported LD_PRELOAD, a manhole in one program of the script only.
    let mut shell = Launch::new("/bin/sh").args(["-c", "cat; echo end"]).option("only=cat").start_only();
    let log = shell.wait_for_stderr("UDS path: ");
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(!log.contains(&format!("Manhole[{}:", shell.pid())), "the shell has one too: {log}");
    shell.release();
    assert_eq!(shell.lines(), ["", "end"]);
}

#[test]
fn the_socket_is_private_before_its_name_is_visible() {
    let scratch = Scratch::new();
    // SAFETY: plain system call.
    let watch = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
    let directory = std::ffi::CString::new(scratch.path().as_os_str().as_encoded_bytes()).expect("path");
    // SAFETY: the path ends with NUL and lives through the call.
    let added = unsafe {
        libc::inotify_add_watch(watch, directory.as_ptr(), libc::IN_CREATE | libc::IN_ATTRIB | libc::IN_MOVED_TO)
    };
    assert!(added >= 0, "inotify");
    let path = scratch.path().join("socket");
    let mut host = cat(&format!("socket_path='{}'", path.display())).start_only();
    drop(host.connect_to(&path));
    let status = fs::metadata(&path).expect("stat");
    assert!(status.file_type().is_socket());
    assert_eq!(status.permissions().mode() & 0o7777, 0o600);
    // Events are queued: a mode that was changed after the name was there leaves an IN_ATTRIB, however short the time.
    let mut events = [0_u8; 4096];
    // SAFETY: the buffer is writable for its length.
    let length = unsafe { libc::read(watch, events.as_mut_ptr().cast(), events.len()) };
    let mut masks = Vec::new();
    let mut at = 0;
    while at + 16 <= length.max(0) as usize {
        let word =
            |offset: usize| u32::from_ne_bytes(events[at + offset..at + offset + 4].try_into().expect("four bytes"));
        masks.push(word(4));
        at += 16 + word(12) as usize;
    }
    assert!(
        masks.iter().all(|mask| mask & libc::IN_ATTRIB == 0),
        "its mode was changed after it was visible: {masks:#x?}"
    );
    assert!(!masks.is_empty());
    // SAFETY: ours to close.
    unsafe { libc::close(watch) };
}

#[test]
fn the_mode_does_not_depend_on_umask() {
    use std::os::unix::process::CommandExt;
    for mask in [0, 0o22, 0o77, 0o777] {
        let scratch = Scratch::new();
        let path = scratch.path().join("socket");
        // SAFETY: umask is async-signal-safe.
        let set = move |command: &mut std::process::Command| unsafe {
            command.pre_exec(move || {
                libc::umask(mask);
                Ok(())
            });
        };
        let mut host = cat(&format!("socket_path='{}'", path.display())).with(set).start_only();
        drop(host.connect_to(&path));
        assert_eq!(fs::metadata(&path).expect("stat").permissions().mode() & 0o7777, 0o600, "umask {mask:o}");
    }
}

#[test]
fn a_stale_socket_is_replaced() {
    let scratch = Scratch::new();
    let path = scratch.path().join("socket");
    // The standard library leaves the name: a process that was killed does too.
    drop(UnixListener::bind(&path).expect("bind"));
    assert!(path.exists());
    let mut host = cat(&format!("socket_path='{}'", path.display())).start_only();
    drop(host.connect_to(&path));
}

fn is_reported_and_left(path: &Path) {
    let options = format!("socket_path='{}'", path.display());
    one_line_with(cat(&options), &[path.to_str().expect("UTF-8")]);
    assert!(fs::symlink_metadata(path).is_ok(), "{path:?} was removed");
}

#[test]
fn what_is_no_stale_socket_is_reported_and_left() {
    let scratch = Scratch::new();
    let file = scratch.path().join("file");
    fs::write(&file, "precious").expect("write");
    is_reported_and_left(&file);
    assert_eq!(fs::read_to_string(&file).expect("read"), "precious");

    let directory = scratch.path().join("directory");
    fs::create_dir(&directory).expect("mkdir");
    is_reported_and_left(&directory);

    let link = scratch.path().join("link");
    symlink(&file, &link).expect("symlink");
    is_reported_and_left(&link);
    let dangling = scratch.path().join("dangling");
    symlink(scratch.path().join("nowhere"), &dangling).expect("symlink");
    is_reported_and_left(&dangling);

    let live = scratch.path().join("live");
    let listener = UnixListener::bind(&live).expect("bind");
    is_reported_and_left(&live);
    drop(listener);
}

#[test]
fn an_impossible_path_is_reported() {
    let long = format!("/tmp/{}", "x".repeat(120));
    one_line_with(cat(&format!("socket_path='{long}'")), &[&long, "107"]);
    one_line_with(cat("socket_path='/no-such-directory/socket'"), &["/no-such-directory/socket"]);
}

#[test]
fn the_log_goes_where_it_is_told() {
    let scratch = Scratch::new();
    let log = scratch.path().join("log");
    let mut host = cat(&format!("verbose_destination='{}'", log.display())).start();
    host.release();
    assert_eq!(host.stderr(), "");
    assert!(fs::read_to_string(&log).expect("log").contains("UDS path"));
}

#[test]
fn a_log_that_goes_nowhere_is_told_once() {
    for (place, why) in [("'/no-such-directory/log'", "No such file"), ("777", "Bad file")] {
        let mut host = cat(&format!("verbose_destination={place}")).start();
        drop(host.connect());
        host.release();
        let stderr = host.stderr();
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("verbose_destination") && stderr.contains(why), "{stderr}");
    }
}

/// A program started in secure mode (setuid) has no manhole. The loader ignores LD_PRELOAD there, but a program may be
/// linked to the library, or the library lie among the trusted ones.
#[test]
fn secure_mode_stays_out() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: making a setuid program needs root");
        return;
    }
    use std::os::unix::process::CommandExt;
    let scratch = Scratch::new();
    let directory = scratch.path().to_str().expect("UTF-8");
    fs::copy(library(), scratch.path().join("libmanhole.so")).expect("copy");
    let program = build(
        "at_secure",
        Compiler::Gnu,
        &["-O1", "-Wl,--no-as-needed", &format!("-L{directory}"), "-lmanhole", &format!("-Wl,-rpath,{directory}")],
    );
    for (mode, expected) in [(0o755, "plain"), (0o4755, "secure")] {
        let path = scratch.path().join(expected);
        fs::copy(&program, &path).expect("copy");
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
        let mut host = Launch::new(&path)
            .bare()
            .with(|command| {
                command.uid(65534).gid(65534);
            })
            .when_it_says("ready")
            .start();
        if host.lines()[0] != expected {
            println!("skipped: {directory} is mounted nosuid");
            return;
        }
        if expected == "plain" {
            // The control: linked like this it has a manhole.
            drop(host.connect());
        } else {
            assert!(host.threads().iter().all(|(_, name)| !is_ours(name)), "{}", host.story());
            assert!(!host.socket().exists());
        }
    }
    // The build is of this run's directory alone.
    let _ = fs::remove_file(program);
}
