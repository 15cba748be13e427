//! Which function waits. Its name, exported by libc and so there without debug information, tells the kind of object.
//!
//! Static functions between it and the system call have no name then, and none is needed: the innermost function
//! that is known decides.

#![forbid(unsafe_code)]

/// A frame of a waiting thread.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The function that was compiled there, demangled, where its name is known.
    pub function: Option<&'a str>,
    /// The file name of its module.
    pub module: &'a [u8],
    /// The stack pointer in it.
    pub sp: u64,
}

/// What the waiting function waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// pthread_mutex_lock and its kin.
    Mutex,
    /// pthread_rwlock_rdlock.
    Read,
    /// pthread_rwlock_wrlock.
    Write,
    /// pthread_cond_wait.
    Condition,
    /// pthread_join.
    Join,
    /// sem_wait.
    Semaphore,
    /// pthread_barrier_wait.
    Barrier,
    /// pthread_once.
    Once,
    /// malloc and its kin.
    Allocator,
    /// Another function of glibc.
    Libc,
    /// `__cxa_guard_acquire`.
    Guard,
    /// Rust's `Mutex::lock`.
    RustMutex,
    /// Rust's `RwLock::read`.
    RustRead,
    /// Rust's `RwLock::write`.
    RustWrite,
    /// Rust's `Condvar::wait`.
    RustCondvar,
    /// Rust's `thread::park`.
    RustPark,
    /// Rust's parking_lot.
    ParkingLot,
}

/// Frames beyond glibc's that are asked: what a standard library puts around a futex call.
const BEYOND: usize = 6;

/// By how the name begins, once leading underscores are gone; the more special first.
const PTHREAD: &[(&str, Role)] = &[
    ("pthread_mutex_", Role::Mutex),
    ("mtx_lock", Role::Mutex),
    ("mtx_timedlock", Role::Mutex),
    ("pthread_rwlock_rdlock", Role::Read),
    ("pthread_rwlock_timedrdlock", Role::Read),
    ("pthread_rwlock_clockrdlock", Role::Read),
    ("pthread_rwlock_wrlock", Role::Write),
    ("pthread_rwlock_timedwrlock", Role::Write),
    ("pthread_rwlock_clockwrlock", Role::Write),
    ("pthread_cond_wait", Role::Condition),
    ("pthread_cond_timedwait", Role::Condition),
    ("pthread_cond_clockwait", Role::Condition),
    ("cnd_wait", Role::Condition),
    ("cnd_timedwait", Role::Condition),
    ("pthread_join", Role::Join),
    ("pthread_timedjoin", Role::Join),
    ("pthread_clockjoin", Role::Join),
    ("thrd_join", Role::Join),
    ("new_sem_", Role::Semaphore),
    ("sem_wait", Role::Semaphore),
    ("sem_timedwait", Role::Semaphore),
    ("sem_clockwait", Role::Semaphore),
    ("pthread_barrier_wait", Role::Barrier),
    ("pthread_once", Role::Once),
    ("call_once", Role::Once),
];

/// Functions of glibc's allocator that lock an arena (malloc/malloc.c), without leading underscores and `libc_`.
const ALLOCATOR: &[&str] = &[
    "malloc",
    "free",
    "cfree",
    "calloc",
    "realloc",
    "memalign",
    "aligned_alloc",
    "posix_memalign",
    "valloc",
    "pvalloc",
    "int_malloc",
    "int_free",
    "int_free_merge_chunk",
    "int_realloc",
    "int_memalign",
    "arena_get2",
    "malloc_trim",
    "malloc_info",
    "malloc_stats",
    "mallinfo",
    "mallinfo2",
    "mallopt",
];

/// Whether a module of this name is glibc's: the C library, its threads (before 2.34), its loader.
pub fn is_glibc(module: &[u8]) -> bool {
    let is = |prefix: &[u8]| module.starts_with(prefix);
    is(b"libc.so.6") || is(b"libc-2.") || is(b"libpthread.so.0") || is(b"libpthread-2.") || is(b"ld-linux")
}

