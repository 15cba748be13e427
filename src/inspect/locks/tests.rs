//! Layouts on made-up bytes, and on what this machine's glibc really makes.

use super::*;

/// Memory that begins at an address.
struct Made {
    start: u64,
    bytes: Vec<u8>,
}

impl Made {
    fn words(start: u64, words: &[u32]) -> Self {
        Self { start, bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect() }
    }
}

impl Memory for Made {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let Some(from) = address.checked_sub(self.start).and_then(|from| self.bytes.get(from as usize..)) else {
            return 0;
        };
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        count
    }
}

const NEW: Version = (2, 36);
const OLD: Version = (2, 17);

fn caller(function: &str, sp: u64) -> Caller<'_> {
    Caller { function: Some(function), module: b"libc.so.6", sp }
}

fn wait(word: u64, value: u32) -> Wait {
    Wait { word, value, is_timed: false }
}

fn facts(kind: Kind, words: &[u32], version: Version) -> (String, String, Holder) {
    let facts = Object { kind, address: 0x1000 }.look(&Made::words(0x1000, words), version);
    (facts.flavour, facts.state, facts.holder)
}

fn text(flavour: &str, state: &str, holder: Holder) -> (String, String, Holder) {
    (flavour.to_owned(), state.to_owned(), holder)
}

#[test]
fn mutexes_of_every_kind() {
    let of = |words: [u32; 5]| facts(Kind::Mutex, &words, NEW);
    assert_eq!(of([2, 0, 71, 1, 0]), text("normal", "locked", Holder::Thread(71)));
    assert_eq!(of([0, 0, 0, 0, 0]), text("normal", "free", Holder::Nobody));
    assert_eq!(of([1, 0, 0, 0, 0]), text("normal", "locked", Holder::NotRecorded));
    assert_eq!(of([2, 3, 71, 1, 1]), text("recursive", "locked 3 times", Holder::Thread(71)));
    assert_eq!(of([2, 0, 71, 1, 2 | 128]), text("errorcheck, process-shared", "locked", Holder::Thread(71)));
    let waiters = libc::FUTEX_WAITERS;
    assert_eq!(of([71 | waiters, 0, 71, 1, 32]), text("normal, priority-inheriting", "locked", Holder::Thread(71)));
    let died = 72 | waiters;
    // The owner of a mutex that is not made consistent yet is INT_MAX in its own field; the process-shared bit says nothing.
    let expected = text("normal, robust", "locked, its former owner died with it", Holder::Thread(72));
    assert_eq!(of([died, 1, i32::MAX as u32, 1, 16 | 128]), expected);
    assert_eq!(of([5 << 19 | 2, 0, 71, 1, 64]), text("normal, priority-protecting", "locked", Holder::Thread(71)));
}

#[test]
fn what_is_no_mutex_is_a_futex() {
    for words in [[3, 0, 0, 0, 0], [2, 0, 71, 1, 0x1000], [2, 0, 71, 1, 32 | 64], [u32::MAX; 5]] {
        let memory = Made::words(0x1000, &words);
        let awaited = identify(&memory, &wait(0x1000, 2), &[caller("pthread_mutex_lock", 0)], NEW);
        assert_eq!(awaited.object, Object { kind: Kind::Futex, address: 0x1000 }, "{words:x?}");
    }
    // Nor is what cannot be read.
    let awaited = identify(&Made::words(0, &[]), &wait(0x1000, 2), &[caller("pthread_mutex_lock", 0)], NEW);
    assert_eq!(awaited.object.kind, Kind::Futex);
}

