//! The decoder against calls made up, against real threads in real calls, and against nonsense.

use std::fmt;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::inspect::sockets::Sockets;
use crate::inspect::threads::Reader;
use crate::sys::memory::{Live, Memory};
use crate::sys::process;

/// A process whose memory is one block, whose descriptors are all pipes, and whose clocks stand at 100 s.
struct Made<'a> {
    start: u64,
    bytes: &'a [u8],
}

impl Memory for Made<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let from = address.checked_sub(self.start).map_or(&[][..], |offset| {
            usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)).unwrap_or_default()
        });
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        count
    }
}

impl Context for Made<'_> {
    fn memory(&self) -> &dyn Memory {
        self
    }

    fn write_descriptor(&self, number: i32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " pipe:[{number}00]")
    }

    fn now(&self, _clock: i32) -> Option<Duration> {
        Some(Duration::from_secs(100))
    }
}

const BASE: u64 = 0x7000;

fn call(number: libc::c_long, arguments: &[u64]) -> Call {
    let mut call = Call { number, arguments: [0; 6] };
    call.arguments[..arguments.len()].copy_from_slice(arguments);
    call
}

/// The full form of a call whose pointers lead to `words`, which lie at [`BASE`].
fn full(number: libc::c_long, arguments: &[u64], words: &[u64]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    describe(&call(number, arguments), &Made { start: BASE, bytes: &bytes }).to_string()
}

fn short(number: libc::c_long, arguments: &[u64]) -> String {
    brief(&call(number, arguments)).to_string()
}

const NO_NUMBER: u64 = u64::MAX;

#[test]
fn brief_form_looks_nothing_up() {
    assert_eq!(short(libc::SYS_epoll_pwait, &[5, 0x7f00, 10128, 100]), "epoll_pwait(5, 0x7f00, 10128, 100, NULL)");
    assert_eq!(short(libc::SYS_futex, &[0x7f00, 0x80, 2]), "futex(0x7f00, FUTEX_WAIT_PRIVATE, 2, NULL)");
    assert_eq!(short(libc::SYS_openat, &[-100i64 as u64, 0x7f00, 0]), "openat(AT_FDCWD, 0x7f00, O_RDONLY, 00)");
    assert_eq!(short(libc::SYS_ppoll, &[0x7f00, 2, 0, 0]), "ppoll(0x7f00, 2, NULL, NULL)");
    assert_eq!(short(libc::SYS_getppid, &[1, 2]), "getppid()");
    assert_eq!(short(libc::SYS_sysinfo, &[0xbeef, 2]), "sysinfo(0xbeef)");
    assert_eq!(short(4095, &[1]), "syscall_4095(0x1, 0x0, 0x0, 0x0, 0x0, 0x0)");
    assert_eq!(short(-1, &[]), "none");
}

#[test]
fn descriptors_and_sizes() {
    assert_eq!(full(libc::SYS_read, &[7, 0x9000, 4096], &[]), "read(fd 7 pipe:[700], 0x9000, 4096)");
    assert_eq!(full(libc::SYS_read, &[NO_NUMBER, 0, 4096], &[]), "read(-1, NULL, 4096)");
    // Only the lower half of the register is the descriptor.
    assert_eq!(full(libc::SYS_close, &[0xdead_0000_0003], &[]), "close(fd 3 pipe:[300])");
    assert_eq!(
        full(libc::SYS_mmap, &[0, 4096, 3, 0x22, NO_NUMBER, 0], &[]),
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0x0)"
    );
    assert_eq!(
        full(libc::SYS_epoll_pwait, &[5, 0x9000, 64, NO_NUMBER, 0], &[]),
        "epoll_pwait(fd 5 pipe:[500], events=0x9000, max=64, timeout=infinite, sigmask=NULL)"
    );
}

