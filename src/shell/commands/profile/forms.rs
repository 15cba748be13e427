//! The forms of a profile: the tree for eyes, folded stacks, a file for speedscope, records. Each is written piece by
//! piece.

#![forbid(unsafe_code)]

use super::tree::{Branch, NONE, Tree};
use super::trie::Trie;
use crate::inspect::strings::Escaped;
use crate::record;
use crate::shell::json::{self, Bytes};
use crate::shell::output::Output;
use crate::shell::record::Line;
use std::time::Duration;

/// Text written in one step.
const PIECE: usize = 64 << 10;
/// Levels that are indented; deeper ones say how deep they are.
const INDENTED: usize = 32;

/// A form at work.
pub trait Form {
    /// Writes a piece; false when there is no more.
    fn write(&mut self, tree: &Tree, trie: &Trie, out: &mut Output) -> bool;
}

/// The tree for eyes: callers above callees, the heaviest first, small ones only counted.
pub struct Text {
    /// Nodes by parent, the heaviest first.
    order: Vec<u32>,
    /// Where to go on: a node's number in `order`, and how deep it is.
    stack: Vec<(usize, usize)>,
    /// Nodes of less weight are not shown.
    least: u64,
}

impl Text {
    /// At most `lines` nodes, and none below `percent` of all.
    pub fn new(tree: &Tree, percent: f64, lines: usize) -> Self {
        let branch = |index: &u32| tree.branches.get(*index as usize);
        let mut order: Vec<u32> = (0..tree.branches.len() as u32).collect();
        order.sort_by_key(|index| branch(index).map(|branch| (branch.parent, std::cmp::Reverse(branch.total))));
        let mut totals: Vec<u64> = tree.branches.iter().map(|branch| branch.total).collect();
        totals.sort_unstable_by_key(|total| std::cmp::Reverse(*total));
        let by_percent = (tree.total as f64 * percent / 100.0) as u64;
        // One more than the first that is too many.
        let by_lines = totals.get(lines).map_or(0, |total| total + 1);
        let mut text = Self { order, stack: Vec::new(), least: by_percent.max(by_lines).max(1) };
        text.stack.extend(text.children(NONE, tree).map(|first| (first, 0)));
        text
    }

    /// Where in `order` the children of `parent` begin.
    fn children(&self, parent: u32, tree: &Tree) -> Option<usize> {
        let parent_of = |index: &u32| tree.branches.get(*index as usize).map_or(NONE, |branch| branch.parent);
        let first = self.order.partition_point(|index| parent_of(index) < parent);
        self.order.get(first).filter(|index| parent_of(index) == parent).map(|_| first)
    }
}

impl Form for Text {
    fn write(&mut self, tree: &Tree, _: &Trie, out: &mut Output) -> bool {
        let percent = |part: u64| if tree.total == 0 { 0.0 } else { part as f64 / tree.total as f64 * 100.0 };
        let node =
            |text: &Self, at: usize| text.order.get(at).copied().filter(|it| (*it as usize) < tree.branches.len());
        while out.len() < PIECE {
            let Some((at, depth)) = self.stack.pop() else { return false };
            let Some(index) = node(self, at) else { continue };
            let Some(branch) = tree.branches.get(index as usize) else { continue };
            let indent = indentation(depth);
            if branch.total < self.least {
                let siblings = self.order.iter().skip(at).filter_map(|index| tree.branches.get(*index as usize));
                let totals = siblings.take_while(|it| it.parent == branch.parent).map(|branch| branch.total);
                let rest: Vec<u64> = totals.take_while(|total| *total > 0).collect();
                if !rest.is_empty() {
                    let weight = percent(rest.iter().sum());
                    out.note(format!("{weight:>7.1} {:>7}  {indent}… {} smaller\n", "", rest.len()));
                }
                continue;
            }
            let name = tree.label_of(branch).map(|label| label.text()).unwrap_or_default();
            out.note(format!("{:>7.1} {:>7.1}  {indent}{name}\n", percent(branch.total), percent(branch.own)));
            let is_sibling = |next: u32| tree.branches.get(next as usize).is_some_and(|it| it.parent == branch.parent);
            if node(self, at + 1).is_some_and(is_sibling) {
                self.stack.push((at + 1, depth));
            }
            self.stack.extend(self.children(index, tree).map(|first| (first, depth + 1)));
        }
        true
    }
}

