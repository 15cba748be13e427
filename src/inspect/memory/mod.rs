//! The mappings of this process, what each is for, and how much of it is in memory.
//!
//! Context: the observer, a piece at a time. `maps` and `smaps` are written by the kernel some lines at a time, with the
//! lock of the address space taken for reading meanwhile; for `smaps` it walks the page tables of a whole mapping under
//! it. Whoever maps, unmaps or grows the heap waits for as long: microseconds for `maps`, but for `smaps` (and likewise
//! `smaps_rollup`) 30 ms of processor time at a mapping with 1 GiB in small pages, and measured 0.4 s on a busy machine,
//! where we are preempted meanwhile. Hence nobody reads it unasked in a large process. Between two pieces the
//! application may change what comes next.

#![forbid(unsafe_code)]

pub mod layout;
pub mod stacks;

use super::lines::Lines;
use super::numbers::kilobytes;
use crate::stack::modules::maps;
use crate::sys::Result;
use crate::sys::procfs::File;

/// Bytes of a mapping by where they are (Documentation/filesystems/proc.rst, `smaps`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In memory.
    pub resident: u64,
    /// In memory, each page divided by the number of its users.
    pub proportional: u64,
    /// In memory and changed, ours alone.
    pub private_dirty: u64,
    /// In memory and unchanged, ours alone.
    pub private_clean: u64,
    /// In memory, used by other mappings too.
    pub shared: u64,
    /// In swap space.
    pub swapped: u64,
    /// In huge pages.
    pub huge: u64,
    /// Locked in memory.
    pub locked: u64,
}

impl Usage {
    /// Adds the bytes of `other`.
    pub fn add(&mut self, other: &Self) {
        self.resident += other.resident;
        self.proportional += other.proportional;
        self.private_dirty += other.private_dirty;
        self.private_clean += other.private_clean;
        self.shared += other.shared;
        self.swapped += other.swapped;
        self.huge += other.huge;
        self.locked += other.locked;
    }

    fn understand(&mut self, line: &[u8]) -> Option<()> {
        let (name, value) = line.split_at_checked(line.iter().position(|&byte| byte == b':')?)?;
        let field = match name {
            b"Rss" => &mut self.resident,
            b"Pss" => &mut self.proportional,
            b"Private_Dirty" => &mut self.private_dirty,
            b"Private_Clean" => &mut self.private_clean,
            b"Shared_Clean" | b"Shared_Dirty" => &mut self.shared,
            b"Swap" => &mut self.swapped,
            b"AnonHugePages" | b"ShmemPmdMapped" | b"FilePmdMapped" => &mut self.huge,
            b"Locked" => &mut self.locked,
            _ => return None,
        };
        *field = field.saturating_add(kilobytes(value.get(1..)?)?);
        Some(())
    }
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// `rwxp`, or `-`, and `s` for one that is shared.
    pub permissions: [u8; 4],
    /// Where in the file `start` is.
    pub offset: u64,
    /// The file's inode; 0 for memory without a file.
    pub inode: u64,
    /// As `maps` prints it: a path, `[heap]`, `[stack]`, `[anon:…]`; empty for memory without a name.
    pub printed: Vec<u8>,
    /// From `smaps` alone.
    pub usage: Option<Usage>,
}

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The heap that `brk` moves.
    Heap,
    /// Private memory of no file: what `mmap` and large `malloc`s give.
    Anonymous,
    /// Stacks of threads.
    Stack,
    /// Executable files.
    Code,
    /// What else is mapped of loaded objects, and their variables.
    Data,
    /// Files that are no loaded objects.
    File,
    /// Memory that processes may share: `shm`, `memfd`, System V, shared anonymous memory.
    Shared,
    /// No access: guards, reserved address space.
    Reserved,
    /// The kernel's own, such as the vdso.
    Kernel,
}

impl Kind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Heap,
        Self::Anonymous,
        Self::Stack,
        Self::Code,
        Self::Data,
        Self::File,
        Self::Shared,
        Self::Reserved,
        Self::Kernel,
    ];

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::Anonymous => "anonymous",
            Self::Stack => "stack",
            Self::Code => "code",
            Self::Data => "data",
            Self::File => "file",
            Self::Shared => "shared",
            Self::Reserved => "reserved",
            Self::Kernel => "kernel",
        }
    }
}

impl Mapping {
    /// How long it is.
    pub fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// It can be neither read nor written nor executed.
    pub fn is_closed(&self) -> bool {
        self.permissions.starts_with(b"---")
    }

