//! Names for ids: users and groups, capabilities, namespaces.
//!
//! Context: the observer. `/etc/passwd` and `/etc/group` are read by ourselves: the C library's functions allocate,
//! lock, load modules and may ask a network. What only those know keeps its number.

#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};

use super::files;
use crate::sys::link::read_link;

/// Bytes of a list of users that are read.
const BYTES: usize = 1 << 20;

/// Names of users or groups.
#[derive(Debug, Default)]
pub struct Names(String);

impl Names {
    /// Those of users.
    pub fn of_users() -> Self {
        Self::read(c"/etc/passwd")
    }

    /// Those of groups.
    pub fn of_groups() -> Self {
        Self::read(c"/etc/group")
    }

    fn read(path: &CStr) -> Self {
        Self(String::from_utf8_lossy(&files::read(path, BYTES).unwrap_or_default()).into_owned())
    }

    /// The first name of `id`: lines are `NAME:PASSWORD:ID:…` in both files.
    pub fn find(&self, id: u32) -> Option<&str> {
        let name = |line: &'_ str| {
            let mut fields = line.split(':');
            let name = fields.next()?.len();
            (fields.nth(1)?.parse() == Ok(id)).then_some(name)
        };
        self.0.lines().find_map(|line| line.get(..name(line)?))
    }
}

/// capabilities(7), by number.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The names of a set of capabilities, without `cap_`; a number for what is not known here.
pub fn capabilities(set: u64) -> Vec<String> {
    let name = |bit: usize| CAPABILITIES.get(bit).map_or_else(|| bit.to_string(), |name| (*name).to_owned());
    (0..64).filter(|bit| set >> bit & 1 == 1).map(name).collect()
}

/// A set of capabilities in words; what `most` has and it has not is named if that is shorter.
pub fn capabilities_in_words(set: u64, most: u64) -> String {
    match (set, most & !set) {
        (0, _) => "none".to_owned(),
        (_, 0) => "all".to_owned(),
        (_, missing) if missing.count_ones() < set.count_ones() => {
            format!("all but {}", capabilities(missing).join(" "))
        }
        _ => capabilities(set).join(" "),
    }
}

/// The kinds of namespaces (namespaces(7)).
pub const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// The inode of namespace `kind` of `process`, a folder of `/proc`; `None` when the kernel will not say.
pub fn namespace(process: &str, kind: &str) -> Option<u64> {
    let path = CString::new(format!("/proc/{process}/ns/{kind}")).ok()?;
    let mut buffer = [0; 64];
    let link = std::str::from_utf8(read_link(&path, &mut buffer).ok()?).ok()?;
    link.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ids() {
        let names = Names("root:x:0:0:root:/root:/bin/sh\nbad\nredis:x:101:\nother:x:101:1\n".to_owned());
        assert_eq!((names.find(0), names.find(101), names.find(7)), (Some("root"), Some("redis"), None));
        assert_eq!(Names::of_users().find(0), Some("root"));
    }

    #[test]
    fn capabilities_are_named() {
        assert_eq!(capabilities(1 << 10 | 1 << 21 | 1 << 63), ["net_bind_service", "sys_admin", "63"]);
        assert_eq!(capabilities_in_words(0, 7), "none");
        assert_eq!(capabilities_in_words(7, 7), "all");
        assert_eq!(capabilities_in_words(6, 7), "all but chown");
        assert_eq!(capabilities_in_words(1, 7), "chown");
    }

    #[test]
    fn own_namespaces() {
        assert!(namespace("self", "mnt").is_some() && namespace("self", "nonsense").is_none());
    }
}