fn indentation(depth: usize) -> String {
    let spaces = "  ".repeat(depth.min(INDENTED));
    if depth > INDENTED { format!("{spaces}[{depth}] ") } else { spaces }
}

/// Folded stacks: `thread;outer;inner MICROSECONDS`, a line a stack.
pub struct Folded {
    next: u32,
}

impl Folded {
    /// From the first on.
    pub fn new() -> Self {
        Self { next: 0 }
    }
}

impl Form for Folded {
    fn write(&mut self, tree: &Tree, _: &Trie, out: &mut Output) -> bool {
        while out.len() < PIECE {
            let Some(branch) = tree.branches.get(self.next as usize) else { return false };
            let micros = branch.own / 1000;
            if micros > 0 {
                let labels: Vec<u32> = tree.outwards(self.next).collect();
                let names = labels.iter().rev().filter_map(|label| tree.labels.get(*label as usize));
                // A semicolon separates.
                let text = |label: &super::tree::Label| match label.line {
                    Some(line) => format!("{}:{line}", label.name).replace(';', ":"),
                    None => label.name.replace(';', ":"),
                };
                out.note(format!("{} {micros}\n", names.map(text).collect::<Vec<_>>().join(";")));
            }
            self.next += 1;
        }
        true
    }
}

/// One JSON object as <https://www.speedscope.app/file-format-schema.json> has it: a sampled profile a thread.
pub struct Speedscope {
    title: String,
    /// Nodes with samples, thread by thread.
    order: Vec<u32>,
    part: Part,
}

/// What comes next.
enum Part {
    Begin,
    Frame(usize),
    /// The profile whose first node this is.
    Profile(usize),
    /// The sample at `at` of the profile from `first` to before `end`.
    Sample {
        at: usize,
        first: usize,
        end: usize,
    },
    Weight {
        at: usize,
        first: usize,
        end: usize,
    },
    End,
    Done,
}

impl Speedscope {
    /// Of a tree whose roots are threads.
    pub fn new(tree: &Tree, title: String) -> Self {
        let branch = |index: &u32| tree.branches.get(*index as usize);
        let mut order: Vec<u32> = (0..tree.branches.len() as u32).collect();
        order.retain(|index| branch(index).is_some_and(|branch| branch.own > 0));
        order.sort_by_key(|index| branch(index).map(|branch| branch.thread));
        Self { title, order, part: Part::Begin }
    }

    fn branch<'a>(&self, at: usize, tree: &'a Tree) -> Option<&'a Branch> {
        tree.branches.get(*self.order.get(at)? as usize)
    }

    /// The weight of the profile that begins at `first`, and where the next one begins.
    fn extent(&self, first: usize, tree: &Tree) -> (u64, usize) {
        let thread = self.branch(first, tree).map(|branch| branch.thread);
        let (mut weight, mut end) = (0u64, first);
        while let Some(branch) = self.branch(end, tree).filter(|branch| Some(branch.thread) == thread) {
            weight = weight.saturating_add(branch.own);
            end += 1;
        }
        (weight, end)
    }

    fn next(&mut self, tree: &Tree, trie: &Trie, out: &mut Vec<u8>) {
        let mut push = |text: &str| out.extend_from_slice(text.as_bytes());
        self.part = match self.part {
            Part::Begin => {
                push("{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\"exporter\":\"libmanhole ");
                push(env!("CARGO_PKG_VERSION"));
                push("\",\"activeProfileIndex\":0,\"name\":");
                json::string(&self.title, out);
                out.extend_from_slice(b",\n\"shared\":{\"frames\":[");
                Part::Frame(0)
            }
            Part::Frame(number) => match tree.labels.get(number) {
                Some(label) => {
                    push(if number == 0 { "\n{\"name\":" } else { ",\n{\"name\":" });
                    json::string(&label.name, out);
                    if let Some(file) = &label.file {
                        out.extend_from_slice(b",\"file\":");
                        json::string(file, out);
                    }
                    if let Some(line) = label.line.filter(|line| *line > 0) {
                        out.extend_from_slice(format!(",\"line\":{line}").as_bytes());
                    }
                    out.push(b'}');
                    Part::Frame(number + 1)
                }
                None => {
                    push("]},\n\"profiles\":[");
                    Part::Profile(0)
                }
            },
            Part::Profile(first) => match self.branch(first, tree) {
                Some(branch) => {
                    push(if first == 0 { "\n" } else { ",\n" });
                    push("{\"type\":\"sampled\",\"unit\":\"nanoseconds\",\"name\":");
                    let (tid, name) = trie
                        .threads()
                        .get(branch.thread as usize)
                        .map_or((0, Default::default()), |(tid, name)| (*tid, String::from_utf8_lossy(name)));
                    json::string(&format!("{name} ({tid})"), out);
                    let (weight, end) = self.extent(first, tree);
                    out.extend_from_slice(format!(",\"startValue\":0,\"endValue\":{weight},\"samples\":[").as_bytes());
                    Part::Sample { at: first, first, end }
                }
                None => Part::End,
            },
            Part::Sample { at, first, end } => {
                if at == end {
                    push("],\n\"weights\":[");
                    Part::Weight { at: first, first, end }
                } else {
                    push(if at == first { "[" } else { ",[" });
                    let mut labels: Vec<u32> =
                        self.order.get(at).map(|index| tree.outwards(*index).collect()).unwrap_or_default();
                    labels.reverse();
                    for (index, label) in labels.iter().enumerate() {
                        push(&if index == 0 { label.to_string() } else { format!(",{label}") });
                    }
                    push("]");
                    Part::Sample { at: at + 1, first, end }
                }
            }
            Part::Weight { at, first, end } => {
                if at == end {
                    push("]}");
                    Part::Profile(end)
                } else {
                    let own = self.branch(at, tree).map_or(0, |branch| branch.own);
                    push(&if at == first { own.to_string() } else { format!(",{own}") });
                    Part::Weight { at: at + 1, first, end }
                }
            }
            Part::End => {
                push("]}\n");
                Part::Done
            }
            Part::Done => Part::Done,
        };
    }
}

