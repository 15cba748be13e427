//! What is written to descriptor 1 for a while: kept for an operator, and then passed on to where it belongs.
//!
//! Context: the actor, and the thread that ends the process. The descriptor is the process's, so this holds what other
//! threads print meanwhile, too: for as long as the call takes, without a bound. What is in the middle of a write when it
//! is put back, or held when the process is killed, is lost. Children that are started meanwhile keep the file.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::fork::Child;
use super::futex::Guarded;
use super::memory::{Live, Memory};
use super::output::Output;
use super::procfs::File;
use super::{Errno, Result, application, files, filter, loader, passing, stat, table};

const STDOUT: i32 = 1;
/// How long whoever reads the standard output may take for each piece of what was held.
const PATIENCE: Duration = Duration::from_secs(60);

static HELD: Guarded<Option<Diverted>> = Guarded::new(None);

/// The standard output while it is held.
struct Diverted {
    original: File,
    held: File,
    identity: (u64, u64),
    close_on_exec: bool,
}

/// Holds what is written from now on.
pub fn begin() -> Result<()> {
    let diverted = Diverted::begin()?;
    HELD.with(|held| *held = Some(diverted));
    Ok(())
}

/// Puts the standard output back, unless the application has put another one there; `show` gets what was held, piece
/// by piece, and so does the standard output. Nothing to do when nothing is held.
pub fn end(show: impl FnMut(&[u8])) {
    if let Some(diverted) = HELD.with(Option::take) {
        diverted.end(show);
    }
}

/// In a forked child, which keeps the file that holds it.
pub fn forget_in_child(only: Child) {
    HELD.replace_in_child(None, only);
}

impl Diverted {
    fn begin() -> Result<Self> {
        // A filter that was added later may kill for memfd_create.
        if filter::has_grown() {
            return Err(Errno::EPERM);
        }
        let close_on_exec = table::is_close_on_exec(STDOUT)?;
        let original = File::from_raw(table::duplicate_above(STDOUT, passing::high())?);
        // Out of the way of numbers that the application expects, like the other one.
        let low = files::in_memory(c"manhole-stdout")?;
        let held = File::from_raw(table::duplicate_above(low.raw(), passing::high())?);
        let identity = stat::of(&held)?.identity();
        table::replace(STDOUT, held.raw(), close_on_exec)?;
        Ok(Self { original, held, identity, close_on_exec })
    }

    fn end(self, mut show: impl FnMut(&[u8])) {
        if stat::has(STDOUT, self.identity) {
            // It was open, and dup3 in its place needs no new number.
            let _ = table::replace(STDOUT, self.original.raw(), self.close_on_exec);
        }
        let (mut buffer, mut offset) = ([0; 16384], 0);
        while let Ok(count @ 1..) = self.held.read_at(&mut buffer, offset) {
            let piece = buffer.get(..count).unwrap_or_default();
            show(piece);
            // Where nobody reads, the application would hang: we do not.
            let _ = Output::new(self.original.raw(), PATIENCE).write(piece);
            offset += count as u64;
        }
    }
}

/// Has the C library write what it keeps for its `stdout`. Takes the lock of that.
pub fn flush() {
    let stream = loader::symbol(c"stdout").and_then(|place| Live.read_u64(place as u64));
    if let (Some(function), Some(stream)) = (loader::symbol(c"fflush"), stream) {
        application::call(function as u64, &[stream], &[]);
    }
}
