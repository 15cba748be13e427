//! Printing bytes that the application chose: names of threads, paths, addresses of sockets.
//!
//! Context: any that may format. A thread may call itself `\e]0;owned\a`, or end its name in half a
//! character; none of that may reach the terminal of the one who looks.

#![forbid(unsafe_code)]

use std::fmt::{self, Write};

/// Shows bytes as text that is safe on a terminal and inside double quotes.
///
/// Printable UTF-8 stays; `"` and `\` get a `\` before them; control characters (C0, DEL, C1),
/// characters that change the direction or the layout of what surrounds them, and bytes that are not
/// UTF-8 become `\xNN`, byte by byte. The form is unambiguous: it can be turned back into the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '"' | '\\' => {
                        f.write_char('\\')?;
                        f.write_char(character)?;
                    }
                    _ if is_printable(character) => f.write_char(character)?,
                    _ => write_hex(character.encode_utf8(&mut [0; 4]).as_bytes(), f)?,
                }
            }
            write_hex(chunk.invalid(), f)?;
        }
        Ok(())
    }
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

/// Whether a character takes its own place and leaves its neighbours alone (Unicode general categories
/// Cc, Zl, Zp, and those of Cf and Co that a terminal may act on).
fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' // zero width, and marks of direction
            | '\u{2028}'..='\u{202e}' // separators of lines and paragraphs, embeddings and overrides
            | '\u{2060}'..='\u{206f}' // invisible operators, isolates
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e000}'..='\u{f8ff}' // private use
            | '\u{e0000}'..) // tags, and the private planes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_text_and_escapes_what_a_terminal_would_obey() {
        let shown = |bytes: &[u8]| Escaped(bytes).to_string();
        assert_eq!(shown("worker/0 grün 日本".as_bytes()), "worker/0 grün 日本");
        assert_eq!(shown(b"\x1b]0;owned\x07\r\n\x7f"), r"\x1b]0;owned\x07\x0d\x0a\x7f");
        assert_eq!(shown("a\u{9b}31mb".as_bytes()), r"a\xc2\x9b31mb");
        assert_eq!(shown("a\u{202e}b".as_bytes()), r"a\xe2\x80\xaeb");
        assert_eq!(shown(b"half \xe6\x97"), r"half \xe6\x97");
        assert_eq!(shown(b"\"\\x1b\""), r#"\"\\x1b\""#);
        assert_eq!(shown(b""), "");
    }

    #[test]
    fn every_byte_alone_is_safe() {
        for byte in 0..=255u8 {
            let shown = Escaped(&[byte]).to_string();
            assert!(shown.bytes().all(|shown| (0x20..0x7f).contains(&shown)), "{byte:#x} gives {shown:?}");
        }
    }
}