#[test]
fn times() {
    assert_eq!(full(libc::SYS_nanosleep, &[BASE], &[1, 500_000_000]), "nanosleep(1.5 s)");
    assert_eq!(full(libc::SYS_nanosleep, &[BASE], &[1]), "nanosleep(0x7000)");
    assert_eq!(full(libc::SYS_nanosleep, &[BASE], &[1, 5_000_000_000]), "nanosleep(0x7000)");
    assert_eq!(full(libc::SYS_nanosleep, &[BASE], &[NO_NUMBER, 0]), "nanosleep(0x7000)");
    let sleep = |flags, words: &[u64]| full(libc::SYS_clock_nanosleep, &[1, flags, BASE], words);
    assert_eq!(sleep(0, &[0, 1000]), "clock_nanosleep(CLOCK_MONOTONIC, 0, 1 us)");
    assert_eq!(sleep(1, &[130, 0]), "clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, timeout in 30 s)");
    assert_eq!(sleep(1, &[99, 0]), "clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, timeout 1 s ago)");
    assert_eq!(
        full(libc::SYS_mq_timedreceive, &[3, 0x9000, 64, 0, BASE], &[101, 0]),
        "mq_timedreceive(fd 3 pipe:[300], 0x9000, 64, NULL, timeout in 1 s)"
    );
}

#[test]
fn futexes() {
    let futex = |arguments: &[u64], words: &[u64]| full(libc::SYS_futex, arguments, words);
    assert_eq!(futex(&[0x9000, 0x80, 2, 0], &[]), "futex(0x9000, FUTEX_WAIT_PRIVATE, 2, timeout=none)");
    assert_eq!(futex(&[0x9000, 0, 2, BASE], &[0, 250_000_000]), "futex(0x9000, FUTEX_WAIT, 2, timeout=250 ms)");
    assert_eq!(
        futex(&[0x9000, 0x189, 0, BASE, 0, 0xffff_ffff], &[102, 0]),
        "futex(0x9000, FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME, 0, timeout in 2 s)"
    );
    assert_eq!(
        futex(&[0x9000, 0x89, 0, 0, 0, 6], &[]),
        "futex(0x9000, FUTEX_WAIT_BITSET_PRIVATE, 0, timeout=none, bits 0x6)"
    );
    assert_eq!(
        futex(&[BASE, 0x86, 0, 0], &[0x8000_0000 | 4711]),
        "futex(0x7000, FUTEX_LOCK_PI_PRIVATE, held by thread 4711, timeout=none)"
    );
    assert_eq!(
        futex(&[0x9000, 0x8b, 7, 0, 0xa000], &[]),
        "futex(0x9000, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 7, timeout=none, requeue to 0xa000)"
    );
    assert_eq!(futex(&[0x9000, 0x81, 1], &[]), "futex(0x9000, FUTEX_WAKE_PRIVATE, 1, NULL)");
    assert_eq!(
        full(libc::SYS_futex_waitv, &[BASE, 2, 0, 0, 1], &[5, 0x9000, 0x82, 6, 0x9004, 2]),
        "futex_waitv(2 words: 0x9000 FUTEX2_PRIVATE|FUTEX2_SIZE_U32 5, 0x9004 FUTEX2_SIZE_U32 6; timeout=none)"
    );
    assert_eq!(
        full(455, &[0x9000, 1, 0xffff_ffff, 0x82, BASE, 1], &[101, 0]),
        "futex_wait(0x9000, 1, mask=0xffffffff, FUTEX2_PRIVATE|FUTEX2_SIZE_U32, CLOCK_MONOTONIC, timeout in 1 s)"
    );
}

