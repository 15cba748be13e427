//! Which files may have to be brought by somebody: a file server that is gone makes whoever asks wait for ever, and the
//! process that one looks at may hang for just that reason.
//!
//! Context: the observer. `/proc/thread-self/mountinfo` has the mounts of our namespace (man 5 proc_pid_mountinfo).

#![forbid(unsafe_code)]

use std::ffi::CString;

use rustc_hash::FxHashMap;

use super::link::read_link;
use super::procfs::File;

/// The most that is read: some 5,000 mounts.
const TABLE_BYTES: usize = 1 << 20;
const PIECE: usize = 64 << 10;
/// Symbolic links followed (MAXSYMLINKS of the kernel).
const MOST_LINKS: usize = 40;

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

/// Files that the kernel keeps on a mount of its own, as `/proc/PID/maps` names them.
const OF_THE_KERNEL: [&[u8]; 5] = [b"/memfd:", b"/SYSV", b"/dev/zero", b"/anon_hugepage", b"/[aio]"];

/// What there is of mounts.
#[derive(Debug, Default)]
pub struct Mounts {
    /// The file system by the mount's number.
    by_number: FxHashMap<u32, String>,
    /// Whether it may ask somebody, by the device that `maps` and `stat` name.
    by_device: FxHashMap<u64, bool>,
    /// The same by mount point, the last mount on it.
    by_point: FxHashMap<Vec<u8>, bool>,
}

impl Mounts {
    /// Reads the mounts of our namespace.
    pub fn read() -> Self {
        let mut mounts = Self::default();
        let Ok(file) = File::open(c"/proc/thread-self/mountinfo") else { return mounts };
        let (mut bytes, mut piece) = (Vec::new(), vec![0; PIECE]);
        while let Ok(count @ 1..) = file.read_at(&mut piece, bytes.len() as u64) {
            bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
            if bytes.len() >= TABLE_BYTES {
                break;
            }
        }
        bytes.split(|byte| *byte == b'\n').filter_map(parse).for_each(|mount| mounts.add(mount));
        mounts
    }

    fn add(&mut self, mount: Mount) {
        let far = !LOCAL.contains(&mount.system.as_str());
        self.by_number.insert(mount.number, mount.system);
        self.by_device.insert(mount.device, far);
        self.by_point.insert(mount.point, far);
    }

    /// Why a file on this mount must not be asked; `None` when it may.
    pub fn refuses(&self, mount: Option<u32>) -> Option<String> {
        match mount.and_then(|mount| self.by_number.get(&mount)) {
            Some(name) if LOCAL.contains(&name.as_str()) => None,
            Some(name) => Some(format!("{name} is not asked")),
            // The mount of another namespace, or one that is no more.
            None => Some("its file system is not known".to_owned()),
        }
    }

    /// Whether a file of `device` may have to be brought; `None` for a device of none of these.
    pub fn device(&self, device: u64) -> Option<bool> {
        self.by_device.get(&device).copied()
    }

    /// Whether somebody may have to bring what stands at `path`, an absolute one. Symbolic links are followed, as long as
    /// they are near themselves.
    pub fn is_far_path(&self, path: &[u8]) -> bool {
        if !self.by_point.values().any(|far| *far) {
            return false;
        }
        let mut path = path.to_vec();
        for _ in 0..MOST_LINKS {
            match self.first_link(&path) {
                Some(resolved) => path = resolved,
                None => break,
            }
        }
        self.is_named_far(&path)
    }

    /// `path` with its first symbolic link, or its first `..`, resolved.
    fn first_link(&self, path: &[u8]) -> Option<Vec<u8>> {
        let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in ends.chain([path.len()]) {
            let (begin, rest) = path.split_at_checked(end)?;
            let parent = begin.get(..begin.iter().rposition(|byte| *byte == b'/')?)?;
            if begin.ends_with(b"/..") {
                let above = parent.iter().rposition(|byte| *byte == b'/').and_then(|at| parent.get(..at));
                return Some([above.unwrap_or_default(), rest].concat());
            }
            if self.is_named_far(begin) {
                return None;
            }
            let mut buffer = [0; 4096];
            let name = CString::new(begin).ok()?;
            match read_link(&name, &mut buffer) {
                Ok(target) if target.starts_with(b"/") => return Some([target, rest].concat()),
                // Those of /proc that are no paths.
                Ok(target) if begin.starts_with(b"/proc/") && target.contains(&b':') => return None,
                Ok(target) => return Some([parent, b"/", target, rest].concat()),
                Err(_) => (),
            }
        }
        None
    }