    /// What it is for: `in_module` says that it lies within a loaded object, `is_stack` that a thread has its stack
    /// there.
    pub fn kind(&self, in_module: bool, is_stack: bool) -> Kind {
        let is_shared = self.permissions.ends_with(b"s");
        let executable = self.permissions.get(2) == Some(&b'x');
        match self.printed.as_slice() {
            b"[heap]" => Kind::Heap,
            b"[stack]" => Kind::Stack,
            _ if is_stack => Kind::Stack,
            printed if printed.is_empty() || printed.starts_with(b"[anon") => match () {
                () if is_shared || printed.starts_with(b"[anon_shmem") => Kind::Shared,
                () if in_module => Kind::Data,
                () if self.is_closed() => Kind::Reserved,
                () => Kind::Anonymous,
            },
            [b'[', ..] => Kind::Kernel,
            printed if is_shared_memory(printed) => Kind::Shared,
            _ if executable => Kind::Code,
            _ if in_module => Kind::Data,
            _ if self.is_closed() => Kind::Reserved,
            _ => Kind::File,
        }
    }
}

fn is_shared_memory(printed: &[u8]) -> bool {
    [&b"/dev/shm/"[..], b"/memfd:", b"/SYSV", b"/dev/zero (deleted)", b"anon_inode:"]
        .iter()
        .any(|begin| printed.starts_with(begin))
}

/// Reads them in order.
pub struct Reader {
    lines: Lines,
    /// The one whose lines are still coming.
    current: Option<Mapping>,
}

impl Reader {
    /// From `smaps`, which knows what is in memory, or from `maps`.
    pub fn open(with_usage: bool) -> Result<Self> {
        let path = if with_usage { c"/proc/thread-self/smaps" } else { c"/proc/thread-self/maps" };
        Ok(Self { lines: Lines::new(File::open(path)?), current: None })
    }

    /// Reads a few of them; false at the end.
    pub fn read(&mut self, mut each: impl FnMut(Mapping)) -> Result<bool> {
        let current = &mut self.current;
        let more = self.lines.read(|line| match parse(line) {
            Some(mapping) => current.replace(mapping).into_iter().for_each(&mut each),
            None => {
                if let Some(mapping) = current {
                    mapping.usage.get_or_insert_default().understand(line);
                }
            }
        })?;
        if !more {
            self.current.take().into_iter().for_each(each);
        }
        Ok(more)
    }
}

fn parse(line: &[u8]) -> Option<Mapping> {
    let mapping = maps::parse(line)?;
    let permissions = line.split(|&byte| byte == b' ').nth(1)?.try_into().ok()?;
    Some(Mapping {
        start: mapping.start,
        end: mapping.end,
        permissions,
        offset: mapping.offset,
        inode: mapping.inode,
        printed: mapping.path.to_vec(),
        usage: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_list_the_same() {
        let read = |with_usage| {
            let (mut reader, mut all) = (Reader::open(with_usage).unwrap(), Vec::new());
            while reader.read(|mapping| all.push(mapping)).unwrap() {}
            all
        };
        let local = 1u8;
        let address = &raw const local as u64;
        let [plain, detailed] = [read(false), read(true)];
        let at = |all: &[Mapping]| {
            all.iter().find(|mapping| (mapping.start..mapping.end).contains(&address)).cloned().unwrap()
        };
        assert_eq!(at(&plain).usage, None);
        assert!(at(&detailed).usage.unwrap().resident > 0);
        assert_eq!(at(&plain).permissions, *b"rw-p");
        let code = detailed.iter().filter(|mapping| mapping.kind(true, false) == Kind::Code).count();
        assert!(code > 1 && detailed.iter().any(|mapping| mapping.kind(false, false) == Kind::Kernel));
    }

    #[test]
    fn kinds() {
        let kind = |line: &str, in_module, is_stack| parse(line.as_bytes()).unwrap().kind(in_module, is_stack);
        for (line, expected) in [
            ("1000-2000 rw-p 00000000 00:00 0                          [heap]", Kind::Heap),
            ("1000-2000 rw-p 00000000 00:00 0 ", Kind::Anonymous),
            ("1000-2000 rw-p 00000000 00:00 0   [anon:arena]", Kind::Anonymous),
            ("1000-2000 rw-s 00000000 00:01 7   /dev/zero (deleted)", Kind::Shared),
            ("1000-2000 r-xp 00000000 fe:00 7   /bin/x", Kind::Code),
            ("1000-2000 r--s 00000000 fe:00 7   /var/db", Kind::File),
            ("1000-2000 r-xp 00000000 00:00 0   [vdso]", Kind::Kernel),
            ("1000-2000 ---p 00000000 00:00 0 ", Kind::Reserved),
        ] {
            assert_eq!(kind(line, false, false), expected, "{line}");
        }
        assert_eq!(kind("1000-2000 rw-p 00000000 00:00 0 ", true, false), Kind::Data);
        assert_eq!(kind("1000-2000 rw-p 00000000 00:00 0 ", false, true), Kind::Stack);
        assert_eq!(kind("1000-2000 rw-p 00000000 fe:00 7   /bin/x", true, false), Kind::Data);
    }
}
