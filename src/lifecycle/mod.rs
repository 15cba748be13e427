//! How a manhole comes into a process and leaves it: the one global.
//!
//! Context: the constructor, the C API, fork handlers and the end of the process; the threads of the manhole read.
//! An install is one [`Manhole`], which is never freed: a signal handler or a forked child may be looking at it. A
//! forked child inherits this memory but not our threads, so an install counts only in the process that
//! [`Manhole::is_here`] says.

pub mod aside;
pub mod dump;
pub mod exit;
pub mod fork;
pub mod oneshot;
pub mod panics;
pub mod signals;
pub mod stage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use once_cell::sync::OnceCell;

use crate::actor::Actor;
use crate::config::{Config, ConfigError, OFF, VARIABLE};
use crate::inspect::process::ProcessFacts;
use crate::log;
use crate::redirect;
use crate::server::bell::Rope;
use crate::stack::capture::guard;
use crate::sys::allocator::{self, Role};
use crate::sys::futex::Guarded;
use crate::sys::leaked::Leaked;
use crate::sys::{self, Errno, descriptors, diverted, futex, link, own, process, signal, startup, thread};
use stage::Stage;

/// The stack of a thread of ours: room for the unwinder and the demangler. Untouched pages cost nothing.
pub const STACK: usize = 2 << 20;
/// The same for the actor, with room for what overflows in what it runs.
const ACTOR_STACK: usize = STACK + guard::HEADROOM;
/// How long a release waits for a thread of ours. The observer looks up every 10 ms.
const PATIENCE: Duration = Duration::from_secs(5);

/// An installed manhole.
pub struct Manhole {
    /// Its options.
    pub config: Config,
    /// The program's name, for the banner and `{name}`.
    pub program: String,
    /// How far its observer has come.
    pub stage: Stage,
    /// The thread that touches the application.
    pub actor: Actor,
    /// What wakes the observer.
    pub rope: Rope,
    /// How many clients are connected; a futex for the end of the process.
    pub connected: AtomicU32,
    /// 1 while its observer's thread has not come to its end.
    observing: AtomicU32,
    /// What the observer is asked for: a [`Wish`].
    wish: AtomicU32,
    /// The process that it is installed in.
    owner: AtomicI32,
}

/// What the observer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Its usual work.
    Serve,
    /// The process ends: nobody comes in any more, who is in may finish.
    Finish,
    /// To end at once.
    Leave,
}

static INSTALLED: Leaked<Manhole> = Leaked::nothing();
/// Held while a manhole is installed or released.
static CHANGE: Guarded<()> = Guarded::new(());
/// The environment's options, when `thread=False` leaves the start to the C API.
static WAITING: OnceCell<Config> = OnceCell::new();

/// Why there will be no manhole.
#[derive(Debug)]
pub enum InstallError {
    /// The option string is wrong.
    Options(ConfigError),
    /// There is one already, and `strict` is on.
    AlreadyInstalled,
    /// The one that is there could not be released.
    Release(ReleaseError),
    /// The thread could not be created.
    Thread(Errno),
}

impl std::fmt::Display for InstallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Options(error) => write!(f, "{error}; see the options in the README"),
            Self::AlreadyInstalled => {
                f.write_str("AlreadyInstalled: this process has a manhole (strict=False replaces it)")
            }
            Self::Release(error) => write!(f, "the manhole that is there stays: {error}"),
            Self::Thread(error) => write!(f, "cannot create the manhole thread: {}", error.desc()),
        }
    }
}

/// Why a manhole stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseError {
    /// There is none.
    NotInstalled,
    /// Its own thread asks: a command that was registered through the C API.
    OwnThread,
    /// Its observer cannot be reached.
    Unreachable(Errno),
}

impl std::fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotInstalled => f.write_str("NotInstalled: this process has no manhole"),
            Self::OwnThread => f.write_str("a command that runs on the manhole's thread cannot release it"),
            Self::Unreachable(error) => write!(f, "its thread cannot be reached: {}", error.desc()),
        }
    }
}

/// The manhole of this process, if there is one. Async-signal-safe.
pub fn installed() -> Option<&'static Manhole> {
    INSTALLED.get().filter(|manhole| manhole.is_here())
}