#[test]
fn polls_and_selects() {
    let entry = |descriptor: u64, events: u64| descriptor | events << 32;
    let poll = |count, words: &[u64]| full(libc::SYS_ppoll, &[BASE, count, 0], words);
    assert_eq!(
        poll(2, &[entry(3, 1), entry(5, 5)]),
        "ppoll(2 fds: 3 POLLIN, 5 POLLIN|POLLOUT; timeout=none, sigmask=NULL)"
    );
    assert_eq!(poll(0, &[]), "ppoll(0 fds; timeout=none, sigmask=NULL)");
    assert_eq!(poll(2, &[entry(3, 1)]), "ppoll(0x7000, 2, timeout=none, sigmask=NULL)");
    let many = poll(1000, &[entry(3, 0); 1000]);
    assert!(many.starts_with("ppoll(1000 fds: 3 0, 3 0,"), "{many}");
    assert!(many.ends_with(", and 984 more; timeout=none, sigmask=NULL)"), "{many}");

    let select = |arguments: &[u64], words: &[u64]| full(libc::SYS_pselect6, arguments, words);
    assert_eq!(
        select(&[7, BASE, BASE + 8, 0], &[0b10_1000, 0b1100_0000]),
        "pselect6(read: 3 5, write: 6; timeout=none, sigmask=NULL)"
    );
    assert_eq!(select(&[0, 0, 0, 0], &[]), "pselect6(0 fds; timeout=none, sigmask=NULL)");
    assert_eq!(select(&[7, 0x9000, 0, 0], &[]), "pselect6(7, 0x9000, NULL, NULL, timeout=none, sigmask=NULL)");
    assert_eq!(
        select(&[i32::MAX as u64, BASE, 0, 0], &[1]),
        "pselect6(2147483647, 0x7000, NULL, NULL, timeout=none, sigmask=NULL)"
    );
}

#[test]
fn addresses() {
    let connect = |bytes: &[u8], length: u64| {
        describe(&call(libc::SYS_connect, &[3, BASE, length]), &Made { start: BASE, bytes }).to_string()
    };
    assert_eq!(
        connect(&[2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], 16),
        "connect(fd 3 pipe:[300], 127.0.0.1:8080)"
    );
    let mut six = [0; 28];
    (six[0], six[3], six[23]) = (10, 80, 1);
    assert_eq!(connect(&six, 28), "connect(fd 3 pipe:[300], [::1]:80)");
    assert_eq!(connect(b"\x01\x00/run/x\x00junk", 13), "connect(fd 3 pipe:[300], unix \"/run/x\")");
    assert_eq!(connect(b"\x01\x00\x00bus\x1b", 7), "connect(fd 3 pipe:[300], unix \"@bus\\x1b\")");
    assert_eq!(connect(b"\x10\x00\x00\x00", 4), "connect(fd 3 pipe:[300], family 16)");
    assert_eq!(connect(b"\x02\x00", 2), "connect(fd 3 pipe:[300], family 2)");
    assert_eq!(connect(b"\x02", 16), "connect(fd 3 pipe:[300], 0x7000, 16)");
    assert_eq!(connect(&[0; 256], 200), "connect(fd 3 pipe:[300], 0x7000, 200)");
}

#[test]
fn locks_semaphores_signals_and_paths() {
    assert_eq!(
        full(libc::SYS_fcntl, &[3, libc::F_SETLKW as u64, BASE], &[1, 100, 0]),
        "fcntl(fd 3 pipe:[300], F_SETLKW, F_WRLCK from 100 of SEEK_SET to the end)"
    );
    assert_eq!(full(libc::SYS_fcntl, &[3, 3, 9], &[]), "fcntl(fd 3 pipe:[300], F_GETFL, 0x9)");
    assert_eq!(
        full(libc::SYS_semtimedop, &[8, BASE, 1, 0], &[0x1000_ffff_0002]),
        "semtimedop(set=8, semaphore 2 -1 SEM_UNDO, timeout=none)"
    );
    assert_eq!(
        full(libc::SYS_rt_sigtimedwait, &[BASE, 0, 0], &[1 << 14 | 1 << 1 | 1 << 33]),
        "rt_sigtimedwait({SIGINT SIGTERM 34}, NULL, timeout=none)"
    );
    assert_eq!(full(libc::SYS_rt_sigsuspend, &[BASE], &[!(1 << 9)]), "rt_sigsuspend(all but {SIGUSR1})");
    let path = u64::from_le_bytes(*b"/a\x1b\"\0zzz");
    assert_eq!(
        full(libc::SYS_openat, &[0xffff_ff9c, BASE, 0o2000001], &[path]),
        "openat(AT_FDCWD, \"/a\\x1b\\\"\", O_WRONLY|O_CLOEXEC, 00)"
    );
    let long = [u64::from_le_bytes(*b"aaaaaaaa"); 40];
    assert!(full(libc::SYS_execve, &[BASE], &long).contains("aaaaaa\"..., NULL"));
    assert_eq!(full(libc::SYS_execve, &[BASE], &long[..4]), "execve(0x7000, NULL, NULL)");
}

