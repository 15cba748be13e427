//! Files of `/proc` of any length, line by line, through one small buffer.
//!
//! Context: the observer. A reader goes on from one step of a job to the next; nothing is kept but the begin of a
//! line whose rest was not read yet.

#![forbid(unsafe_code)]

use crate::sys::procfs::File;
use crate::sys::{Errno, Result};

/// A longer line is none of the kernel's (a path of `PATH_MAX` bytes, each escaped as `\012`) and is left out.
const BUFFER: usize = 32 << 10;

/// Where the reading of a file stands.
pub struct Lines {
    file: File,
    buffer: Vec<u8>,
    offset: u64,
    kept: usize,
}

impl Lines {
    /// From the begin of `file`.
    pub fn new(file: File) -> Self {
        Self { file, buffer: vec![0; BUFFER], offset: 0, kept: 0 }
    }

    /// Bytes read until now.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads once, as much as the kernel gives (some pages at most), and calls `each` with every line that is whole
    /// by now. False at the end.
    pub fn read(&mut self, each: impl FnMut(&[u8])) -> Result<bool> {
        let room = self.buffer.get_mut(self.kept..).ok_or(Errno::EINVAL)?;
        let count = self.file.read_at(room, self.offset)?;
        self.offset += count as u64;
        let filled = self.buffer.get(..self.kept + count).unwrap_or_default();
        let whole = filled.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let lines = filled.get(..whole).unwrap_or_default();
        lines.strip_suffix(b"\n").into_iter().flat_map(|lines| lines.split(|&byte| byte == b'\n')).for_each(each);
        let left = filled.len() - whole;
        self.kept = if left == BUFFER { 0 } else { left };
        self.buffer.copy_within(whole..whole + self.kept, 0);
        Ok(count > 0)
    }

    /// Reads on up to the end, or to the first `limit` bytes.
    pub fn read_up_to(&mut self, limit: u64, mut each: impl FnMut(&[u8])) -> Result<()> {
        while self.offset < limit && self.read(&mut each)? {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_overlong_ones_are_left_out() {
        let path = std::env::temp_dir().join(format!("manhole-lines-{}", std::process::id()));
        let long = "x".repeat(BUFFER * 2 + 7);
        let most: String = (0..10_000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&path, format!("{most}\n{long}\nlast\nno end")).unwrap();
        let c_path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        let mut lines = Lines::new(File::open(&c_path).unwrap());
        let mut all = Vec::new();
        while lines.read(|line| all.push(String::from_utf8_lossy(line).into_owned())).unwrap() {}
        assert_eq!(all.len(), 10_003);
        assert!(all[..10_000].iter().enumerate().all(|(number, line)| *line == format!("line {number}")));
        assert_eq!((all[10_000].as_str(), all[10_002].as_str()), ("", "last"));
        // The end of the overlong one.
        assert!(all[10_001].len() < BUFFER);
        let mut count = 0;
        Lines::new(File::open(&c_path).unwrap()).read_up_to(1, |_| count += 1).unwrap();
        assert!((1..10_000).contains(&count));
        std::fs::remove_file(path).unwrap();
    }
}
