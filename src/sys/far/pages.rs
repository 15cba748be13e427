//! Memory that is mapped from far files: where it is, and reading what of it is there.
//!
//! Context: the observer looks; whoever reads memory may read.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::super::courier;
use super::super::procfs::File;
use super::super::{memory, mounts, process};
use super::{STATE, State, may_send};

/// Ranges of memory that are told apart; what is beyond belongs to the last one.
const MOST_RANGES: usize = 512;
/// Where pages of far files are mapped, ascending, and how many of these there are. The observer writes.
static RANGES: [[AtomicU64; 2]; MOST_RANGES] = [const { [const { AtomicU64::new(0) }; 2] }; MOST_RANGES];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// In a forked child: its parent's look.
pub fn forget() {
    COUNT.store(0, Ordering::Relaxed);
}

impl State {
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
        // The buffer's address is known by then only: the vectors are put once more.
        let Ok(start) = self.courier().map(|courier| courier.put(&[])) else {
            self.miss(&path);
            return 0;
        };
        let vectors = [start + HEAD, size, address as usize, size].map(usize::to_ne_bytes);
        let arguments = |start: usize| [tid, start, 1, start + HEAD / 2, 1, 0];
        let mut answer = vec![0; HEAD + size];
        // SAFETY: both vectors stand in the buffer; the memory of the first is the rest of it.
        let read =
            unsafe { self.call(&path, libc::SYS_process_vm_readv, vectors.as_flattened(), arguments, &mut answer) };
        let count = read.unwrap_or(0).min(size);
        let bytes = answer.get(HEAD..HEAD + count).unwrap_or_default();
        buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        bytes.len()
    }
}

fn page_size() -> u64 {
    process::auxiliary(libc::AT_PAGESZ).max(4096)
}

/// A look at what is mapped where.
#[derive(Debug)]
pub struct Look {
    /// It is the observer's.
    counts: bool,
    devices: Vec<(u64, Option<bool>)>,
    ranges: Vec<(u64, u64)>,
    paths: Vec<Vec<u8>>,
}

impl Look {
    /// Nothing seen yet.
    pub fn begin() -> Self {
        Self { counts: may_send(), devices: Vec::new(), ranges: Vec::new(), paths: Vec::new() }
    }

    /// From `start` to `end` the file called `path`, of `device`, is mapped; ascending.
    pub fn add(&mut self, start: u64, end: u64, device: u64, path: &[u8]) {
        if !self.counts || !path.starts_with(b"/") {
            return;
        }
        let known = match self.devices.iter().find(|known| known.0 == device) {
            Some(known) => known.1,
            None => {
                let known = STATE.try_with(|state| state.device(device)).flatten();
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

    /// That was all.
    pub fn end(self) {
        if !self.counts {
            return;
        }
        COUNT.store(0, Ordering::Release);
        for ((start, end), [first, last]) in self.ranges.iter().zip(&RANGES) {
            first.store(*start, Ordering::Relaxed);
            last.store(*end, Ordering::Relaxed);
        }
        COUNT.store(self.ranges.len(), Ordering::Release);
        STATE.try_with(|state| (state.devices, state.paths) = (self.devices, self.paths));
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

/// Reads memory where it meets a far file's; `None` where it does not. Stops as [`memory::Memory::read`] does. Whoever is
/// not the observer reads up to such a file, as a copy of a stack that lies below one does, and waits in it.
pub fn read_memory(address: u64, buffer: &mut [u8]) -> Option<usize> {
    let end = address.saturating_add(buffer.len() as u64);
    let first = range(address).filter(|range| range.start < end)?;
    if !may_send() {
        let near = usize::try_from(first.start.saturating_sub(address)).unwrap_or(usize::MAX);
        let length = if near == 0 { buffer.len() } else { near.min(buffer.len()) };
        return buffer.get_mut(..length).map(|buffer| memory::read_directly(address, buffer));
    }
    let page = page_size();
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = address.saturating_add(done as u64);
        let near = range(at).map_or(end, |range| range.start);
        let stop = if near > at { near.min(end) } else { (at / page + 1).saturating_mul(page).min(end) };
        let size = usize::try_from(stop - at).unwrap_or(usize::MAX).min(rest.len()).min(courier::ROOM / 2);
        let Some(piece) = rest.get_mut(..size) else { break };
        let count = if near > at {
            memory::read_directly(at, piece)
        } else {
            STATE.try_with(|state| state.read_page(at, piece)).unwrap_or(0)
        };
        done += count;
        if count < size {
            break;
        }
    }
    Some(done)
}
