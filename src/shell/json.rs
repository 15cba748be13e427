//! Writing JSON (RFC 8259).
//!
//! Context: the observer. Bytes that the application chose and that are no UTF-8 become U+FFFD; addresses are
//! strings (`"0x7f…"`), since most readers hold numbers as doubles and would round them.

#![forbid(unsafe_code)]

use std::io::Write;
use std::time::Duration;

/// A value that has a JSON form and says which.
pub trait Field {
    /// Its JSON Schema, without braces: `"type":"integer"`.
    fn schema(out: &mut Vec<u8>);
    /// Its JSON form.
    fn json(&self, out: &mut Vec<u8>);
}

/// An address or another word that people read in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub u64);

/// Bytes that are nearly always text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// JSON that was written before.
#[derive(Clone, Debug)]
pub struct Raw(pub Vec<u8>);

impl Field for Raw {
    fn schema(out: &mut Vec<u8>) {
        out.extend_from_slice(br#""type":"object""#);
    }
    fn json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

// What `record!` writes. Out of line: there are hundreds of fields, and none of this is in a hurry.

/// The begin of the JSON Schema of a kind of records.
#[inline(never)]
pub fn begin_schema(kind: &str, about: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"title\":");
    string(kind, out);
    out.extend_from_slice(b",\"description\":");
    string(about.trim(), out);
    out.extend_from_slice(b",\"type\":\"object\",\"properties\":{\"kind\":{\"const\":");
    string(kind, out);
    out.push(b'}');
}

/// One of its properties.
#[inline(never)]
pub fn property(field: &str, about: &str, schema: fn(&mut Vec<u8>), out: &mut Vec<u8>) {
    member(field, out);
    out.push(b'{');
    schema(out);
    out.extend_from_slice(b",\"description\":");
    string(about.trim(), out);
    out.push(b'}');
}

/// Its end; every field is there always.
#[inline(never)]
pub fn end_schema(fields: &[&str], out: &mut Vec<u8>) {
    out.extend_from_slice(b"},\"required\":[\"kind\"");
    for field in fields {
        out.push(b',');
        string(field, out);
    }
    out.extend_from_slice(b"]}");
}

/// The begin of a record.
#[inline(never)]
pub fn begin_record(kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"kind\":");
    string(kind, out);
}

/// `,"name":`.
#[inline(never)]
pub fn member(field: &str, out: &mut Vec<u8>) {
    out.push(b',');
    name(field, out);
}

/// A string, quoted.
#[inline(never)]
pub fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\t' => out.extend_from_slice(b"\\t"),
            // Writing into a Vec cannot fail, here and below.
            '\0'..' ' | '\u{7f}' => drop(write!(out, "\\u{:04x}", character as u32)),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// `"name":`.
pub fn name(name: &str, out: &mut Vec<u8>) {
    string(name, out);
    out.push(b':');
}

macro_rules! integers {
    ($($kind:ty),*) => { $(impl Field for $kind {
        fn schema(out: &mut Vec<u8>) {
            out.extend_from_slice(br#""type":"integer""#);
        }
        fn json(&self, out: &mut Vec<u8>) {
            let _ = write!(out, "{self}");
        }
    })* };
}
integers!(u8, u16, u32, u64, usize, i32, i64);

impl Field for f64 {
    fn schema(out: &mut Vec<u8>) {
        out.extend_from_slice(br#""type":"number""#);
    }
    fn json(&self, out: &mut Vec<u8>) {
        // Neither infinity nor "not a number" exists in JSON.
        let _ = if self.is_finite() { write!(out, "{self}") } else { write!(out, "null") };
    }
}

impl Field for bool {
    fn schema(out: &mut Vec<u8>) {
        out.extend_from_slice(br#""type":"boolean""#);
    }
    fn json(&self, out: &mut Vec<u8>) {
        let _ = write!(out, "{self}");
    }
}

/// Seconds.
impl Field for Duration {
    fn schema(out: &mut Vec<u8>) {
        f64::schema(out);
    }
    fn json(&self, out: &mut Vec<u8>) {
        self.as_secs_f64().json(out);
    }
}

impl Field for String {
    fn schema(out: &mut Vec<u8>) {
        out.extend_from_slice(br#""type":"string""#);
    }
    fn json(&self, out: &mut Vec<u8>) {
        string(self, out);
    }
}

impl Field for &'static str {
    fn schema(out: &mut Vec<u8>) {
        String::schema(out);
    }
    fn json(&self, out: &mut Vec<u8>) {
        string(self, out);
    }
}

impl Field for Bytes {
    fn schema(out: &mut Vec<u8>) {
        String::schema(out);
    }
    fn json(&self, out: &mut Vec<u8>) {
        string(&String::from_utf8_lossy(&self.0), out);
    }
}

impl Field for Hex {
    fn schema(out: &mut Vec<u8>) {
        out.extend_from_slice(br#""type":"string","pattern":"^0x[0-9a-f]+$""#);
    }
    fn json(&self, out: &mut Vec<u8>) {
        let _ = write!(out, "\"{:#x}\"", self.0);
    }
}

/// `null` when there is none.
impl<T: Field> Field for Option<T> {
    fn schema(out: &mut Vec<u8>) {
        out.extend_from_slice(br#""anyOf":[{"type":"null"},{"#);
        T::schema(out);
        out.extend_from_slice(b"}]");
    }
    fn json(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.json(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn schema(out: &mut Vec<u8>) {
        out.extend_from_slice(br#""type":"array","items":{"#);
        T::schema(out);
        out.push(b'}');
    }
    fn json(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            item.json(out);
        }
        out.push(b']');
    }
}
