//! What a called function returned.
//!
//! Context: the observer.

#![forbid(unsafe_code)]

use crate::inspect::strings::Escaped;
use crate::record;
use crate::shell::World;
use crate::shell::json::{Bytes, Hex};
use crate::shell::place;
use crate::shell::record::Line;
use crate::shell::units::{Format, LONGEST_STRING, Letter};
use crate::sys::Errno;
use crate::sys::call::Returned;
use crate::sys::memory::{Live, Memory};

record! {
    /// What a function returned.
    pub struct Outcome as "result" {
        /// The function as it was written.
        function: String,
        /// Where it lies.
        address: Hex,
        /// The general register of results, whole.
        value: Hex,
        /// The same as a signed number of 64 bits.
        long: i64,
        /// Its lower half as a signed number of 32 bits.
        int: i32,
        /// As the format shows it.
        text: String,
        /// With format f: the number.
        float: Option<f64>,
        /// With format s: the string.
        string: Option<Bytes>,
        /// With format a: `SYMBOL+OFFSET` of what it points to.
        symbol: Option<String>,
        /// errno, if the function set it.
        errno: Option<i32>,
        /// The name of that.
        errno_name: Option<String>,
    }
}

impl Outcome {
    /// What `function` at `address` returned, in words.
    pub fn new(function: &str, address: u64, returned: &Returned, format: Option<Format>, world: &mut World) -> Self {
        let value = returned.general;
        let mut outcome = Self::plain(function, address, returned);
        let Some(format) = format else { return outcome };
        let mut text = String::new();
        let shown = if format.letter == Letter::Float { returned.float } else { value };
        format.write(shown.to_le_bytes().get(..format.size).unwrap_or_default(), &mut text);
        match format.letter {
            Letter::Float if format.size == 4 => outcome.float = Some(f64::from(f32::from_bits(shown as u32))),
            Letter::Float => outcome.float = Some(f64::from_bits(shown)),
            Letter::Address => {
                world.symbolizer.resolve(&world.modules, &[value]);
                outcome.symbol = place::symbol(world, value);
                text.push_str(&place::angled(world, value));
            }
            Letter::String => {
                let (shown, string) = string(value);
                (text, outcome.string) = (shown, string.map(Bytes));
            }
            _ => {}
        }
        outcome.text = text;
        outcome
    }

    /// The same of a result without a format.
    pub fn plain(function: &str, address: u64, returned: &Returned) -> Self {
        let value = returned.general;
        let (long, int) = (value.cast_signed(), value as i32);
        let errno = Some(returned.errno).filter(|errno| *errno != 0);
        Self {
            function: function.to_owned(),
            address: Hex(address),
            value: Hex(value),
            long,
            int,
            text: format!("{value:#x}  long {long}  int {int}"),
            float: None,
            string: None,
            symbol: None,
            errno,
            errno_name: errno.map(|errno| format!("{:?}", Errno::from_raw(errno))),
        }
    }
}

/// The string at `address`, for eyes and whole as far as it is read.
fn string(address: u64) -> (String, Option<Vec<u8>>) {
    if address == 0 {
        return ("NULL".to_owned(), None);
    }
    let mut buffer = [0; LONGEST_STRING];
    let count = Live.read(address, &mut buffer);
    if count == 0 {
        return (format!("{address:#x}, which cannot be read"), None);
    }
    let read = buffer.get(..count).unwrap_or_default();
    let end = read.iter().position(|byte| *byte == 0);
    let bytes = read.get(..end.unwrap_or(count)).unwrap_or_default();
    let more = if end.is_none() { "..." } else { "" };
    (format!("{address:#x} \"{}\"{more}", Escaped(bytes)), Some(bytes.to_vec()))
}

impl Line for Outcome {
    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("= {}\n", self.text).as_bytes());
        if let Some(errno) = self.errno {
            let (name, words) = (self.errno_name.as_deref().unwrap_or_default(), Errno::from_raw(errno).desc());
            out.extend_from_slice(format!("errno = {errno} ({name}: {words})\n").as_bytes());
        }
    }
}
