//! Control groups of this process: where it is, and which limits hold for it (cgroups(7), cgroup-v2.rst).
//!
//! Context: the observer. Groups are files in file systems that may be mounted anywhere or nowhere, of either version,
//! and seen from inside a container only from its own root on. A limit of any group above counts, so all are asked up
//! to the root of what is visible.

#![forbid(unsafe_code)]

use super::files;
use crate::sys::Result;

/// A hierarchy that the process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// 1 or 2.
    pub version: u8,
    /// The controllers of a hierarchy of version 1, or its name (`name=systemd`); empty for version 2.
    pub controllers: Vec<String>,
    /// Where the process is, from the root of its cgroup namespace on.
    pub path: String,
    /// The folder of that, and the one that the file system is mounted on; `None` when it is not visible here.
    pub folder: Option<(String, String)>,
}

/// A file system of groups.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: u8,
    /// What of the hierarchy is mounted.
    root: String,
    point: String,
    options: String,
}

/// Bytes of a list that are read.
const BYTES: usize = 1 << 20;
/// Groups above each other that are looked at.
const DEEPEST: usize = 64;

/// The groups of thread `tid`.
pub fn groups(tid: i32) -> Result<Vec<Group>> {
    let mounts = mounts(&files::of_thread(tid, "mountinfo", BYTES).unwrap_or_default());
    Ok(parse(&files::of_thread(tid, "cgroup", BYTES)?, &mounts))
}

/// `4:memory:/a`, `1:name=systemd:/`, `0::/b`.
fn parse(text: &[u8], mounts: &[Mount]) -> Vec<Group> {
    let text = String::from_utf8_lossy(text);
    let group = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let version = if controllers.is_empty() { 2 } else { 1 };
        let controllers: Vec<String> =
            controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let has = |mount: &&Mount| {
            let options: Vec<&str> = mount.options.split(',').collect();
            mount.version == version && controllers.iter().all(|name| options.contains(&name.as_str()))
        };
        let folder = mounts.iter().filter(has).find_map(|mount| Some((mount.folder(path)?, mount.point.clone())));
        Some(Group { version, controllers, path: path.to_owned(), folder })
    };
    text.lines().filter_map(group).collect()
}

/// `31 23 0:28 ROOT POINT rw,relatime - cgroup cgroup rw,memory` (man 5 proc_pid_mountinfo).
fn mounts(text: &[u8]) -> Vec<Mount> {
    let text = String::from_utf8_lossy(text);
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let version = match right.next()? {
            "cgroup" => 1,
            "cgroup2" => 2,
            _ => return None,
        };
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        Some(Mount {
            version,
            root: root.to_owned(),
            point: point.to_owned(),
            options: right.nth(1).unwrap_or_default().to_owned(),
        })
    };
    text.lines().filter_map(mount).collect()
}

impl Mount {
    /// The folder of the group `path`, if that lies in what is mounted.
    fn folder(&self, path: &str) -> Option<String> {
        let inside = if self.root == "/" { path } else { path.strip_prefix(self.root.as_str())? };
        let is_inside = inside.is_empty() || inside.starts_with('/');
        (is_inside && !inside.split('/').any(|part| part == "..")).then(|| {
            let joined = format!("{}{inside}", self.point);
            joined.trim_end_matches('/').to_owned()
        })
    }
}

impl Group {
    /// Whether it is a hierarchy in which `controller` works; in version 2 its files tell.
    pub fn has(&self, controller: &str) -> bool {
        self.version == 2 || self.controllers.iter().any(|name| name == controller)
    }

    /// The text of file `name` of the group itself.
    pub fn file(&self, name: &str) -> Option<String> {
        read(&self.folder.as_ref()?.0, name)
    }

    /// The least that `value` makes of file `name` in this group or any above it, and the folder where that stands.
    pub fn least(&self, name: &str, value: impl Fn(&str, &str) -> Option<f64>) -> Option<(f64, String)> {
        let (mut folder, root) = self.folder.as_ref().map(|(folder, root)| (folder.as_str(), root.as_str()))?;
        let mut least: Option<(f64, String)> = None;
        for _ in 0..DEEPEST {
            let found = read(folder, name).and_then(|text| value(folder, &text));
            if let Some(found) = found.filter(|found| least.as_ref().is_none_or(|(least, _)| found < least)) {
                least = Some((found, folder.to_owned()));
            }
            if folder.len() <= root.len() {
                break;
            }
            folder = folder.rsplit_once('/').map_or("", |(above, _)| above);
        }
        least
    }
}

/// The text of a file of a group, without the newline at its end.
pub fn read(folder: &str, name: &str) -> Option<String> {
    let text = files::read_path(format!("{folder}/{name}").into_bytes(), 64 << 10).ok()?;
    Some(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// The number behind `name` in a file of pairs (`cpu.stat`, `memory.events`).
pub fn pair(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found_where_they_are_mounted() {
        let mounted = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
            36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            41 31 0:38 /docker/1 /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let mounts = mounts(mounted);
        let text = b"4:memory:/a/b\n3:cpuacct,cpu:/\n2:pids:/x\n0::/docker/1/c\n0::/docker/12\n0::/../up\nnonsense\n";
        let groups = parse(text, &mounts);
        let folders: Vec<Option<&str>> =
            groups.iter().map(|group| group.folder.as_ref().map(|(folder, _)| folder.as_str())).collect();
        let expected = [
            Some("/sys/fs/cgroup/memory/a/b"),
            Some("/sys/fs/cgroup/cpu,cpuacct"),
            None,
            Some("/sys/fs/cgroup/unified/c"),
            None,
            None,
        ];
        assert_eq!(folders, expected);
        assert_eq!((groups[0].version, groups[3].version), (1, 2));
        assert!(groups[1].has("cpu") && !groups[1].has("memory"));
    }

    #[test]
    fn the_least_limit_of_all_above_holds() {
        let root = std::env::temp_dir().join(format!("manhole-cgroup-{}", std::process::id()));
        let leaf = root.join("a/b");
        std::fs::create_dir_all(&leaf).unwrap();
        for (folder, limit) in [(&root, "900\n"), (&root.join("a"), "300\n"), (&leaf, "max\n")] {
            std::fs::write(folder.join("memory.max"), limit).unwrap();
        }
        let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let group = Group {
            version: 2,
            controllers: vec![],
            path: "/a/b".to_owned(),
            folder: Some((text(&leaf), text(&root))),
        };
        let least = group.least("memory.max", |_, text| text.parse().ok());
        assert_eq!(least, Some((300.0, text(&root.join("a")))));
        assert_eq!(group.least("pids.max", |_, text| text.parse().ok()), None);
        assert_eq!(pair("oom 1\noom_kill 7\n", "oom_kill"), Some(7));
        std::fs::remove_dir_all(root).unwrap();
    }
}
