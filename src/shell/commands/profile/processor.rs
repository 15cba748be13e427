//! Who is on a processor now.
//!
//! A thread whose clock moved in the last [`MOMENT`] has run in it for longer than leaving a call takes, or it has not:
//! only one that has may be stopped. And if its clock advances still, it is a fair sample. One that had to make way,
//! maybe for the observer itself, stands where the kernel likes to take a processor away, at the end of a system call.
//! A loaded kernel wakes the observer again and again on the processor of the very thread that is of interest: then the
//! observer steps aside.
//!
//! Some of this stays: a stop is an interrupt of another processor, and until it comes (some microseconds, in a virtual
//! machine more) the thread goes on, and stops at once where it leaves a call. With a call every 35 µs 15 to 40 % of the
//! samples were seen at its end, where perf, which has the processor's own timer, has 4 %.

#![forbid(unsafe_code)]

use crate::stack::capture::SETTLED_NANOSECONDS;
use crate::sys::clock;
use crate::sys::pinning::Pinned;

/// Nanoseconds from the first look at a tick to the second.
pub const MOMENT: u64 = 150_000;
/// For how long a clock is watched to see whether it advances.
const GLIMPSE: u64 = 5_000;

/// A thread: its id, its clock.
pub type Candidate = (i32, u64);

/// Threads after the second look.
#[derive(Default)]
pub struct Sorted {
    /// On a processor.
    pub running: Vec<Candidate>,
    /// They ran in this moment, and had to make way.
    pub displaced: Vec<Candidate>,
    /// They did not run, or not for long.
    pub others: Vec<Candidate>,
}

impl Sorted {
    /// Sorts threads by what their clocks did since those of the candidates were read.
    pub fn look(moved: Vec<Candidate>) -> Self {
        let mut sorted = Self::default();
        for (tid, before) in moved {
            let Ok(used) = clock::thread_run_time(tid) else { continue };
            let group = if used < before.saturating_add(SETTLED_NANOSECONDS) {
                &mut sorted.others
            } else if advances(tid, used) {
                &mut sorted.running
            } else {
                &mut sorted.displaced
            };
            group.push((tid, used));
        }
        sorted
    }
}

/// Leaves this processor to those who had to make way, and returns those who run then and have left the place where they
/// had to.
pub fn step_aside(displaced: &[Candidate]) -> Vec<Candidate> {
    let Some(_aside) = (!displaced.is_empty()).then(Pinned::elsewhere).and_then(Result::ok) else { return Vec::new() };
    let start = clock::monotonic();
    loop {
        let runs = |(tid, before): &Candidate| {
            let used = clock::thread_run_time(*tid).ok().filter(|used| *used > before + SETTLED_NANOSECONDS)?;
            advances(*tid, used).then_some((*tid, used))
        };
        let running: Vec<Candidate> = displaced.iter().filter_map(runs).collect();
        if !running.is_empty() || clock::monotonic() > start + 2 * MOMENT {
            return running;
        }
    }
}

/// Whether the clock of a thread that stood at `before` runs.
fn advances(tid: i32, before: u64) -> bool {
    let start = clock::monotonic();
    while clock::monotonic() < start + GLIMPSE {}
    clock::thread_run_time(tid).is_ok_and(|now| now >= before + GLIMPSE / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;

    #[test]
    fn who_waits_is_among_the_others() {
        let (to_test, from_thread) = std::sync::mpsc::channel();
        let (_hold, wait) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            to_test.send(process::tid()).unwrap();
            let _ = wait.recv();
        });
        let waiting = from_thread.recv().unwrap();
        let own = process::tid();
        // The caller is on a processor, if anybody is; until the other one has fallen asleep it may be anything.
        loop {
            let clocks = [own, waiting].map(|tid| (tid, clock::thread_run_time(tid).unwrap()));
            while clock::thread_run_time(own).unwrap() < clocks[0].1 + 2 * SETTLED_NANOSECONDS {}
            let sorted = Sorted::look(clocks.to_vec());
            assert!(sorted.running.iter().chain(&sorted.displaced).any(|it| it.0 == own));
            if sorted.others.iter().any(|it| it.0 == waiting) {
                break;
            }
        }
        assert!(Sorted::look(vec![(0x0fff_ffff, 0)]).others.is_empty());
    }
}
