//! The crate's allocator: dlmalloc on anonymous mappings of our own.
//!
//! Context: every thread of ours, the constructor, fork handlers, and a thread of the application that
//! has found the heap free ([`Mapped::is_usable_within`]) before it serves an oneshot or dumps; never
//! while a thread is stopped. The application's `malloc` may be locked for ever or corrupt, so nothing of
//! ours may depend on it.
//!
//! Rust aborts the process when an allocation fails, which would kill the host. So a reserve of
//! address space, untouched until needed, answers when the kernel refuses a mapping; the observer
//! looks at [`take_exhausted`] between two steps of a job, gives the job up with an error, and
//! everything it held comes back. What reads files looks at [`is_exhausted`] and reads no more. Should
//! the reserve run out all the same, the thread that asked never comes back to what it did ([`set_last_resort`]): a manhole
//! that is gone is better than a host that is.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

use super::futex::Lock;
use super::{own, raw};

/// Bytes kept aside for the time when the kernel gives none. One step of a job needs less than half.
const RESERVE: usize = 4 << 20;

/// Where the reserve begins, 0 before the first allocation; and what is left of it.
static RESERVE_START: AtomicUsize = AtomicUsize::new(0);
static RESERVE_LEFT: AtomicUsize = AtomicUsize::new(0);
/// See [`set_last_resort`]: each role's thread (0: none) and function.
static LAST_RESORTS: [(AtomicI32, AtomicPtr<()>); 3] =
    [const { (AtomicI32::new(0), AtomicPtr::new(std::ptr::null_mut())) }; 3];
static EXHAUSTED: AtomicBool = AtomicBool::new(false);
/// Bytes mapped from the kernel now, and the most there ever were.
static MAPPED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The kernel refused memory and the reserve was touched. Clears the mark: the caller acts on it.
pub fn take_exhausted() -> bool {
    EXHAUSTED.load(Ordering::Relaxed) && EXHAUSTED.swap(false, Ordering::Relaxed)
}

/// The kernel has refused memory since the last [`take_exhausted`]: what can be left undone must be.
pub fn is_exhausted() -> bool {
    EXHAUSTED.load(Ordering::Relaxed)
}

/// As what a thread works for us; one thread a role.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// The observer.
    Observer,
    /// A thread of the application that serves an oneshot.
    Oneshot,
    /// A thread of the application that dumps stacks to a descriptor.
    Dump,
}

/// What the calling thread does when there is no memory at all. It must not allocate.
pub fn set_last_resort(role: Role, action: fn() -> !) {
    if let Some((thread, function)) = LAST_RESORTS.get(role as usize) {
        function.store(action as *mut (), Ordering::Relaxed);
        thread.store(super::process::tid(), Ordering::Release);
    }
}

/// The thread in this role works for us no more.
pub fn clear_last_resort(role: Role) {
    if let Some((thread, _)) = LAST_RESORTS.get(role as usize) {
        thread.store(0, Ordering::Relaxed);
    }
}

/// Bytes that the allocator holds now and held at most, as `(now, peak)`.
pub fn usage() -> (usize, usize) {
    (MAPPED.load(Ordering::Relaxed), PEAK.load(Ordering::Relaxed))
}

/// Sets the reserve aside, once. Not in the constructor: programs that run for a millisecond need none.
pub fn reserve() {
    if RESERVE_START.load(Ordering::Relaxed) == 0 {
        let reserve = map(RESERVE);
        if !reserve.is_null() {
            own::add(reserve as usize, RESERVE);
            RESERVE_START.store(reserve as usize, Ordering::Relaxed);
            RESERVE_LEFT.store(RESERVE, Ordering::Relaxed);
        }
    }
}

/// `dlmalloc`'s source of memory.
struct Mappings;

fn map(size: usize) -> *mut u8 {
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    // Raw: gperftools and others define `mmap` themselves.
    // SAFETY: a new private anonymous mapping aliases nothing.
    let region = unsafe { raw::syscall6(libc::SYS_mmap, [0, size, protection, flags, usize::MAX, 0]) };
    region.map_or(std::ptr::null_mut(), |address| address as *mut u8)
}

fn from_reserve(size: usize) -> *mut u8 {
    EXHAUSTED.store(true, Ordering::Relaxed);
    let left = RESERVE_LEFT.load(Ordering::Relaxed);
    if left < size {
        return std::ptr::null_mut();
    }
    RESERVE_LEFT.store(left - size, Ordering::Relaxed);
    (RESERVE_START.load(Ordering::Relaxed) + left - size) as *mut u8
}

