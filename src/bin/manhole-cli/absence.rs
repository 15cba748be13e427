//! Why a process has no manhole, and the way out.
//!
//! Context: the client, after the last try. Says what it can read, and no more: what it infers it calls likely.

use std::path::Path;
use std::time::Duration;

use manhole::config::Config;
use manhole::inspect::strings::Escaped;
use nix::errno::Errno;

use crate::process::{self, Linkage, Status};
use crate::settings::{self, Settings};
use crate::{listener, signal};

/// The sentence for process `pid`. `left_over` is a socket that nobody listens at; `sent` the signal sent first.
pub fn explain(pid: u32, left_over: Option<&Path>, sent: Option<i32>) -> String {
    let Some(status) = Status::read(pid) else {
        return match (left_over, sent) {
            (Some(path), _) => {
                format!("no process {pid}; {} is left over from it (manhole-cli list clears)", path.display())
            }
            (None, Some(number)) => format!("process {pid} has ended since {} was sent", signal::name(number)),
            (None, None) => format!("no process {pid}"),
        };
    };
    if status.state == 'Z' {
        return format!("process {pid} has ended, and its parent has not collected it yet");
    }
    let reason = match process::is_preloaded(pid) {
        Err(error) if matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EACCES | Errno::EPERM)) => {
            return format!(
                "no manhole of process {pid} in sight, and it may not be examined: it belongs to uid {}, or gained or \
                 dropped privileges; try as that user or as root",
                status.effective_uid
            );
        }
        Err(_) => return format!("process {pid} has just ended"),
        Ok(true) => loaded_but_closed(pid, &status, sent),
        Ok(false) => not_loaded(pid),
    };
    let sent = match sent {
        Some(number) => format!("{} was sent, but ", signal::name(number)),
        None => String::new(),
    };
    match left_over {
        Some(path) => {
            format!(
                "{sent}process {pid} has no manhole: {reason}; {} is left over from another process",
                path.display()
            )
        }
        None => format!("{sent}process {pid} has no manhole: {reason}"),
    }
}

/// Its observer listens at an abstract name that is known elsewhere only.
pub fn in_another_network(pid: u32, name: &str) -> String {
    let name = Escaped(name.as_bytes());
    format!(
        "process {pid} lives in another network namespace, where abstract addresses are its own: \
         nsenter --net --target {pid} manhole-cli {name}"
    )
}

fn not_loaded(pid: u32) -> String {
    match process::linkage(pid) {
        // A kernel thread has no executable, no maps and no auxiliary vector.
        None if process::is_secure(pid).is_none() => "it is a thread of the kernel".to_owned(),
        Some(Linkage::Static) => format!(
            "its program is statically linked, and nothing can be preloaded into it (gdb -p {pid} shows its stacks)"
        ),
        Some(Linkage::OtherClass) => {
            format!("its program is a 32-bit one, and libmanhole.so is for 64 bits (gdb -p {pid} shows its stacks)")
        }
        _ if process::is_secure(pid) == Some(true) => format!(
            "it gains privileges when started (set-user-ID, or file capabilities), where LD_PRELOAD is ignored \
             (start it as the user that it becomes; as root, gdb -p {pid} shows its stacks)"
        ),
        _ => match preload_of_ours(pid) {
            Some(entry) => not_taken(pid, &entry),
            None => "libmanhole.so is not loaded (start it with LD_PRELOAD=/path/to/libmanhole.so)".to_owned(),
        },
    }
}

/// The entry of `LD_PRELOAD` that names this library. Entries are separated by colons or spaces (man 8 ld.so).
fn preload_of_ours(pid: u32) -> Option<String> {
    let list = settings::environment(pid, "LD_PRELOAD").ok()??;
    let is_ours = |entry: &&str| entry.rsplit('/').next().is_some_and(|name| name.starts_with("libmanhole"));
    list.split([':', ' ']).find(is_ours).map(str::to_owned)
}

