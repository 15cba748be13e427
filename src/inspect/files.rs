//! Files of `/proc` and of control groups, read whole up to a bound.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};

use crate::sys::procfs::File;
use crate::sys::{Errno, Result};

/// What a read asks for: the kernel gives a page or so of most of these files anyway.
const PIECE: usize = 16 << 10;

/// The first `limit` bytes of the file at `path`.
pub fn read(path: &CStr, limit: usize) -> Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    let mut piece = [0; PIECE];
    while bytes.len() < limit {
        let count = file.read_at(&mut piece, bytes.len() as u64)?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    bytes.truncate(limit);
    Ok(bytes)
}

/// The first `limit` bytes of `/proc/self/task/TID/NAME`.
pub fn of_thread(tid: i32, name: &str, limit: usize) -> Result<Vec<u8>> {
    read_path(format!("/proc/self/task/{tid}/{name}").into_bytes(), limit)
}

/// The first `limit` bytes of the file at `path`, which may hold anything.
pub fn read_path(path: Vec<u8>, limit: usize) -> Result<Vec<u8>> {
    read(&CString::new(path).map_err(|_| Errno::EINVAL)?, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_whole_or_cut() {
        let status = read(c"/proc/self/status", 1 << 20).unwrap();
        assert!(status.starts_with(b"Name:") && status.ends_with(b"\n"));
        assert_eq!(read(c"/proc/self/status", 5).unwrap(), b"Name:");
        let own = crate::sys::process::tid();
        assert!(of_thread(own, "comm", 64).unwrap().ends_with(b"\n"));
        assert_eq!(read_path(b"/proc/\0".to_vec(), 1), Err(Errno::EINVAL));
    }
}
