//! What a command on the actor writes, on its way to the client's session: a bounded buffer.
//!
//! Context: the actor, or a thread of the application that its command started, writes, and sleeps while the buffer
//! is full; the observer reads and never waits: it is woken by its bell when there is something after there was nothing.
//! The lock is held for a copy of at most [`CAPACITY`] bytes, with all signals blocked.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::output::Output;
use super::record::Record;
use crate::lifecycle::Manhole;
use crate::stack::capture::guard::Crash;
use crate::sys::futex::{self, Guarded};
use crate::sys::{clock, process, signal};

/// Bytes that wait for the client at most.
pub const CAPACITY: usize = 256 << 10;
/// How often a writer that waits looks whether the observer is there at all.
const LOOK: Duration = Duration::from_secs(1);

/// How far the command has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It waits for its turn.
    Queued,
    /// It runs since then (nanoseconds of the monotonic clock).
    Running(u64),
    /// It returned this.
    Returned(i32),
    /// It crashed, and was abandoned: see [`Reader::take_crash`].
    Crashed,
    /// It will not run, or did not come to its end; why.
    Failed(String),
}

/// Why nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// Nobody reads any more.
    Closed,
    /// There is no memory.
    NoMemory,
}

struct State {
    bytes: Vec<u8>,
    /// What it found, shown after what it wrote.
    records: Vec<Box<dyn Record + Send>>,
    progress: Progress,
    crash: Option<Box<Crash>>,
}

struct Spool {
    manhole: &'static Manhole,
    /// The process that the reader is in: a forked child writes to nobody.
    pid: i32,
    state: Guarded<State>,
    closed: AtomicBool,
    /// Changes when room was made or the reader went; a full writer waits on it.
    drained: AtomicU32,
}

/// The command's end.
pub struct Writer(Arc<Spool>);

/// The session's end. Dropped when the client is gone.
pub struct Reader {
    spool: Arc<Spool>,
    /// Exchanged for the full buffer, so that the lock is not held for a copy.
    empty: Vec<u8>,
}

/// Both ends of a new spool, for a command that waits for its turn at `manhole`'s actor.
pub fn pair(manhole: &'static Manhole) -> (Writer, Reader) {
    let spool = Arc::new(Spool {
        manhole,
        pid: process::pid(),
        state: Guarded::new(State { bytes: Vec::new(), records: Vec::new(), progress: Progress::Queued, crash: None }),
        closed: AtomicBool::new(false),
        drained: AtomicU32::new(0),
    });
    (Writer(spool.clone()), Reader { spool, empty: Vec::new() })
}

impl Writer {
    /// The command runs now.
    pub fn begin(&self) {
        self.change(|state| state.progress = Progress::Running(clock::monotonic()));
    }

    /// Writes all of `bytes`, however long the client takes for it.
    pub fn write(&self, mut bytes: &[u8]) -> Result<(), Unwritten> {
        while !bytes.is_empty() {
            let drained = self.0.drained.load(Ordering::Acquire);
            if self.is_cancelled() {
                return Err(Unwritten::Closed);
            }
            let (written, before) = self.change(|state| {
                let before = state.bytes.len();
                let part = bytes.get(..bytes.len().min(CAPACITY - before)).unwrap_or_default();
                state.bytes.try_reserve(part.len()).map_err(|_| Unwritten::NoMemory)?;
                state.bytes.extend_from_slice(part);
                Ok((part.len(), before))
            })?;
            bytes = bytes.get(written..).unwrap_or_default();
            if written > 0 && before == 0 {
                self.ring();
            }
            if written == 0 {
                futex::wait(&self.0.drained, drained, Some(LOOK));
            }
        }
        Ok(())
    }

    /// Puts a record. It holds no memory of the application's.
    pub fn put(&self, record: impl Record + Send + 'static) {
        let record: Box<dyn Record + Send> = Box::new(record);
        self.change(|state| state.records.push(record));
        self.ring();
    }

