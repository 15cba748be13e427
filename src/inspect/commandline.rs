//! How the program was started: arguments, executable, script, folder, root, mask.
//!
//! Context: the observer. The arguments stand in memory twice: in the area that the kernel shows as `cmdline`, which a
//! program may overwrite with a title (setproctitle), and as what the array `argv` on the first stack points to, which
//! programs that write titles often move away before. Nothing of the application's is opened: files are compared by
//! `stat`.

#![forbid(unsafe_code)]

use std::ffi::CString;

use super::{auxiliary, environment, files};
use crate::sys::link::read_link;
use crate::sys::memory::Memory;
use crate::sys::{Errno, Result, far, process};

/// Bytes of the command line that are read.
const BYTES: usize = 1 << 20;
/// Arguments read from `argv`.
const MOST: u64 = 4096;

/// How the program was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// What the kernel shows now.
    pub now: Vec<Vec<u8>>,
    /// What `argv` points to; empty when it could not be read.
    pub vector: Vec<Vec<u8>>,
    /// The executable's path, without ` (deleted)`.
    pub executable: Vec<u8>,
    /// Its file has no name any more.
    pub deleted: bool,
    /// Another file has its name now; `None` when that cannot be seen from here.
    pub replaced: Option<bool>,
    /// The script that the executable interprets: it was what was executed.
    pub script: Option<Vec<u8>>,
    /// What was executed, as it was named (`AT_EXECFN`).
    pub executed: Option<Vec<u8>>,
    /// The working folder.
    pub folder: Option<Vec<u8>>,
    /// The root.
    pub root: Option<Vec<u8>>,
    /// The file mode mask.
    pub umask: Option<u32>,
}

/// Reads it for the application's thread `tid`.
pub fn read(memory: &impl Memory, tid: i32) -> CommandLine {
    let link = |name: &str| {
        let path = CString::new(format!("/proc/self/task/{tid}/{name}")).ok()?;
        Some(read_link(&path, &mut [0; 4096]).ok()?.to_vec())
    };
    let printed = link("exe").unwrap_or_default();
    let (executable, deleted) = match printed.strip_suffix(b" (deleted)") {
        Some(path) => (path.to_vec(), true),
        None => (printed.clone(), false),
    };
    let root = link("root");
    let status = files::of_thread(tid, "status", process::STATUS_BYTES).unwrap_or_default();
    let umask = process::status_field(&status, "Umask").and_then(|text| std::str::from_utf8(text).ok());
    let vector = vector(memory, tid).unwrap_or_default();
    let executed = auxiliary::read(tid).ok().and_then(|entries| {
        let entry = entries.into_iter().find(|entry| entry.name() == Some("AT_EXECFN"))?;
        Some(environment::string(memory, entry.value, 4096).0)
    });
    CommandLine {
        now: split(&files::of_thread(tid, "cmdline", BYTES).unwrap_or_default()),
        script: executed.clone().filter(|path| is_script(path, &vector) && !is_executable(tid, &executable, path)),
        replaced: (root.as_deref() == Some(b"/")).then(|| is_replaced(tid, &executable, deleted)).flatten(),
        umask: umask.and_then(|umask| u32::from_str_radix(umask, 8).ok()),
        folder: link("cwd"),
        vector,
        executable,
        deleted,
        executed,
        root,
    }
}

/// Arguments that end with NUL. A title without one is one argument.
fn split(area: &[u8]) -> Vec<Vec<u8>> {
    // A title is followed by what it left of the area: zeros.
    let end = area.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = area.get(..end).unwrap_or_default();
    if text.is_empty() { Vec::new() } else { text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect() }
}

/// The strings of `argv`, which begins behind its length where the first stack begins (`startstack`, field 28 of
/// `/proc/PID/stat`).
fn vector(memory: &impl Memory, tid: i32) -> Option<Vec<Vec<u8>>> {
    let stat = files::of_thread(tid, "stat", 4096).ok()?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let field = stat.get(name_end + 2..)?.split(|byte| *byte == b' ').nth(28 - 3)?;
    let start: u64 = std::str::from_utf8(field).ok()?.parse().ok().filter(|start| *start != 0)?;
    let count = memory.read_u64(start)?;
    let mut strings = Vec::new();
    for index in 1..=count.min(MOST) {
        // A program may have cut the array short.
        let Some(pointer @ 1..) = memory.read_u64(start.wrapping_add(index * 8)) else { break };
        strings.push(environment::string(memory, pointer, 128 << 10).0);
    }
    Some(strings)
}

/// The kernel starts a script's interpreter with the script's name as an argument: behind the interpreter's, and
/// behind the one that the script's first line may have (execve(2)).
fn is_script(executed: &[u8], vector: &[Vec<u8>]) -> bool {
    let at = vector.iter().position(|argument| argument == executed);
    matches!(at, Some(1 | 2))
}

/// Whether what was executed is the executable itself: `sh /bin/sh` has its name as an argument, too. A relative path
/// was meant from a folder that may have been left since; nothing is known of it.
fn is_executable(tid: i32, executable: &[u8], executed: &[u8]) -> bool {
    executed == executable
        || executed.starts_with(b"/")
            && running(tid, executable).is_some_and(|running| named(executed).is_ok_and(|named| named == running))
}

/// Whether the name of the executable belongs to another file now.
fn is_replaced(tid: i32, executable: &[u8], deleted: bool) -> Option<bool> {
    let running = running(tid, executable)?;
    match named(executable) {
        Ok(named) => Some(named != running),
        Err(Errno::ENOENT) => deleted.then_some(false),
        Err(_) => None,
    }
}

/// Device and inode of the executable, whose path is `executable`.
fn running(tid: i32, executable: &[u8]) -> Option<(u64, u64)> {
    let path = CString::new(format!("/proc/self/task/{tid}/exe")).ok()?;
    Some(far::status_at(&path, far::is_far_path(executable)).ok()?.identity())
}

/// Device and inode of what stands at `path`.
fn named(path: &[u8]) -> Result<(u64, u64)> {
    let c_path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    Ok(far::status_at(&c_path, far::is_far_path(path))?.identity())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::Live;

    #[test]
    fn this_process() {
        let line = read(&Live, process::pid());
        let arguments: Vec<Vec<u8>> = std::env::args_os().map(|it| it.into_encoded_bytes()).collect();
        assert_eq!((&line.now, &line.vector), (&arguments, &arguments));
        assert_eq!(line.executable, std::env::current_exe().unwrap().as_os_str().as_encoded_bytes());
        assert_eq!((line.deleted, line.replaced, line.script.is_none()), (false, Some(false), true));
        assert_eq!(line.folder.unwrap(), std::env::current_dir().unwrap().as_os_str().as_encoded_bytes());
    }

    #[test]
    fn titles_and_scripts() {
        assert_eq!(split(b"redis-server *:6379\0\0\0\0"), [b"redis-server *:6379".to_vec()]);
        assert_eq!(split(b"a\0\0b\0"), [b"a".to_vec(), vec![], b"b".to_vec()]);
        assert!(split(b"\0\0").is_empty());
        let words = |text: &str| text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        assert!(is_script(b"./run.py", &words("/usr/bin/python3 ./run.py -v")));
        assert!(is_script(b"./run.sh", &words("/bin/sh -e ./run.sh")));
        assert!(!is_script(b"/bin/cat", &words("cat /bin/dog")));
        assert!(!is_script(b"/bin/cat", &words("/bin/cat /bin/cat")));
    }
}