impl Manhole {
    /// One that is not installed yet, in the calling process.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            program: program_name(),
            stage: Stage::default(),
            actor: Actor::default(),
            rope: Rope::default(),
            connected: AtomicU32::new(0),
            observing: AtomicU32::new(0),
            wish: AtomicU32::new(Wish::Serve as u32),
            owner: AtomicI32::new(process::pid()),
        }
    }

    /// Whether it is installed in the calling process: one without fork hooks (`vfork`, raw `clone`) shares or
    /// inherits its parent's memory.
    pub fn is_here(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == process::pid()
    }

    /// What its observer is asked for.
    pub fn wish(&self) -> Wish {
        match self.wish.load(Ordering::Acquire) {
            wish if wish == Wish::Finish as u32 => Wish::Finish,
            wish if wish == Wish::Leave as u32 => Wish::Leave,
            _ => Wish::Serve,
        }
    }

    fn ask(&self, wish: Wish) -> Result<(), Errno> {
        self.wish.store(wish as u32, Ordering::Release);
        self.rope.ring()
    }

    /// Logs why forked children will have no manhole although `patch_fork` is on.
    pub fn tell_of_forks(&self) {
        if self.config.patch_fork && !self.config.follows_forks() {
            log!("forked children get no manhole of their own: {}", self.config.why_not_after_fork());
        }
    }

    /// The observer's thread does nothing any more.
    pub fn observer_left(&self) {
        self.observing.store(0, Ordering::Release);
        futex::wake(&self.observing);
    }

    /// The observer tells how many clients are connected.
    pub fn count_clients(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.connected.swap(count, Ordering::AcqRel) != count {
            futex::wake(&self.connected);
        }
    }

    /// Whether it has threads, from the start or after a signal.
    pub fn has_threads(&self) -> bool {
        self.config.activate_on.is_some() || self.config.thread && self.config.oneshot_on.is_none()
    }

    /// Whether a second install would be one too many. One whose socket could not be opened is no obstacle.
    fn is_alive(&self) -> bool {
        self.is_here() && !self.stage.has_ended()
    }
}

/// What the constructor does; `blocked` is the mask of the calling thread, which has all signals blocked meanwhile. Never fails: what goes wrong is one log line, and the application runs on.
pub fn start_from_environment(blocked: u64) {
    if !startup::is_shared_object() {
        return;
    }
    // Ours is in front of it even where there will be no manhole.
    sys::exit::find_next();
    // A privileged start must not open doors because of its caller's environment.
    if process::is_secure() {
        return;
    }
    let text = startup::variable(VARIABLE).unwrap_or_default();
    if text.trim() == OFF {
        return;
    }
    match Config::parse(&text) {
        Ok(config) => {
            if !config.only.is_empty() && !config.wants(&ProcessFacts::read().names()) {
                return;
            }
            if !config.thread && config.activate_on.is_none() && config.oneshot_on.is_none() {
                let _ = WAITING.set(config);
            } else if let Err(error) = CHANGE.with(|()| install(config, blocked)) {
                log!("{error}; the application runs on without a manhole");
            }
        }
        Err(error) => log!("{VARIABLE}: {error}; the application runs on without a manhole"),
    }
}

/// Installs with an option string, as python-manhole's `install()`. Without options those of the
/// environment count, if `thread=False` kept them back. `blocked` is the mask of the calling thread, which has all
/// signals blocked meanwhile.
pub fn install_with(text: &str, blocked: u64) -> Result<(), InstallError> {
    let mut config = Config::parse(text).map_err(InstallError::Options)?;
    if let Some(waiting) = WAITING.get().filter(|_| text.trim().is_empty()) {
        config = waiting.clone();
        config.thread = true;
    }
    if is_own_thread() {
        return Err(InstallError::Release(ReleaseError::OwnThread));
    }
    CHANGE.with(|()| {
        if let Some(before) = installed() {
            if before.is_alive() && config.strict {
                return Err(InstallError::AlreadyInstalled);
            }
            undo(before).map_err(InstallError::Release)?;
        }
        install(config, blocked)
    })
}

/// Undoes the install, as python-manhole's `release()`: threads end, clients are told, signals are what they were.
pub fn release() -> Result<(), ReleaseError> {
    if is_own_thread() {
        return Err(ReleaseError::OwnThread);
    }
    CHANGE.with(|()| undo(installed().ok_or(ReleaseError::NotInstalled)?))
}

/// Whether the calling thread is one of ours, which cannot wait for its own end.
fn is_own_thread() -> bool {
    let own = process::proc_tid();
    descriptors::is_private() || own.is_some() && installed().and_then(|manhole| manhole.actor.tid()) == own
}

