//! x
use crate::stack::Call;
/// x
pub fn brief(call: &Call) -> impl std::fmt::Display {
    format!("syscall_{}", call.number)
}
/// x
pub fn full(call: &Call, _: &crate::sys::memory::Live) -> impl std::fmt::Display {
    format!("syscall_{}", call.number)
}
