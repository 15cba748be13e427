//! Numbers as `/proc` prints them.

#![forbid(unsafe_code)]

/// Decimal digits, blanks around them or not.
pub fn decimal<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits.trim_ascii()).ok()?.parse().ok()
}

/// Digits of base `radix`.
pub fn in_base(digits: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits.trim_ascii()).ok()?, radix).ok()
}

/// `12 kB` as bytes.
pub fn kilobytes(text: &[u8]) -> Option<u64> {
    decimal::<u64>(text.trim_ascii().strip_suffix(b"kB")?)?.checked_mul(1024)
}
