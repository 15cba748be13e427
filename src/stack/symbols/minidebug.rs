//! Mini debug information: `.gnu_debugdata`, an xz-compressed ELF file with the symbols that `strip` would
//! have lost, as Fedora ships it.
//!
//! Context: the observer. The decoder holds all that it decompresses, so what a stream claims is added up
//! from its chunk headers first, and nothing is decoded beyond a bound.

use super::bytes::Source;
use super::elf::{Elf, u16_at};

/// Bounds of the compressed and the decompressed size. libc's holds 100 KB, a browser's some megabytes.
const MOST_COMPRESSED: u64 = 8 << 20;
const MOST_DECOMPRESSED: u64 = 24 << 20;

/// The ELF file inside `elf`'s `.gnu_debugdata`.
pub fn open(elf: &Elf) -> Option<Elf> {
    let packed = elf.content(".gnu_debugdata", MOST_COMPRESSED)?;
    if unpacked_size(&packed)? > MOST_DECOMPRESSED {
        return None;
    }
    let mut unpacked = Vec::new();
    lzma_rs::xz_decompress(&mut packed.as_slice(), &mut unpacked).ok()?;
    Elf::parse(Source::memory(unpacked))
}

/// The decompressed size of an xz stream (xz-file-format 1.2), summed over the LZMA2 chunks of its blocks
/// without decoding them: the sizes that the headers and the index claim may be false, these cannot be.
fn unpacked_size(packed: &[u8]) -> Option<u64> {
    let rest = packed.strip_prefix(b"\xfd7zXZ\0")?;
    let check = match rest.get(1)? & 15 {
        0 => 0,
        1..=3 => 4,
        4..=6 => 8,
        7..=9 => 16,
        10..=12 => 32,
        _ => 64,
    };
    let mut at = 12;
    let mut size = 0;
    // A block begins with its header's size; the index, which follows the last one, with 0.
    while let Some(header) = packed.get(at).map(|byte| usize::from(*byte)).filter(|byte| *byte != 0) {
        at += (header + 1) * 4;
        loop {
            let control = usize::from(*packed.get(at)?);
            let field = |offset| u16::from_be_bytes(u16_at(packed, at + offset).unwrap_or_default().to_le_bytes());
            let (header, data, unpacked) = match control {
                0 => break,
                1 | 2 => (3, usize::from(field(1)) + 1, usize::from(field(1)) + 1),
                0x80.. => {
                    let unpacked = ((control & 0x1f) << 16) + usize::from(field(1)) + 1;
                    (if control >= 0xc0 { 6 } else { 5 }, usize::from(field(3)) + 1, unpacked)
                }
                _ => return None,
            };
            size += unpacked as u64;
            at += header + data;
        }
        at = (at + 1).checked_next_multiple_of(4)? + check;
    }
    Some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_what_a_stream_unpacks_to() {
        for size in [1, 1000, 100_000, 5_000_000] {
            let content: Vec<u8> = (0..size).map(|index: u32| (index >> 3) as u8 ^ (index % 7) as u8).collect();
            let mut xz = std::process::Command::new("xz");
            let mut child =
                xz.arg("-c").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let copy = content.clone();
            let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &copy).unwrap());
            let packed = child.wait_with_output().unwrap().stdout;
            writer.join().unwrap();
            assert_eq!(unpacked_size(&packed), Some(u64::from(size)));
            let mut unpacked = Vec::new();
            lzma_rs::xz_decompress(&mut packed.as_slice(), &mut unpacked).unwrap();
            assert_eq!(unpacked, content);
            for cut in [0, 5, 12, 13, packed.len() / 2] {
                unpacked_size(&packed[..cut]);
            }
        }
    }
}
