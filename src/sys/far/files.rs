//! Far files that are opened.
//!
//! Context: the observer; where a file is near, any.

use std::ffi::{CStr, CString};
use std::mem::ManuallyDrop;
use std::time::Duration;

use super::super::courier;
use super::super::link::read_link;
use super::super::procfs::{File, Path};
use super::super::stat::{self, Status};
use super::super::{Errno, Result, lent, output};
use super::{AWAY, STATE, State, is_silent, may_send};

/// An open file that may be far.
#[derive(Debug)]
pub struct Reached {
    file: ManuallyDrop<File>,
    /// Its path, if it is far; empty where what does not come is not missed.
    far: Option<Vec<u8>>,
}

/// [`State::call`] for the observer.
///
/// # Safety
/// As that.
unsafe fn call(
    path: &[u8],
    number: libc::c_long,
    bytes: &[u8],
    arguments: impl FnOnce(usize) -> [usize; 6],
    answer: &mut [u8],
) -> Result<usize> {
    // SAFETY: as the caller vouches.
    STATE.try_with(|state| unsafe { state.call(path, number, bytes, arguments, answer) }).unwrap_or(Err(AWAY))
}

impl Reached {
    /// Opens the absolute path `path`.
    pub fn open(path: &CStr, flags: libc::c_int, far: bool) -> Result<Self> {
        if !far {
            let file = File::open_at(libc::AT_FDCWD, path, flags)?;
            return Ok(Self { file: ManuallyDrop::new(file), far: None });
        }
        let path = path_for_courier(path)?;
        let flags = (flags | libc::O_CLOEXEC) as usize;
        let arguments = |buffer| [libc::AT_FDCWD as usize, buffer, flags, 0o600, 0, 0];
        // SAFETY: the path stands in the buffer.
        let number = unsafe { call(path.to_bytes(), libc::SYS_openat, path.to_bytes_with_nul(), arguments, &mut [])? };
        Ok(Self { file: ManuallyDrop::new(File::from_raw(number as i32)), far: Some(path.into_bytes()) })
    }

    /// Takes over a duplicate of a descriptor of the application, to write a line to, which may be a far file's.
    pub fn adopt(file: File) -> Self {
        let mut path = Path::<48>::new();
        let mut target = [0; 4096];
        let written = std::fmt::Write::write_fmt(&mut path, format_args!("/proc/thread-self/fd/{}", file.raw()));
        let target = written.ok().and_then(|()| read_link(path.as_c_str(), &mut target).ok());
        let far = target.filter(|target| is_adopted_far(target)).map(|_| Vec::new());
        Self { file: ManuallyDrop::new(file), far }
    }

    /// The file, if it is near.
    pub fn near(&self) -> Option<&File> {
        self.far.is_none().then_some(&*self.file)
    }

    /// Writes a line, as [`output::write_line`] does.
    pub fn write_line(&self, line: &[u8], patience: Duration) -> Result<()> {
        let Some(path) = &self.far else { return output::write_line(self.file.raw(), line, patience) };
        if line.len() > courier::ROOM {
            return Err(Errno::EMSGSIZE);
        }
        let arguments = |from| [self.file.raw() as usize, from, line.len(), 0, 0, 0];
        // SAFETY: the line stands in the buffer.
        unsafe { call(path, libc::SYS_write, line, arguments, &mut []) }.map(drop)
    }

    /// Which file it is.
    pub fn status(&self) -> Result<Status> {
        let Some(path) = &self.far else { return stat::of(&self.file) };
        far_status(path, libc::SYS_fstat, &[], |buffer| [self.file.raw() as usize, buffer, 0, 0, 0, 0])
    }

    /// One `pread`; see [`File::read_at`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let Some(path) = &self.far else { return self.file.read_at(buffer, offset) };
        let size = buffer.len().min(courier::ROOM);
        let arguments = |to| [self.file.raw() as usize, to, size, offset as usize, 0, 0];
        let buffer = buffer.get_mut(..size).unwrap_or_default();
        // SAFETY: it reads into the buffer, as much as there is room for.
        unsafe { call(path, libc::SYS_pread64, &[], arguments, buffer) }.map(|count| count.min(size))
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        if self.far.is_none() {
            // SAFETY: it is dropped once, here.
            return unsafe { ManuallyDrop::drop(&mut self.file) };
        }
        let number = self.file.raw();
        lent::note(number, false);
        // Closing may wait for the server, too: the courier does it before anything else.
        STATE.try_with(|state| {
            state.left.push(number);
            let _ = state.courier();
            state.give_back();
        });
    }
}

/// Whether a line of the log would go to a file of a server that is silent: it is not even tried then.
pub fn is_log_silent() -> bool {
    is_silent() && STATE.try_with(|state| state.adopted.1).unwrap_or(false)
}

/// [`is_far_path`] for the same path again and again.
fn is_adopted_far(path: &[u8]) -> bool {
    let is_far = |state: &mut State| {
        if state.adopted.0 != path {
            state.adopted = (path.to_vec(), state.mounts().is_far_path(path));
        }
        state.adopted.1
    };
    path.starts_with(b"/") && may_send() && STATE.try_with(is_far).unwrap_or(false)
}

/// [`stat::at`] of an absolute path that may be far.
pub fn status_at(path: &CStr, far: bool) -> Result<Status> {
    if !far {
        return stat::at(path);
    }
    let path = path_for_courier(path)?;
    // The answer is aligned, and stands before the path.
    let begin = size_of::<libc::stat>();
    let bytes = [&vec![0; begin], path.to_bytes_with_nul()].concat();
    let at = libc::AT_FDCWD as usize;
    far_status(path.to_bytes(), libc::SYS_newfstatat, &bytes, |buffer| [at, buffer + begin, buffer, 0, 0, 0])
}

fn far_status(
    path: &[u8],
    number: libc::c_long,
    bytes: &[u8],
    arguments: impl FnOnce(usize) -> [usize; 6],
) -> Result<Status> {
    let mut answer = [0; size_of::<libc::stat>()];
    // SAFETY: path and answer stand in the buffer.
    unsafe { call(path, number, bytes, arguments, &mut answer) }?;
    Ok(stat::decode(&answer))
}

/// `path` for a process that is not this one: `/proc/self` would be its own, and what stands below `/proc/PID` closed to
/// it if we are not dumpable. So it gets what the link there says.
fn path_for_courier(path: &CStr) -> Result<CString> {
    let mut buffer = [0; 4096];
    let bytes = match path.to_bytes() {
        bytes if bytes.starts_with(b"/proc/self/") => read_link(path, &mut buffer)?,
        bytes => bytes,
    };
    if bytes.len() > courier::ROOM / 2 {
        return Err(Errno::ENAMETOOLONG);
    }
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}
