//! Blocked calls under dumps: none returns early, none with EINTR, none late.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32};
use std::time::{Duration, Instant};

/// A blocked call: its name, whether ptrace may stop a thread in it, and the call.
type Case = (&'static str, bool, fn() -> i64);

fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    unsafe { libc::pipe(ends.as_mut_ptr()) };
    ends
}

fn pair(kind: i32, timeout: Option<libc::timeval>) -> i32 {
    let mut ends = [0; 2];
    unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) };
    if let Some(time) = timeout {
        let size = size_of_val(&time) as u32;
        unsafe { libc::setsockopt(ends[0], libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const time).cast(), size) };
    }
    ends[0]
}

fn set(signal: i32) -> libc::sigset_t {
    let mut set = unsafe { std::mem::zeroed() };
    unsafe { libc::sigemptyset(&mut set) };
    unsafe { libc::sigaddset(&mut set, signal) };
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
    set
}

/// Semaphores and queues that are waited on: they would outlive the process.
static SEMAPHORES: Mutex<Vec<i32>> = Mutex::new(Vec::new());
static QUEUES: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// Removes them at the end of a test; their waiters come back with EIDRM.
struct RemoveIpc;

impl Drop for RemoveIpc {
    fn drop(&mut self) {
        for id in SEMAPHORES.lock().unwrap().drain(..) {
            unsafe { libc::semctl(id, 0, libc::IPC_RMID) };
        }
        for id in QUEUES.lock().unwrap().drain(..) {
            unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        }
    }
}

const LONG: libc::timespec = libc::timespec { tv_sec: 1000, tv_nsec: 0 };
const LONG_TV: libc::timeval = libc::timeval { tv_sec: 1000, tv_usec: 0 };

fn poll_for(milliseconds: i32) -> i64 {
    let mut poll = libc::pollfd { fd: pipe()[0], events: libc::POLLIN, revents: 0 };
    (unsafe { libc::poll(&mut poll, 1, milliseconds) }).into()
}

fn ppoll_for(time: *const libc::timespec) -> i64 {
    let mut poll = libc::pollfd { fd: pipe()[0], events: libc::POLLIN, revents: 0 };
    (unsafe { libc::ppoll(&mut poll, 1, time, std::ptr::null()) }).into()
}

fn select_for(time: Option<libc::timeval>) -> i64 {
    let mut time = time;
    let fd = pipe()[0];
    let mut set = unsafe { std::mem::zeroed() };
    unsafe { libc::FD_SET(fd, &mut set) };
    let (none, time) = (std::ptr::null_mut(), time.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut));
    (unsafe { libc::select(fd + 1, &mut set, none, none, time) }).into()
}

fn epoll_for(milliseconds: i32) -> i64 {
    let fd = unsafe { libc::epoll_create1(0) };
    let mut event = unsafe { std::mem::zeroed() };
    (unsafe { libc::epoll_wait(fd, &mut event, 1, milliseconds) }).into()
}

fn epoll_pwait() -> i64 {
    let fd = unsafe { libc::epoll_create1(0) };
    let mut event = unsafe { std::mem::zeroed() };
    let mask = set(libc::SIGUSR1);
    (unsafe { libc::epoll_pwait(fd, &mut event, 1, -1, &mask) }).into()
}

fn nanosleep(time: libc::timespec) -> i64 {
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, 0) }
}

fn futex_for(time: *const libc::timespec) -> i64 {
    let word = 0u32;
    unsafe { libc::syscall(libc::SYS_futex, &raw const word, libc::FUTEX_WAIT, 0, time, 0, 0) }
}

fn semaphore(time: *const libc::timespec) -> i64 {
    let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
    SEMAPHORES.lock().unwrap().push(id);
    let mut operation = libc::sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
    unsafe { libc::syscall(libc::SYS_semtimedop, id, &raw mut operation, 1, time) }
}

fn sigtimedwait(time: *const libc::timespec) -> i64 {
    let set = set(libc::SIGUSR2);
    (unsafe { libc::sigtimedwait(&set, std::ptr::null_mut(), time) }).into()
}

fn read(fd: i32) -> i64 {
    let mut bytes = [0u8; 512];
    (unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) }) as i64
}

fn receive(fd: i32, flags: i32) -> i64 {
    let mut bytes = [0u8; 512];
    (unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), flags) }) as i64
}

