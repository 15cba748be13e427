//! Files, and pages of mapped files, that somebody may have to bring: a file server, or a FUSE process.
//!
//! Context: the observer, or a thread of the application that works in its place; whoever else reads memory gets what is
//! there already. [`super::mounts`] says which files these are. All that could wait for their server is done by a
//! [`Courier`], for which one waits [`PATIENCE`]. While it is away nothing more is asked: what comes back late is the
//! sign that the server answers again. Where everything is near, nothing of this happens but a look at a number.

use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::courier::{self, Courier};
use super::fork::Child;
use super::futex::Guarded;
use super::link::read_link;
use super::mounts::{self, Mounts};
use super::procfs::{File, Path};
use super::stat::{self, Status};
use super::{Errno, Result, filter, memory, output, process};

/// Nanoseconds that a server has for one answer. Slow ones take a tenth of that.
const PATIENCE: u64 = 1_000_000_000;
/// Ranges of memory that are told apart; what is beyond belongs to the last one.
const MOST_RANGES: usize = 512;

/// Where pages of far files are mapped, ascending, and how many of these there are.
static RANGES: [[AtomicU64; 2]; MOST_RANGES] = [const { [const { AtomicU64::new(0) }; 2] }; MOST_RANGES];
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// The thread that may wait.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// The error of what did not come in time, or is not asked for since something else did not come yet.
pub const AWAY: Errno = Errno::ETIMEDOUT;

#[derive(Default)]
struct State {
    /// Commands that run.
    uses: usize,
    /// For their time.
    mounts: Option<Mounts>,
    courier: Option<Courier>,
    pagemap: Option<File>,
    /// What the mounts said of the devices that files are mapped from, as of the last look; `None` of one that is none
    /// of theirs.
    devices: Vec<(u64, Option<bool>)>,
    /// The files that are mapped at [`RANGES`].
    paths: Vec<Vec<u8>>,
    /// The path of the last file that was taken over, and whether it is far.
    adopted: (Vec<u8>, bool),
    /// How often something did not come, and the file of the last time.
    missed: (u64, Vec<u8>),
}

static STATE: Guarded<State> = Guarded::new(State {
    uses: 0,
    mounts: None,
    courier: None,
    pagemap: None,
    devices: Vec::new(),
    paths: Vec::new(),
    adopted: (Vec::new(), false),
    missed: (0, Vec::new()),
});

impl State {
    fn mounts(&mut self) -> &Mounts {
        self.mounts.get_or_insert_with(Mounts::read)
    }