#[test]
fn rwlocks_from_either_side() {
    // In a write phase: one reader waits, a second writer too.
    let written = [1 << 3 | 3, 1, 3, 3, 0, 0, 71, 0, 0, 0, 0, 0, 0];
    let memory = Made::words(0x1000, &written);
    for (function, word, value, want) in
        [("__pthread_rwlock_rdlock", 0x1008, 3, Want::Read), ("pthread_rwlock_wrlock", 0x100c, 3, Want::Write)]
    {
        let awaited = identify(&memory, &wait(word, value), &[caller(function, 0)], NEW);
        let object = Object { kind: Kind::Rwlock, address: 0x1000 };
        assert_eq!(awaited, Awaited { object, want, given_up: None });
    }
    assert_eq!(facts(Kind::Rwlock, &written, NEW), text("", "held by a writer", Holder::Thread(71)));
    // In a read phase two read, and the first writer waits for them.
    let read = [2 << 3 | 2, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let awaited = identify(&Made::words(0x1000, &read), &wait(0x1008, 2), &[caller("pthread_rwlock_wrlock", 0)], NEW);
    assert_eq!((awaited.object.address, awaited.want), (0x1000, Want::Write));
    assert_eq!(facts(Kind::Rwlock, &read, NEW), text("", "held by 2 readers", Holder::Readers(2)));
    // Before 2.25.
    let old = [0, 0, 5, 6, 1, 0, 71, 0, 0, 0, 0, 0, 0];
    let awaited = identify(&Made::words(0x1000, &old), &wait(0x1008, 5), &[caller("pthread_rwlock_rdlock", 0)], OLD);
    assert_eq!(awaited.object.address, 0x1000);
    assert_eq!(facts(Kind::Rwlock, &old, OLD), text("", "held by a writer", Holder::Thread(71)));
    assert_eq!(facts(Kind::Rwlock, &[0, 3, 5, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0], OLD).2, Holder::Readers(3));
}

/// A condition variable at 0x1000, a mutex at 0x1040, and a stack at 0x1100 on which the handler's buffer lies.
fn condition(signals: u32, group: u32) -> Made {
    let mut words = [0u32; 0x100];
    words[0] = 0x30 | group;
    words[signals as usize / 4 - 1] = 2 << 3;
    words[0x40 / 4..][..5].copy_from_slice(&[2, 0, 71, 1, 0]);
    let buffer = [0x20 | group, 0, 0x1000, 0, 0x1040, 0, 0, 0];
    words[0x120 / 4..][..8].copy_from_slice(&buffer);
    Made::words(0x1000, &words)
}

fn inside() -> [Caller<'static>; 2] {
    [caller("pthread_cond_wait", 0x1100), Caller { function: Some("f"), module: b"app", sp: 0x1180 }]
}

#[test]
fn the_waiters_frame_names_condition_variable_and_mutex() {
    for (signals, group) in [(40, 0), (40, 1), (32, 0), (32, 1)] {
        let memory = condition(signals, group);
        let word = 0x1000 + u64::from(signals + 4 * group);
        for version in [NEW, (2, 41)] {
            let awaited = identify(&memory, &wait(word, 0), &inside(), version);
            let object = Object { kind: Kind::Condition, address: 0x1000 };
            assert_eq!(awaited, Awaited { object, want: Want::Lock, given_up: Some(0x1040) }, "{signals} {group}");
        }
    }
    let memory = condition(40, 0);
    let state = |version| Object { kind: Kind::Condition, address: 0x1000 }.look(&memory, version).state;
    assert_eq!(state(NEW), "2 waiting");
    // Signalled, it waits for the mutex.
    let awaited = identify(&memory, &wait(0x1040, 2), &inside(), NEW);
    assert_eq!(awaited.object, Object { kind: Kind::Mutex, address: 0x1040 });
    // Without the buffer the version decides, and no mutex is named.
    let far = [caller("pthread_cond_wait", 0x1180), inside()[1]];
    let awaited = identify(&memory, &wait(0x1028, 0), &far, NEW);
    assert_eq!(
        awaited,
        Awaited { object: Object { kind: Kind::Condition, address: 0x1000 }, want: Want::Lock, given_up: None }
    );
}

#[test]
fn old_condition_variables_have_their_mutex() {
    let mut words = [0u32; 32];
    (words[8], words[10]) = (0x1040, 3 << 1);
    words[16..21].copy_from_slice(&[2, 0, 71, 1, 0]);
    let memory = Made::words(0x1000, &words);
    let awaited = identify(&memory, &wait(0x1004, 5), &[caller("pthread_cond_wait", 0)], OLD);
    let object = Object { kind: Kind::Condition, address: 0x1000 };
    assert_eq!(awaited, Awaited { object, want: Want::Lock, given_up: Some(0x1040) });
    assert_eq!(object.look(&memory, OLD).state, "3 waiting");
}

#[test]
fn semaphores_barriers_and_joins() {
    let semaphore = [0, 2, 0, 0];
    assert_eq!(facts(Kind::Semaphore, &semaphore, NEW).1, "value 0, 2 waiting");
    let barrier = Made::words(0x1000, &[5, 3, 4, 0, 0]);
    let awaited = identify(&barrier, &wait(0x1004, 3), &[caller("pthread_barrier_wait", 0)], NEW);
    assert_eq!(awaited.object, Object { kind: Kind::Barrier, address: 0x1000 });
    assert_eq!(awaited.object.look(&barrier, NEW).state, "2 of 4 have come");
    assert_eq!(facts(Kind::Join, &[71], NEW), text("", "it has not exited", Holder::Thread(71)));
    assert_eq!(facts(Kind::Join, &[0], NEW).2, Holder::Nobody);
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    let kinds = [
        Kind::Mutex,
        Kind::Rwlock,
        Kind::Condition,
        Kind::Join,
        Kind::Semaphore,
        Kind::Barrier,
        Kind::Stdio,
        Kind::Arena,
        Kind::RustMutex,
        Kind::Futex,
    ];
    let functions = ["pthread_mutex_lock", "pthread_rwlock_rdlock", "pthread_rwlock_wrlock", "pthread_cond_wait"];
    let functions = functions.into_iter().chain(["pthread_join", "sem_wait", "pthread_barrier_wait", "puts", "malloc"]);
    let mut seed = 1u64;
    for function in functions {
        for _ in 0..2000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let words: Vec<u32> = (0..64).map(|at| (seed.rotate_left(at) % (1 << (at % 33))) as u32).collect();
            let memory = Made::words(0x1000, &words);
            let frames = [caller(function, 0x1000), Caller { function: None, module: b"app", sp: seed }];
            for version in [OLD, NEW, (2, 41)] {
                let awaited = identify(&memory, &wait(0x1000 + seed % 64 * 4, seed as u32 % 8), &frames, version);
                awaited.object.look(&memory, version);
                for kind in kinds {
                    Object { kind, address: u64::MAX - seed % 64 }.look(&memory, version);
                    Object { kind, address: 0x1000 + seed % 256 }.look(&memory, version);
                }
            }
        }
    }
}

/// The layouts above are those of the libc crate's platform, where it can tell: sizes.
#[test]
fn a_mutex_of_this_machine_reads_as_one() {
    let mut mutex = libc::PTHREAD_MUTEX_INITIALIZER;
    // SAFETY: an initialised mutex of our own.
    unsafe { libc::pthread_mutex_lock(&raw mut mutex) };
    let facts = Object { kind: Kind::Mutex, address: &raw const mutex as u64 }.look(&crate::sys::memory::Live, NEW);
    assert_eq!(facts.holder, Holder::Thread(nix::unistd::gettid().as_raw()));
    // SAFETY: as above, and locked by this thread.
    unsafe { libc::pthread_mutex_unlock(&raw mut mutex) };
}
