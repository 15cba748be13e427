//! The observer's own descriptor table, and its way to the application's.
//!
//! Context: the observer, but for [`borrow`], which any thread may call.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::procfs::{File, Path};
use super::{Errno, Result, descriptor, process, raw};

/// The thread that has a table of its own, 0 while there is none.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// 0 to 2 of that table hold `/dev/null`.
static PLACEHOLDERS: AtomicBool = AtomicBool::new(false);

/// Gives the calling thread a descriptor table of its own with nothing in it but `/dev/null` on 0 to
/// 2 (so that a stray message of a library never lands in a client's socket), and a working folder,
/// root and umask of its own, so that neither a later `chroot` nor `umask` of the application moves it.
pub fn leave_application() -> Result<()> {
    let everything = [0, u32::MAX as usize, libc::CLOSE_RANGE_UNSHARE as usize, 0, 0, 0];
    // SAFETY: the table becomes ours alone before anything in it is closed (man 2 close_range).
    let closed = unsafe { raw::syscall6(libc::SYS_close_range, everything) };
    if closed.is_err() {
        // Kernels before 5.9, or a filter that does not know the call.
        // SAFETY: unshare touches no memory.
        unsafe { raw::syscall6(libc::SYS_unshare, [libc::CLONE_FILES as usize, 0, 0, 0, 0, 0])? };
        close_each();
    }
    // SAFETY: as above. Where it is refused, a chroot of the application moves us too: a loss, no harm.
    if unsafe { raw::syscall6(libc::SYS_unshare, [libc::CLONE_FS as usize, 0, 0, 0, 0, 0]) }.is_ok() {
        // Our socket's mode is ours to say.
        // SAFETY: umask touches no memory.
        let _ = unsafe { raw::syscall6(libc::SYS_umask, [0; 6]) };
        // Not to hold a mount busy that the application leaves.
        // SAFETY: the path is a constant.
        let _ = unsafe { raw::syscall6(libc::SYS_chdir, [c"/".as_ptr() as usize, 0, 0, 0, 0, 0]) };
    }
    OWNER.store(super::process::tid(), Ordering::Relaxed);
    let path = c"/dev/null".as_ptr() as usize;
    let arguments = [libc::AT_FDCWD as usize, path, (libc::O_RDWR | libc::O_CLOEXEC) as usize, 0, 0, 0];
    // SAFETY: the path is a constant.
    if let Ok(first) = unsafe { raw::syscall6(libc::SYS_openat, arguments) } {
        for _ in 1..3 {
            // SAFETY: fcntl with F_DUPFD_CLOEXEC touches no memory.
            let _ = unsafe { raw::syscall6(libc::SYS_fcntl, [first, libc::F_DUPFD_CLOEXEC as usize, 0, 0, 0, 0]) };
        }
    }
    PLACEHOLDERS.store(true, Ordering::Relaxed);
    Ok(())
}

/// Closes every descriptor of this thread's table, which is its own by now.
fn close_each() {
    let mut open = [0i32; 4096];
    let mut count = 0;
    let Ok(folder) = File::open_at(libc::AT_FDCWD, c"/proc/thread-self/fd", libc::O_DIRECTORY) else { return };
    let own = folder.raw();
    let _ = super::procfs::for_each_entry(&folder, |name| {
        let number = name.to_str().ok().and_then(|name| name.parse().ok());
        if let (Some(number), Some(slot)) = (number.filter(|number| *number != own), open.get_mut(count)) {
            *slot = number;
            count += 1;
        }
    });
    for number in open.iter().take(count) {
        drop(File::from_raw(*number));
    }
}

/// Closes everything in the private table.
pub fn close_private() {
    if is_private() {
        // SAFETY: the table is this thread's own, and the caller uses nothing of it any more.
        let _ = unsafe { raw::syscall6(libc::SYS_close_range, [0, u32::MAX as usize, 0, 0, 0, 0]) };
    }
}

/// Whether the calling thread has the private table.
pub fn is_private() -> bool {
    OWNER.load(Ordering::Relaxed) == super::process::tid()
}

/// Forgets the private table: its thread ends, or is the parent's.
pub fn forget_private() {
    OWNER.store(0, Ordering::Relaxed);
    PLACEHOLDERS.store(false, Ordering::Relaxed);
}

/// Closes the placeholders on 0 to 2, once: under `RLIMIT_NOFILE` of 3 no higher number can be had.
/// True if that made room.
pub fn give_up_placeholders() -> bool {
    if !is_private() || !PLACEHOLDERS.swap(false, Ordering::Relaxed) {
        return false;
    }
    (0..3).for_each(|number| drop(File::from_raw(number)));
    true
}

/// A duplicate of the application's descriptor `number`: by `pidfd_getfd`, which gives the very
/// open file; on kernels before 5.6 by opening it anew through `/proc`, for appending.
pub fn borrow(number: RawFd) -> Result<File> {
    if !is_private() {
        // SAFETY: fcntl with F_DUPFD_CLOEXEC touches no memory.
        let copy =
            unsafe { raw::syscall6(libc::SYS_fcntl, [number as usize, libc::F_DUPFD_CLOEXEC as usize, 0, 0, 0, 0])? };
        return Ok(File::from_raw(copy as RawFd));
    }
    descriptor::copy_of(process::pid(), number)
        .or_else(|error| if error == Errno::EBADF { Err(error) } else { by_path(number) })
}

fn by_path(number: RawFd) -> Result<File> {
    let mut path = Path::<48>::new();
    std::fmt::Write::write_fmt(&mut path, format_args!("/proc/self/fd/{number}")).map_err(|_| Errno::ENAMETOOLONG)?;
    File::open_at(libc::AT_FDCWD, path.as_c_str(), libc::O_WRONLY | libc::O_APPEND | libc::O_NOCTTY)
}