    /// Whether nobody reads any more: the client is gone, or the manhole closes.
    pub fn is_cancelled(&self) -> bool {
        let spool = &self.0;
        spool.closed.load(Ordering::Acquire) || spool.manhole.stage.has_ended() || process::pid() != spool.pid
    }

    /// The command is done.
    pub fn end(self, progress: Progress) {
        self.change(|state| state.progress = progress);
    }

    /// The command is done, or it crashed.
    pub fn end_as(self, ended: Result<Progress, Box<Crash>>) {
        self.change(|state| match ended {
            Ok(progress) => state.progress = progress,
            Err(crash) => (state.crash, state.progress) = (Some(crash), Progress::Crashed),
        });
    }

    fn change<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        signal::with_all_blocked(|| self.0.state.with(work))
    }

    fn ring(&self) {
        // An observer that cannot be reached (no /proc in a chroot) looks by itself, a little later.
        let _ = self.0.manhole.rope.ring();
    }
}

impl Drop for Writer {
    /// Whatever happened, the session is told.
    fn drop(&mut self) {
        self.change(|state| {
            if matches!(state.progress, Progress::Queued | Progress::Running(_)) {
                state.progress = Progress::Failed("the manhole's actor gave the command up".to_owned());
            }
        });
        self.ring();
    }
}

impl Reader {
    /// Puts what was written and found into `out`, and says how far the command has come after that.
    pub fn read(&mut self, out: &mut Output) -> Progress {
        let spool = &self.spool;
        let (records, progress) = spool.state.with(|state| {
            std::mem::swap(&mut state.bytes, &mut self.empty);
            (std::mem::take(&mut state.records), state.progress.clone())
        });
        if !self.empty.is_empty() {
            spool.made_room();
            out.text(&self.empty);
            self.empty.clear();
        }
        records.iter().for_each(|record| out.put(record.as_ref()));
        progress
    }

    /// The crash of what has [`Progress::Crashed`].
    pub fn take_crash(&self) -> Option<Box<Crash>> {
        self.spool.state.with(|state| state.crash.take())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.spool.closed.store(true, Ordering::Release);
        self.spool.made_room();
    }
}

impl Spool {
    fn made_room(&self) {
        self.drained.fetch_add(1, Ordering::Release);
        futex::wake(&self.drained);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::shell::output::Form;

    fn spool() -> (Writer, Reader) {
        pair(Box::leak(Box::new(Manhole::new(Config::parse("").unwrap()))))
    }

    #[test]
    fn a_full_writer_waits_for_the_reader() {
        let (writer, mut reader) = spool();
        let bytes: Vec<u8> = (0..3 * CAPACITY + 7).map(|n| (n % 251) as u8).collect();
        let sent = bytes.clone();
        let thread = std::thread::spawn(move || {
            writer.begin();
            writer.write(&sent).unwrap();
            writer.end(Progress::Returned(2));
        });
        let mut received = Vec::new();
        loop {
            let mut out = Output::new(Form::Text);
            let progress = reader.read(&mut out);
            assert!(out.len() <= CAPACITY);
            received.extend(out.take());
            match progress {
                Progress::Returned(status) => break assert_eq!(status, 2),
                _ => std::thread::yield_now(),
            }
        }
        assert!(received == bytes);
        thread.join().unwrap();
    }

    #[test]
    fn a_reader_that_goes_wakes_and_cancels_the_writer() {
        let (writer, reader) = spool();
        writer.write(&vec![0; CAPACITY]).unwrap();
        let thread = std::thread::spawn(move || {
            assert_eq!(writer.write(b"one more"), Err(Unwritten::Closed));
            assert!(writer.is_cancelled());
        });
        std::thread::sleep(Duration::from_millis(10));
        drop(reader);
        thread.join().unwrap();
    }

    #[test]
    fn a_writer_that_is_dropped_ends_the_command() {
        let (writer, mut reader) = spool();
        assert_eq!(reader.read(&mut Output::new(Form::Text)), Progress::Queued);
        drop(writer);
        assert!(matches!(reader.read(&mut Output::new(Form::Text)), Progress::Failed(_)));
    }
}
