//! Small files and folders of `/proc`, read without `std::fs` or `opendir` (both may call `malloc`).
//!
//! Context: the observer and, for [`File`] and [`read_small`], handlers; no allocation.

use std::ffi::CStr;
use std::os::fd::RawFd;

use super::{Errno, Result, lent, raw};

/// An open descriptor that closes itself.
#[derive(Debug)]
pub struct File(RawFd);

impl File {
    /// Opens `path` (relative to `directory`, or absolute) with `flags`, close-on-exec; flags of 0 are for reading.
    pub fn open_at(directory: RawFd, path: &CStr, flags: libc::c_int) -> Result<Self> {
        let flags = flags | libc::O_CLOEXEC;
        // The mode counts only with O_CREAT.
        let arguments = [directory as usize, path.as_ptr() as usize, flags as usize, 0o600, 0, 0];
        loop {
            // SAFETY: `path` is NUL-terminated and outlives the call.
            match unsafe { raw::syscall6(libc::SYS_openat, arguments) } {
                Ok(number) => return Ok(Self::from_raw(number as RawFd)),
                Err(Errno::EINTR) => {}
                Err(Errno::EMFILE) if super::descriptors::give_up_placeholders() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens an absolute path.
    pub fn open(path: &CStr) -> Result<Self> {
        Self::open_at(libc::AT_FDCWD, path, 0)
    }

    /// Takes over a descriptor that nobody else closes.
    pub fn from_raw(number: RawFd) -> Self {
        lent::note(number, true);
        Self(number)
    }

    /// The descriptor's number.
    pub fn raw(&self) -> RawFd {
        self.0
    }

    /// One `pread` at `offset`; the number of bytes read, 0 at the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let arguments = [self.0 as usize, buffer.as_mut_ptr() as usize, buffer.len(), offset as usize, 0, 0];
        // SAFETY: the kernel writes only into `buffer`.
        unsafe { raw::syscall6(libc::SYS_pread64, arguments) }
    }
}

impl File {
    /// One `read` from where the file stands; 0 is the end.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        let arguments = [self.0 as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
        // SAFETY: the kernel writes only into `buffer`.
        unsafe { raw::syscall6(libc::SYS_read, arguments) }
    }

    /// One `write`. Short writes are the caller's matter.
    pub fn write(&self, bytes: &[u8]) -> Result<usize> {
        let arguments = [self.0 as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
        // SAFETY: the kernel only reads `bytes`.
        unsafe { raw::syscall6(libc::SYS_write, arguments) }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        lent::note(self.0, false);
        // SAFETY: the descriptor is ours, and is not used again.
        let _ = unsafe { raw::syscall6(libc::SYS_close, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
}

impl std::os::fd::AsFd for File {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as `self`.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(self.0) }
    }
}

/// Opens, reads once and closes: enough for the one-line files of `/proc`. Returns what was read.
pub fn read_small<'a>(directory: RawFd, path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    let file = File::open_at(directory, path, 0)?;
    let count = file.read_at(buffer, 0)?;
    Ok(buffer.get(..count).unwrap_or_default())
}

/// A NUL-terminated path built in place, for names made of a few parts and numbers.
#[derive(Clone, Copy)]
pub struct Path<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Path<N> {
    /// An empty path.
    pub const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    /// The path as a C string; empty if it did not fit.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl<const N: usize> Default for Path<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> std::fmt::Write for Path<N> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        if end >= N {
            return Err(std::fmt::Error);
        }
        self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// Calls `each` with the name of every entry of the folder that `directory` has open.
pub fn for_each_entry(directory: &File, mut each: impl FnMut(&CStr)) -> Result<()> {
    // Entries hold 64-bit fields: the buffer must be aligned for the kernel's sake and ours.
    let mut buffer = [0u64; 512];
    loop {
        let arguments = [directory.raw() as usize, buffer.as_mut_ptr() as usize, size_of_val(&buffer), 0, 0, 0];
        // SAFETY: the kernel writes at most the buffer's size into it.
        let count = unsafe { raw::syscall6(libc::SYS_getdents64, arguments)? };
        if count == 0 {
            return Ok(());
        }
        // SAFETY: a u64 array is readable as bytes.
        let bytes =
            unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), count.min(size_of_val(&buffer))) };
        let mut rest = bytes;
        // struct linux_dirent64: ino u64, off u64, reclen u16, type u8, name (man 2 getdents64).
        while let Some(&[low, high]) = rest.get(16..18) {
            let length = usize::from(u16::from_le_bytes([low, high]));
            if let Some(name) = rest.get(19..length).and_then(|name| CStr::from_bytes_until_nul(name).ok()) {
                each(name);
            }
            rest = rest.get(length.max(19)..).unwrap_or_default();
        }
    }
}

/// The thread ids of this process, ascending. `/proc/self/task` lists a thread that lives through the
/// whole reading exactly once.
pub fn thread_ids() -> Result<Vec<i32>> {
    let folder = File::open_at(libc::AT_FDCWD, c"/proc/self/task", libc::O_DIRECTORY)?;
    let mut ids = Vec::new();
    for_each_entry(&folder, |name| {
        if let Some(id) = name.to_str().ok().and_then(|name| name.parse().ok()) {
            ids.push(id);
        }
    })?;
    ids.sort_unstable();
    Ok(ids)
}

/// Whether thread `tid`, as `/proc` numbers them, is one of this process that lives, or that nobody has waited for.
pub fn has_thread(tid: i32) -> bool {
    let mut path = Path::<48>::new();
    std::fmt::Write::write_fmt(&mut path, format_args!("/proc/self/task/{tid}/comm")).is_ok()
        && read_small(libc::AT_FDCWD, path.as_c_str(), &mut [0; 32]) != Err(Errno::ENOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_the_calling_thread() {
        let own = nix::unistd::gettid().as_raw();
        assert!(thread_ids().expect("task folder").contains(&own));
    }
}