fn accept() -> i64 {
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
    unsafe { libc::listen(fd, 1) };
    (unsafe { libc::accept(fd, std::ptr::null_mut(), std::ptr::null_mut()) }).into()
}

fn message_queue() -> i64 {
    let id = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
    QUEUES.lock().unwrap().push(id);
    let mut message = [0u64; 8];
    (unsafe { libc::msgrcv(id, message.as_mut_ptr().cast(), 8, 0, 0) }) as i64
}

fn waitid() -> i64 {
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            unsafe { libc::pause() };
        }
    }
    let mut info = unsafe { std::mem::zeroed() };
    (unsafe { libc::waitid(libc::P_PID, pid as u32, &mut info, libc::WEXITED) }).into()
}

fn condition() -> i64 {
    let (lock, condition) = (Mutex::new(()), std::sync::Condvar::new());
    let guard = lock.lock().unwrap();
    drop(condition.wait(guard));
    0
}

fn sem_wait() -> i64 {
    let mut semaphore = unsafe { std::mem::zeroed() };
    unsafe { libc::sem_init(&mut semaphore, 0, 0) };
    (unsafe { libc::sem_wait(&mut semaphore) }).into()
}

fn full_pipe() -> i64 {
    let bytes = vec![0u8; 70_000];
    (unsafe { libc::write(pipe()[1], bytes.as_ptr().cast(), bytes.len()) }) as i64
}

fn io_getevents() -> i64 {
    let mut context = 0u64;
    unsafe { libc::syscall(libc::SYS_io_setup, 4, &raw mut context) };
    let mut events = [0u64; 8];
    unsafe { libc::syscall(libc::SYS_io_getevents, context, 1, 1, events.as_mut_ptr(), 0) }
}

fn read_only_ppoll() -> i64 {
    static TIME: libc::timespec = LONG;
    let mut poll = libc::pollfd { fd: pipe()[0], events: libc::POLLIN, revents: 0 };
    unsafe { libc::syscall(libc::SYS_ppoll, &raw mut poll, 1, &raw const TIME, 0, 8) }
}

fn flock() -> i64 {
    let fds = [(); 2].map(|()| unsafe { libc::open(c"/proc/self/exe".as_ptr(), libc::O_RDONLY) });
    unsafe { libc::flock(fds[0], libc::LOCK_EX) };
    (unsafe { libc::flock(fds[1], libc::LOCK_EX) }).into()
}

/// Waits as `vfork` does, uninterruptibly (state D), for a child that has its own copy of the memory.
fn vfork() -> i64 {
    let flags = libc::CLONE_VFORK | libc::SIGCHLD;
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as usize, 0, 0, 0, 0) };
    if pid == 0 {
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            unsafe { libc::pause() };
        }
    }
    pid
}

/// Every call of the table in `restart.rs`, and some that must be spared.
const CASES: &[Case] = &[
    ("poll", true, || poll_for(-1)),
    ("poll with timeout", true, || poll_for(1_000_000)),
    ("ppoll", true, || ppoll_for(std::ptr::null())),
    ("ppoll with timeout", true, || ppoll_for(&LONG)),
    ("ppoll with read-only timeout", false, read_only_ppoll),
    ("select", true, || select_for(None)),
    ("select with timeout", true, || select_for(Some(LONG_TV))),
    ("epoll_wait", true, || epoll_for(-1)),
    ("epoll_wait with timeout", false, || epoll_for(1_000_000)),
    ("epoll_pwait", true, epoll_pwait),
    ("nanosleep", true, || nanosleep(LONG)),
    ("sem_wait", true, sem_wait),
    ("semop", true, || semaphore(std::ptr::null())),
    ("semtimedop with timeout", false, || semaphore(&LONG)),
    ("msgrcv", true, message_queue),
    ("sigtimedwait with timeout", false, || sigtimedwait(&LONG)),
    ("sigwaitinfo", true, || sigtimedwait(std::ptr::null())),
    ("recv", true, || receive(pair(libc::SOCK_STREAM, None), 0)),
    ("recv, datagrams", true, || receive(pair(libc::SOCK_DGRAM, None), 0)),
    ("recv with MSG_WAITALL", false, || receive(pair(libc::SOCK_STREAM, None), libc::MSG_WAITALL)),
    ("recv with SO_RCVTIMEO", false, || receive(pair(libc::SOCK_STREAM, Some(LONG_TV)), 0)),
    ("read from a socket", true, || read(pair(libc::SOCK_STREAM, None))),
    ("read from a socket with SO_RCVTIMEO", false, || read(pair(libc::SOCK_STREAM, Some(LONG_TV)))),
    ("accept", true, accept),
    ("inotify read", true, || read(unsafe { libc::inotify_init1(0) })),
    ("eventfd read", true, || read(unsafe { libc::eventfd(0, 0) })),
    ("timerfd read", true, || read(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) })),
    ("pipe read", true, || read(pipe()[0])),
    ("full pipe write", false, full_pipe),
    ("futex", true, || futex_for(std::ptr::null())),
    ("futex with timeout", true, || futex_for(&LONG)),
    ("condition wait", true, condition),
    ("pause", true, || (unsafe { libc::pause() }).into()),
    ("waitid", true, waitid),
    ("flock", true, flock),
    ("io_getevents", true, io_getevents),
    ("vfork, state D", false, vfork),
];

