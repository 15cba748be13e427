//! What kind of file a descriptor has open, whose it is, and which one it is.
//!
//! Context: any; no allocation.

use super::{Result, procfs::File, raw};

/// The fields of `struct stat` that identify a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Device of its file system, as `makedev` composes it.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Owner.
    pub uid: u32,
    /// Type and permissions.
    pub mode: u32,
}

impl Status {
    /// A regular file, not a pipe, device or folder.
    pub fn is_regular(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }
}

/// `fstat`.
pub fn of(file: &File) -> Result<Status> {
    // SAFETY: `struct stat` is plain numbers; all zeros is a value of it.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    let arguments = [file.raw() as usize, &raw mut stat as usize, 0, 0, 0, 0];
    // SAFETY: on 64-bit Linux the kernel's structure is the C library's, and `stat` has room for it.
    unsafe { raw::syscall6(libc::SYS_fstat, arguments)? };
    Ok(Status {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: stat.st_size.cast_unsigned(),
        uid: stat.st_uid,
        mode: stat.st_mode,
    })
}
