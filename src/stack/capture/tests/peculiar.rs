//! Processes of a peculiar kind: without privileges, under seccomp, traced already, with a SIGURG
//! handler of their own. Each runs in a child: this binary again, with one ignored test.

use super::*;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

/// Runs the ignored test `name` of this file alone in a child process.
fn run(name: &str) {
    let _turn = take_turn();
    let output = command(name).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    eprintln!("{text}");
    assert!(output.status.success() && text.contains("child is done"), "{name}: {:?}\n{text}", output.status);
}

fn command(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let path = format!("{}::{name}", module_path!().trim_start_matches("manhole::"));
    command.args(["--exact", &path, "--ignored", "--nocapture"]).stdout(Stdio::null());
    command
}

fn dumpable() -> i32 {
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }
}

/// A blocked thread; parked for ever.
fn blocked() -> i32 {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        sender.send(crate::sys::process::tid()).unwrap();
        loop {
            std::thread::park();
        }
    });
    let tid = receiver.recv().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    tid
}

#[test]
fn a_process_that_dropped_its_privileges_is_seen() {
    run("child_without_privileges");
}

#[test]
#[ignore]
fn child_without_privileges() {
    let (busy, parked) = (Busy::new(), blocked());
    if unsafe { libc::getuid() } == 0 {
        assert_eq!(unsafe { libc::setresgid(65534, 65534, 65534) }, 0);
        assert_eq!(unsafe { libc::setresuid(65534, 65534, 65534) }, 0);
    }
    // As the kernel leaves it after a change of user, whatever fs.suid_dumpable says here.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    let refused = std::fs::File::open(format!("/proc/self/task/{parked}/syscall")).is_err();
    assert!(refused, "the test needs a process that may not look at itself");
    let mut camera = Camera::new();
    let stack = camera.stack(Methods::default(), parked);
    assert_eq!((stack.method, stack.ending), (Some(Method::Proc), Ending::FirstFrame), "{stack:x?}");
    assert_eq!(dumpable(), 0);
    Busy::assert_is_seen(&camera.stack(Methods::default(), busy.tid), Method::Ptrace);
    assert_eq!(dumpable(), 0);
    // A child forked in the middle of a dump does not keep the flag.
    let mut status = -1;
    let mut each = |_| {
        assert_eq!(dumpable(), 1);
        crate::sys::dumpable::note_before_fork();
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            crate::sys::dumpable::put_back_in_child();
            unsafe { libc::_exit(dumpable()) };
        }
        unsafe { libc::waitpid(pid, &mut status, 0) };
    };
    camera.capture.capture(&camera.modules, &mut camera.unwinder, &[parked], &Limits::default(), &mut each);
    assert_eq!((status, dumpable()), (0, 0));
    eprintln!("child is done");
}

/// Installs a seccomp filter for all threads that answers `ptrace` with `action`.
fn forbid_ptrace(action: u32) {
    let load = |offset| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: offset };
    let result = |k| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
    let equal = libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_ptrace as u32 };
    let mut filter = [load(0), equal, result(action), result(libc::SECCOMP_RET_ALLOW)];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let (operation, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
    assert_eq!(unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program) }, 0);
}

/// Where ptrace is forbidden, a running thread is seen by signal, a blocked one by `/proc`.
fn assert_seen_without_ptrace() {
    let (busy, parked) = (Busy::new(), blocked());
    let mut camera = Camera::new();
    for _ in 0..3 {
        let start = Instant::now();
        Busy::assert_is_seen(&camera.stack(Methods::default(), busy.tid), Method::Signal);
        let stack = camera.stack(Methods::default(), parked);
        assert_eq!((stack.method, stack.ending), (Some(Method::Proc), Ending::FirstFrame));
        eprintln!("two dumps took {:?}", start.elapsed());
        assert_eq!(dumpable(), 1);
    }
}

#[test]
fn a_filter_that_refuses_ptrace_costs_nothing() {
    run("child_with_refusing_filter");
}

#[test]
#[ignore]
fn child_with_refusing_filter() {
    forbid_ptrace(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    assert_seen_without_ptrace();
    eprintln!("child is done");
}

#[test]
fn a_filter_that_kills_the_helper_kills_nothing_else() {
    run("child_with_killing_filter");
}

#[test]
#[ignore]
fn child_with_killing_filter() {
    forbid_ptrace(libc::SECCOMP_RET_KILL_PROCESS);
    assert_seen_without_ptrace();
    eprintln!("child is done");
}

#[test]
#[expect(clippy::zombie_processes, reason = "waited for below, after its last line")]
fn a_process_under_a_debugger_is_seen() {
    let _turn = take_turn();
    let mut child = command("child_under_a_debugger").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut text, &mut line).unwrap();
        line
    };
    while !lines().contains("ready") {}
    // Be a debugger as strace is one: attached to every thread, passing on signals.
    let folder = format!("/proc/{}/task", child.id());
    for entry in std::fs::read_dir(folder).unwrap() {
        let tid = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        crate::sys::ptrace::seize(tid).unwrap();
    }
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"go\n").unwrap();
    loop {
        let mut status = 0;
        let tid = unsafe { libc::waitpid(-1, &mut status, libc::__WALL) };
        assert!(tid > 0);
        if libc::WIFSTOPPED(status) {
            let signal = if status >> 16 == 0 { libc::WSTOPSIG(status) } else { 0 };
            unsafe { libc::ptrace(libc::PTRACE_CONT, tid, 0, signal) };
        } else if tid == child.id() as i32 {
            let mut rest = String::new();
            std::io::Read::read_to_string(&mut text, &mut rest).unwrap();
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}\n{rest}");
            assert!(rest.contains("child is done"), "{rest}");
            return;
        }
    }
}

