//! Files, and pages of mapped files, that somebody may have to bring: a file server, or a FUSE process.
//!
//! Context: the observer, whom nothing may hold up. [`super::mounts`] says which files these are. All that could wait for
//! their server is done by a [`Courier`], for which one waits [`PATIENCE`]. While it is away nothing more is asked: what
//! comes back late is the sign that the server answers again. Where everything is near, this costs a look at a number.
//!
//! A thread of the application that works in the observer's place (oneshot, `manhole_dump_stacks`) has another
//! descriptor table, which no courier of the observer's may touch; it waits for its servers as the application does. So
//! there is one user of the state, and its lock is only ever found taken by the observer itself: after it was left for
//! want of memory, or by a panic's line in the log. Then everything counts as near, or as not come.

mod files;
mod pages;

use super::courier::Courier;
use super::fork::Child;
use super::futex::Guarded;
use super::mounts::{self, Mounts};
use super::procfs::File;
use super::{Errno, Result, clock, descriptors, filter, process};

pub use files::{Reached, is_log_silent, status_at};
pub use pages::{Look, read_memory};

/// Nanoseconds that a server has for one answer, and those that all answers of a command may take.
const PATIENCE: u64 = 1_000_000_000;
const PURSE: u64 = 3 * PATIENCE;
/// The error of what did not come in time, or is not asked for since something else did not come yet.
pub const AWAY: Errno = Errno::ETIMEDOUT;

struct State {
    /// Commands that run.
    uses: usize,
    /// For their time.
    mounts: Option<Mounts>,
    pagemap: Option<File>,
    /// Nanoseconds that were waited.
    waited: u64,
    /// The one who asks, and the user that he was when he was made.
    courier: Option<(Courier, u32)>,
    /// He went to open something, which nobody waits for any more if he comes back.
    opens: bool,
    /// Descriptors that are to be closed when he is back.
    left: Vec<i32>,
    /// What the mounts said of the devices that files are mapped from, as of the last look; `None` of one that is none
    /// of theirs.
    devices: Vec<(u64, Option<bool>)>,
    /// The files that are mapped at [`pages`].
    paths: Vec<Vec<u8>>,
    /// The path of the last file that was taken over, and whether it is far.
    adopted: (Vec<u8>, bool),
    /// How often something did not come, and the file of the last time.
    missed: (u64, Vec<u8>),
}

impl State {
    const EMPTY: Self = Self {
        uses: 0,
        mounts: None,
        pagemap: None,
        waited: 0,
        courier: None,
        opens: false,
        left: Vec::new(),
        devices: Vec::new(),
        paths: Vec::new(),
        adopted: (Vec::new(), false),
        missed: (0, Vec::new()),
    };
}

static STATE: Guarded<State> = Guarded::new(State::EMPTY);

/// Whether the caller is the observer, and may make a process: under a filter that the application has added since its
/// start it may not, and all is asked as if it were near.
fn may_send() -> bool {
    descriptors::is_private() && !filter::has_grown()
}

impl State {
    fn mounts(&mut self) -> &Mounts {
        self.mounts.get_or_insert_with(Mounts::read)
    }

    /// Gives back what was needed, unless a command runs.
    fn give_back(&mut self) {
        if self.uses > 0 {
            return;
        }
        (self.mounts, self.pagemap, self.waited) = (None, None, 0);
        if may_send() && self.courier.as_ref().is_some_and(|(courier, _)| courier.is_back()) {
            let _ = self.courier();
            self.courier = None;
        }
    }

    /// What the mounts say of `device`.
    fn device(&mut self, device: u64) -> Option<bool> {
        match self.devices.iter().find(|known| known.0 == device) {
            Some(known) => known.1,
            None => self.mounts().device(device),
        }
    }

    /// Something of the file at `path` did not come; nobody misses what has none.
    fn miss(&mut self, path: &[u8]) {
        if !path.is_empty() {
            self.missed.0 += 1;
            self.missed.1.clear();
            self.missed.1.extend_from_slice(path);
        }
    }

