//! Samples with names: the trie of addresses becomes a tree of functions.
//!
//! Functions that were inlined are callers and callees like others. Addresses of one function are one node, or, on wish,
//! one a line of its source.

#![forbid(unsafe_code)]

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::trie::{Key, Trie};
use crate::inspect::strings::Escaped;
use crate::shell::World;
use crate::stack::modules::Module;

/// A function, a line of one, a thread, or what stands for samples without a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// What it is called, fit for a terminal.
    pub name: Arc<str>,
    /// The file of the module.
    pub module: Option<Arc<[u8]>>,
    /// The source file.
    pub file: Option<Arc<str>>,
    /// The line, when lines are wanted.
    pub line: Option<u32>,
}

/// A node; its caller comes before it.
#[derive(Clone, Copy, Debug)]
pub struct Branch {
    /// The caller's number; [`NONE`] for the outermost.
    pub parent: u32,
    /// Its label's number.
    pub label: u32,
    /// The number of the thread in the trie, when threads are kept apart.
    pub thread: u32,
    /// Nanoseconds of the samples that end here.
    pub own: u64,
    /// Of those and of all below.
    pub total: u64,
    /// Samples that end here.
    pub samples: u32,
}

/// No node.
pub const NONE: u32 = u32::MAX;

/// What is outermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The threads' first functions, all threads together.
    Merged,
    /// Names of threads.
    Names,
    /// Threads, which have no label of their own.
    Threads,
}

/// The tree.
#[derive(Default)]
pub struct Tree {
    /// All nodes, callers first.
    pub branches: Vec<Branch>,
    /// All labels.
    pub labels: Vec<Label>,
    /// The weight of all.
    pub total: u64,
    numbers: FxHashMap<Label, u32>,
    children: FxHashMap<(u32, u32, u32), u32>,
}

impl Tree {
    /// Names all addresses of `trie`, whose modules are those of `world` now.
    pub fn grow(trie: &Trie, roots: Roots, by_line: bool, world: &mut World) -> Self {
        let address = |key| if let Key::Address(address) = key { Some(address) } else { None };
        let mut addresses: Vec<u64> = trie.nodes().iter().filter_map(|node| address(node.key)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        world.symbolizer.resolve(&world.modules, &addresses);
        let mut tree = Self::default();
        let mut known: FxHashMap<Key, Vec<u32>> = FxHashMap::default();
        // Where each node of the trie is in the tree, and its thread.
        let mut places: Vec<(u32, u32)> = Vec::with_capacity(trie.nodes().len());
        for node in trie.nodes() {
            let (mut place, thread) = match node.key {
                Key::Thread(number) => (NONE, if roots == Roots::Threads { number } else { 0 }),
                _ => places.get(node.parent as usize).copied().unwrap_or((NONE, 0)),
            };
            let labels = known.entry(node.key).or_insert_with(|| tree.label(node.key, trie, roots, by_line, world));
            for label in labels.iter() {
                place = tree.descend(place, *label, thread);
            }
            places.push((place, thread));
            if let Some(branch) = tree.branches.get_mut(place as usize) {
                branch.own = branch.own.saturating_add(node.weight);
                branch.samples = branch.samples.saturating_add(node.samples);
            }
        }
        (tree.numbers, tree.children) = Default::default();
        tree.sum();
        tree
    }

    fn descend(&mut self, parent: u32, label: u32, thread: u32) -> u32 {
        let new = self.branches.len() as u32;
        let place = *self.children.entry((parent, label, thread)).or_insert(new);
        if place == new {
            self.branches.push(Branch { parent, label, thread, own: 0, total: 0, samples: 0 });
        }
        place
    }

    fn sum(&mut self) {
        for index in (0..self.branches.len()).rev() {
            let Some(branch) = self.branches.get_mut(index) else { continue };
            branch.total = branch.total.saturating_add(branch.own);
            let (parent, total) = (branch.parent, branch.total);
            match self.branches.get_mut(parent as usize) {
                Some(parent) => parent.total = parent.total.saturating_add(total),
                None => self.total = self.total.saturating_add(total),
            }
        }
    }

    /// The labels of a key, outermost first.
    fn label(&mut self, key: Key, trie: &Trie, roots: Roots, by_line: bool, world: &World) -> Vec<u32> {
        let mut plain =
            |name: &str| vec![self.number(Label { name: name.into(), module: None, file: None, line: None })];
        let address = match key {
            Key::Thread(_) if roots != Roots::Names => return Vec::new(),
            Key::Thread(number) => {
                let name = trie.threads().get(number as usize).map(|(_, name)| name.as_slice()).unwrap_or_default();
                return plain(&Escaped(name).to_string());
            }
            Key::Truncated => return plain("(truncated)"),
            Key::Unseen => return plain("(ran between ticks, not seen)"),
            Key::NotCaptured => return plain("(not captured)"),
            Key::Cut => return plain("(no room for more stacks)"),
            Key::Address(address) => address,
        };
        let module = world.modules.find(address).map(name_of);
        let found = world.symbolizer.lookup(&world.modules, address);
        let mut labels: Vec<Label> = found
            .iter()
            .rev()
            .map(|source| Label {
                name: source.function.as_ref().map_or("??".into(), escaped),
                module: module.clone(),
                file: source.file.clone(),
                line: (by_line && source.file.is_some()).then_some(source.line),
            })
            .collect();
        if labels.is_empty() {
            labels.push(Label { name: "??".into(), module, file: None, line: None });
        }
        labels.into_iter().map(|label| self.number(label)).collect()
    }

    fn number(&mut self, label: Label) -> u32 {
        let new = self.labels.len() as u32;
        let number = *self.numbers.entry(label.clone()).or_insert(new);
        if number == new {
            self.labels.push(label);
        }
        number
    }

    /// The label of a node.
    pub fn label_of(&self, branch: &Branch) -> Option<&Label> {
        self.labels.get(branch.label as usize)
    }

    /// The labels' numbers from node `index` out to its root.
    pub fn outwards(&self, index: u32) -> impl Iterator<Item = u32> {
        let branch = |index: u32| self.branches.get(index as usize);
        std::iter::successors(branch(index), move |inner| branch(inner.parent)).map(|branch| branch.label)
    }
}

/// Most names need no escape and are shared.
fn escaped(name: &Arc<str>) -> Arc<str> {
    let safe = Escaped(name.as_bytes()).to_string();
    if safe == **name { Arc::clone(name) } else { safe.into() }
}

fn name_of(module: &Arc<Module>) -> Arc<[u8]> {
    module.path.as_slice().into()
}

impl Label {
    /// As a line of text has it.
    pub fn text(&self) -> String {
        let mut text = self.name.to_string();
        if let (Some(file), Some(line)) = (&self.file, self.line) {
            text.push_str(&format!(" at {}:{line}", Escaped(file.as_bytes())));
        }
        if let Some(module) = &self.module {
            let name = module.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            text.push_str(&format!(" ({})", Escaped(name)));
        }
        text
    }
}
