//! The wait-for graph. A thread waits for one thing, and that has one holder at most: so each thread has at most one
//! thread before it, and a walk ends at a thread that waits for nobody, or in a cycle.
//!
//! Pure; linear in the number of threads.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

/// Who waits for whom, by thread id.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    next: BTreeMap<i32, i32>,
}

/// What the graph says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The cycles, each once, from its smallest id on in the order of waiting, with the number of threads that stand
    /// behind it and are not part of it.
    pub cycles: Vec<(Vec<i32>, usize)>,
    /// Threads that wait for nobody and for whom others do, with how many stand behind each.
    pub heads: BTreeMap<i32, usize>,
}

impl Graph {
    /// Notes that `waiter` waits for `holder`.
    pub fn add(&mut self, waiter: i32, holder: i32) {
        self.next.insert(waiter, holder);
    }

    /// Finds cycles and heads.
    pub fn shape(&self) -> Shape {
        let mut behind: BTreeMap<i32, usize> = BTreeMap::new();
        let mut waiting_for: BTreeMap<i32, usize> = BTreeMap::new();
        for holder in self.next.values() {
            *waiting_for.entry(*holder).or_default() += 1;
        }
        // Those whom nobody waits for hand what stands behind them on to the next; what is left over are cycles.
        let mut rest = self.next.clone();
        let mut free: Vec<i32> = rest.keys().copied().filter(|tid| !waiting_for.contains_key(tid)).collect();
        while let Some(tid) = free.pop() {
            let Some(holder) = rest.remove(&tid) else { continue };
            let moved = behind.get(&tid).copied().unwrap_or(0) + 1;
            *behind.entry(holder).or_default() += moved;
            if let Some(count) = waiting_for.get_mut(&holder) {
                *count -= 1;
                if *count == 0 {
                    free.push(holder);
                }
            }
        }
        let mut shape = Shape::default();
        while let Some((&first, _)) = rest.first_key_value() {
            let (mut cycle, mut tid) = (Vec::new(), first);
            while let Some(holder) = rest.remove(&tid) {
                cycle.push(tid);
                tid = holder;
            }
            let others = cycle.iter().filter_map(|tid| behind.get(tid)).sum();
            shape.cycles.push((cycle, others));
        }
        shape.heads = behind.into_iter().filter(|(tid, _)| !self.next.contains_key(tid)).collect();
        shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(edges: &[(i32, i32)]) -> Shape {
        let mut graph = Graph::default();
        edges.iter().for_each(|(waiter, holder)| graph.add(*waiter, *holder));
        graph.shape()
    }

    #[test]
    fn cycles_are_named_once_from_their_smallest_member() {
        assert_eq!(shape(&[(3, 1), (1, 2), (2, 3)]).cycles, [(vec![1, 2, 3], 0)]);
        assert_eq!(shape(&[(1, 3), (3, 2), (2, 1)]).cycles, [(vec![1, 3, 2], 0)]);
        assert_eq!(shape(&[(7, 7)]).cycles, [(vec![7], 0)]);
        let two = shape(&[(1, 2), (2, 1), (5, 4), (4, 5), (9, 4), (10, 9)]);
        assert_eq!(two.cycles, [(vec![1, 2], 0), (vec![4, 5], 2)]);
        assert!(two.heads.is_empty());
    }

    #[test]
    fn who_stands_behind_whom() {
        let convoy = shape(&[(1, 9), (2, 9), (3, 2), (4, 3), (5, 6)]);
        assert!(convoy.cycles.is_empty());
        assert_eq!(convoy.heads, BTreeMap::from([(9, 4), (6, 1)]));
        assert_eq!(shape(&[]), Shape::default());
    }

    #[test]
    fn a_long_chain_takes_no_stack() {
        let mut graph = Graph::default();
        (0..100_000).for_each(|tid| graph.add(tid, tid + 1));
        assert_eq!(graph.shape().heads, BTreeMap::from([(100_000, 100_000)]));
        graph.add(100_000, 0);
        assert_eq!(graph.shape().cycles[0].0.len(), 100_001);
    }
}