/// How many of `frames` lie in glibc, from the innermost on.
pub fn in_glibc(frames: &[Caller<'_>]) -> usize {
    frames.iter().take_while(|frame| is_glibc(frame.module)).count()
}

/// What the innermost function that is known waits for; `None` where none is.
pub fn role(frames: &[Caller<'_>]) -> Option<Role> {
    let (inside, outside) = frames.split_at_checked(in_glibc(frames))?;
    let names = |frames: &[Caller<'_>]| frames.iter().filter_map(|frame| frame.function.map(str::to_owned)).collect();
    let (inside, outside): (Vec<String>, Vec<String>) =
        (names(inside), names(outside.get(..BEYOND.min(outside.len()))?));
    if let Some(role) = inside.iter().find_map(|name| glibc(name)) {
        return Some(role);
    }
    // `syscall` is how all others make theirs.
    let is_libcs_own = inside.iter().any(|name| bare(name).starts_with("lll_lock_wait"));
    if is_libcs_own {
        return Some(Role::Libc);
    }
    outside.iter().find_map(|name| other(name))
}

/// A name of glibc without what its aliases differ in.
fn bare(name: &str) -> &str {
    let name = name.trim_start_matches('_');
    name.strip_prefix("GI_").unwrap_or(name).trim_start_matches('_')
}

fn glibc(name: &str) -> Option<Role> {
    let name = bare(name);
    let known = PTHREAD.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, role)| *role);
    known.or_else(|| {
        let name = name.strip_prefix("libc_").unwrap_or(name);
        let name = name.split('.').next().unwrap_or(name);
        ALLOCATOR.contains(&name).then_some(Role::Allocator)
    })
}

fn other(name: &str) -> Option<Role> {
    if name.starts_with("parking_lot_core::") {
        return Some(Role::ParkingLot);
    }
    if name == "__cxa_guard_acquire" {
        return Some(Role::Guard);
    }
    let is_park = name.ends_with("::park") || name.ends_with("::park_timeout");
    if is_park && (name.starts_with("std::thread::") || name.starts_with("std::sys")) {
        return Some(Role::RustPark);
    }
    // std::sys::sync::mutex::futex::Mutex::lock_contended, and before 1.80 std::sys::unix::locks::futex_mutex::….
    if !name.starts_with("std::sys") || !name.contains("futex") {
        return None;
    }
    match name.rsplit_once("::")? {
        (_, "lock_contended") => Some(Role::RustMutex),
        (_, "read_contended") => Some(Role::RustRead),
        (_, "write_contended") => Some(Role::RustWrite),
        (of, "wait" | "wait_timeout" | "wait_optional_timeout") if of.contains("Condvar") => Some(Role::RustCondvar),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(frames: &[(&str, &str)]) -> Option<Role> {
        let callers: Vec<Caller<'_>> = frames
            .iter()
            .map(|(name, module)| Caller {
                function: (!name.is_empty()).then_some(*name),
                module: module.as_bytes(),
                sp: 0,
            })
            .collect();
        role(&callers)
    }

    #[test]
    fn the_innermost_known_function_decides() {
        let libc = "libc.so.6";
        let app = "app";
        assert_eq!(
            of(&[("__GI___lll_lock_wait", libc), ("___pthread_mutex_lock", libc), ("f", app)]),
            Some(Role::Mutex)
        );
        assert_eq!(of(&[("", libc), ("pthread_mutex_lock", libc), ("f", app)]), Some(Role::Mutex));
        assert_eq!(
            of(&[("", "libpthread-2.31.so"), ("__new_sem_wait_slow64.constprop.0", "libpthread-2.31.so")]),
            Some(Role::Semaphore)
        );
        assert_eq!(of(&[("", libc), ("", libc), ("pthread_cond_wait", libc), ("f", app)]), Some(Role::Condition));
        assert_eq!(
            of(&[("__lll_lock_wait_private", libc), ("", libc), ("malloc", libc), ("f", app)]),
            Some(Role::Allocator)
        );
        assert_eq!(of(&[("__lll_lock_wait_private", libc), ("puts", libc), ("f", app)]), Some(Role::Libc));
        assert_eq!(of(&[("__pthread_mutex_cond_lock", libc), ("___pthread_cond_wait", libc)]), Some(Role::Mutex));
        let lock = "std::sys::sync::mutex::futex::Mutex::lock_contended";
        assert_eq!(of(&[("syscall", libc), (lock, app)]), Some(Role::RustMutex));
        assert_eq!(of(&[("syscall", libc), ("std::thread::functions::park", app)]), Some(Role::RustPark));
        assert_eq!(of(&[("syscall", libc), ("my_lock", app)]), None);
        // The names of glibc in the application are not glibc's functions.
        assert_eq!(of(&[("syscall", libc), ("pthread_mutex_lock", app)]), None);
        assert_eq!(of(&[("pthread_mutex_lock", "libc.musl-x86_64.so.1")]), None);
        assert_eq!(of(&[]), None);
    }
}