struct Waiter {
    tid: i32,
    returned: Arc<AtomicI64>,
}

const NOT_YET: i64 = i64::MIN;

/// Starts the case in a thread of its own, and waits until it is blocked in its last call.
fn start(case: &Case) -> Waiter {
    let (returned, tid) = (Arc::new(AtomicI64::new(NOT_YET)), Arc::new(AtomicI32::new(0)));
    let (out, own, call) = (returned.clone(), tid.clone(), case.2);
    std::thread::spawn(move || {
        own.store(crate::sys::process::tid(), Ordering::Release);
        let result = call();
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        out.store(if result < 0 { -i64::from(errno) } else { result }, Ordering::Release);
    });
    let gaze = Gaze::new(true).unwrap();
    // Blocked in the same place at twenty looks, 1 ms apart.
    let (mut same, mut last) = (0, 0);
    while same < 20 {
        std::thread::sleep(Duration::from_millis(1));
        let tid = tid.load(Ordering::Acquire);
        match gaze.glance(tid) {
            Ok(Some(blocked)) if tid != 0 && blocked.pc == last => same += 1,
            Ok(Some(blocked)) => (last, same) = (blocked.pc, 0),
            _ => same = 0,
        }
    }
    Waiter { tid: tid.load(Ordering::Acquire), returned }
}

#[test]
fn no_dump_ends_a_blocked_call() {
    let _turn = take_turn();
    let _ipc = RemoveIpc;
    let waiters: Vec<Waiter> = CASES.iter().map(start).collect();
    let tids: Vec<i32> = waiters.iter().map(|waiter| waiter.tid).collect();
    let mut camera = Camera::new();
    for methods in [Methods::default(), PROC, PTRACE, SIGNAL] {
        let mut outcomes = Vec::new();
        let mut repeated = 0;
        for _ in 0..50 {
            outcomes = camera.dump(methods, &tids);
            repeated += camera.capture.statistics().repeated_calls;
        }
        // Time for whatever was cut to come back.
        std::thread::sleep(Duration::from_millis(50));
        for ((case, waiter), outcome) in CASES.iter().zip(&waiters).zip(&outcomes) {
            assert_eq!(waiter.returned.load(Ordering::Acquire), NOT_YET, "{} returned under {methods:?}", case.0);
            let Outcome::Captured(stack) = outcome else { panic!("{outcome:?}") };
            let stops = case.1 && native::REPEATS;
            match methods {
                PTRACE if stops => assert_eq!(stack.method, Some(Method::Ptrace), "{}", case.0),
                PTRACE | SIGNAL => {
                    let spared = matches!(stack.ending, Ending::Truncated(Reason::WouldDisturb(_)));
                    assert!(stack.method.is_none() && spared, "{}: {stack:?}", case.0);
                    continue;
                }
                _ => assert_eq!(stack.method, Some(Method::Proc), "{}: {stack:x?}", case.0),
            }
            assert_eq!(stack.ending, Ending::FirstFrame, "{}: {stack:x?}", case.0);
            assert!(stack.call.is_some(), "{}", case.0);
        }
        eprintln!("{methods:?}: {repeated} calls repeated, {:?}", camera.capture.statistics());
    }
}

const TENTH: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const TENTH_TV: libc::timeval = libc::timeval { tv_sec: 0, tv_usec: 100_000 };

