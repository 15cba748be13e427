//! Reading symbolic links, those of `/proc` above all, and what they lead to says of itself.
//!
//! Context: any; no allocation, no lock.

use std::ffi::CStr;
use std::os::fd::RawFd;

use super::{Result, raw};

/// The target of the link at the absolute path `path`, cut to the size of `buffer` as `readlinkat` does.
pub fn read_link<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    read_link_at(libc::AT_FDCWD, path, buffer)
}

/// The same for a path relative to an open folder.
pub fn read_link_at<'a>(folder: RawFd, path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    let arguments = [folder as usize, path.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0];
    // SAFETY: `path` is NUL-terminated, and the kernel writes at most `buffer.len()` bytes into `buffer`.
    let count = unsafe { raw::syscall6(libc::SYS_readlinkat, arguments)? };
    Ok(buffer.get(..count).unwrap_or_default())
}

/// The extended attribute `name` of what `path` leads to in the end; empty when it is longer than `buffer`.
pub fn attribute<'a>(path: &CStr, name: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    let target = buffer.as_mut_ptr() as usize;
    let arguments = [path.as_ptr() as usize, name.as_ptr() as usize, target, buffer.len(), 0, 0];
    // SAFETY: both strings are NUL-terminated, and the kernel writes at most `buffer.len()` bytes into `buffer`.
    let count = unsafe { raw::syscall6(libc::SYS_getxattr, arguments)? };
    Ok(buffer.get(..count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_cuts() {
        let exe = std::env::current_exe().unwrap();
        let mut buffer = [0; 4096];
        let target = read_link(c"/proc/self/exe", &mut buffer).unwrap();
        assert_eq!(target, exe.as_os_str().as_encoded_bytes());
        assert_eq!(read_link(c"/proc/self/exe", &mut [0; 4]).unwrap().len(), 4);
        assert_eq!(read_link(c"/proc/self/status", &mut [0; 4]), Err(super::super::Errno::EINVAL));
    }
}