    /// The courier, if he is here.
    fn courier(&mut self) -> Result<&mut Courier> {
        if !may_send() || self.waited > PURSE {
            return Err(AWAY);
        }
        let user = process::effective_uid();
        // He was killed, or has rights that the process has not any more.
        if self.courier.as_ref().is_some_and(|(courier, his)| {
            courier.is_back() && !courier.is_ready() || courier.is_ready() && *his != user
        }) {
            (self.courier, self.opens) = (None, false);
        }
        let (courier, _) = match &mut self.courier {
            Some(courier) => courier,
            none => none.insert((Courier::start().map_err(|_| AWAY)?, user)),
        };
        if !courier.is_ready() {
            return Err(AWAY);
        }
        if std::mem::take(&mut self.opens)
            && let Ok(number) = courier.last()
        {
            self.left.push(number as i32);
        }
        while let Some(number) = self.left.pop() {
            // SAFETY: the descriptor is ours, and nobody uses it.
            if unsafe { courier.call(libc::SYS_close, [number as usize, 0, 0, 0, 0, 0], PATIENCE) }.is_err() {
                return Err(AWAY);
            }
        }
        Ok(courier)
    }

    /// A call about the file at `path`, with the address of the courier's buffer, which holds `bytes`, among its
    /// arguments; and the begin of that buffer afterwards, as far as `answer` has room.
    ///
    /// # Safety
    /// As [`Courier::call`].
    unsafe fn call(
        &mut self,
        path: &[u8],
        number: libc::c_long,
        bytes: &[u8],
        arguments: impl FnOnce(usize) -> [usize; 6],
        answer: &mut [u8],
    ) -> Result<usize> {
        let begun = clock::monotonic();
        let result = self.courier().and_then(|courier| {
            let buffer = courier.put(bytes);
            // SAFETY: as the caller vouches.
            let result = unsafe { courier.call(number, arguments(buffer), PATIENCE) }.unwrap_or(Err(AWAY));
            if result.is_ok() {
                courier.get(answer);
            }
            result
        });
        self.waited = self.waited.saturating_add(clock::monotonic().saturating_sub(begun));
        if result == Err(AWAY) {
            let is_out = self.courier.as_ref().is_some_and(|(courier, _)| !courier.is_back());
            self.opens |= is_out && number == libc::SYS_openat;
            self.miss(path);
        }
        result
    }
}

/// Whether somebody may have to bring what was mapped from a file of `device`, called `path`.
pub fn is_far(device: u64, path: &[u8]) -> bool {
    let is_far = |state: &mut State| mounts::is_far(state.device(device), device, path);
    path.starts_with(b"/") && may_send() && STATE.try_with(is_far).unwrap_or(false)
}

/// The same of what stands at `path`.
pub fn is_far_path(path: &[u8]) -> bool {
    let is_far = |state: &mut State| state.mounts().is_far_path(path);
    path.starts_with(b"/") && may_send() && STATE.try_with(is_far).unwrap_or(false)
}

/// How often something of a far file did not come. What is remembered from before may be half.
pub fn missed() -> u64 {
    if descriptors::is_private() { STATE.try_with(|state| state.missed.0).unwrap_or(0) } else { 0 }
}

/// Whether something that was asked for has not come yet.
pub fn is_silent() -> bool {
    let is_out = |state: &mut State| state.courier.as_ref().is_some_and(|(courier, _)| !courier.is_back());
    descriptors::is_private() && STATE.try_with(is_out).unwrap_or(false)
}

/// A command, which may need far files. At its end it gives back what it needed; a courier that is away is left to
/// itself, and serves again once it is back.
#[derive(Debug)]
pub struct Use {
    missed: u64,
    /// It is the observer's.
    counts: bool,
}

impl Use {
    /// The command begins.
    pub fn begin() -> Self {
        let begin = |state: &mut State| {
            state.give_back();
            state.uses += 1;
            state.missed.0
        };
        let missed = if descriptors::is_private() { STATE.try_with(begin) } else { None };
        Self { missed: missed.unwrap_or(0), counts: missed.is_some() }
    }

    /// A file of which something did not come since the begin.
    pub fn missing(&self) -> Option<Vec<u8>> {
        let missing = |state: &mut State| (state.missed.0 != self.missed).then(|| state.missed.1.clone());
        if self.counts { STATE.try_with(missing)? } else { None }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if self.counts {
            STATE.try_with(|state| {
                state.uses = state.uses.saturating_sub(1);
                state.give_back();
            });
        }
    }
}

/// In a forked child: its parent's.
pub fn reset_in_child(only: Child) {
    STATE.replace_in_child(State::EMPTY, only);
    pages::forget();
}
