//! A panic of ours: noted with its backtrace, never printed on the application's terminal.
//!
//! Context: whichever thread of ours panics. The hook belongs to the copy of `std` inside this
//! library; an application written in Rust has its own.

use std::fmt::Write;

use once_cell::sync::OnceCell;

use crate::sys::futex::Lock;
use crate::sys::startup;

/// The text of the last panic, under its own small lock (no thread-locals, no poisoning).
struct Note {
    lock: Lock,
    text: std::cell::UnsafeCell<String>,
}

// SAFETY: `text` is touched only while `lock` is held.
unsafe impl Sync for Note {}

static NOTE: Note = Note { lock: Lock::new(), text: std::cell::UnsafeCell::new(String::new()) };
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
    NOTE.lock.acquire();
    // SAFETY: the lock is held.
    let before = std::mem::replace(unsafe { &mut *NOTE.text.get() }, text);
    NOTE.lock.release();
    before
}
