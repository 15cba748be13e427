//! `pthread_mutex_t`: lock word, count, owner, users, kind; 32 bits each (glibc's `struct __pthread_mutex_s`).

#![forbid(unsafe_code)]

use super::{Facts, Holder};
use crate::sys::memory::Memory;

/// Bits of the kind (`nptl/pthreadP.h`).
const ROBUST: u32 = 16;
const INHERIT: u32 = 32;
const PROTECT: u32 = 64;
const SHARED: u32 = 128;
const KNOWN: u32 = 3 | ROBUST | INHERIT | PROTECT | SHARED | ELISION;
const ELISION: u32 = 256 | 512;
/// What the owner's field holds while a robust mutex is locked and not made consistent yet (PTHREAD_MUTEX_INCONSISTENT).
const INCONSISTENT: u32 = i32::MAX.cast_unsigned();
/// The ceiling of a priority-protecting mutex stands above these bits of its lock word.
const PROTECT_STATE: u32 = (1 << 19) - 1;

/// The fields of a mutex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutex {
    lock: u32,
    count: u32,
    owner: u32,
    kind: u32,
}

impl Mutex {
    /// Reads what may be one; `None` when no mutex looks so.
    pub fn read(memory: &impl Memory, address: u64) -> Option<Self> {
        let bytes: [u8; 20] = memory.read_array(address)?;
        let (words, _) = bytes.as_chunks::<4>();
        let [lock, count, owner, _, kind] = *words else { return None };
        let [lock, count, owner, kind] = [lock, count, owner, kind].map(u32::from_le_bytes);
        let mutex = Self { lock, count, owner, kind };
        mutex.is_plausible().then_some(mutex)
    }

    fn is(self, bit: u32) -> bool {
        self.kind & bit != 0
    }

    /// The lock word holds the owner's id: the kernel reads it there.
    fn owner_is_in_lock(self) -> bool {
        self.is(ROBUST | INHERIT)
    }

    fn is_plausible(self) -> bool {
        let protocol = self.kind & (INHERIT | PROTECT);
        let state = if self.is(PROTECT) { self.lock & PROTECT_STATE } else { self.lock };
        self.kind & !KNOWN == 0 && protocol != INHERIT | PROTECT && (self.owner_is_in_lock() || state <= 2)
    }

    /// Who holds it, and how.
    pub fn facts(self) -> Facts {
        let died = self.is(ROBUST) && (self.lock & libc::FUTEX_OWNER_DIED != 0 || self.owner == INCONSISTENT);
        let tid = if self.owner_is_in_lock() { self.lock & libc::FUTEX_TID_MASK } else { self.owner };
        let is_locked = if self.owner_is_in_lock() {
            tid != 0
        } else {
            self.lock & if self.is(PROTECT) { PROTECT_STATE } else { u32::MAX } != 0
        };
        let holder = match (is_locked, i32::try_from(tid)) {
            (false, _) => Holder::Nobody,
            (true, Ok(tid @ 1..)) => Holder::Thread(tid),
            (true, _) => Holder::NotRecorded,
        };
        let mut state = match (is_locked, self.count) {
            (false, _) => "free".to_owned(),
            (true, 2..) if self.kind & 3 == 1 => format!("locked {} times", self.count),
            (true, _) => "locked".to_owned(),
        };
        if died {
            state.push_str(", its former owner died with it");
        }
        Facts { flavour: self.flavour(), state, holder }
    }

    fn flavour(self) -> String {
        let mut flavour = ["normal", "recursive", "errorcheck", "adaptive"]
            .get(self.kind as usize & 3)
            .copied()
            .unwrap_or_default()
            .to_owned();
        for (bit, word) in [
            (ROBUST, "robust"),
            (INHERIT, "priority-inheriting"),
            (PROTECT, "priority-protecting"),
            (SHARED, "process-shared"),
        ] {
            // A robust mutex has this bit whether it is shared or not (pthread_mutex_init.c).
            if self.is(bit) && !(bit == SHARED && self.is(ROBUST)) {
                flavour.push_str(", ");
                flavour.push_str(word);
            }
        }
        flavour
    }
}