fn install(mut config: Config, blocked: u64) -> Result<(), InstallError> {
    if config.has_relative_paths()
        && let Ok(folder) = link::read_link(c"/proc/self/cwd", &mut [0; 4096])
    {
        config.anchor(&String::from_utf8_lossy(folder));
    }
    log::configure(config.verbose, &config.verbose_destination);
    let manhole = INSTALLED.set(Manhole::new(config));
    thread::find_count();
    if manhole.has_threads() {
        start_threads(manhole, blocked).map_err(InstallError::Thread)?;
    }
    // While they start: none of these is of use to them before the application's code runs.
    panics::install();
    fork::install();
    exit::install();
    signals::install(manhole);
    if manhole.config.waits_for_signal() {
        manhole.tell_of_forks();
    }
    let patience = manhole.config.start_timeout;
    if manhole.has_threads() && !patience.is_zero() && !manhole.stage.wait_while_opening(patience) {
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

fn undo(manhole: &'static Manhole) -> Result<(), ReleaseError> {
    signals::report_replaced();
    signals::uninstall();
    if let Err(error) = end_service(manhole) {
        // It stays, and so does its signal; the next ring is none for this.
        manhole.wish.store(Wish::Serve as u32, Ordering::Release);
        signals::install(manhole);
        return Err(error);
    }
    manhole.actor.close();
    if manhole.has_threads() && !manhole.actor.wait_for_end(PATIENCE) {
        let what = manhole.actor.busy().map_or("its work".to_owned(), |(what, _)| what);
        log!("released, but thread `Manhole actor` hangs in {what} and ends when that returns");
    }
    // One that was kept from opening may still be on its way out of the application's table: what it does there must
    // not come after what the next one does.
    futex::wait_until_changed(&manhole.observing, 1, PATIENCE);
    exit::remove_socket();
    INSTALLED.clear();
    Ok(())
}

/// Has whoever serves clients stop that.
fn end_service(manhole: &'static Manhole) -> Result<(), ReleaseError> {
    if oneshot::is_running() && !manhole.has_threads() {
        manhole.ask(Wish::Leave).map_err(ReleaseError::Unreachable)?;
        if !oneshot::wait_for_end(PATIENCE) {
            return Err(ReleaseError::Unreachable(Errno::ETIMEDOUT));
        }
    }
    if manhole.has_threads() && !manhole.stage.prevent() && !manhole.stage.has_ended() {
        manhole.stage.wait_while_opening(PATIENCE);
        manhole.ask(Wish::Leave).map_err(ReleaseError::Unreachable)?;
        if !manhole.stage.wait_for_end(PATIENCE) {
            return Err(ReleaseError::Unreachable(Errno::ETIMEDOUT));
        }
    }
    Ok(())
}

/// Starts the actor, which starts the observer: so the thread that installs creates but one (two cost `/bin/true`
/// 40 us and more), and a child that execs at once too. `pthread_create` allocates in the thread that calls it, but
/// for a forked child, where glibc has the stacks of the parent's threads to use again. `blocked` are the signals that
/// the application blocks here: it may wait for them in another way (`sigwait`).
fn start_threads(manhole: &'static Manhole, blocked: u64) -> Result<(), Errno> {
    manhole.stage.start(manhole.config.activate_on.is_some());
    let started = thread::spawn(actor, manhole, ACTOR_STACK, manhole.config.sigmask | blocked);
    if started.is_err() {
        manhole.stage.end();
    }
    started
}

/// The actor thread's life.
extern "C" fn actor(manhole: &'static Manhole) -> Option<&'static Manhole> {
    thread::set_name(c"Manhole actor");
    let _stack = own::Stack::of(own::Thread::Actor, ACTOR_STACK);
    fork::after_delay(manhole);
    manhole.observing.store(1, Ordering::Release);
    manhole.actor.begin();
    if let Err(error) = thread::spawn(observer, manhole, STACK, signal::blocked()) {
        log!("cannot create the manhole thread: {}; the application runs on without a manhole", error.desc());
        manhole.observer_left();
        manhole.stage.end();
        manhole.actor.close();
    }
    manhole.actor.run();
    // An observer that was out of memory could not ask for it.
    redirect::tap::restore();
    thread::count_again();
    None
}

/// The observer thread's life.
extern "C" fn observer(manhole: &'static Manhole) -> Option<&'static Manhole> {
    let _stack = own::Stack::of(own::Thread::Observer, STACK);
    // A bug of ours ends the manhole, not the host.
    let ended = catch_unwind(AssertUnwindSafe(|| crate::server::run(manhole)));
    if ended.is_err() {
        log!("the manhole's thread panicked: {}; the application runs on without a manhole", panics::take());
    }
    exit::remove_socket();
    manhole.rope.cut();
    manhole.count_clients(0);
    manhole.stage.end();
    manhole.actor.close();
    // A thread of the application may get this one's number.
    allocator::clear_last_resort(Role::Observer);
    if descriptors::is_private() {
        descriptors::forget_private();
    }
    thread::count_again();
    manhole.observer_left();
    None
}

/// The process ends: an observer that has not begun makes no name any more, and what it made goes. So a
/// program of a millisecond neither waits for its manhole nor leaves a name behind. Connected clients may finish
/// first, unless `daemon_connection` says that they die with the process.
pub fn finish() {
    let Some(manhole) = installed() else { return };
    // Before the C library writes what it still has.
    diverted::end(|_| {});
    signals::report_replaced();
    if manhole.stage.prevent() {
        return;
    }
    manhole.stage.wait_while_opening(Duration::from_millis(100));
    exit::remove_socket();
    let count = manhole.connected.load(Ordering::Acquire);
    if count > 0 && !manhole.config.daemon_connection {
        if is_own_thread() {
            manhole.actor.leave();
        }
        log!("the process ends when its {count} connected clients have left (daemon_connection=False)");
        // Without the ring they are not told, and leave all the same.
        let _ = manhole.ask(Wish::Finish);
        while let count @ 1.. = manhole.connected.load(Ordering::Acquire) {
            futex::wait(&manhole.connected, count, None);
        }
    }
    redirect::tap::finish();
}