#[test]
#[ignore]
fn child_under_a_debugger() {
    let (busy, parked) = (Busy::new(), blocked());
    eprintln!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let mut camera = Camera::new();
    Busy::assert_is_seen(&camera.stack(Methods::default(), busy.tid), Method::Signal);
    assert_eq!(camera.stack(Methods::default(), parked).method, Some(Method::Proc));
    let stack = camera.stack(PTRACE, busy.tid);
    assert_eq!(stack.ending, Ending::Truncated(Reason::Refused(libc::EPERM)));
    eprintln!("child is done");
}

#[test]
fn signals_of_the_application_reach_its_handler() {
    run("child_with_a_handler");
}

static TAKEN: AtomicU32 = AtomicU32::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

extern "C" fn application_handler(_: i32, information: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let value = unsafe { (*information).si_value().sival_ptr } as u64;
    if value == 77 && !context.is_null() {
        TAKEN.fetch_add(1, Ordering::Relaxed);
    } else {
        WRONG.store(value, Ordering::Relaxed);
    }
}

fn install_application_handler() {
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = application_handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    unsafe { libc::sigaction(libc::SIGURG, &action, std::ptr::null_mut()) };
}

#[test]
#[ignore]
fn child_with_a_handler() {
    install_application_handler();
    let before = crate::sys::signal::disposition(libc::SIGURG).unwrap();
    let (busy, mut camera) = (Busy::new(), Camera::new());
    let done = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                // To this very thread, one at a time, so that none is merged with another.
                crate::sys::signal::queue(crate::sys::process::tid(), libc::SIGURG, 77).unwrap();
                sent += 1;
            }
            sent
        });
        let end = SetOnDrop(&done);
        for _ in 0..100 {
            Busy::assert_is_seen(&camera.stack(SIGNAL, busy.tid), Method::Signal);
        }
        drop(end);
        sender.join().unwrap()
    });
    assert_eq!((TAKEN.load(Ordering::Relaxed), WRONG.load(Ordering::Relaxed)), (sent, 0));
    assert_eq!(crate::sys::signal::disposition(libc::SIGURG).unwrap(), before);
    eprintln!("{sent} signals of the application; child is done");
}

#[test]
fn a_late_signal_never_reaches_the_application() {
    run("child_with_a_late_signal");
}

#[test]
#[ignore]
fn child_with_a_late_signal() {
    install_application_handler();
    let before = crate::sys::signal::disposition(libc::SIGURG).unwrap();
    let (let_in, tid) = (AtomicBool::new(false), AtomicI32::new(0));
    std::thread::scope(|scope| {
        let end = SetOnDrop(&let_in);
        scope.spawn(|| {
            crate::sys::signal::block_all();
            tid.store(crate::sys::process::tid(), Ordering::Release);
            while !let_in.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            crate::sys::signal::set_blocked(0);
        });
        while tid.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let tid = tid.load(Ordering::Acquire);
        let outcomes = Camera::new().dump(SIGNAL, &[tid]);
        let [Outcome::Captured(stack)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!(stack.ending, Ending::Truncated(Reason::SignalBlocked));
        // Past that check, as if the thread had blocked it a moment later.
        let want = Want { stack: 4096, extra: None, repeat: false };
        let (mut copies, mut patience) = (Copies::default(), Patience::new());
        let gaze = Gaze::new(true).unwrap();
        let is_pending = |tid| gaze.signals(tid).unwrap().1 & signal::MASK != 0;
        let result = signal::snapshot(tid, want, &mut copies, &mut patience, &is_pending);
        assert_eq!(result.err(), Some(Failure::NoAnswer));
        assert_ne!(crate::sys::signal::disposition(libc::SIGURG).unwrap(), before, "waits for the late signal");
        drop(end);
    });
    assert_eq!((TAKEN.load(Ordering::Relaxed), WRONG.load(Ordering::Relaxed)), (0, 0));
    assert_eq!(crate::sys::signal::disposition(libc::SIGURG).unwrap(), before, "put back by the late signal");
    eprintln!("child is done");
}
