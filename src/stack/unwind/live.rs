//! Stacks of threads of this process, by an oracle of another make; and of other processes.

use std::ffi::{CString, c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Unwinder;
use crate::stack::arch;
use crate::stack::modules::Modules;
use crate::stack::{Ending, Frame, FrameSource, Reason, Registers};
use crate::sys::memory::{Live, Memory};

/// What a thread of a test wrote about itself before it blocked.
#[derive(Default)]
struct Account {
    tid: i32,
    /// Program counters by `_Unwind_Backtrace`, innermost first.
    oracle: Vec<u64>,
}

fn write_account(account: &Mutex<Account>) {
    let mut oracle = Vec::new();
    backtrace::trace(|frame| {
        if !frame.ip().is_null() {
            oracle.push(frame.ip() as u64);
        }
        true
    });
    *account.lock().unwrap() = Account { tid: nix::unistd::gettid().as_raw(), oracle };
}

/// Stack pointer and program counter of a thread, as soon as it is blocked in `call`.
fn blocked_in(tid: i32, call: i64) -> (u64, u64) {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).unwrap_or_default();
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.first().is_some_and(|number| *number == call.to_string()) {
            let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
            return (number(fields[7]), number(fields[8]));
        }
        assert!(start.elapsed() < Duration::from_secs(20), "not blocked: {text}");
        std::thread::yield_now();
    }
}

fn modules() -> Modules {
    let mut modules = Modules::default();
    modules.refresh(&Live).unwrap();
    modules
}

fn unwind(modules: &Modules, pc: u64, sp: u64) -> (Vec<Frame>, Ending) {
    let mut frames = Vec::new();
    let start = Registers::from_pc_sp(pc, sp);
    let ending = Unwinder::default().unwind(modules, &Live, start, &Live, 256, &mut frames);
    (frames, ending)
}

/// The frames from the caller of the function that wrote the account and then blocked: those of the
/// oracle that must be found, whatever lies further in.
fn assert_agrees(modules: &Modules, frames: &[Frame], account: &Account, leaf: u64) {
    let name = |pc: u64| {
        let module = modules.find(pc - 1).map(|module| String::from_utf8_lossy(&module.path).into_owned());
        let mut symbol = String::new();
        backtrace::resolve((pc - 1) as *mut c_void, |found| symbol = format!("{:?}", found.name()));
        format!("{pc:#x} {symbol} {module:?}\n")
    };
    let at = account.oracle.iter().position(|pc| (leaf..leaf + 400).contains(pc)).expect("leaf in the oracle's stack");
    let expected = &account.oracle[at + 1..];
    let found: Vec<u64> = frames.iter().map(|frame| frame.pc).collect();
    let same = found.len() > expected.len() && found.ends_with(expected);
    let list = |pcs: &[u64]| pcs.iter().map(|pc| name(*pc)).collect::<String>();
    assert!(same, "expected:\n{}found:\n{}", list(expected), list(&found));
}

#[inline(never)]
fn nested(depth: u32, account: &Mutex<Account>, pipe: &OwnedFd) -> u32 {
    if depth > 0 {
        return std::hint::black_box(nested(depth - 1, account, pipe) + 1);
    }
    write_account(account);
    let mut byte = [0u8];
    nix::unistd::read(pipe, &mut byte).unwrap() as u32
}

