//! x
use std::time::Duration;
/// x
pub fn names() -> Vec<Vec<u8>> {
    vec![program_name().into_bytes()]
}
/// x
pub fn program_name() -> String {
    let mut b = [0; 512];
    let l = crate::sys::link::read_link(c"/proc/self/exe", &mut b).unwrap_or(b"?");
    String::from_utf8_lossy(l.rsplit(|b| *b == b'/').next().unwrap_or(l)).into_owned()
}
/// x
pub fn uptime() -> Option<Duration> {
    None
}
