//! What sort of thing a descriptor has open, in a word.

#![forbid(unsafe_code)]

/// How the links of what has no path begin, and the word for it. The kernel puts some of the names in brackets.
const NAMED: [(&[u8], &str); 22] = [
    (b"socket:[", "socket"),
    (b"pipe:[", "pipe"),
    (b"/memfd:", "memfd"),
    (b"/dmabuf:", "dmabuf"),
    (b"anon_inode:[eventpoll]", "epoll"),
    (b"anon_inode:[eventfd]", "eventfd"),
    (b"anon_inode:[timerfd]", "timerfd"),
    (b"anon_inode:[signalfd]", "signalfd"),
    (b"anon_inode:inotify", "inotify"),
    (b"anon_inode:[inotify]", "inotify"),
    (b"anon_inode:[fanotify]", "fanotify"),
    (b"anon_inode:[pidfd]", "pidfd"),
    (b"pidfd:[", "pidfd"),
    (b"anon_inode:[userfaultfd]", "userfaultfd"),
    (b"anon_inode:[io_uring]", "io_uring"),
    (b"anon_inode:[perf_event]", "perf_event"),
    (b"anon_inode:bpf-", "bpf"),
    (b"anon_inode:[bpf", "bpf"),
    (b"anon_inode:kvm-", "kvm"),
    (b"anon_inode:seccomp notify", "seccomp"),
    (b"anon_inode:[landlock", "landlock"),
    (b"anon_inode:", "anonymous"),
];

/// Words for the kinds of files, and for sockets by protocol.
const OTHERS: [&str; 17] = [
    "file",
    "directory",
    "device",
    "disk",
    "fifo",
    "symlink",
    "namespace",
    "tcp",
    "udp",
    "udplite",
    "raw",
    "icmp",
    "unix",
    "netlink",
    "packet",
    "vsock",
    "path",
];

/// The word for what a link says, if that is not a path of a file system.
pub fn named(target: &[u8]) -> Option<&'static str> {
    if let Some((_, word)) = NAMED.iter().find(|(begin, _)| target.starts_with(begin)) {
        return Some(word);
    }
    // `net:[4026531840]` and its like (man 7 namespaces).
    (!target.starts_with(b"/") && target.ends_with(b"]")).then_some("namespace")
}

/// The word for a file's type, by its mode (man 7 inode).
pub fn by_mode(mode: u32) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFREG => "file",
        libc::S_IFDIR => "directory",
        libc::S_IFCHR => "device",
        libc::S_IFBLK => "disk",
        libc::S_IFIFO => "fifo",
        libc::S_IFLNK => "symlink",
        libc::S_IFSOCK => "socket",
        _ => "path",
    }
}

/// The word for a socket's protocol, as the kernel calls it (`proto.name`).
pub fn by_protocol(name: &str) -> &'static str {
    let begins = [
        ("TCP", "tcp"),
        ("UDPLITE", "udplite"),
        ("UDP", "udp"),
        ("UNIX", "unix"),
        ("NETLINK", "netlink"),
        ("RAW", "raw"),
        ("PING", "icmp"),
        ("PACKET", "packet"),
        ("AF_VSOCK", "vsock"),
        ("vsock", "vsock"),
    ];
    begins.iter().find(|(begin, _)| name.starts_with(begin)).map_or("socket", |(_, word)| word)
}

/// Whether `word` is one of the words of this file.
pub fn is_kind(word: &str) -> bool {
    NAMED.iter().map(|(_, name)| *name).chain(OTHERS).any(|name| name == word)
}

/// Whether a position means something for this kind.
pub fn has_position(kind: &str) -> bool {
    matches!(kind, "file" | "directory" | "device" | "disk" | "memfd" | "dmabuf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (target, word) in [
            ("socket:[1]", Some("socket")),
            ("anon_inode:[eventpoll]", Some("epoll")),
            ("anon_inode:inotify", Some("inotify")),
            ("anon_inode:bpf-map", Some("bpf")),
            ("anon_inode:[new]", Some("anonymous")),
            ("net:[4026531840]", Some("namespace")),
            ("/memfd:notes (deleted)", Some("memfd")),
            ("/tmp/x", None),
            ("/tmp/x]", None),
        ] {
            assert_eq!(named(target.as_bytes()), word, "{target}");
        }
        assert!(is_kind("tcp") && is_kind("epoll") && !is_kind("/tmp/x"));
        assert_eq!(by_mode(0o010_600), "fifo");
        assert_eq!((by_protocol("TCPv6"), by_protocol("UNIX-STREAM"), by_protocol("ALG")), ("tcp", "unix", "socket"));
    }
}