/// Runs `work` in a thread of its own, which blocks in `read` from a pipe until `look` has run.
fn with_blocked<R>(
    work: impl FnOnce(&Mutex<Account>, &OwnedFd) + Send,
    look: impl FnOnce(&Account, u64, u64) -> R,
) -> R {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let account = Arc::new(Mutex::new(Account::default()));
    std::thread::scope(|scope| {
        let theirs = Arc::clone(&account);
        scope.spawn(move || work(&theirs, &reader));
        let start = Instant::now();
        while account.lock().unwrap().tid == 0 {
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        let account = account.lock().unwrap();
        let (sp, pc) = blocked_in(account.tid, libc::SYS_read);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&account, sp, pc)));
        drop(account);
        drop(writer);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_blocked_rust_thread_is_seen_down_to_clone() {
    with_blocked(
        |account, pipe| {
            nested(20, account, pipe);
        },
        |account, sp, pc| {
            let modules = modules();
            let (frames, ending) = unwind(&modules, pc, sp);
            assert_eq!(ending, Ending::FirstFrame, "{frames:x?}");
            assert_agrees(&modules, &frames, account, nested as fn(_, _, _) -> _ as usize as u64);
            assert!(frames[1..].iter().all(|frame| frame.source == FrameSource::Cfi));
            assert!(frames.windows(2).all(|pair| pair[0].sp < pair[1].sp));
        },
    );
}

/// A C file, compiled into a shared object and loaded.
struct Fixture {
    library: *mut c_void,
    folder: PathBuf,
}

const FIXTURE: &str = include_str!("live_fixture.c");

type Run = unsafe extern "C" fn(*const libc::c_char, extern "C" fn(*mut c_void), *mut c_void, c_int) -> c_int;

impl Fixture {
    /// `None` when there is no such compiler.
    fn build(compiler: &str, options: &[&str]) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!(
            "manhole-unwind-{}-{compiler}{}",
            std::process::id(),
            options.concat().replace('/', "")
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let (source, library) = (folder.join("fixture.c"), folder.join("fixture.so"));
        std::fs::write(&source, FIXTURE).unwrap();
        let output = Command::new(compiler)
            .args(["-shared", "-fPIC", "-g", "-D_GNU_SOURCE", "-w"])
            .args(options)
            .arg("-o")
            .args([&library, &source])
            .output()
            .ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(Self { library: load(&library), folder })
    }

    fn symbol(&self, name: &str) -> u64 {
        let name = CString::new(name).unwrap();
        // SAFETY: the library is loaded, the name ends with NUL.
        let address = unsafe { libc::dlsym(self.library, name.as_ptr()) };
        assert!(!address.is_null());
        address as u64
    }

    /// Runs `kind` until it blocks in `leaf`, and looks.
    fn look<R>(&self, kind: &str, look: impl FnOnce(&Account, u64, u64) -> R) -> R {
        let run = self.symbol("run") as usize;
        let kind = CString::new(kind).unwrap();
        with_blocked(
            move |account, pipe| {
                // SAFETY: the fixture's `run` has this type.
                let run = unsafe { std::mem::transmute::<usize, Run>(run) };
                // SAFETY: `account` and `pipe` outlive the call.
                let result =
                    unsafe { run(kind.as_ptr(), hook, std::ptr::from_ref(account) as *mut c_void, pipe.as_raw_fd()) };
                assert_ne!(result, 0);
            },
            look,
        )
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // SAFETY: nothing of the library runs or is referred to any more.
        unsafe { libc::dlclose(self.library) };
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn load(path: &Path) -> *mut c_void {
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the fixture has no constructors that could do harm.
    let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null());
    library
}

extern "C" fn hook(account: *mut c_void) {
    // SAFETY: the thread's body passed its account.
    write_account(unsafe { &*account.cast::<Mutex<Account>>() });
}

/// What the fixture does in its many ways before it blocks.
const KINDS: [&str; 8] =
    ["fixed", "pushing", "variable", "realigned", "indirect", "signalled", "alternate", "switched"];

/// Looks at every kind of stack of a fixture; returns which did not reach the first frame, and why.
/// No frame may be other than the oracle's.
fn check(compiler: &str, options: &[&str]) -> Vec<(&'static str, Reason)> {
    let mut truncated = Vec::new();
    let Some(fixture) = Fixture::build(compiler, options) else { return truncated };
    let leaf = fixture.symbol("leaf");
    for kind in KINDS {
        fixture.look(kind, |account, sp, pc| {
            let modules = modules();
            let (frames, ending) = unwind(&modules, pc, sp);
            match ending {
                Ending::FirstFrame => assert_agrees(&modules, &frames, account, leaf),
                Ending::Truncated(reason) => {
                    truncated.push((kind, reason));
                    // Of the two innermost, one blocks where the other wrote the account.
                    let strange = frames.iter().skip(2).find(|frame| !account.oracle.contains(&frame.pc));
                    assert_eq!(strange, None, "{compiler} {options:?} {kind}");
                }
            }
        });
    }
    truncated
}

fn assert_truncated(found: &[(&str, Reason)], by_rbp: &[&str], what: &str) {
    for (kind, reason) in found {
        match reason {
            // glibc's `__start_context` has no call frame information, and nothing calls a coroutine.
            Reason::NotCall(_) => assert_eq!(*kind, "switched", "{what}"),
            Reason::UnknownRegister { register: arch::FP, .. } => assert!(by_rbp.contains(kind), "{what}: {kind}"),
            other => panic!("{what}: {kind}: {other}"),
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn code_with_frame_pointers_is_unwound_without_knowing_rbp() {
    for compiler in ["gcc", "clang"] {
        for level in ["-O0", "-O2", "-O3"] {
            for extra in ["-fstack-protector-all", "-fcf-protection", "-fno-plt"] {
                let options = [level, "-fno-omit-frame-pointer", extra];
                assert_truncated(&check(compiler, &options), &[], &format!("{compiler} {options:?}"));
            }
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn code_without_frame_pointers_is_truncated_only_where_rbp_cannot_be_known() {
    for compiler in ["gcc", "clang"] {
        for level in ["-O0", "-O1", "-O2", "-Os"] {
            let options = [level, "-fomit-frame-pointer"];
            assert_truncated(
                &check(compiler, &options),
                &["variable", "realigned"],
                &format!("{compiler} {options:?}"),
            );
        }
    }
}

/// The memory of another process.
struct Other(i32);

impl Memory for Other {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let length = buffer.len();
        let remote = nix::sys::uio::RemoteIoVec { base: address as usize, len: length };
        let local = &mut [std::io::IoSliceMut::new(buffer)];
        nix::sys::uio::process_vm_readv(nix::unistd::Pid::from_raw(self.0), local, &[remote]).unwrap_or(0)
    }
}

/// `MANHOLE_PID=… cargo test --lib unwind::tests::another -- --ignored --nocapture`: the stacks of a
/// process's blocked threads, as addresses, one thread a line, to be compared with gdb's.
#[test]
#[ignore = "needs a process to look at"]
fn another_process() {
    let pid: i32 = std::env::var("MANHOLE_PID").unwrap().parse().unwrap();
    let memory = Other(pid);
    let mut modules = Modules::default();
    let maps = CString::new(format!("/proc/{pid}/maps")).unwrap();
    modules.read(&crate::sys::procfs::File::open(&maps).unwrap(), &memory).unwrap();
    let mut unwinder = Unwinder::default();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let tid = entry.unwrap().file_name().into_string().unwrap();
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).unwrap();
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [.., sp, pc] = fields[..] else {
            println!("{tid} running");
            continue;
        };
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
        let mut frames = Vec::new();
        let start = Registers::from_pc_sp(number(pc), number(sp));
        let ending = unwinder.unwind(&modules, &memory, start, &memory, 1024, &mut frames);
        let pcs: Vec<String> = frames.iter().map(|frame| format!("{:x}", frame.pc)).collect();
        println!(
            "{tid} {} {}",
            if ending == Ending::FirstFrame { "whole".into() } else { format!("{ending:?}") },
            pcs.join(" ")
        );
    }
}

/// `cargo test --release --lib unwind::live::cost -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn cost() {
    with_blocked(
        |account, pipe| {
            nested(40, account, pipe);
        },
        |_, sp, pc| {
            let modules = modules();
            let start = Registers::from_pc_sp(pc, sp);
            // A window, as the capture room provides it: reads cost no system call.
            let window = Window::new(sp & !7, 64 << 10);
            let mut frames = Vec::new();
            let mut distinct = 0;
            let begin = Instant::now();
            for _ in 0..20 {
                frames.clear();
                let ending = Unwinder::default().unwind(&modules, &Live, start, &window, 256, &mut frames);
                assert_eq!(ending, Ending::FirstFrame);
                distinct += frames.iter().map(|frame| frame.pc).collect::<std::collections::BTreeSet<_>>().len();
            }
            println!("cold: {:.2} us a distinct pc", begin.elapsed().as_secs_f64() * 1e6 / f64::from(distinct as u32));
            let mut unwinder = Unwinder::default();
            let mut count = 0;
            let mut begin = Instant::now();
            for round in 0..20_000 {
                frames.clear();
                unwinder.unwind(&modules, &Live, start, &window, 256, &mut frames);
                if round == 100 {
                    (begin, count) = (Instant::now(), 0);
                }
                count += frames.len();
            }
            println!("warm: {:.1} ns a frame", begin.elapsed().as_secs_f64() * 1e9 / count as f64);
            let begin = Instant::now();
            let mut again = modules.clone();
            for _ in 0..100 {
                again.refresh(&Live).unwrap();
            }
            println!("refresh: {:.1} us for {} modules", begin.elapsed().as_secs_f64() * 1e4, again.iter().count());
        },
    );
}

/// A copy of stack memory.
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn new(start: u64, length: usize) -> Self {
        let mut bytes = vec![0; length];
        let count = Live.read(start, &mut bytes);
        bytes.truncate(count);
        Self { start, bytes }
    }
}

impl Memory for Window {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let from = address.wrapping_sub(self.start) as usize;
        let source = self.bytes.get(from..).unwrap_or_default();
        let count = source.len().min(buffer.len());
        buffer[..count].copy_from_slice(&source[..count]);
        count
    }

    fn read_u64(&self, address: u64) -> Option<u64> {
        let from = address.wrapping_sub(self.start) as usize;
        self.bytes.get(from..)?.first_chunk().copied().map(u64::from_le_bytes)
    }
}
