//! Samples as they are taken: a trie of program counters below each thread, bounded, with no name in it.
//!
//! A node costs some 70 bytes, so a full trie holds 9 MB. What comes then is counted in one place, and said.

#![forbid(unsafe_code)]

use rustc_hash::FxHashMap;

/// Nodes at most.
const MOST_NODES: usize = 1 << 17;
/// Threads at most that have a root of their own.
const MOST_THREADS: usize = 1 << 14;

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A thread, by its number in [`Trie::threads`].
    Thread(u32),
    /// The stack does not reach the thread's first frame: what follows is as much as is known.
    Truncated,
    /// An address to be named.
    Address(u64),
    /// It ran, and was not seen running at any tick.
    Unseen,
    /// It could not be captured.
    NotCaptured,
    /// There was no room for another stack.
    Cut,
}

/// A node; its parent comes before it.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// The caller's number; its own if it has none.
    pub parent: u32,
    /// What it stands for.
    pub key: Key,
    /// Nanoseconds of the samples that end here.
    pub weight: u64,
    /// How many those are.
    pub samples: u32,
}

/// All samples so far.
pub struct Trie {
    nodes: Vec<Node>,
    children: FxHashMap<(u32, Key), u32>,
    threads: Vec<(i32, Vec<u8>)>,
    /// Samples for whose stack there was no room.
    pub cut: u64,
}

/// Where samples go for which there is no room.
const OVERFLOW: u32 = 1;

impl Default for Trie {
    fn default() -> Self {
        let mut trie =
            Self { nodes: Vec::new(), children: FxHashMap::default(), threads: vec![(0, b"(cut)".to_vec())], cut: 0 };
        trie.push(0, Key::Thread(0));
        trie.push(0, Key::Cut);
        trie
    }
}

impl Trie {
    /// All nodes, callers first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Ids and names of threads.
    pub fn threads(&self) -> &[(i32, Vec<u8>)] {
        &self.threads
    }

    /// The node of a new thread.
    pub fn thread(&mut self, tid: i32, name: &[u8]) -> u32 {
        if self.threads.len() >= MOST_THREADS || self.nodes.len() >= MOST_NODES {
            return OVERFLOW;
        }
        let number = self.threads.len() as u32;
        self.threads.push((tid, name.to_vec()));
        let node = self.nodes.len() as u32;
        self.push(node, Key::Thread(number));
        node
    }

    /// The node of a stack below the node `root`, outermost key first.
    pub fn leaf(&mut self, root: u32, keys: impl Iterator<Item = Key>) -> u32 {
        if root == OVERFLOW {
            return OVERFLOW;
        }
        let mut node = root;
        for key in keys {
            node = match self.children.get(&(node, key)) {
                Some(child) => *child,
                None if self.nodes.len() >= MOST_NODES => return OVERFLOW,
                None => {
                    let child = self.nodes.len() as u32;
                    self.push(node, key);
                    self.children.insert((node, key), child);
                    child
                }
            };
        }
        node
    }

    /// Adds `weight` nanoseconds and so many samples to a node.
    pub fn give(&mut self, node: u32, weight: u64, samples: u32) {
        self.cut += if node == OVERFLOW { u64::from(samples) } else { 0 };
        if let Some(node) = self.nodes.get_mut(node as usize) {
            node.weight = node.weight.saturating_add(weight);
            node.samples = node.samples.saturating_add(samples);
        }
    }

    fn push(&mut self, parent: u32, key: Key) {
        self.nodes.push(Node { parent, key, weight: 0, samples: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_stacks_are_one_node_and_there_is_an_end_to_different_ones() {
        let mut trie = Trie::default();
        let root = trie.thread(7, b"worker");
        let stack = |last: u64| [Key::Address(1), Key::Address(2), Key::Address(last)].into_iter();
        let one = trie.leaf(root, stack(3));
        assert_eq!(trie.leaf(root, stack(3)), one);
        assert_ne!(trie.leaf(root, stack(4)), one);
        trie.give(one, 5, 1);
        trie.give(one, 6, 1);
        let node = trie.nodes()[one as usize];
        assert_eq!((node.weight, node.samples, node.key), (11, 2, Key::Address(3)));
        assert_eq!(trie.threads()[1], (7, b"worker".to_vec()));
        for last in 5..2 * MOST_NODES as u64 {
            let leaf = trie.leaf(root, stack(last));
            trie.give(leaf, 1, 1);
        }
        assert_eq!(trie.nodes().len(), MOST_NODES);
        assert!(trie.cut > 0 && trie.cut == u64::from(trie.nodes()[OVERFLOW as usize].samples));
        assert!(trie.nodes().iter().enumerate().all(|(index, node)| node.parent as usize <= index));
        // What is known stays known.
        assert_eq!(trie.leaf(root, stack(3)), one);
        assert_eq!(trie.thread(8, b"late"), OVERFLOW);
    }
}
