//! Memory and limits: `maps`, `mem`, `limits`.

#![forbid(unsafe_code)]

pub mod limits;
pub mod mappings;
pub mod totals;

/// Bytes for people: `0`, `512 B`, `4 KiB`, `1.5 MiB`.
pub fn human(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None if bytes == 0 => "0".to_owned(),
        None => format!("{bytes} B"),
    }
}

/// A difference for people: `+64 MiB`, `-4 KiB`, `0`.
pub fn signed(bytes: i64) -> String {
    let sign = match bytes {
        0 => "",
        1.. => "+",
        _ => "-",
    };
    format!("{sign}{}", human(bytes.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        for (bytes, text) in [(0, "0"), (1023, "1023 B"), (4096, "4 KiB"), (1 << 20, "1 MiB"), (3 << 19, "1.5 MiB")] {
            assert_eq!(human(bytes), text);
        }
        assert_eq!((signed(-4096), signed(0), signed(64 << 20)), ("-4 KiB".into(), "0".into(), "+64 MiB".into()));
    }
}
