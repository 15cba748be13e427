//! What a thread waits for in futex(2): a mutex, a rwlock, a condition variable, a thread's end …, and who holds it.
//!
//! Context: the observer. Pure: a system call, the names of the innermost frames, and memory through calls that fail.
//! Two witnesses must agree before an object is named: the function that waits, and memory laid out as glibc lays that
//! object out. The layouts hold for x86_64 and aarch64 (`sysdeps/nptl/bits/struct_mutex.h`, `struct_rwlock.h`,
//! `thread-shared-types.h`, glibc 2.17 to 2.41). Where they do not agree, and with another libc, it is a futex word, and
//! that is all that is said.
//!
//! | file | what it knows |
//! |---|---|
//! | `wait` | the futex calls that wait |
//! | `callers` | which function waits: the name that tells the kind of object |
//! | `mutex`, `rwlock`, `condvar`, `semaphore` | layouts of glibc |
//! | `pthread` | a thread's id in glibc's own record of it |
//! | `graph` | who stands behind whom; cycles |

// The tests lock a mutex of their own.
#![cfg_attr(not(test), forbid(unsafe_code))]

pub mod callers;
mod condvar;
pub mod graph;
mod mutex;
mod pthread;
mod rwlock;
mod semaphore;
#[cfg(test)]
mod tests;
mod wait;

use crate::sys::memory::Memory;
pub use callers::Caller;
use callers::Role;
use rwlock::Side;
pub use wait::Wait;

/// The version of glibc that runs: major, minor.
pub type Version = (u32, u32);

/// Something that a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `pthread_mutex_t`, `mtx_t`, `std::mutex` of C++.
    Mutex,
    /// `pthread_rwlock_t`.
    Rwlock,
    /// `pthread_cond_t`.
    Condition,
    /// Another thread's end (pthread_join); the address is that of the word that the kernel clears.
    Join,
    /// `sem_t`.
    Semaphore,
    /// `pthread_barrier_t`.
    Barrier,
    /// `pthread_once_t`.
    Once,
    /// The lock of a `FILE`.
    Stdio,
    /// A lock of glibc's allocator.
    Arena,
    /// Another lock inside of glibc.
    LowLevel,
    /// The guard of a static variable of C++.
    Guard,
    /// `Mutex` of Rust's standard library.
    RustMutex,
    /// `RwLock` of Rust's standard library.
    RustRwlock,
    /// `Condvar` of Rust's standard library.
    RustCondvar,
    /// `std::thread::park` of Rust.
    RustPark,
    /// parking_lot of Rust: the futex word is the thread's own, and says nothing about the lock.
    ParkingLot,
    /// A futex word of unknown use.
    Futex,
}

impl Kind {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::Rwlock => "rwlock",
            Self::Condition => "condition variable",
            Self::Join => "join",
            Self::Semaphore => "semaphore",
            Self::Barrier => "barrier",
            Self::Once => "pthread_once",
            Self::Stdio => "stdio lock",
            Self::Arena => "low-level lock (malloc arena)",
            Self::LowLevel => "low-level lock (glibc)",
            Self::Guard => "guard of a C++ static",
            Self::RustMutex => "Rust mutex",
            Self::RustRwlock => "Rust rwlock",
            Self::RustCondvar => "Rust condition variable",
            Self::RustPark => "Rust thread parker",
            Self::ParkingLot => "parking_lot parker",
            Self::Futex => "futex",
        }
    }
}

/// What a waiter wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// To hold it alone, or to be let through.
    Lock,
    /// To read under a rwlock.
    Read,
    /// To write under a rwlock.
    Write,
}

impl Want {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// An object that a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Where it begins; the futex word where no more is known.
    pub address: u64,
}

/// Which object a thread waits for, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The object.
    pub object: Object,
    /// What the waiter wants of it.
    pub want: Want,
    /// The mutex that a waiter for a condition variable gave up, where its own frame says which.
    pub given_up: Option<u64>,
}

/// Who keeps others waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This thread, by its id; it may have exited.
    Thread(i32),
    /// As many readers; which, nobody records.
    Readers(u32),
    /// Somebody, or nobody any more; the object does not record who.
    NotRecorded,
    /// Nobody at this moment: it changes hands, or is nothing that is held.
    Nobody,
}

/// What memory says about an object, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The type, as `recursive, robust`; empty where there is only one.
    pub flavour: String,
    /// The state, as `locked 3 times`; empty where it is unknown.
    pub state: String,
    /// Who holds it.
    pub holder: Holder,
}