#[test]
fn nonsense_stays_short_and_does_not_panic() {
    // xorshift64: the same nonsense at each run.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..200 {
        let bytes: Vec<u8> = (0..512).map(|_| random() as u8).collect();
        let made = Made { start: BASE, bytes: &bytes };
        for number in -2..480 {
            let arguments = [(); 6].map(|()| match random() % 4 {
                0 => random(),
                1 => random() % 64,
                2 => BASE + random() % 512,
                _ => [0, u64::MAX, i64::MAX as u64, i32::MIN as u64, u64::from(u32::MAX)][random() as usize % 5],
            });
            let call = Call { number, arguments };
            let (brief, full) = (brief(&call).to_string(), describe(&call, &made).to_string());
            assert!(brief.len() < 1000 && full.len() < 4000, "round {round}: {full}");
            assert!(full.bytes().all(|byte| byte >= b' '), "round {round}: {full:?}");
        }
    }
}

/// Starts a thread that makes system call `number`, waits until it sits in it, and returns both forms.
/// The thread stays there until the test program ends.
fn blocked(number: libc::c_long, arguments: [u64; 6]) -> (String, String) {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        sender.send(process::tid()).unwrap();
        let [a, b, c, d, e, f] = arguments;
        // SAFETY: the caller passes pointers to memory that it leaks.
        unsafe { libc::syscall(number, a, b, c, d, e, f) };
    });
    let (tid, reader) = (receiver.recv().unwrap(), Reader::new());
    loop {
        let facts = reader.read(tid).expect("the thread did not block");
        if let Some(call) = facts.call.filter(|call| call.number == number && facts.state == b'S') {
            let sockets = Sockets::default();
            let full = describe(&call, &ThreadContext::new(tid, Some(&sockets))).to_string();
            return (brief(&call).to_string(), full);
        }
        std::thread::yield_now();
    }
}

fn leak<T>(value: T) -> u64 {
    std::ptr::from_mut(Box::leak(Box::new(value))) as u64
}

