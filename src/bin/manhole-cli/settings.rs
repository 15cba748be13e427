//! The options that a process was started with: `MANHOLE` in its environment.
//!
//! Context: the client. The library's own parser reads them, so both understand the same. What a program gave to
//! `manhole_install` itself cannot be seen from here.

use std::{fs, io};

use manhole::config::{Config, VARIABLE};
use manhole::inspect::strings::Escaped;
use manhole::protocol;

use crate::process::{self, Status};

/// What the environment of a process says.
#[derive(Debug)]
pub enum Settings {
    /// `MANHOLE=off`.
    Off,
    /// It cannot be understood, and why; the process has no manhole then.
    Wrong(String),
    /// The options, or the defaults.
    Given(Box<Config>),
}

/// Fails when the environment may not be read.
pub fn read(pid: u32) -> io::Result<Settings> {
    let text = environment(pid, VARIABLE)?.unwrap_or_default();
    Ok(match Config::parse(&text) {
        _ if text.trim() == "off" => Settings::Off,
        Ok(config) => Settings::Given(Box::new(config)),
        // Its text quotes what was given, which may be anything; our own quotes stay readable.
        Err(error) => {
            let error = Escaped(error.to_string().as_bytes()).to_string().replace("\\\"", "\"");
            Settings::Wrong(format!("{VARIABLE}: {error}"))
        }
    })
}

/// The value of `name` in the environment that the process was started with.
pub fn environment(pid: u32, name: &str) -> io::Result<Option<String>> {
    let block = fs::read(format!("/proc/{pid}/environ"))?;
    let value = |entry: &[u8]| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    Ok(block.split(|&byte| byte == 0).find_map(value))
}

/// Where `socket_path` puts the socket, as the process itself sees it; nothing when that is the usual place.
pub fn socket(pid: u32) -> io::Result<Option<String>> {
    let Settings::Given(config) = read(pid)? else { return Ok(None) };
    let Some(template) = config.socket_path else { return Ok(None) };
    let own = Status::read(pid).and_then(|status| status.own_pid()).unwrap_or(pid);
    let [_, _, called] = process::names(pid);
    Ok(protocol::expand_path(&template, own, called.trim_start_matches('-')).ok())
}

/// The signals that open its manhole.
pub fn openers(config: &Config) -> impl Iterator<Item = i32> {
    config.activate_on.into_iter().chain(config.oneshot_on)
}
