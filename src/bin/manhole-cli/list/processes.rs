//! The manholes of the processes that we may examine: their own, their user's, or, for root, all.
//!
//! Context: the client. A process belongs in the list when its thread `Manhole` listens, or when the library is loaded
//! and wanted there. Who comes and goes while we look is left out.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use manhole::protocol;

use super::{Entry, State};
use crate::settings::{self, Settings};
use crate::{listener, process, signal};

/// An entry for each.
pub fn find() -> Vec<Entry> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // Whoever exports LD_PRELOAD has a manhole in this very client.
    pids.filter(|&pid: &u32| pid != std::process::id()).flat_map(of_process).collect()
}

fn of_process(pid: u32) -> Vec<Entry> {
    let places = listener::paths(pid);
    if places.is_empty() {
        return unobserved(pid).into_iter().collect();
    }
    let state = if process::is_stopped(pid) { State::Stopped } else { State::Listening };
    places.into_iter().map(|place| Entry::of(pid, state, Some(shortest(pid, place)))).collect()
}

/// The library is loaded, and no observer listens.
fn unobserved(pid: u32) -> Option<Entry> {
    if !process::is_preloaded(pid).unwrap_or(false) {
        return None;
    }
    let mut entry = Entry::of(pid, State::Closed, None);
    entry.note = match settings::read(pid) {
        Ok(Settings::Off) => return None,
        Ok(Settings::Given(config)) if !config.wants(&process::names(pid).map(String::into_bytes)) => return None,
        Ok(Settings::Given(config)) if settings::openers(&config).next().is_some() => {
            if let Some(place) = serves_one(pid) {
                return Some(Entry::of(pid, State::Listening, Some(shortest(pid, place))));
            }
            entry.state = State::Waiting;
            let ways = settings::openers(&config).map(|number| format!("manhole-cli {} {pid}", signal::option(number)));
            ways.collect::<Vec<_>>().join(", or ")
        }
        _ => format!("manhole-cli {pid} says why"),
    };
    Some(entry)
}

/// Where a thread of the application serves, or awaits, its one client (`oneshot_on`): it has the socket then.
fn serves_one(pid: u32) -> Option<PathBuf> {
    let own = process::Status::read(pid)?.own_pid()?;
    let place = settings::socket(pid).ok()?.unwrap_or_else(|| protocol::default_path(own));
    let listens = listener::sockets(pid).ok()?.iter().any(|socket| socket.listens && socket.path == place);
    listens.then(|| listener::from_here(pid, &place))
}

/// The path without the way through `/proc`, where it leads to the same file.
fn shortest(pid: u32, path: PathBuf) -> PathBuf {
    let Ok(below_root) = path.strip_prefix(format!("/proc/{pid}/root")) else { return path };
    let short = Path::new("/").join(below_root);
    let identity = |path: &Path| fs::symlink_metadata(path).map(|file| (file.dev(), file.ino())).ok();
    if identity(&short).is_some() && identity(&short) == identity(&path) { short } else { path }
}
