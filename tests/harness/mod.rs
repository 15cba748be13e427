//! What the integration tests share: fixtures compiled on demand, a host program under the library, its
//! answers parsed, and two oracles to compare them with.
//!
//! Context: test processes. Nothing here links the library: it is met as its users meet it, as a file
//! to preload and a socket to talk to.
//!
//! | file | what |
//! |---|---|
//! | `fixtures` | compiles `c-tests/*` with gcc, clang or rustc at given flags; finds `libmanhole.so` |
//! | `host` | starts a program, preloaded or bare; reads what it says; kills it at drop |
//! | `session` | one client of the socket |
//! | `dump` | the text form of stacks, parsed |
//! | `gdb`, `eu_stack` | the same process seen by others |
//! | `names` | when two spellings name one function |
//! | `compare` | ours against an oracle's, frame by frame |

#![allow(dead_code, reason = "every test file compiles this module for itself and uses its part of it")]

pub mod compare;
pub mod dump;
pub mod eu_stack;
pub mod fixtures;
pub mod gdb;
pub mod host;
pub mod names;
pub mod session;

use std::time::Duration;

/// How long anything may take before a test fails. It decides no result: it only ends a hang.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The threads that the library adds to a host; an oracle's and a control's listing is compared without them.
pub fn is_ours(thread_name: &str) -> bool {
    thread_name.starts_with("Manhole")
}