// SAFETY: every region comes from `map` or, once, from the reserve, which is never unmapped.
unsafe impl dlmalloc::Allocator for Mappings {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let region = map(size);
        if region.is_null() {
            return (from_reserve(size), size, 0);
        }
        let now = MAPPED.fetch_add(size, Ordering::Relaxed) + size;
        PEAK.fetch_max(now, Ordering::Relaxed);
        own::add(region as usize, size);
        (region, size, 0)
    }

    fn remap(&self, _region: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        std::ptr::null_mut()
    }

    fn free_part(&self, region: *mut u8, old: usize, new: usize) -> bool {
        let address = region as usize + new;
        self.free(address as *mut u8, old - new)
    }

    fn free(&self, region: *mut u8, size: usize) -> bool {
        let reserve = RESERVE_START.load(Ordering::Relaxed);
        if (reserve..reserve + RESERVE).contains(&(region as usize)) {
            return false;
        }
        // SAFETY: dlmalloc gives back only what `alloc` returned, and has no reference into it.
        let done = unsafe { raw::syscall6(libc::SYS_munmap, [region as usize, size, 0, 0, 0, 0]) }.is_ok();
        if done {
            MAPPED.fetch_sub(size, Ordering::Relaxed);
            own::remove(region as usize, size);
        }
        done
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}

/// The `#[global_allocator]`.
pub struct Mapped {
    lock: Lock,
    heap: UnsafeCell<dlmalloc::Dlmalloc<Mappings>>,
}

// SAFETY: `heap` is only touched between `lock.acquire()` and `lock.release()`.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// An empty heap; the first allocation maps its first pages.
    pub const fn new() -> Self {
        Self { lock: Lock::new(), heap: UnsafeCell::new(dlmalloc::Dlmalloc::new_with_allocator(Mappings)) }
    }

    /// Whether the lock can be had within `patience`: the calling thread may have been interrupted while it held it.
    pub fn is_usable_within(&self, patience: Duration) -> bool {
        let usable = self.lock.acquire_within(patience);
        if usable {
            self.lock.release();
        }
        usable
    }

    /// Whether the lock is seen free within `patience`, so that a thread that stands still does not hold it. For a process
    /// that shares this memory, and may be killed at any moment.
    pub fn is_seen_free_within(&self, patience: Duration) -> bool {
        self.lock.is_seen_free_within(patience)
    }

    /// Takes the heap's lock before `fork`, so that the child inherits a whole heap.
    pub fn hold(&self) {
        self.lock.acquire();
    }

    /// Gives the heap's lock back after `fork`, in parent and child.
    pub fn let_go(&self) {
        self.lock.release();
    }

    fn with<R>(&self, work: impl FnOnce(&mut dlmalloc::Dlmalloc<Mappings>) -> R) -> R {
        self.lock.acquire();
        // SAFETY: the lock is held, and dlmalloc neither unwinds nor calls back into this allocator.
        let heap = unsafe { &mut *self.heap.get() };
        let result = work(heap);
        self.lock.release();
        result
    }

    /// `block`, unless there is none and this thread has something better to do than to abort the process.
    fn or_last_resort(&self, block: *mut u8, size: usize) -> *mut u8 {
        // What asks for this much is prepared for a refusal (`try_reserve`), or asks for nonsense.
        if !block.is_null() || size > RESERVE {
            return block;
        }
        let own = super::process::tid();
        let Some((_, action)) = LAST_RESORTS.iter().find(|(thread, _)| thread.load(Ordering::Acquire) == own) else {
            return block;
        };
        // SAFETY: `set_last_resort` stored such a function before it stored the thread.
        let action = unsafe { std::mem::transmute::<*mut (), fn() -> !>(action.load(Ordering::Relaxed)) };
        action()
    }
}

impl Default for Mapped {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: dlmalloc honours size and alignment; the lock makes it one caller at a time.
unsafe impl GlobalAlloc for Mapped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `layout` has a size above zero, as our caller vouches.
        let block = self.with(|heap| unsafe { heap.malloc(layout.size(), layout.align()) });
        self.or_last_resort(block, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let block = self.with(|heap| unsafe { heap.calloc(layout.size(), layout.align()) });
        self.or_last_resort(block, layout.size())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` with this layout, as our caller vouches.
        self.with(|heap| unsafe { heap.free(pointer, layout.size(), layout.align()) });
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `dealloc`; `size` is above zero.
        let block = self.with(|heap| unsafe { heap.realloc(pointer, layout.size(), layout.align(), size) });
        self.or_last_resort(block, size)
    }
}