/// What the thread that waits in `wait` with these innermost `frames` waits for.
pub fn identify(memory: &impl Memory, wait: &Wait, frames: &[Caller<'_>], version: Version) -> Awaited {
    let word = wait.word;
    let is = |kind, address| Awaited { object: Object { kind, address }, want: Want::Lock, given_up: None };
    let found = match callers::role(frames) {
        Some(Role::Mutex) => mutex::Mutex::read(memory, word).map(|_| is(Kind::Mutex, word)),
        Some(Role::Read) => rwlock::find(memory, wait, Side::Reader, version)
            .map(|address| Awaited { want: Want::Read, ..is(Kind::Rwlock, address) }),
        Some(Role::Write) => rwlock::find(memory, wait, Side::Writer, version)
            .map(|address| Awaited { want: Want::Write, ..is(Kind::Rwlock, address) }),
        Some(Role::Condition) => match condvar::find(memory, word, frames, version) {
            Some(condvar::Found::Waits { condition, mutex }) => {
                Some(Awaited { given_up: mutex, ..is(Kind::Condition, condition) })
            }
            Some(condvar::Found::LocksAgain) => Some(is(Kind::Mutex, word)),
            None => None,
        },
        // The kernel clears the word as the thread exits (CLONE_CHILD_CLEARTID); until then it is its id.
        Some(Role::Join) => (wait.value != 0).then(|| is(Kind::Join, word)),
        Some(Role::Semaphore) => (wait.value == 0).then(|| is(Kind::Semaphore, word)),
        Some(Role::Barrier) => semaphore::Barrier::read(memory, word).map(|_| is(Kind::Barrier, word.wrapping_sub(4))),
        Some(Role::Once) => Some(is(Kind::Once, word)),
        Some(Role::Allocator) => Some(is(Kind::Arena, word)),
        Some(Role::Libc) => {
            let kind = if pthread::stdio_owner(memory, word).is_some() { Kind::Stdio } else { Kind::LowLevel };
            Some(is(kind, word))
        }
        Some(Role::Guard) => Some(is(Kind::Guard, word)),
        Some(Role::RustMutex) => Some(is(Kind::RustMutex, word)),
        // Readers wait on the state, which comes first; writers on a counter behind it.
        Some(Role::RustRead) => Some(Awaited { want: Want::Read, ..is(Kind::RustRwlock, word) }),
        Some(Role::RustWrite) => Some(Awaited { want: Want::Write, ..is(Kind::RustRwlock, word.wrapping_sub(4)) }),
        Some(Role::RustCondvar) => Some(is(Kind::RustCondvar, word)),
        Some(Role::RustPark) => Some(is(Kind::RustPark, word)),
        Some(Role::ParkingLot) => Some(is(Kind::ParkingLot, word)),
        None => None,
    };
    found.unwrap_or_else(|| is(Kind::Futex, word))
}

impl Object {
    /// What memory says about it.
    pub fn look(self, memory: &impl Memory, version: Version) -> Facts {
        let word = || memory.read_array(self.address).map(u32::from_le_bytes);
        let plain = |state: String, holder| Facts { flavour: String::new(), state, holder };
        let unknown = plain(String::new(), Holder::NotRecorded);
        match self.kind {
            Kind::Mutex => mutex::Mutex::read(memory, self.address).map_or(unknown, |mutex| mutex.facts()),
            Kind::Rwlock => rwlock::facts(memory, self.address, version).unwrap_or(unknown),
            Kind::Condition => plain(condvar::state(memory, self.address, version), Holder::Nobody),
            Kind::Join => match word() {
                Some(tid @ 1..) => plain("it has not exited".to_owned(), Holder::Thread(tid.cast_signed())),
                _ => plain("it has exited".to_owned(), Holder::Nobody),
            },
            Kind::Semaphore => plain(semaphore::state(memory, self.address, version), Holder::Nobody),
            Kind::Barrier => {
                let barrier = semaphore::Barrier::read(memory, self.address.wrapping_add(4));
                plain(barrier.map_or_else(String::new, |barrier| barrier.state()), Holder::Nobody)
            }
            Kind::Stdio => match pthread::stdio_owner(memory, self.address) {
                Some(tid) => plain("locked".to_owned(), Holder::Thread(tid)),
                None => plain(String::new(), Holder::NotRecorded),
            },
            Kind::Arena | Kind::LowLevel | Kind::RustMutex => match word() {
                Some(0) => plain("free".to_owned(), Holder::Nobody),
                Some(1 | 2) => plain("locked".to_owned(), Holder::NotRecorded),
                _ => unknown,
            },
            Kind::RustRwlock | Kind::Once | Kind::Guard => plain("locked".to_owned(), Holder::NotRecorded),
            Kind::RustCondvar | Kind::RustPark => plain(String::new(), Holder::Nobody),
            Kind::ParkingLot => plain("for which lock is not recorded in it".to_owned(), Holder::Nobody),
            Kind::Futex => plain("of unknown use".to_owned(), Holder::Nobody),
        }
    }
}