#[test]
fn real_threads_in_real_calls() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let pipe = std::fs::read_link(format!("/proc/self/fd/{}", reader.as_raw_fd())).unwrap();
    let (number, pipe) = (reader.as_raw_fd(), pipe.display().to_string());
    let buffer = leak([0u8; 64]);

    let (short, full) = blocked(libc::SYS_read, [number as u64, buffer, 64, 0, 0, 0]);
    assert_eq!(short, format!("read({number}, {buffer:#x}, 64)"));
    assert_eq!(full, format!("read(fd {number} {pipe}, {buffer:#x}, 64)"));

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (socket, address) = (listener.as_raw_fd(), listener.local_addr().unwrap());
    let (_, full) = blocked(libc::SYS_accept4, [socket as u64, 0, 0, libc::SOCK_CLOEXEC as u64, 0, 0]);
    assert_eq!(full, format!("accept4(fd {socket} TCP {address} LISTEN, NULL, NULL, SOCK_CLOEXEC)"));

    let hour = leak([3600u64, 0]);
    let (short, full) = blocked(libc::SYS_nanosleep, [hour, 0, 0, 0, 0, 0]);
    assert_eq!((short, full.as_str()), (format!("nanosleep({hour:#x})"), "nanosleep(3600 s)"));

    let now = crate::sys::clock::now(libc::CLOCK_MONOTONIC).unwrap();
    let later = leak([now.as_secs() + 3600, 0]);
    let sleep = [libc::CLOCK_MONOTONIC as u64, libc::TIMER_ABSTIME as u64, later, 0, 0, 0];
    let (_, full) = blocked(libc::SYS_clock_nanosleep, sleep);
    assert!(full.starts_with("clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, timeout in 3599"), "{full}");

    let word = leak(7u32);
    let (_, full) = blocked(libc::SYS_futex, [word, 0x80, 7, 0, 0, 0]);
    assert_eq!(full, format!("futex({word:#x}, FUTEX_WAIT_PRIVATE, 7, timeout=none)"));
    let (_, full) = blocked(libc::SYS_futex, [word, 0x89, 7, later, 0, u64::from(u32::MAX)]);
    assert!(full.starts_with(&format!("futex({word:#x}, FUTEX_WAIT_BITSET_PRIVATE, 7, timeout in 3599")), "{full}");
    let waiter = leak([7u64, word, 0x82]);
    let (_, full) = blocked(libc::SYS_futex_waitv, [waiter, 1, 0, 0, 0, 0]);
    assert_eq!(full, format!("futex_waitv(1 word: {word:#x} FUTEX2_PRIVATE|FUTEX2_SIZE_U32 7; timeout=none)"));

    let polled = leak([number as u64 | 5 << 32]);
    let (_, full) = blocked(libc::SYS_ppoll, [polled, 1, hour, 0, 0, 0]);
    assert_eq!(full, format!("ppoll(1 fd: {number} POLLIN|POLLOUT; timeout=3600 s, sigmask=NULL)"));

    let set = leak([1u64 << number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(number < 64);
    let (_, full) = blocked(libc::SYS_pselect6, [number as u64 + 1, set, 0, 0, hour, 0]);
    assert_eq!(full, format!("pselect6(read: {number}; timeout=3600 s, sigmask=NULL)"));

    // SAFETY: epoll_create1 touches no memory.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let events = leak([0u64; 8]);
    let (_, full) = blocked(libc::SYS_epoll_pwait, [epoll as u64, events, 4, 3_600_000, 0, 8]);
    let expected = format!(
        "epoll_pwait(fd {epoll} anon_inode:[eventpoll], events={events:#x}, max=4, timeout=3600000 ms, sigmask=NULL)"
    );
    assert_eq!(full, expected);

    let mask = leak(1u64 << (libc::SIGWINCH - 1));
    let (_, full) = blocked(libc::SYS_rt_sigtimedwait, [mask, 0, hour, 8, 0, 0]);
    assert_eq!(full, "rt_sigtimedwait({SIGWINCH}, NULL, timeout=3600 s)");
    let (_, full) = blocked(libc::SYS_rt_sigsuspend, [mask, 8, 0, 0, 0, 0]);
    assert_eq!(full, "rt_sigsuspend({SIGWINCH})");

    // SAFETY: semget touches no memory.
    let semaphores = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
    let operation = leak([0u16, -1i16 as u16, 0]);
    let (_, full) = blocked(libc::SYS_semtimedop, [semaphores as u64, operation, 1, hour, 0, 0]);
    assert_eq!(full, format!("semtimedop(set={semaphores}, semaphore 0 -1, timeout=3600 s)"));
    // SAFETY: IPC_RMID touches no memory.
    unsafe { libc::semctl(semaphores, 0, libc::IPC_RMID) };

    // Everything above blocks on this pipe, or on nothing that anyone wakes.
    std::mem::forget((reader, writer, listener));
}

#[test]
fn a_call_on_a_closed_descriptor_says_so() {
    let number = 1_000_000;
    let full = describe(&call(libc::SYS_close, &[number]), &ThreadContext::new(process::tid(), None)).to_string();
    assert_eq!(full, "close(fd 1000000 (not open))");
    assert_eq!(Live.read(8, &mut [0; 8]), 0);
    let unreadable =
        describe(&call(libc::SYS_openat, &[0xffff_ff9c, 8]), &ThreadContext::new(process::tid(), None)).to_string();
    assert_eq!(unreadable, "openat(AT_FDCWD, 0x8, O_RDONLY, 00)");
}
