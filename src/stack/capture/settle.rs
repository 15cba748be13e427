//! Telling a thread that runs from one that is just leaving a system call.
//!
//! Context: the observer; nothing is touched. A thread whose `recv` has reached its `SO_RCVTIMEO`
//! is "running" to `/proc` from the moment that the timer woke it. Stopped right then, before it has left
//! the kernel, its call fails with EINTR instead of EAGAIN, and made to run again it would wait for its
//! whole timeout once more (seen: 208 ms for 100 ms, in one of some thousand dumps). So a thread
//! is stopped only after it has been on a processor for longer than leaving a call takes: what it is
//! in by then, it has only just entered.

use crate::sys::{clock, raw};

/// Nanoseconds on a processor after which a thread has left the call that it was leaving.
pub const LEFT: u64 = 40_000;
/// Nanoseconds that one thread may take for that, and all threads of one dump: on a machine with more
/// runnable threads than processors they must wait for their turn first.
const ONE: u64 = 4_000_000;
const ALL: u64 = 20_000_000;

/// What a dump may still spend on it.
#[derive(Debug)]
pub struct Settling {
    left: u64,
}

impl Settling {
    /// Nothing spent yet.
    pub fn new() -> Self {
        Self { left: ALL }
    }

    /// Waits until thread `tid` has run for long enough; false when it did not in the time there is: it
    /// blocks by now, or gets no processor.
    pub fn has_run(&mut self, tid: i32) -> bool {
        let Ok(before) = clock::thread_run_time(tid) else { return false };
        let start = clock::monotonic();
        let limit = self.left.min(ONE);
        loop {
            // SAFETY: sched_yield touches no memory.
            let _ = unsafe { raw::syscall6(libc::SYS_sched_yield, [0; 6]) };
            let ran = clock::thread_run_time(tid).map_or(0, |now| now.saturating_sub(before));
            let spent = clock::monotonic().saturating_sub(start);
            if ran >= LEFT || spent >= limit {
                self.left -= spent.min(self.left);
                return ran >= LEFT;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_thread_settles_and_a_blocked_one_does_not() {
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sender.send(nix::unistd::gettid().as_raw()).unwrap();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let tid = receiver.recv().unwrap();
            // A loaded machine may keep it waiting longer than one turn allows.
            assert!((0..1000).any(|_| Settling::new().has_run(tid)));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let (_hold, forever) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            sender.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = forever.recv();
        });
        let tid = receiver.recv().unwrap();
        assert!((0..1000).any(|_| !Settling::new().has_run(tid)));
    }
}
