//! Priority and processors of single threads of this process.
//!
//! Context: the observer. Linux keeps both for each thread, whatever POSIX says (man 2 setpriority, "C library/kernel
//! differences"). A thread id is one of the process's own pid namespace.

use super::{Result, filter, raw};

/// Room for the processors that any kernel is built for (NR_CPUS is 8192 at most): a bit each.
const WORDS: usize = 128;

/// The nice value of thread `tid`: -20 to 19.
pub fn nice(tid: i32) -> Result<i32> {
    let arguments = [libc::PRIO_PROCESS as usize, tid as usize, 0, 0, 0, 0];
    // SAFETY: getpriority touches no memory. The kernel answers 40 to 1 for -20 to 19, so that it is no error.
    let answer = unsafe { raw::syscall6(libc::SYS_getpriority, arguments)? };
    Ok(20 - answer as i32)
}

/// Sets it. Below what it is (or the limit `nice`) that takes CAP_SYS_NICE, else it is EACCES.
pub fn set_nice(tid: i32, value: i32) -> Result<()> {
    let arguments = [libc::PRIO_PROCESS as usize, tid as usize, value as usize, 0, 0, 0];
    // SAFETY: setpriority touches no memory.
    unsafe { raw::syscall6(libc::SYS_setpriority, arguments) }.map(drop)
}

/// A set of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors([u64; WORDS]);

impl Processors {
    /// None.
    pub const NONE: Self = Self([0; WORDS]);
    /// All that any machine may have.
    pub const ALL: Self = Self([u64::MAX; WORDS]);
    /// One more than the highest number that fits.
    pub const MOST: usize = WORDS * 64;

    /// Puts processor `number` into it; false if that does not fit.
    pub fn add(&mut self, number: usize) -> bool {
        let word = self.0.get_mut(number / 64).map(|word| *word |= 1 << (number % 64));
        word.is_some()
    }

    /// Whether `number` is in it.
    pub fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

/// On which processors thread `tid` may run.
pub fn affinity(tid: i32) -> Result<Processors> {
    let mut set = Processors::NONE;
    let arguments = [tid as usize, size_of::<Processors>(), set.0.as_mut_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel writes at most the size of `set` into it, and leaves the rest zero.
    unsafe { raw::syscall6(libc::SYS_sched_getaffinity, arguments)? };
    Ok(set)
}

/// One more than the highest processor number that this kernel knows, rounded up to 64; the most of any kernel under a
/// filter that might punish the question.
pub fn processors() -> usize {
    if filter::has_grown() {
        return Processors::MOST;
    }
    let mut set = Processors::NONE;
    let arguments = [0, size_of::<Processors>(), set.0.as_mut_ptr() as usize, 0, 0, 0];
    // SAFETY: as in `affinity`; the answer is how many bytes the kernel's sets have.
    let bytes = unsafe { raw::syscall6(libc::SYS_sched_getaffinity, arguments) };
    bytes.map_or(Processors::MOST, |bytes| (bytes * 8).min(Processors::MOST))
}

/// Sets that. The kernel leaves out those that do not exist or that the cpuset does not allow; EINVAL when none is left.
pub fn set_affinity(tid: i32, set: &Processors) -> Result<()> {
    let arguments = [tid as usize, size_of::<Processors>(), set.0.as_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel reads the size of `set` from it.
    unsafe { raw::syscall6(libc::SYS_sched_setaffinity, arguments) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Errno, process};

    #[test]
    fn of_one_thread_only() {
        std::thread::spawn(|| {
            let own = process::tid();
            let others = nice(process::pid()).unwrap();
            set_nice(own, others + 1).unwrap();
            assert_eq!((nice(own), nice(process::pid())), (Ok(others + 1), Ok(others)));
            let all = affinity(own).unwrap();
            let first = (0..Processors::MOST).find(|number| all.has(*number)).unwrap();
            let mut one = Processors::NONE;
            assert!(one.add(first) && !one.add(Processors::MOST));
            set_affinity(own, &one).unwrap();
            assert_eq!(affinity(own), Ok(one));
            assert_eq!(affinity(process::pid()), Ok(all));
            assert_eq!(set_affinity(own, &Processors::NONE), Err(Errno::EINVAL));
        })
        .join()
        .unwrap();
    }
}
