//! What kind of file a descriptor has open, whose it is, and which one it is.
//!
//! Context: any; no allocation.

use std::ffi::CStr;
use std::os::fd::RawFd;

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
    /// It has no name any more (or never had one).
    pub nameless: bool,
    /// Owner.
    pub uid: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Which device a device file is, as `makedev` composes it.
    special: u64,
}

impl Status {
    /// A regular file, not a pipe, device or folder.
    pub fn is_regular(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// A socket of any kind.
    pub fn is_socket(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFSOCK
    }

    /// A pipe or FIFO.
    pub fn is_pipe(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFIFO
    }

    /// Major and minor number of a character device.
    pub fn character_device(&self) -> Option<(u32, u32)> {
        let is_one = self.mode & libc::S_IFMT == libc::S_IFCHR;
        is_one.then(|| (libc::major(self.special), libc::minor(self.special)))
    }

    /// Which file it is: device and inode.
    pub fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// `fstat`.
pub fn of(file: &File) -> Result<Status> {
    of_number(file.raw())
}

/// `fstat` of a descriptor in the calling thread's table.
pub fn of_number(number: RawFd) -> Result<Status> {
    fill(|stat| {
        // SAFETY: on 64-bit Linux the kernel's structure is the C library's, and `stat` has room for it.
        unsafe { raw::syscall6(libc::SYS_fstat, [number as usize, stat, 0, 0, 0, 0]) }
    })
}

/// Whether descriptor `number` of the calling thread's table has the file `identity` open.
pub fn has(number: RawFd, identity: (u64, u64)) -> bool {
    of_number(number).is_ok_and(|status| status.identity() == identity)
}

/// `stat`: of what the path leads to in the end.
pub fn at(path: &CStr) -> Result<Status> {
    let path = path.as_ptr() as usize;
    fill(|stat| {
        // SAFETY: the path is NUL-terminated; `stat` as above.
        unsafe { raw::syscall6(libc::SYS_newfstatat, [libc::AT_FDCWD as usize, path, stat, 0, 0, 0]) }
    })
}

fn fill(call: impl FnOnce(usize) -> Result<usize>) -> Result<Status> {
    // SAFETY: `struct stat` is plain numbers; all zeros is a value of it.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    call(&raw mut stat as usize)?;
    Ok(status(&stat))
}

/// The kernel's answer, as it wrote it.
pub fn decode(bytes: &[u8; size_of::<libc::stat>()]) -> Status {
    // SAFETY: the structure is plain numbers, for which any bytes are a value.
    status(&unsafe { bytes.as_ptr().cast::<libc::stat>().read_unaligned() })
}

fn status(stat: &libc::stat) -> Status {
    Status {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: stat.st_size.cast_unsigned(),
        nameless: stat.st_nlink == 0,
        uid: stat.st_uid,
        mode: stat.st_mode,
        special: stat.st_rdev,
    }
}
