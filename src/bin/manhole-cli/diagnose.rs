//! Why there is no way in, and what to do about it.
//!
//! Context: the client, after the last try. Says what it can read, and no more.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;

use crate::arguments::Target;
use crate::connect::Obstacle;
use crate::process::{self, Linkage, Status};

/// The sentence for `target`, whose most telling obstacle was at `path`.
pub fn explain(target: &Target, path: &Path, obstacle: &Obstacle) -> String {
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
                Target::Process(pid) => no_manhole(*pid, left_over.then_some(path)),
                Target::Socket(_) if left_over => {
                    format!("nobody listens at {at}: its process has ended, or was replaced by exec")
                }
                Target::Socket(_) => match target.pid() {
                    Some(pid) if path == Path::new(&manhole::protocol::default_path(pid)) => no_manhole(pid, None),
                    _ => format!("{at} does not exist"),
                },
            }
        }
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

/// Why process `pid` has no manhole. `left_over` is a socket that nobody listens at.
fn no_manhole(pid: u32, left_over: Option<&Path>) -> String {
    let Some(status) = Status::read(pid) else {
        return match left_over {
            Some(path) => format!("no process {pid}; {} is left over from it", path.display()),
            None => format!("no process {pid}"),
        };
    };
    if status.state == 'Z' {
        return format!("process {pid} has ended, and its parent has not collected it yet");
    }
    let reason = match process::is_preloaded(pid) {
        Err(error) if matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EACCES | Errno::EPERM)) => {
            return format!(
                "no manhole of process {pid} in sight, and it may not be examined: it belongs to uid {}; try as that user or as root",
                status.effective_uid
            );
        }
        Err(_) => return format!("process {pid} has just ended"),
        Ok(true) => loaded_but_closed(pid),
        Ok(false) => not_loaded(pid),
    };
    match left_over {
        Some(path) => {
            format!("process {pid} has no manhole: {reason}; {} is left over from another process", path.display())
        }
        None => format!("process {pid} has no manhole: {reason}"),
    }
}

fn not_loaded(pid: u32) -> String {
    match process::linkage(pid) {
        // A kernel thread has no executable, no maps and no auxiliary vector.
        None if process::is_secure(pid).is_none() => "it is a thread of the kernel".to_owned(),
        Some(Linkage::Static) => "its program is statically linked, and nothing can be preloaded into it".to_owned(),
        Some(Linkage::OtherClass) => "its program is a 32-bit one, and libmanhole.so is for 64 bits".to_owned(),
        _ if process::is_secure(pid) == Some(true) => {
            "it gains privileges when started (set-user-ID, or file capabilities), where LD_PRELOAD is ignored"
                .to_owned()
        }
        _ => "libmanhole.so is not loaded (start it with LD_PRELOAD=/path/to/libmanhole.so)".to_owned(),
    }
}

fn loaded_but_closed(pid: u32) -> String {
    if process::is_secure(pid) == Some(true) {
        return "it gains privileges when started (set-user-ID, or file capabilities), where libmanhole stays out"
            .to_owned();
    }
    match process::environment(pid, "MANHOLE") {
        Some(options) if options.trim() == "off" => "it was started with MANHOLE=off".to_owned(),
        Some(options) if !options.is_empty() => {
            format!(
                "libmanhole.so is loaded with MANHOLE={options:?} and does not listen; its log, `Manhole[{pid}:`, says why"
            )
        }
        _ => format!(
            "libmanhole.so is loaded and does not listen; its log, `Manhole[{pid}:` on its standard error, says why"
        ),
    }
}