impl Form for Speedscope {
    fn write(&mut self, tree: &Tree, trie: &Trie, out: &mut Output) -> bool {
        while out.len() < PIECE {
            if let Part::Done = self.part {
                return false;
            }
            self.next(tree, trie, out.lines());
        }
        true
    }
}

record! {
    /// A function of a stack; inlined ones are functions like others.
    struct Spot as "frame" {
        /// Its readable name; ?? if it has none; in parentheses what stands for samples without a stack.
        function: String,
        /// The file of its module.
        module: Option<Bytes>,
        /// Its source file.
        file: Option<String>,
        /// The line, with --lines.
        line: Option<u32>,
    }
}

record! {
    /// A stack that was met, and how much of the profile it is.
    struct Hot as "profile-stack" {
        /// The thread.
        tid: i32,
        /// Its name when it was sampled first.
        thread: Bytes,
        /// What it stands for: CPU time, or with --wall time.
        seconds: Duration,
        /// How often it was met.
        samples: u32,
        /// Its functions, innermost first.
        frames: Vec<Spot>,
    }
}

/// The JSON Schema of [`Records`].
pub const SCHEMA: crate::shell::record::Schema = Hot::schema;

/// A record a stack.
pub struct Records {
    next: u32,
}

impl Records {
    /// From the first on; of a tree whose roots are threads.
    pub fn new() -> Self {
        Self { next: 0 }
    }
}

impl Form for Records {
    fn write(&mut self, tree: &Tree, trie: &Trie, out: &mut Output) -> bool {
        while out.len() < PIECE {
            let Some(branch) = tree.branches.get(self.next as usize) else { return false };
            if branch.own > 0 {
                let labels = tree.outwards(self.next).filter_map(|label| tree.labels.get(label as usize));
                let frames = labels.map(|label| Spot {
                    function: label.name.to_string(),
                    module: label.module.as_ref().map(|module| Bytes(module.to_vec())),
                    file: label.file.as_ref().map(|file| file.to_string()),
                    line: label.line,
                });
                let (tid, thread) = trie.threads().get(branch.thread as usize).cloned().unwrap_or_default();
                let seconds = Duration::from_nanos(branch.own);
                let frames = frames.collect();
                out.put(&Hot { tid, thread: Bytes(thread), seconds, samples: branch.samples, frames });
            }
            self.next += 1;
        }
        true
    }
}

// Eyes get the tree.
impl Line for Hot {
    fn line(&self, _: &mut Vec<u8>) {}
}

impl Line for Spot {
    fn line(&self, _: &mut Vec<u8>) {}
}

/// A name fit for a title.
pub fn title(program: &str, what: &str) -> String {
    format!("{} ({what})", Escaped(program.as_bytes()))
}
