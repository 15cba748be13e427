//! The futex calls in which a thread waits (man 2 futex).

#![forbid(unsafe_code)]

use crate::stack::Call;

/// futex_wait(2), Linux 6.7 and later: the libc crate has no name for it.
const SYS_FUTEX_WAIT: i64 = 455;

/// A thread's wait for a futex word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The address of the word.
    pub word: u64,
    /// What the word held when the wait began; 0 where the call does not say.
    pub value: u32,
    /// It ends by itself at some time.
    pub is_timed: bool,
}

impl Wait {
    /// The wait that `call` is; `None` for any other call.
    pub fn of(call: &Call) -> Option<Self> {
        let [first, second, third, fourth, fifth, _] = call.arguments;
        if call.number == SYS_FUTEX_WAIT {
            return Some(Self { word: first, value: second as u32, is_timed: fifth != 0 });
        }
        if call.number != libc::SYS_futex {
            return None;
        }
        let value = match second as i32 & libc::FUTEX_CMD_MASK {
            libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAIT_REQUEUE_PI => third as u32,
            libc::FUTEX_LOCK_PI | libc::FUTEX_LOCK_PI2 => 0,
            _ => return None,
        };
        Some(Self { word: first, value, is_timed: fourth != 0 })
    }
}