    /// Gives back what was needed, unless a command runs.
    fn give_back(&mut self) {
        if self.uses == 0 {
            self.courier.take_if(|courier| courier.is_back());
            (self.mounts, self.pagemap) = (None, None);
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
        if path.is_empty() {
            return;
        }
        self.missed.0 += 1;
        self.missed.1.clear();
        self.missed.1.extend_from_slice(path);
    }

    /// The courier, if it is here.
    fn courier(&mut self) -> Result<&mut Courier> {
        if self.courier.as_ref().is_some_and(|courier| courier.is_back() && !courier.is_ready()) {
            // It was killed.
            self.courier = None;
        }
        let courier = match &mut self.courier {
            Some(courier) => courier,
            none => none.insert(Courier::start()?),
        };
        if courier.is_ready() { Ok(courier) } else { Err(AWAY) }
    }

    /// A call about the file at `path`, with the address of the courier's buffer, which holds `bytes`, among its
    /// arguments.
    ///
    /// # Safety
    /// As [`Courier::call`].
    unsafe fn call(
        &mut self,
        path: &[u8],
        number: libc::c_long,
        bytes: &[u8],
        arguments: impl FnOnce(usize) -> [usize; 6],
    ) -> Result<usize> {
        let result = self.courier().and_then(|courier| {
            let buffer = courier.put(bytes);
            // SAFETY: as the caller vouches.
            unsafe { courier.call(number, arguments(buffer), PATIENCE) }.unwrap_or(Err(AWAY))
        });
        if result == Err(AWAY) {
            self.miss(path);
        }
        result
    }

    /// Whether the page at `address` can be read at once; where nobody says so, it is asked for.
    fn is_here(&mut self, address: u64) -> bool {
        const PRESENT: u64 = 1 << 63;
        if self.pagemap.is_none() {
            self.pagemap = File::open(c"/proc/thread-self/pagemap").ok();
        }
        let mut entry = [0; 8];
        let offset = address / page_size() * 8;
        self.pagemap.as_ref().is_some_and(|pagemap| pagemap.read_at(&mut entry, offset) == Ok(8))
            && u64::from_le_bytes(entry) & PRESENT != 0
    }

    fn read_page(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        if self.is_here(address) {
            return memory::read_directly(address, buffer);
        }
        // In the courier's buffer: two vectors, and behind them what is read.
        const HEAD: usize = 2 * size_of::<libc::iovec>();
        let path = range(address).and_then(|found| self.paths.get(found.index)).cloned().unwrap_or_default();
        let (size, tid) = (buffer.len(), process::tid() as usize);
        let read = self.courier().and_then(|courier| {
            let start = courier.put(&[]);
            courier.put([start + HEAD, size, address as usize, size].map(usize::to_ne_bytes).as_flattened());
            let arguments = [tid, start, 1, start + HEAD / 2, 1, 0];
            // SAFETY: both vectors stand in the buffer; the memory of the first is the rest of it.
            let read = unsafe { courier.call(libc::SYS_process_vm_readv, arguments, PATIENCE) };
            let count = read.unwrap_or(Err(AWAY))?.min(size);
            let mut bytes = vec![0; HEAD + count];
            courier.get(&mut bytes);
            Ok(bytes)
        });
        match read {
            Ok(bytes) => {
                let bytes = bytes.get(HEAD..).unwrap_or_default();
                buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                bytes.len()
            }
            Err(error) => {
                if error == AWAY {
                    self.miss(&path);
                }
                0
            }
        }
    }
}

fn page_size() -> u64 {
    process::auxiliary(libc::AT_PAGESZ).max(4096)
}

/// Whether somebody may have to bring what was mapped from a file of `device`, called `path`.
pub fn is_far(device: u64, path: &[u8]) -> bool {
    may_wait() && path.starts_with(b"/") && STATE.with(|state| mounts::is_far(state.device(device), device, path))
}

/// The same of what stands at `path`.
pub fn is_far_path(path: &[u8]) -> bool {
    may_wait() && path.starts_with(b"/") && STATE.with(|state| state.mounts().is_far_path(path))
}

/// Under a filter that the application has added since its start no process is made: all is asked as if it were near.
fn may_wait() -> bool {
    !filter::has_grown()
}

/// How often something of a far file did not come. What is remembered from before may be half.
pub fn missed() -> u64 {
    STATE.with(|state| state.missed.0)
}

/// Whether something that was asked for has not come yet.
pub fn is_silent() -> bool {
    STATE.with(|state| state.courier.as_ref().is_some_and(|courier| !courier.is_back()))
}

/// A command, which may need far files. At its end it gives back what it needed; a courier that is away is left to
/// itself, and serves again once it is back.
#[derive(Debug)]
pub struct Use {
    missed: u64,
}

impl Use {
    /// The command begins.
    pub fn begin() -> Self {
        STATE.with(|state| {
            state.give_back();
            state.uses += 1;
            Self { missed: state.missed.0 }
        })
    }

    /// A file of which something did not come since the begin.
    pub fn missing(&self) -> Option<Vec<u8>> {
        STATE.with(|state| (state.missed.0 != self.missed).then(|| state.missed.1.clone()))
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        STATE.with(|state| {
            state.uses = state.uses.saturating_sub(1);
            state.give_back();
        });
    }
}

/// In a forked child: its parent's.
pub fn reset_in_child(only: Child) {
    STATE.replace_in_child(State::default(), only);
    COUNT.store(0, Ordering::Relaxed);
}

/// A look at what is mapped where.
#[derive(Debug, Default)]
pub struct Look {
    devices: Vec<(u64, Option<bool>)>,
    ranges: Vec<(u64, u64)>,
    paths: Vec<Vec<u8>>,
}

impl Look {
    /// From `start` to `end` the file called `path`, of `device`, is mapped; ascending.
    pub fn add(&mut self, start: u64, end: u64, device: u64, path: &[u8]) {
        if !path.starts_with(b"/") || !may_wait() {
            return;
        }
        let known = match self.devices.iter().find(|known| known.0 == device) {
            Some(known) => known.1,
            None => {
                let known = STATE.with(|state| state.device(device));
                self.devices.push((device, known));
                known
            }
        };
        if !mounts::is_far(known, device, path) {
            return;
        }
        let is_full = self.ranges.len() == MOST_RANGES;
        match (self.ranges.last_mut(), self.paths.last()) {
            (Some(last), Some(name)) if is_full || last.1 == start && name == path => last.1 = end,
            _ => {
                self.ranges.push((start, end));
                self.paths.push(path.to_vec());
            }
        }
    }

