//! Waiting on descriptors.
//!
//! Context: any of our threads. Raw, because `poll` of libc is a name that the application may define
//! itself, and then its code would run on our thread.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use super::{Result, raw};

/// Waits until one of `entries` has an event, at most `timeout`; how many have one.
pub fn poll(entries: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<usize> {
    let time = timeout.map(timespec);
    let pointer = time.as_ref().map_or(0, |time| std::ptr::from_ref(time) as usize);
    // SAFETY: PollFd is a transparent pollfd, the slice outlives the call, and so does `time`.
    unsafe { raw::syscall6(libc::SYS_ppoll, [entries.as_mut_ptr() as usize, entries.len(), pointer, 0, 0, 0]) }
}

/// As [`poll`], for when that says EINVAL: the kernel lets it have no more entries than `RLIMIT_NOFILE` allows
/// descriptors, and asks nothing of the kind of `pselect6`. Only what is asked for is seen, no hang-up beside it.
pub fn select(entries: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<usize> {
    const BITS: usize = usize::BITS as usize;
    let place = |entry: &PollFd<'_>| entry.as_fd().as_raw_fd().unsigned_abs() as usize;
    let above = entries.iter().map(|entry| place(entry) + 1).max().unwrap_or(0);
    let asked = [PollFlags::POLLIN, PollFlags::POLLOUT];
    let mut sets = asked.map(|_| vec![0_usize; above.div_ceil(BITS)]);
    for (set, flag) in sets.iter_mut().zip(asked) {
        for number in entries.iter().filter(|entry| entry.events().contains(flag)).map(place) {
            if let Some(word) = set.get_mut(number / BITS) {
                *word |= 1 << (number % BITS);
            }
        }
    }
    let mut time = timeout.map(timespec);
    let time = time.as_mut().map_or(0, |time| std::ptr::from_mut(time) as usize);
    let [readable, writable] = &mut sets;
    let arguments = [above, readable.as_mut_ptr() as usize, writable.as_mut_ptr() as usize, 0, time, 0];
    // SAFETY: the sets have a bit for each number below `above`, in whole words; they and `time` outlive the call.
    let found = unsafe { raw::syscall6(libc::SYS_pselect6, arguments)? };
    for entry in entries {
        let number = place(entry);
        let has = |set: &Vec<usize>| set.get(number / BITS).is_some_and(|word| word >> (number % BITS) & 1 == 1);
        let events: PollFlags =
            asked.into_iter().zip(&sets).filter(|(_, set)| has(set)).map(|(flag, _)| flag).collect();
        // SAFETY: PollFd is a transparent pollfd, and nobody else has it.
        let plain = unsafe { &mut *std::ptr::from_mut(entry).cast::<libc::pollfd>() };
        plain.revents = events.bits();
    }
    Ok(found)
}

fn timespec(limit: Duration) -> libc::timespec {
    libc::timespec { tv_sec: limit.as_secs() as libc::time_t, tv_nsec: libc::c_long::from(limit.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn select_sees_what_poll_sees() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let (_silent, deaf) = UnixStream::pair().unwrap();
        near.write_all(b"x").unwrap();
        let both = PollFlags::POLLIN | PollFlags::POLLOUT;
        type Wait = fn(&mut [PollFd<'_>], Option<Duration>) -> Result<usize>;
        let ask = |wait: Wait, flags: [PollFlags; 3]| {
            let mut entries = [(&far, flags[0]), (&deaf, flags[1]), (&near, flags[2])]
                .map(|(it, flags)| PollFd::new(it.as_fd(), flags));
            assert!(wait(&mut entries, Some(Duration::from_millis(1))).is_ok());
            entries.map(|entry| entry.revents().unwrap())
        };
        for flags in [[both; 3], [PollFlags::POLLIN; 3], [PollFlags::POLLOUT; 3], [PollFlags::empty(); 3]] {
            assert_eq!(ask(select, flags), ask(poll, flags), "{flags:?}");
        }
        assert_eq!(select(&mut [], Some(Duration::ZERO)), Ok(0));
    }
}
