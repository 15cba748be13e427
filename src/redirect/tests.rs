//! Pumps between pipes of the test's own: descriptor 2 of the test process stays what it is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::*;
use crate::sys::sibling;

/// Each looks at whether all pumps are gone.
static TURN: Mutex<()> = Mutex::new(());

struct Bench {
    sink: File,
    log: File,
    operator: File,
    slot: &'static pump::Slot,
}

fn bench() -> Bench {
    let (source, sink) = pipe::pipe(0).unwrap();
    let (log, original) = pipe::pipe(0).unwrap();
    let (operator, operators_end) = pipe::pipe(OFlag::O_NONBLOCK.bits()).unwrap();
    let identity = |file| stat::of(file).unwrap().identity();
    let order = pump::Order {
        source: (source.raw(), identity(&source)),
        original: (original.raw(), identity(&original)),
        operator: Some(operators_end.raw()),
    };
    let slot = pump::start(&order).unwrap();
    Bench { sink, log, operator, slot }
}

/// Waits until no pump is left.
fn all_gone() {
    let start = Instant::now();
    while pump::reap() {
        assert!(start.elapsed() < Duration::from_secs(10), "a pump stays");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn moves_to_both_and_ends_with_the_last_writer() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = bench();
    assert_eq!(bench.sink.write(b"words\n"), Ok(6));
    let mut buffer = [0; 64];
    assert_eq!(bench.log.read(&mut buffer), Ok(6));
    assert_eq!(&buffer[..6], b"words\n");
    let start = Instant::now();
    while bench.operator.read(&mut buffer) != Ok(6) {
        assert!(start.elapsed() < Duration::from_secs(10), "the operator sees nothing");
    }
    // What waits after it has been moved is nothing, and it says so.
    while !(pipe::waiting(bench.sink.raw()) == Ok(0) && bench.slot.is_idle()) {
        assert!(start.elapsed() < Duration::from_secs(10), "never idle");
    }
    assert!(!bench.slot.is_gone());
    drop(bench.sink);
    assert_eq!(bench.log.read(&mut buffer), Ok(0), "the pump has let go of the original");
    all_gone();
}

#[test]
fn an_operator_who_does_not_read_costs_him_alone() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Bench { sink, log, operator, slot } = bench();
    let writer = std::thread::spawn(move || {
        for number in 0..200_000u32 {
            assert_eq!(sink.write(format!("{number:09}\n").as_bytes()), Ok(10));
        }
        assert_eq!(sink.write(b"half a line"), Ok(11));
        sink
    });
    let (mut all, mut buffer) = (Vec::new(), [0; 65536]);
    while all.len() < 2_000_011 {
        let count = log.read(&mut buffer).unwrap();
        all.extend_from_slice(&buffer[..count]);
    }
    assert!(all[..2_000_000].chunks(10).enumerate().all(|(number, line)| line == format!("{number:09}\n").as_bytes()));
    let sink = writer.join().unwrap();
    let mut seen = Vec::new();
    let mut read_on = || {
        while let Ok(count @ 1..) = operator.read(&mut buffer) {
            seen.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(seen.clone()).unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !slot.is_idle() {
        assert!(Instant::now() < deadline, "never idle");
    }
    read_on();
    sink.write(b" and its end\nanother\n").unwrap();
    let text = loop {
        let text = read_on();
        if text.ends_with("another\n") {
            break text;
        }
        assert!(Instant::now() < deadline, "{text:.200}");
    };
    // Every byte was shown or counted; a note that begins a line of its own adds that line's begin.
    let (notes, lines): (Vec<&str>, Vec<&str>) = text.split_inclusive('\n').partition(|line| line.starts_with("[… "));
    let skipped: usize = notes.iter().map(|note| note.split(' ').nth(1).unwrap().parse::<usize>().unwrap()).sum();
    let shown: usize = lines.iter().map(|line| line.len()).sum();
    assert!((1..10).contains(&notes.len()), "{notes:?}");
    assert!((0..=notes.len()).contains(&(shown + skipped - 2_000_032)), "{shown} shown, {notes:?}");
    assert!(!text.contains("and its end"), "half of a line");
    drop(sink);
    all_gone();
}

#[test]
fn a_pump_is_a_process_apart() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = bench();
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    let mut pumps = children
        .split_whitespace()
        .filter(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "Manhole pump\n"));
    let pid = pumps.next_back().unwrap().to_owned();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_eq!(open, 5, "source, original, operator, the parent, its maps");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("SigBlk:\tfffffffffffbfeff"), "{status}");
    assert_eq!(
        nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid.parse().unwrap()))).unwrap().as_raw().to_string(),
        pid
    );
    // Not alone: what it shares with us it does not give back.
    assert!(!sibling::is_alone_in_memory());
    drop(bench.sink);
    all_gone();
}