    /// The same by its words alone.
    fn is_named_far(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let points = std::iter::once(path.len()).chain(ends).map(|end| match path.get(..end) {
            Some([]) | None => &b"/"[..],
            Some(point) => point,
        });
        points.into_iter().find_map(|point| self.by_point.get(point)).copied().unwrap_or(false)
    }
}

/// The same of what was mapped from a file of `device`, called `path`, when `known` is what the mounts say. What they do
/// not know is of another namespace, or was unmounted while it is in use; a server has no device, hence no major.
pub fn is_far(known: Option<bool>, device: u64, path: &[u8]) -> bool {
    let of_the_kernel = || OF_THE_KERNEL.iter().any(|begin| path.starts_with(begin));
    known.unwrap_or_else(|| libc::major(device) == 0 && !of_the_kernel())
}

struct Mount {
    number: u32,
    device: u64,
    point: Vec<u8>,
    system: String,
}

/// `22 27 0:21 / /proc rw,relatime shared:1 - proc proc rw`: the first word, the third, the fifth, and the one behind
/// the dash.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let number = decimal(words.next()?)?;
    let (major, minor) = std::str::from_utf8(words.nth(1)?).ok()?.split_once(':')?;
    let device = libc::makedev(major.parse().ok()?, minor.parse().ok()?);
    let point = unescaped(words.nth(1)?);
    let system = words.skip_while(|word| *word != b"-").nth(1)?;
    Some(Mount { number, device, point, system: String::from_utf8_lossy(system).into_owned() })
}

fn decimal(word: &[u8]) -> Option<u32> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Spaces, tabs, newlines and backslashes stand there as `\040`.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), tail)
            }
            _ => (*first, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts() -> Mounts {
        let mut mounts = Mounts::default();
        let lines = [
            "21 1 8:1 / / rw - ext4 /dev/sda1 rw",
            "22 21 0:21 / /proc rw shared:1 - proc proc rw",
            "30 21 0:40 / /far rw - nfs4 server:/ rw",
            "31 30 8:2 / /far/near rw - xfs /dev/sdb rw",
            "32 21 0:41 / /a\\040b rw - fuse.sshfs x rw",
            "x",
            "",
        ];
        lines.iter().filter_map(|line| parse(line.as_bytes())).for_each(|mount| mounts.add(mount));
        mounts
    }

    #[test]
    fn mounts_are_known_by_file_system() {
        let mounts = mounts();
        assert_eq!(mounts.refuses(Some(22)), None);
        assert_eq!(mounts.refuses(Some(30)).as_deref(), Some("nfs4 is not asked"));
        assert!(mounts.refuses(Some(99)).is_some() && mounts.refuses(None).is_some());
        assert!(!Mounts::read().by_number.is_empty());
    }

    #[test]
    fn what_is_far_is_known_by_device_and_by_path() {
        let mounts = mounts();
        let is_mapped_far = |major, minor, path| {
            let device = libc::makedev(major, minor);
            is_far(mounts.device(device), device, path)
        };
        assert!(is_mapped_far(0, 40, b"/far/x") && !is_mapped_far(8, 2, b"/far/near/x"));
        assert!(is_mapped_far(0, 99, b"/x") && !is_mapped_far(0, 99, b"/memfd:x (deleted)"));
        assert!(!is_mapped_far(9, 9, b"/x"));
        // Through links, and back.
        let folder = std::env::temp_dir().join(format!("mounts-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink("/far", folder.join("link")).unwrap();
        std::os::unix::fs::symlink("link/a", folder.join("second")).unwrap();
        let at = |name: &str| mounts.is_far_path(folder.join(name).as_os_str().as_encoded_bytes());
        assert!(at("link/x") && at("second") && at("x/../second/y") && !at("link/near/x") && !at("x/link"));
        std::fs::remove_dir_all(&folder).unwrap();
        for (path, far) in [
            ("/", false),
            ("/x", false),
            ("/far", true),
            ("/far/a/b", true),
            ("/farther", false),
            ("/far/near/x", false),
            ("/a b/x", true),
            ("/proc/self/exe", false),
        ] {
            assert_eq!(mounts.is_far_path(path.as_bytes()), far, "{path}");
        }
    }
}
