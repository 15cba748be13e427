//! Staying on a processor for a moment.
//!
//! Context: the observer, where no seccomp filter watches it. Whatever it starts meanwhile stays there too, and takes no
//! processor away from a thread that runs on another.

use super::{Result, raw};

/// A set of processors, as many as Linux can have (`CONFIG_NR_CPUS` is at most 8192).
type Set = [u64; 128];

/// The calling thread is on one processor; it is let go at drop.
#[derive(Debug)]
pub struct Pinned(Set);

impl Pinned {
    /// Keeps the calling thread where it is.
    pub fn here() -> Result<Self> {
        let (before, one) = (allowed()?, current()?);
        allow(&one)?;
        Ok(Self(before))
    }

    /// Has the calling thread leave the processor that it is on, to whoever had to make way; an error if it has no other.
    pub fn elsewhere() -> Result<Self> {
        let (before, mut others) = (allowed()?, current()?);
        others.iter_mut().zip(&before).for_each(|(word, before)| *word = before & !*word);
        allow(&others)?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Processors that were taken away meanwhile are not given back: the kernel keeps what it can.
        let _ = allow(&self.0);
    }
}

/// How many processors the calling thread may use.
pub fn processors() -> Result<u32> {
    allowed().map(|set| set.iter().map(|word| word.count_ones()).sum())
}

/// The processor that the calling thread is on, as a set.
fn current() -> Result<Set> {
    let mut number = 0u32;
    // SAFETY: the kernel writes one unsigned int.
    unsafe { raw::syscall6(libc::SYS_getcpu, [&raw mut number as usize, 0, 0, 0, 0, 0])? };
    let mut one: Set = [0; 128];
    if let Some(word) = one.get_mut(number as usize / 64) {
        *word = 1 << (number % 64);
    }
    Ok(one)
}

fn allowed() -> Result<Set> {
    let mut set: Set = [0; 128];
    // SAFETY: the kernel writes at most the size of `set`.
    unsafe { raw::syscall6(libc::SYS_sched_getaffinity, [0, size_of::<Set>(), set.as_mut_ptr() as usize, 0, 0, 0])? };
    Ok(set)
}

fn allow(set: &Set) -> Result<()> {
    // SAFETY: the kernel only reads `set`.
    unsafe { raw::syscall6(libc::SYS_sched_setaffinity, [0, size_of::<Set>(), set.as_ptr() as usize, 0, 0, 0]) }
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_processor_for_a_moment() {
        let before = allowed().unwrap();
        assert!(processors().unwrap() >= 1);
        let pinned = Pinned::here().unwrap();
        assert_eq!(processors(), Ok(1));
        assert!(Pinned::elsewhere().is_err(), "there is no other");
        drop(pinned);
        assert_eq!(allowed(), Ok(before));
        if processors().unwrap() > 1 {
            let left = current().unwrap();
            let _elsewhere = Pinned::elsewhere().unwrap();
            assert_ne!(current().unwrap(), left);
        }
    }
}
