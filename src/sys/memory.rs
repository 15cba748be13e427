//! Reading this process's memory through calls that fail instead of faulting.
//!
//! Context: the observer, the ptrace helper, handlers; no allocation, no lock.

use std::sync::atomic::{AtomicU8, Ordering};

use super::{Errno, far, raw};

/// Memory that may turn out not to be there.
pub trait Memory {
    /// Copies from `address` as much of `buffer` as can be read, from its start; returns how many
    /// bytes. 0 when not even the first byte is readable.
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize;

    /// Reads exactly `N` bytes, or nothing.
    fn read_array<const N: usize>(&self, address: u64) -> Option<[u8; N]>
    where
        Self: Sized,
    {
        let mut bytes = [0; N];
        (self.read(address, &mut bytes) == N).then_some(bytes)
    }

    /// Reads one little-endian 64-bit word.
    fn read_u64(&self, address: u64) -> Option<u64>
    where
        Self: Sized,
    {
        self.read_array(address).map(u64::from_le_bytes)
    }
}

/// The memory of this process as it is now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live;

/// How [`Live`] reads; a method that the kernel (or seccomp) refuses is not tried again.
const BY_PROCESS_VM: u8 = 0;
const BY_PIPE: u8 = 1;
static METHOD: AtomicU8 = AtomicU8::new(BY_PROCESS_VM);

/// From here on `process_vm_readv` is not called any more.
pub fn avoid_process_vm() {
    METHOD.store(BY_PIPE, Ordering::Relaxed);
}

impl Memory for Live {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        far::read_memory(address, buffer).unwrap_or_else(|| read_directly(address, buffer))
    }
}

/// Reads memory, and waits for what is not there yet.
pub fn read_directly(address: u64, buffer: &mut [u8]) -> usize {
    if buffer.is_empty() {
        return 0;
    }
    if METHOD.load(Ordering::Relaxed) == BY_PROCESS_VM {
        match by_process_vm(address, buffer) {
            Ok(count) => return count,
            Err(Errno::EFAULT) => return 0,
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) => METHOD.store(BY_PIPE, Ordering::Relaxed),
            Err(_) => return 0,
        }
    }
    by_pipe(address, buffer)
}

/// `process_vm_readv` on ourselves: allowed whatever the dumpable flag says, since
/// `__ptrace_may_access` lets a thread group at itself. A partial read stops at the first bad page.
fn by_process_vm(address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    // Our own thread: the process id stands for the first thread, which may have exited (ESRCH).
    // SAFETY: gettid touches no memory.
    let pid = unsafe { raw::syscall6(libc::SYS_gettid, [0; 6])? };
    let (local, remote) = (std::ptr::from_ref(&local) as usize, std::ptr::from_ref(&remote) as usize);
    // SAFETY: the kernel writes only into `buffer`, which is ours; a bad remote address is EFAULT.
    unsafe { raw::syscall6(libc::SYS_process_vm_readv, [pid, local, 1, remote, 1, 0]) }
}

/// Through a pipe: `write` from a bad address fails with EFAULT. Slower, and nothing forbids it.
fn by_pipe(address: u64, buffer: &mut [u8]) -> usize {
    let mut ends = [0i32; 2];
    // SAFETY: `ends` has room for the two descriptors.
    if unsafe { raw::syscall6(libc::SYS_pipe2, [ends.as_mut_ptr() as usize, libc::O_CLOEXEC as usize, 0, 0, 0, 0]) }
        .is_err()
    {
        return 0;
    }
    let [reader, writer] = ends.map(|end| end as usize);
    let mut done = 0;
    for piece in buffer.chunks_mut(4096) {
        // To the end of the page only: a write that crosses into a bad page may fail as a whole.
        let mut filled = 0;
        while filled < piece.len() {
            let from = address.wrapping_add((done + filled) as u64);
            let length = (piece.len() - filled).min(4096 - (from % 4096) as usize);
            // SAFETY: the kernel checks the address that it reads from.
            let Ok(count) = (unsafe { raw::syscall6(libc::SYS_write, [writer, from as usize, length, 0, 0, 0]) })
            else {
                break;
            };
            let target = piece.as_mut_ptr().wrapping_add(filled) as usize;
            // SAFETY: `count` is at most `length`, which fits behind `target` in `piece`.
            let Ok(count) = (unsafe { raw::syscall6(libc::SYS_read, [reader, target, count, 0, 0, 0]) }) else {
                break;
            };
            filled += count;
        }
        done += filled;
        if filled < piece.len() {
            break;
        }
    }
    for end in [reader, writer] {
        // SAFETY: both ends are ours, opened above.
        let _ = unsafe { raw::syscall6(libc::SYS_close, [end, 0, 0, 0, 0, 0]) };
    }
    done
}

/// Which pages of `length` bytes from `start` on are in memory (man 2 mincore): bit 0 of a byte for each. Of a file,
/// whether it is in the page cache, where the process may know that.
pub fn resident(start: u64, length: u64, pages: &mut [u8]) -> Result<(), Errno> {
    let length = length.min((pages.len() as u64).saturating_mul(4096));
    let arguments = [start as usize, length as usize, pages.as_mut_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel writes a byte a page, for which `pages` has room; pages are 4096 bytes at least.
    unsafe { raw::syscall6(libc::SYS_mincore, arguments) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_stops_at_what_is_not() {
        let words = [7u64, 9];
        assert_eq!(Live.read_u64(&raw const words[1] as u64), Some(9));
        assert_eq!(Live.read_u64(8), None);
        let mut buffer = [0; 8192];
        let address = &raw const words as u64;
        for read in [|a, b: &mut [u8]| by_process_vm(a, b).unwrap_or(0), by_pipe] {
            assert_eq!(read(8, &mut buffer), 0);
            assert_eq!(read(address, &mut buffer[..16]), 16);
            assert_eq!(buffer[8], 9);
        }
    }
}
