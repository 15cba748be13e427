//! Mounts whose files are not asked anything: the answer may come from a server that is gone, and the process that one
//! looks at may hang for just that reason.
//!
//! Context: the observer. `/proc/thread-self/mountinfo` is read once a command (man 5 proc_pid_mountinfo).

#![forbid(unsafe_code)]

use rustc_hash::FxHashMap;

use crate::inspect::lines::Lines;
use crate::inspect::numbers::decimal;
use crate::sys::procfs::File;

/// The most that is read: some 20,000 mounts.
const TABLE_BYTES: u64 = 4 << 20;

/// File systems that keep their files on this machine: block devices, memory, and the kernel's own. Others may ask
/// somebody.
const LOCAL: [&str; 43] = [
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "btrfs",
    "bcachefs",
    "f2fs",
    "zfs",
    "jfs",
    "reiserfs",
    "vfat",
    "msdos",
    "exfat",
    "ntfs3",
    "iso9660",
    "udf",
    "squashfs",
    "erofs",
    "ubifs",
    "tmpfs",
    "ramfs",
    "rootfs",
    "hugetlbfs",
    "devtmpfs",
    "devpts",
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "tracefs",
    "debugfs",
    "securityfs",
    "configfs",
    "pstore",
    "efivarfs",
    "mqueue",
    "bpf",
    "binfmt_misc",
    "fusectl",
    "rpc_pipefs",
    "nsfs",
    "selinuxfs",
    "overlay",
];

/// Which file system each mount is of that we know.
#[derive(Debug, Default)]
pub struct Mounts(FxHashMap<u32, String>);

impl Mounts {
    /// Reads the mounts of our namespace.
    pub fn read() -> Self {
        let mut mounts = FxHashMap::default();
        if let Ok(file) = File::open(c"/proc/thread-self/mountinfo") {
            let _ = Lines::new(file).read_up_to(TABLE_BYTES, |line| mounts.extend(parse(line)));
        }
        Self(mounts)
    }

    /// Why a file on this mount must not be asked; `None` when it may.
    pub fn refuses(&self, mount: Option<u32>) -> Option<String> {
        match mount.and_then(|mount| self.0.get(&mount)) {
            Some(name) if LOCAL.contains(&name.as_str()) => None,
            Some(name) => Some(format!("{name} is not asked")),
            // The mount of another namespace, or one that is no more.
            None => Some("its file system is not known".to_owned()),
        }
    }
}

/// `22 27 0:21 / /proc rw,relatime shared:1 - proc proc rw`: the first word, and the one behind the dash.
fn parse(line: &[u8]) -> Option<(u32, String)> {
    let mut words = line.split(|&byte| byte == b' ');
    let mount = decimal(words.next()?)?;
    let name = words.skip_while(|word| *word != b"-").nth(1)?;
    Some((mount, String::from_utf8_lossy(name).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_known_by_file_system() {
        let mounts = Mounts(
            ["22 27 0:21 / /proc rw shared:1 - proc proc rw", "30 27 0:40 / /far rw - nfs4 server:/ rw", "x", ""]
                .iter()
                .filter_map(|line| parse(line.as_bytes()))
                .collect(),
        );
        assert_eq!(mounts.refuses(Some(22)), None);
        assert_eq!(mounts.refuses(Some(30)).as_deref(), Some("nfs4 is not asked"));
        assert!(mounts.refuses(Some(31)).is_some() && mounts.refuses(None).is_some());
        assert!(!Mounts::read().0.is_empty());
    }
}
