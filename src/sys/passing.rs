//! A descriptor of ours that is in the application's table for a moment, while its threads open, close and duplicate.
//!
//! Context: a thread in the application's table, handlers included; no allocation, no lock. The kernel opens at the
//! lowest free number only, which another thread may take for its own by `dup2` at any time. So it goes to a high
//! number at once, and neither is used or closed without a look at which file it is.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;

use super::procfs::{File, Path};
use super::{Errno, Result, lent, stat, table};

/// Out of the way of numbers that the application expects.
const HIGH: RawFd = 4000;

/// Above what the application uses. A table that grows costs memory, and time at every fork: not too high.
pub fn high() -> RawFd {
    (table::limit() / 4 * 3).min(HIGH)
}

/// A descriptor, and the file that it is as long as nobody else has put another there.
pub struct Passing {
    file: ManuallyDrop<File>,
    identity: (u64, u64),
}

impl Passing {
    /// Opens anew what `number` is in the table of thread `tid`, if it is still the file `identity`.
    pub fn open(tid: i32, number: RawFd, identity: (u64, u64), flags: libc::c_int) -> Result<Self> {
        let mut path = Path::<64>::new();
        write!(path, "/proc/self/task/{tid}/fd/{number}").map_err(|_| Errno::ENAMETOOLONG)?;
        // The number may stand for something else by now, which must not be opened.
        if stat::at(path.as_c_str())?.identity() != identity {
            return Err(Errno::EBADF);
        }
        let low = Self::new(File::open_at(libc::AT_FDCWD, path.as_c_str(), flags)?, identity);
        match table::duplicate_above(low.number(), high()) {
            Ok(number) if stat::has(number, identity) => Ok(Self::new(File::from_raw(number), identity)),
            Ok(number) => {
                table::close(number);
                Err(Errno::EBADF)
            }
            // There is no higher number.
            Err(_) => Ok(low),
        }
    }

    fn new(file: File, identity: (u64, u64)) -> Self {
        Self { file: ManuallyDrop::new(file), identity }
    }

    /// Its number in the application's table.
    pub fn number(&self) -> RawFd {
        self.file.raw()
    }

    /// One `write`.
    pub fn write(&self, bytes: &[u8]) -> Result<usize> {
        self.file.write(bytes)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if stat::has(self.number(), self.identity) {
            table::close(self.number());
        } else {
            lent::note(self.number(), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{pipe, process};

    #[test]
    fn it_leaves_alone_what_another_thread_has_put_in_its_place() {
        let (read, write) = pipe::pipe(0).unwrap();
        let identity = stat::of(&write).unwrap().identity();
        let open = || Passing::open(process::tid(), write.raw(), identity, libc::O_WRONLY);
        let (kept, taken) = (open().unwrap(), open().unwrap());
        let numbers = [kept.number(), taken.number()];
        assert!(numbers.iter().all(|number| *number >= high()));
        let other = File::open(c"/dev/null").unwrap();
        table::replace(taken.number(), other.raw(), true).unwrap();
        drop((kept, taken));
        assert!(!stat::has(numbers[0], identity));
        assert!(stat::has(numbers[1], stat::of(&other).unwrap().identity()));
        table::close(numbers[1]);
        assert_eq!(Passing::open(process::tid(), read.raw(), (0, 0), 0).err(), Some(Errno::EBADF));
    }
}
