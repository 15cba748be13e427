//! How a manhole comes into a process and leaves it: the one global.
//!
//! Context: the constructor, the C API, fork handlers and the exit handler; the observer reads.
//! [`STATE`] is all that changes after the install: which process the manhole belongs to, and how far
//! it has come. A forked child inherits this memory but not our threads, so every reader compares
//! the process id first.

pub mod exit;
pub mod fork;
pub mod panics;

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use once_cell::sync::OnceCell;

use crate::config::{Config, ConfigError, VARIABLE};
use crate::inspect::process::ProcessFacts;
use crate::log;
use crate::sys::{Errno, futex, link, process, startup, thread};

/// The observer's stack: room for the unwinder and the demangler. Untouched pages cost nothing.
pub const OBSERVER_STACK: usize = 2 << 20;

/// An installed manhole.
pub struct Manhole {
    /// Its options.
    pub config: Config,
    /// The program's name, for the banner and `{name}`.
    pub program: String,
}

static MANHOLE: OnceCell<Manhole> = OnceCell::new();
/// The environment's options, when `thread=False` leaves the start to the C API.
static WAITING: OnceCell<Config> = OnceCell::new();

/// How far the observer of process [`STARTER`] has come; a futex for whoever waits for it.
static STATE: AtomicU32 = AtomicU32::new(ABSENT);
/// There is none.
const ABSENT: u32 = 0;
/// The thread was started, and has not touched the socket's name yet.
const STARTING: u32 = 1;
/// It is making the name.
const OPENING: u32 = 2;
/// The socket is open.
const LISTENING: u32 = 3;
/// There is no socket: it could not be opened, and the log says why; or the process ends.
const ENDED: u32 = 4;
/// The process that started the observer: children that run no hooks inherit, or share, this memory.
static STARTER: AtomicI32 = AtomicI32::new(0);

/// Why there will be no manhole.
#[derive(Debug)]
pub enum InstallError {
    /// The option string is wrong.
    Options(ConfigError),
    /// There is one already, and `strict` is on.
    AlreadyInstalled,
    /// The thread could not be created.
    Thread(Errno),
}

impl std::fmt::Display for InstallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Options(error) => write!(f, "{error}; see the options in the README"),
            Self::AlreadyInstalled => {
                f.write_str("AlreadyInstalled: this process has a manhole (strict=False keeps it silently)")
            }
            Self::Thread(error) => write!(f, "cannot create the manhole thread: {}", error.desc()),
        }
    }
}

/// The installed manhole, if any.
pub fn installed() -> Option<&'static Manhole> {
    MANHOLE.get()
}

/// What the constructor does. Never fails: what goes wrong is one log line, and the application runs on.
pub fn start_from_environment() {
    // A privileged start must not open doors because of its caller's environment.
    if !startup::is_shared_object() || process::is_secure() {
        return;
    }
    let text = startup::variable(VARIABLE).unwrap_or_default();
    if text.trim() == "off" {
        return;
    }
    match Config::parse(&text) {
        Ok(config) => {
            if !config.only.is_empty() && !config.wants(&ProcessFacts::read().names()) {
                return;
            }
            if !config.thread {
                let _ = WAITING.set(config);
            } else if let Err(error) = install(config) {
                log!("{error}; the application runs on without a manhole");
            }
        }
        Err(error) => log!("{VARIABLE}: {error}; the application runs on without a manhole"),
    }
}

/// Installs with an option string, as python-manhole's `install()`. Without options those of the
/// environment count, if `thread=False` kept them back.
pub fn install_with(text: &str) -> Result<(), InstallError> {
    let mut config = Config::parse(text).map_err(InstallError::Options)?;
    if is_alive() {
        return if config.strict { Err(InstallError::AlreadyInstalled) } else { Ok(()) };
    }
    if let Some(waiting) = WAITING.get().filter(|_| text.trim().is_empty()) {
        config = waiting.clone();
    }
    install(config)
}

/// Whether this process (not its parent) has an observer.
fn is_alive() -> bool {
    matches!(STATE.load(Ordering::Acquire), STARTING | OPENING | LISTENING)
}

fn install(mut config: Config) -> Result<(), InstallError> {
    if config.has_relative_paths()
        && let Ok(folder) = link::read_link(c"/proc/self/cwd", &mut [0; 4096])
    {
        config.anchor(&String::from_utf8_lossy(folder));
    }
    log::configure(config.verbose, &config.verbose_destination);
    let manhole = MANHOLE.get_or_init(|| Manhole { config, program: program_name() });
    start_observer(manhole).map_err(InstallError::Thread)?;
    // While it starts: neither is of use to it before the application's code runs.
    panics::install();
    fork::install();
    let patience = manhole.config.start_timeout;
    if !patience.is_zero() && !wait_while_opening(patience) {
        log!("the manhole did not open within start_timeout; it will when it can");
    }
    Ok(())
}

/// The name that the program was called by; that of its file when it was called by none.
fn program_name() -> String {
    let called = startup::called_name();
    match called.strip_prefix('-').unwrap_or(&called) {
        "" => String::from_utf8_lossy(&ProcessFacts::read().program).into_owned(),
        name => name.to_owned(),
    }
}

fn start_observer(manhole: &Manhole) -> Result<(), Errno> {
    STARTER.store(process::pid(), Ordering::Relaxed);
    STATE.store(STARTING, Ordering::Release);
    let started = thread::spawn(observer, OBSERVER_STACK, manhole.config.sigmask);
    if started.is_err() {
        STATE.store(ENDED, Ordering::Release);
    }
    started
}

/// The observer thread's start.
extern "C" fn observer(_: *mut std::ffi::c_void) -> *mut std::ffi::c_void {
    if let Some(manhole) = installed() {
        let delay = fork::take_delay(manhole);
        // A bug of ours ends the manhole, not the host.
        let ended = std::panic::catch_unwind(|| crate::server::run(manhole, delay));
        if ended.is_err() {
            log!("the manhole's thread panicked: {}; the application runs on without a manhole", panics::take());
        }
    }
    exit::remove_socket();
    ended();
    std::ptr::null_mut()
}

fn set_state(state: u32) {
    STATE.store(state, Ordering::Release);
    futex::wake(&STATE);
}

/// In a forked child: the observer is the parent's. Whether there was one.
fn disown() -> bool {
    STATE.swap(ABSENT, Ordering::Relaxed) != ABSENT
}

/// The observer, before it makes the socket's name. False when the process ends already.
pub fn begin_opening() -> bool {
    STATE.compare_exchange(STARTING, OPENING, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// The observer, when clients can connect.
pub fn opened() {
    set_state(LISTENING);
}

/// The observer, when it serves no more.
pub fn ended() {
    set_state(ENDED);
}

/// The process ends: an observer that has not begun makes no name any more, and what it made goes. So a
/// program of a millisecond neither waits for its manhole nor leaves a name behind.
pub fn finish() {
    if STARTER.load(Ordering::Relaxed) != process::pid() {
        return;
    }
    if STATE.compare_exchange(STARTING, ENDED, Ordering::AcqRel, Ordering::Acquire).is_err() {
        wait_while_opening(Duration::from_millis(100));
        exit::remove_socket();
    }
}

/// Waits until the socket is open or will not be; false when that took longer than `patience`.
fn wait_while_opening(patience: Duration) -> bool {
    [STARTING, OPENING].into_iter().all(|state| futex::wait_until_changed(&STATE, state, patience))
}
