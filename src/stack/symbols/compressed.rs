//! Decompression of debug sections: `SHF_COMPRESSED` with zlib or zstd, and the older `.zdebug_*`.
//!
//! Context: the observer. A stream is decoded forwards and only as far as it is asked for; neither the
//! compressed nor the decompressed bytes are ever held as a whole by this file.

use std::io::{Error, ErrorKind, Read};
use std::rc::Rc;

use super::bytes::{Budget, Source};

/// Compressed bytes of a source, as `std::io` decoders want them.
struct Input {
    source: Rc<Source>,
    position: u64,
    end: u64,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let room = self.end.saturating_sub(self.position).min(buffer.len() as u64) as usize;
        let count = self.source.read_at(buffer.get_mut(..room).unwrap_or_default(), self.position);
        self.position += count as u64;
        Ok(count)
    }
}

/// The algorithms that ELF knows (gABI, "Compressed Sections").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `ELFCOMPRESS_ZLIB`.
    Zlib,
    /// `ELFCOMPRESS_ZSTD`.
    Zstd,
}

/// A stream in the middle of its decompression.
pub struct Inflating {
    decoder: Box<dyn Read>,
    failed: bool,
}

/// The window that a zstd frame asks for, from its header (RFC 8878, 3.1.1.1): the decoder allocates it at once.
fn zstd_window(header: &[u8]) -> Option<u64> {
    let descriptor = *header.get(4)?;
    if descriptor >> 5 & 1 == 0 {
        let window = *header.get(5)?;
        let base = 1u64.checked_shl(10 + u32::from(window >> 3))?;
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment: the window is the content, whose size follows the dictionary's id.
    let at = 5 + [0, 1, 2, 4].get(usize::from(descriptor & 3))?;
    let (length, more) = *[(1, 0), (2, 256), (4, 0), (8, 0)].get(usize::from(descriptor >> 6))?;
    let mut size = [0; 8];
    size.get_mut(..length)?.copy_from_slice(header.get(at..at + length)?);
    u64::from_le_bytes(size).checked_add(more)
}

impl Inflating {
    /// Decompresses `length` bytes of `source` from `offset` on; `None` when the stream's start is not valid, or
    /// what the decoder needs for itself is not left in `budget`.
    pub fn new(source: &Rc<Source>, offset: u64, length: u64, algorithm: Algorithm, budget: &Budget) -> Option<Self> {
        if algorithm == Algorithm::Zstd && !budget.take(zstd_window(&source.read_vec(offset, length.min(18))?)?) {
            return None;
        }
        let input = Input { source: Rc::clone(source), position: offset, end: offset.checked_add(length)? };
        let decoder: Box<dyn Read> = match algorithm {
            Algorithm::Zlib => Box::new(flate2::read::ZlibDecoder::new(input)),
            Algorithm::Zstd => Box::new(ruzstd::decoding::StreamingDecoder::new(input).ok()?),
        };
        Some(Self { decoder, failed: false })
    }

    /// The next `size` bytes, fewer when the stream ends or is damaged.
    pub fn read(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let mut done = 0;
        while !self.failed
            && let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty())
        {
            match self.decoder.read(rest) {
                Ok(0) => self.failed = true,
                Ok(count) => done += count,
                Err(error) => self.failed = !is_interrupted(&error),
            }
        }
        bytes.truncate(done);
        bytes
    }
}

fn is_interrupted(error: &Error) -> bool {
    error.kind() == ErrorKind::Interrupted
}