    /// That was all. From here on the calling thread waits for these.
    pub fn end(self) {
        OWNER.store(process::tid(), Ordering::Relaxed);
        COUNT.store(0, Ordering::Release);
        for ((start, end), [first, last]) in self.ranges.iter().zip(&RANGES) {
            first.store(*start, Ordering::Relaxed);
            last.store(*end, Ordering::Relaxed);
        }
        COUNT.store(self.ranges.len(), Ordering::Release);
        STATE.with(|state| (state.devices, state.paths) = (self.devices, self.paths));
    }
}

/// One of [`RANGES`].
struct Range {
    index: usize,
    start: u64,
}

/// The first range that ends above `address`.
fn range(address: u64) -> Option<Range> {
    let ranges = RANGES.get(..COUNT.load(Ordering::Acquire))?;
    let index = ranges.partition_point(|[_, end]| end.load(Ordering::Relaxed) <= address);
    ranges.get(index).map(|[start, _]| Range { index, start: start.load(Ordering::Relaxed) })
}

/// Reads memory where it meets a far file's; `None` where it does not. Stops as [`memory::Memory::read`] does.
pub fn read_memory(address: u64, buffer: &mut [u8]) -> Option<usize> {
    let end = address.saturating_add(buffer.len() as u64);
    range(address).filter(|range| range.start < end)?;
    if OWNER.load(Ordering::Relaxed) != process::tid() {
        return Some(0);
    }
    let page = page_size();
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = address.saturating_add(done as u64);
        let near = range(at).map_or(end, |range| range.start);
        let stop = if near > at { near.min(end) } else { (at / page + 1).saturating_mul(page).min(end) };
        let size = usize::try_from(stop - at).unwrap_or(usize::MAX).min(rest.len()).min(courier::ROOM / 2);
        let Some(piece) = rest.get_mut(..size) else { break };
        let count =
            if near > at { memory::read_directly(at, piece) } else { STATE.with(|state| state.read_page(at, piece)) };
        done += count;
        if count < size {
            break;
        }
    }
    Some(done)
}

/// An open file that may be far.
#[derive(Debug)]
pub struct Reached {
    file: ManuallyDrop<File>,
    /// Its path, if it is far; empty where what does not come is not missed.
    far: Option<Vec<u8>>,
}

impl Reached {
    /// Opens the absolute path `path`.
    pub fn open(path: &CStr, flags: libc::c_int, far: bool) -> Result<Self> {
        if !far {
            let file = File::open_at(libc::AT_FDCWD, path, flags)?;
            return Ok(Self { file: ManuallyDrop::new(file), far: None });
        }
        let (name, bytes) = (path.to_bytes(), path_for_courier(path)?);
        let flags = (flags | libc::O_CLOEXEC) as usize;
        let arguments = |buffer| [libc::AT_FDCWD as usize, buffer, flags, 0, 0, 0];
        // SAFETY: the path stands in the buffer.
        let number = STATE.with(|state| unsafe { state.call(name, libc::SYS_openat, &bytes, arguments) })?;
        Ok(Self { file: ManuallyDrop::new(File::from_raw(number as i32)), far: Some(name.to_vec()) })
    }

    /// Takes over a duplicate of a descriptor of the application, to write a line to, which may be a far file's.
    pub fn adopt(file: File) -> Self {
        let mut path = Path::<48>::new();
        let mut target = [0; 4096];
        let written = std::fmt::Write::write_fmt(&mut path, format_args!("/proc/thread-self/fd/{}", file.raw()));
        let target = written.ok().and_then(|()| read_link(path.as_c_str(), &mut target).ok());
        let far = target.filter(|target| may_wait() && is_adopted_far(target)).map(|_| Vec::new());
        Self { file: ManuallyDrop::new(file), far }
    }

