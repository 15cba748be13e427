//! A panic of ours: noted with its backtrace, never printed on the application's terminal.
//!
//! Context: whichever thread of ours panics. The hook belongs to the copy of `std` inside this
//! library; an application written in Rust has its own.

#![forbid(unsafe_code)]

use std::fmt::Write;

use once_cell::sync::OnceCell;

use crate::sys::futex::Guarded;
use crate::sys::startup;

/// The text of the last panic (no thread-locals, no poisoning).
static NOTE: Guarded<String> = Guarded::new(String::new());
static HOOK: OnceCell<()> = OnceCell::new();

/// Replaces the default hook, which would print to descriptor 2.
pub fn install() {
    HOOK.get_or_init(|| {
        let (name, bias) = startup::own_module().unwrap_or_default();
        std::panic::set_hook(Box::new(move |panic| {
            let mut text = format!("{panic}; in {name}:");
            // Offsets into our own file, for addr2line: nothing is looked up while we panic.
            let backtrace = backtrace::Backtrace::new_unresolved();
            for frame in backtrace.frames().iter().take(64) {
                let _ = write!(text, " {:#x}", (frame.ip() as usize).wrapping_sub(bias));
            }
            swap(text);
        }));
    });
}

/// The note of the last panic; empty when there is none.
pub fn take() -> String {
    swap(String::new())
}

fn swap(text: String) -> String {
    NOTE.with(|note| std::mem::replace(note, text))
}
