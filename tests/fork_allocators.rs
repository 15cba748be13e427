//! Forking with another allocator in the process, which has fork handlers of its own: initialised before the library
//! and after it, the child can allocate, and has its manhole.

mod harness;

use std::ffi::OsString;
use std::path::PathBuf;

use harness::dump::Dump;
use harness::family::Relative;
use harness::fixtures::{fixture, library};
use harness::host::Launch;

/// The shared object `name` where Debian puts it; says so if there is none.
fn allocator(name: &str) -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path().join(name));
    let found = places.chain([PathBuf::from("/usr/lib").join(name)]).find(|path| path.exists());
    if found.is_none() {
        println!("skipped: no {name}");
    }
    found
}

/// A dozen children of a process whose threads allocate without pause, with these libraries preloaded in this order.
fn children_allocate(libraries: &[OsString]) {
    let launch = Launch::new(fixture("forking_allocator")).bare().args(["12"]).env("MANHOLE", "reinstall_delay=0");
    let launch = libraries.iter().cloned().fold(launch, Launch::also_preload);
    let mut host = launch.when_it_says("ready").start();
    let child = host.lines().iter().find_map(|line| line.strip_prefix("child ")?.parse().ok());
    let child = Relative(child.unwrap_or_else(|| panic!("{libraries:?}: no child; {}", host.story())));
    let dump = Dump::parse(child.connect().greeting());
    assert!(dump.threads.iter().all(|thread| thread.process == child.0), "{dump:#?}");
    assert!(dump.thread(child.0).shows("main"), "{libraries:?}: {dump:#?}");
    assert!(host.dump().thread(host.pid()).shows("main"));
    assert_eq!(host.release(), "PASS", "{libraries:?}: {}", host.story());
}

fn with_allocator(name: &str) {
    let Some(path) = allocator(name) else { return };
    // The last in the list is initialised first.
    children_allocate(&[path.clone().into(), library().into()]);
    children_allocate(&[library().into(), path.into()]);
}

#[test]
fn glibc() {
    children_allocate(&[library().into()]);
}

#[test]
fn jemalloc() {
    with_allocator("libjemalloc.so.2");
}

#[test]
fn tcmalloc() {
    with_allocator("libtcmalloc_minimal.so.4");
}

#[test]
fn mimalloc() {
    with_allocator("libmimalloc.so.2");
}