    /// The file, if it is near.
    pub fn near(&self) -> Option<&File> {
        self.far.is_none().then_some(&*self.file)
    }

    /// Writes a line, as [`output::write_line`] does.
    pub fn write_line(&self, line: &[u8], patience: Duration) -> Result<()> {
        let Some(path) = &self.far else { return output::write_line(self.file.raw(), line, patience) };
        if line.len() > courier::ROOM {
            return Err(Errno::EMSGSIZE);
        }
        let arguments = |from| [self.file.raw() as usize, from, line.len(), 0, 0, 0];
        // SAFETY: the line stands in the buffer.
        STATE.with(|state| unsafe { state.call(path, libc::SYS_write, line, arguments) }).map(drop)
    }

    /// Which file it is.
    pub fn status(&self) -> Result<Status> {
        let Some(path) = &self.far else { return stat::of(&self.file) };
        far_status(path, libc::SYS_fstat, &[], |buffer| [self.file.raw() as usize, buffer, 0, 0, 0, 0])
    }

    /// One `pread`; see [`File::read_at`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let Some(path) = &self.far else { return self.file.read_at(buffer, offset) };
        let size = buffer.len().min(courier::ROOM);
        let arguments = |to| [self.file.raw() as usize, to, size, offset as usize, 0, 0];
        STATE.with(|state| {
            // SAFETY: it reads into the buffer, as much as there is room for.
            let count = unsafe { state.call(path, libc::SYS_pread64, &[], arguments) }?.min(size);
            if let Some(buffer) = buffer.get_mut(..count) {
                state.courier()?.get(buffer);
            }
            Ok(count)
        })
    }
}

/// [`is_far_path`] for the same path again and again. A panic that is logged may have begun in here.
fn is_adopted_far(path: &[u8]) -> bool {
    if !path.starts_with(b"/") {
        return false;
    }
    let far = STATE.try_with(|state| {
        if state.adopted.0 != path {
            state.adopted = (path.to_vec(), state.mounts().is_far_path(path));
        }
        state.adopted.1
    });
    far.unwrap_or(false)
}

impl Drop for Reached {
    fn drop(&mut self) {
        let Some(path) = &self.far else {
            // SAFETY: it is dropped once, here.
            return unsafe { ManuallyDrop::drop(&mut self.file) };
        };
        // What cannot be closed stays open in our table.
        let number = self.file.raw() as usize;
        // SAFETY: the descriptor is ours, and is not used again.
        let _ = STATE.with(|state| unsafe { state.call(path, libc::SYS_close, &[], |_| [number, 0, 0, 0, 0, 0]) });
        STATE.with(State::give_back);
        super::lent::note(self.file.raw(), false);
    }
}

/// [`stat::at`] of an absolute path that may be far.
pub fn status_at(path: &CStr, far: bool) -> Result<Status> {
    if !far {
        return stat::at(path);
    }
    // The answer is aligned, and stands before the path.
    let begin = size_of::<libc::stat>();
    let bytes = [vec![0; begin], path_for_courier(path)?].concat();
    let at = libc::AT_FDCWD as usize;
    far_status(path.to_bytes(), libc::SYS_newfstatat, &bytes, |buffer| [at, buffer + begin, buffer, 0, 0, 0])
}

/// `path` with its NUL. The courier is a process of its own: `/proc/self` would be its.
fn path_for_courier(path: &CStr) -> Result<Vec<u8>> {
    const SELF: &[u8] = b"/proc/self/";
    let bytes = path.to_bytes_with_nul();
    let bytes = match bytes.strip_prefix(SELF) {
        Some(rest) => [b"/proc/", read_link(c"/proc/self", &mut [0; 16])?, b"/", rest].concat(),
        None => bytes.to_vec(),
    };
    if bytes.len() > courier::ROOM / 2 { Err(Errno::ENAMETOOLONG) } else { Ok(bytes) }
}

fn far_status(
    path: &[u8],
    number: libc::c_long,
    bytes: &[u8],
    arguments: impl FnOnce(usize) -> [usize; 6],
) -> Result<Status> {
    STATE.with(|state| {
        // SAFETY: path and answer stand in the buffer.
        unsafe { state.call(path, number, bytes, arguments) }?;
        let mut answer = [0; size_of::<libc::stat>()];
        state.courier()?.get(&mut answer);
        Ok(stat::decode(&answer))
    })
}
