//! What the operator reads in the place of bytes that were not kept for him.
//!
//! Context: the observer and the pump; no allocation, no formatting machinery.

#![forbid(unsafe_code)]

/// `[… N bytes of stderr skipped]`, on a line of its own.
pub struct Note {
    bytes: [u8; Self::ROOM],
    length: usize,
}

impl Note {
    const ROOM: usize = 64;

    /// `at_line_start` says whether the text before it ended with a newline.
    pub fn skipped(count: usize, at_line_start: bool) -> Self {
        let mut note = Self { bytes: [0; Self::ROOM], length: 0 };
        note.push(if at_line_start { "" } else { "\n" }.as_bytes());
        note.push("[… ".as_bytes());
        let mut divisor = 1usize;
        while count / divisor >= 10 {
            divisor = divisor.saturating_mul(10);
        }
        while divisor > 0 {
            note.push(&[b'0' + (count / divisor % 10) as u8]);
            divisor /= 10;
        }
        note.push(" bytes of stderr skipped]\n".as_bytes());
        note
    }

    /// The text.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, text: &[u8]) {
        let end = self.length.saturating_add(text.len());
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(text);
            self.length = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_begins_a_line() {
        let text = |count, at_start| String::from_utf8(Note::skipped(count, at_start).bytes().to_vec()).unwrap();
        assert_eq!(text(0, true), "[… 0 bytes of stderr skipped]\n");
        assert_eq!(text(10_203, false), "\n[… 10203 bytes of stderr skipped]\n");
        assert_eq!(text(usize::MAX, true), format!("[… {} bytes of stderr skipped]\n", usize::MAX));
    }
}
