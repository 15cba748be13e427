//! A thread that stands for the application where a file of `/proc` is asked for by thread.
//!
//! Context: the observer, whose own descriptor table, folder and mask are not those of the application.

#![forbid(unsafe_code)]

use super::threads::Reader;
use crate::sys::{process, procfs};

/// The first thread, or once that has exited another one that lives; not one of `ours`.
pub fn thread(ours: &[i32]) -> Option<i32> {
    let reader = Reader::new();
    let lives = |tid: &i32| reader.read(*tid).is_ok_and(|facts| !b"ZXx".contains(&facts.state));
    let first = process::proc_pid().filter(lives);
    first.or_else(|| procfs::thread_ids().ok()?.into_iter().filter(|tid| !ours.contains(tid)).find(lives))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_thread_while_it_lives() {
        assert_eq!(super::thread(&[]), Some(std::process::id() as i32));
    }
}
