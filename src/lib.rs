//! libmanhole: a manhole for every dynamically linked Linux process.
//!
//! Preloaded, this library opens a credential-checked Unix socket in the process, shows the stack of
//! every thread to whoever may connect, and gives him a prompt. The map of the crate, lowest room
//! first; a file uses only rooms at or below its own (`scripts/check-rooms`). Two floors have several rooms
//! that know each other: [`config`] fills in the bounds of [`stack`], and four share [`lifecycle::Manhole`]:
//!
//! | room | what lives there |
//! |---|---|
//! | [`sys`] | thin wrappers over the kernel; the only place that names libc; the allocator |
//! | [`protocol`] | socket names and framing |
//! | [`config`] | the option table |
//! | [`log`] | one line, one write |
//! | [`stack`] | capturing, unwinding and naming the stack of a thread |
//! | [`redirect`] | the application's standard error, shown to an operator as well |
//! | [`inspect`] | facts about this process: threads, system calls, descriptors |
//! | [`shell`] | the command table, parsing, output |
//! | [`actor`] | the thread that touches the application |
//! | [`server`] | the observer's loop, its listener, credentials, sessions |
//! | [`lifecycle`] | the one global: install, fork, signals, oneshot, exit |
//! | `entry` | every way in: the constructor and the C functions |

#![warn(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
#![cfg_attr(
    not(test),
    deny(
        clippy::multiple_unsafe_ops_per_block,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::exit,
        clippy::todo,
        clippy::unimplemented
    )
)]

pub mod actor;
pub mod config;
mod entry;
pub mod inspect;
pub mod lifecycle;
pub mod log;
pub mod protocol;
pub mod redirect;
pub mod server;
pub mod shell;
pub mod stack;
pub mod sys;

/// Memory of this crate comes from mappings of its own, never from the application's `malloc`.
#[global_allocator]
static ALLOCATOR: sys::allocator::Mapped = sys::allocator::Mapped::new();