/// Its name, what it returns, the call.
type Timed = (&'static str, i64, fn() -> i64);

/// Calls with a timeout of 100 ms, and what they return when it has passed.
const TIMED: &[Timed] = &[
    ("poll", 0, || poll_for(100)),
    ("ppoll", 0, || ppoll_for(&TENTH)),
    ("select", 0, || select_for(Some(TENTH_TV))),
    ("epoll_wait", 0, || epoll_for(100)),
    ("nanosleep", 0, || nanosleep(TENTH)),
    ("futex", -1, || futex_for(&TENTH)),
    ("semtimedop", -1, || semaphore(&TENTH)),
    ("sigtimedwait", -1, || sigtimedwait(&TENTH)),
    ("recv with SO_RCVTIMEO", -1, || receive(pair(libc::SOCK_STREAM, Some(TENTH_TV)), 0)),
];

#[test]
fn no_dump_delays_a_timeout() {
    let _turn = take_turn();
    let _ipc = RemoveIpc;
    let mut camera = Camera::new();
    for methods in [Methods::default(), PTRACE] {
        // A timeout that began anew at a dump would end 60 to 100 ms late every time; a busy machine
        // may be late now and then.
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = TIMED
            .iter()
            .map(|&(name, expected, call)| {
                let (stop, tid) = (stop.clone(), Arc::new(AtomicI32::new(0)));
                let (own, rounds) = (tid.clone(), Arc::new(AtomicU32::new(0)));
                let thread = std::thread::spawn(move || {
                    own.store(crate::sys::process::tid(), Ordering::Release);
                    let mut late = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        let result = call();
                        let errno = std::io::Error::last_os_error().raw_os_error();
                        assert_eq!(result, expected, "{name}: {errno:?}");
                        assert!(result == 0 || errno != Some(libc::EINTR), "{name}");
                        let took = start.elapsed();
                        assert!(took >= Duration::from_millis(99), "{name} took {took:?}");
                        late += u32::from(took > Duration::from_millis(120));
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                    (name, late, rounds.load(Ordering::Relaxed))
                });
                while tid.load(Ordering::Acquire) == 0 {
                    std::thread::yield_now();
                }
                (tid.load(Ordering::Acquire), thread)
            })
            .collect();
        let tids: Vec<i32> = threads.iter().map(|thread| thread.0).collect();
        for _ in 0..60 {
            camera.dump(methods, &tids);
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        for (_, thread) in threads {
            let (name, late, rounds) = thread.join().unwrap();
            eprintln!("{name}: {late} of {rounds} later than 120 ms, {methods:?}");
            assert!(late * 2 <= rounds, "{name}: {late} of {rounds} later than 120 ms under {methods:?}");
        }
    }
}

/// The repair must not swallow an EINTR that the application is owed: a handler that runs because
/// `epoll_pwait` lets its signal in ends the call, dumps or not.
#[test]
fn a_signal_still_ends_a_call_that_a_dump_repeats() {
    let _turn = take_turn();
    static HANDLED: AtomicU32 = AtomicU32::new(0);
    extern "C" fn handle(_: i32) {
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as usize;
    unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) };
    let (tid, ended) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicU32::new(0)));
    let (own, count) = (tid.clone(), ended.clone());
    std::thread::spawn(move || {
        set(libc::SIGUSR1);
        let empty: libc::sigset_t = unsafe { std::mem::zeroed() };
        let fd = unsafe { libc::epoll_create1(0) };
        own.store(crate::sys::process::tid(), Ordering::Release);
        loop {
            let mut event = unsafe { std::mem::zeroed() };
            // The signal is let in during this call only.
            let result = unsafe { libc::epoll_pwait(fd, &mut event, 1, -1, &empty) };
            assert_eq!((result, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EINTR)));
            count.fetch_add(1, Ordering::Release);
        }
    });
    while tid.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    let tid = tid.load(Ordering::Acquire);
    let mut camera = Camera::new();
    let mut repeated = 0;
    for round in 1..=300 {
        let sender = std::thread::spawn(move || {
            for _ in 0..round % 50 * 20 {
                std::hint::spin_loop();
            }
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, libc::SIGUSR1) };
        });
        camera.dump(PTRACE, &[tid; 8]);
        repeated += camera.capture.statistics().repeated_calls;
        sender.join().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while ended.load(Ordering::Acquire) < round {
            assert!(Instant::now() < deadline, "round {round}: the handler ran, the call goes on");
            std::thread::yield_now();
        }
        assert_eq!((HANDLED.load(Ordering::Relaxed), ended.load(Ordering::Relaxed)), (round, round));
    }
    eprintln!("{repeated} calls repeated");
}
