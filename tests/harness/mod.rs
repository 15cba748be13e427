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
//! | `client` | `manhole-cli`, run to its end |
//! | `dump` | the text form of stacks, parsed |
//! | `family` | processes that a host made or became |
//! | `gdb`, `eu_stack` | the same process seen by others |
//! | `names` | when two spellings name one function |
//! | `records` | answers in JSON |
//! | `compare` | ours against an oracle's, frame by frame |

#![allow(dead_code, reason = "every test file compiles this module for itself and uses its part of it")]

#[cfg(feature = "cli")]
pub mod client;
pub mod compare;
pub mod dump;
pub mod eu_stack;
pub mod family;
pub mod fixtures;
pub mod gdb;
pub mod host;
pub mod names;
pub mod records;
pub mod session;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long anything may take before a test fails. It decides no result: it only ends a hang.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The threads that the library adds to a host; an oracle's and a control's listing is compared without them.
pub fn is_ours(thread_name: &str) -> bool {
    thread_name.starts_with("Manhole")
}

/// A directory of its own for one test, removed at drop.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one, which anyone may enter.
    pub fn new() -> Self {
        let template = std::env::temp_dir().join("manhole-test-XXXXXX");
        let mut template = template.into_os_string().into_encoded_bytes();
        template.push(0);
        // SAFETY: the template is writable and ends with NUL, as mkdtemp(3) wants it.
        let made = unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) };
        assert!(!made.is_null(), "mkdtemp");
        template.pop();
        let path = PathBuf::from(String::from_utf8(template).expect("a temporary directory in UTF-8"));
        let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&path, everyone).expect("chmod");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Fails the test with all of `failures`, if there are any.
pub fn report_failures(failures: &[String]) {
    assert!(failures.is_empty(), "{} failed\n\n{}", failures.len(), failures.join("\n"));
}
