//! Why there is no way in: what stood at the socket's place. When nothing stands there, [`absence`] goes on.
//!
//! Context: the client, after the last try. Says what it can read, and no more.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use manhole::protocol;

use crate::absence;
use crate::arguments::Target;
use crate::connect::Obstacle;
use crate::process::{self, Status};

/// The sentence for `target`, whose most telling obstacle was at `path`; `sent` is the signal that was sent first.
pub fn explain(target: &Target, path: &Path, obstacle: &Obstacle, sent: Option<i32>) -> String {
    let at = path.display();
    match obstacle {
        Obstacle::Impostor(who) => format!("not connected to {at}: {who}"),
        Obstacle::Busy => {
            let stopped = target.pid().is_some_and(process::is_stopped);
            let reason = if stopped { ": the process is stopped (SIGSTOP or a debugger)" } else { "" };
            format!("{at} accepts nobody within the time given{reason}")
        }
        Obstacle::TooLong => format!("{at}: a socket's path has at most 107 bytes; use a relative one, or a link"),
        Obstacle::Other(errno) => format!("{at}: {}", errno.desc()),
        Obstacle::Refused { is_socket: false } => format!("{at} is no socket"),
        Obstacle::Forbidden => forbidden(target, path),
        Obstacle::Absent | Obstacle::Refused { .. } => {
            let left_over = matches!(obstacle, Obstacle::Refused { .. });
            match target {
                Target::Process(pid) => absence::explain(*pid, left_over.then_some(path), sent),
                Target::Socket(_) if left_over => {
                    format!("nobody listens at {at}: its process has ended, or was replaced by exec")
                }
                Target::Socket(_) => match (target.pid(), path.to_str().and_then(protocol::abstract_name)) {
                    (Some(pid), None) if path == Path::new(&protocol::default_path(pid)) => {
                        absence::explain(pid, None, sent)
                    }
                    (_, None) => format!("{at} does not exist"),
                    (pid, Some(_)) => nobody_has(&at.to_string(), pid),
                },
            }
        }
    }
}

/// An abstract name says nothing about whom it belonged to, but its pid may: in another network namespace it may
/// well be taken.
fn nobody_has(name: &str, pid: Option<u32>) -> String {
    match pid.map(|pid| (pid, Status::read(pid), process::shares_our_network(pid))) {
        Some((pid, None, _)) => format!("nobody listens at {name}, and there is no process {pid}"),
        Some((pid, Some(_), Some(false))) => absence::in_another_network(pid, name),
        Some((pid, Some(_), _)) => format!("nobody listens at {name}; try manhole-cli {pid}"),
        None => format!(
            "nobody listens at {name} in this network namespace, and abstract addresses are known in their own only \
             (nsenter --net --target PID manhole-cli {name} looks into that of a process)"
        ),
    }
}

fn forbidden(target: &Target, path: &Path) -> String {
    if let Some(status) = target.pid().and_then(Status::read) {
        let pid = target.pid().unwrap_or_default();
        return format!("process {pid} belongs to uid {}: only that user and root get in", status.effective_uid);
    }
    match fs::symlink_metadata(path) {
        Ok(file) => format!("{} belongs to uid {}: only that user and root get in", path.display(), file.uid()),
        Err(_) => format!("{}: permission denied", path.display()),
    }
}