/// The loader only warns when it cannot preload.
fn not_taken(pid: u32, entry: &str) -> String {
    let shown = Escaped(entry.as_bytes());
    let what = format!("it was started with LD_PRELOAD={shown}, and the loader did not take that");
    if !entry.contains('/') {
        return format!("{what}: a name without a slash is searched for like any library; give the whole path");
    }
    if !listener::from_here(pid, entry).exists() {
        let relative =
            if entry.starts_with('/') { "" } else { " (relative to the folder of the start: give the whole path)" };
        return format!("{what}: there is no such file where it lives{relative}");
    }
    format!("{what}, though the file is there: its message on the process's standard error says why")
}

fn loaded_but_closed(pid: u32, status: &Status, sent: Option<i32>) -> String {
    if process::is_secure(pid) == Some(true) {
        return "it gains privileges when started (set-user-ID, or file capabilities), where libmanhole stays out \
                (start it as the user that it becomes)"
            .to_owned();
    }
    if let Some(place) = listener::paths(pid).first().and_then(|place| place.to_str())
        && place.starts_with('@')
        && process::shares_our_network(pid) == Some(false)
    {
        return in_another_network(pid, place);
    }
    let log =
        format!("its log, lines that begin with Manhole[{pid}: (on standard error, if not told otherwise), says why");
    match settings::read(pid) {
        Err(_) => format!("libmanhole.so is loaded and does not listen; {log}"),
        Ok(Settings::Off) => "it was started with MANHOLE=off (restart it without that)".to_owned(),
        Ok(Settings::Wrong(error)) => format!("it was started with wrong options, {error}"),
        Ok(Settings::Given(config)) => closed_by(pid, status, &config, sent)
            .unwrap_or_else(|| format!("libmanhole.so is loaded and does not listen; {log}")),
    }
}

/// The option that keeps it closed, if it is one.
fn closed_by(pid: u32, status: &Status, config: &Config, sent: Option<i32>) -> Option<String> {
    let names = process::names(pid);
    if !config.wants(&names.clone().map(String::into_bytes)) {
        let [file, first_thread, called] = names;
        return Some(format!(
            "its names ({}, {}, {}) match none of only={}: start it with a glob that does",
            Escaped(file.as_bytes()),
            Escaped(first_thread.as_bytes()),
            Escaped(called.as_bytes()),
            Escaped(config.given("only").unwrap_or_default().as_bytes())
        ));
    }
    let openers: Vec<i32> = settings::openers(config).collect();
    match sent {
        Some(number) if status.pending & 1 << (number - 1) != 0 => {
            return Some(format!("{} waits, since every thread of the process blocks it", signal::name(number)));
        }
        Some(number) if openers.contains(&number) => {
            return Some(format!(
                "no socket appeared in time; likely the application put a handler of its own over the manhole's, or \
                 the socket could not be opened: look for Manhole[{pid}: in its log; -t SECONDS waits longer"
            ));
        }
        _ => {}
    }
    if !openers.is_empty() {
        let ways: Vec<String> =
            openers.iter().map(|&number| format!("manhole-cli {} {pid}", signal::option(number))).collect();
        let option = if config.activate_on.is_some() { "activate_on" } else { "oneshot_on" };
        return Some(format!("it opens when a signal comes ({option}): {}", ways.join(", or ")));
    }
    if !config.thread {
        return Some("thread=False: the program itself must call manhole_install()".to_owned());
    }
    if sent.is_some() {
        return Some(format!(
            "as far as its environment tells it has neither activate_on nor oneshot_on, so whoever took the signal was \
             not a manhole; look for Manhole[{pid}: in its log"
        ));
    }
    if !config.follows_forks() {
        let parent = process::forked_from(pid)?;
        let reason = if config.patch_fork { config.why_not_after_fork() } else { "patch_fork=False" };
        return Some(format!("it was forked from process {parent}, and children get none: {reason}"));
    }
    // A child's clock begins at its fork; a tick more, since it is counted in those.
    let young = process::uptime(pid).filter(|&age| age < config.reinstall_delay + Duration::from_millis(10))?;
    Some(format!(
        "it was started, or forked, {:.1} s ago, and a forked child opens after reinstall_delay={:.1} s: wait with -t {:.0}",
        young.as_secs_f64(),
        config.reinstall_delay.as_secs_f64(),
        config.reinstall_delay.as_secs_f64() + 1.0
    ))
}
