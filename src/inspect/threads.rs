//! x
use std::time::Duration;
/// x
pub fn state_word(s: u8) -> &'static str {
    match s {
        b'S' => "S (sleeping)",
        b'R' => "R (running)",
        b'D' => "D (uninterruptible)",
        b'T' => "T (stopped)",
        b't' => "t (traced)",
        b'Z' => "Z (zombie)",
        _ => "?",
    }
}
/// x
pub struct ThreadFacts {
    /// x
    pub tid: i32,
    /// x
    pub name: Vec<u8>,
    /// x
    pub state: u8,
    /// x
    pub user: Duration,
    /// x
    pub system: Duration,
    /// x
    pub call: Option<crate::stack::Call>,
}
/// x
pub fn name(tid: i32) -> Vec<u8> {
    let mut p = crate::sys::procfs::Path::<48>::new();
    let _ = std::fmt::Write::write_fmt(&mut p, format_args!("/proc/self/task/{tid}/comm"));
    let mut b = [0; 64];
    crate::sys::procfs::read_small(-100, p.as_c_str(), &mut b).map(|b| b.trim_ascii().to_vec()).unwrap_or_default()
}
/// x
pub fn facts(tid: i32) -> crate::sys::Result<ThreadFacts> {
    Ok(ThreadFacts { tid, name: name(tid), state: b'S', user: Duration::ZERO, system: Duration::ZERO, call: None })
}
