//! A radix tree over token ids: which cached sequence begins like this one, and how far?
//!
//! A sequence can be cut only down to some length, its *least* (what its local layers have
//! forgotten makes shorter beginnings useless). Each node knows the smallest least below it, so
//! that a look-up walks down one path and never searches.

use std::collections::BTreeMap;

/// Number of the node of the empty sequence.
const ROOT: usize = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    key: u64,
    least: usize,
}

#[derive(Debug)]
struct Node {
    parent: usize,
    /// The ids between the parent and this node; empty only at the root.
    edge: Vec<u32>,
    /// By the first id of their edges.
    children: BTreeMap<u32, usize>,
    /// The sequence that ends here.
    entry: Option<Entry>,
    /// The smallest of the entries here and below; `usize::MAX` where there is none.
    least: usize,
}

impl Node {
    fn new(parent: usize, edge: Vec<u32>) -> Self {
        Self {
            parent,
            edge,
            children: BTreeMap::new(),
            entry: None,
            least: usize::MAX,
        }
    }
}

/// Sequences of ids, each with a key.
#[derive(Debug)]
pub(crate) struct Radix {
    nodes: Vec<Node>,
    /// Numbers of nodes that are not in use.
    free: Vec<usize>,
}

/// A node on the way along some ids, and how many of them agree with the way so far.
#[derive(Clone, Copy, Debug)]
struct Step {
    node: usize,
    matched: usize,
}

impl Radix {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::new(ROOT, Vec::new())],
            free: Vec::new(),
        }
    }

    /// The longest beginning of `ids` that some sequence can be cut down to: its key, and the
    /// length, which is above 0.
    pub(crate) fn longest(&self, ids: &[u32]) -> Option<(u64, usize)> {
        let usable = |step: &Step| step.matched > 0 && self.nodes[step.node].least <= step.matched;
        let step = self.walk(ids).into_iter().rev().find(usable)?;
        self.least_below(step.node)
            .map(|entry| (entry.key, step.matched))
    }

    /// Whether some sequence begins with all of `ids` and can be cut down to `least`.
    pub(crate) fn covers(&self, ids: &[u32], least: usize) -> bool {
        let walk = self.walk(ids);
        let last = walk.last().filter(|step| step.matched == ids.len());
        last.is_some_and(|step| self.nodes[step.node].least <= least)
    }

    /// Keys of the sequences that `ids` begins with, itself included, whose least is not below
    /// `least`.
    pub(crate) fn covered_by(&self, ids: &[u32], least: usize) -> Vec<u64> {
        let walk = self.walk(ids);
        let entries = walk.iter().filter_map(|step| {
            let is_whole = self.depth(step.node) == step.matched;
            self.nodes[step.node].entry.filter(|_| is_whole)
        });
        entries
            .filter(|entry| entry.least >= least)
            .map(|entry| entry.key)
            .collect()
    }

    /// Adds a sequence, which takes the place of an equal one.
    pub(crate) fn insert(&mut self, ids: &[u32], key: u64, least: usize) {
        let Step { node, matched } = self.walk(ids).pop().unwrap_or(Step {
            node: ROOT,
            matched: 0,
        });
        let excess = self.depth(node) - matched;
        let mut node = if excess > 0 {
            self.split(node, excess)
        } else {
            node
        };
        if matched < ids.len() {
            node = self.add(Node::new(node, ids[matched..].to_vec()));
        }
        self.nodes[node].entry = Some(Entry { key, least });
        self.update_least(node);
    }

    /// Takes the sequence `ids` out and returns its key, if it is there.
    pub(crate) fn remove(&mut self, ids: &[u32]) -> Option<u64> {
        let Step { node, matched } = self.walk(ids).pop()?;
        if matched < ids.len() || self.depth(node) > matched {
            return None;
        }
        let entry = self.nodes[node].entry.take()?;
        let rest = self.prune(node);
        self.update_least(rest);
        Some(entry.key)
    }

    /// The nodes along `ids` from the root on; the edge of the last may agree in part only.
    fn walk(&self, ids: &[u32]) -> Vec<Step> {
        let mut step = Step {
            node: ROOT,
            matched: 0,
        };
        let mut walk = vec![step];
        while let Some(id) = ids.get(step.matched) {
            let Some(&child) = self.nodes[step.node].children.get(id) else {
                break;
            };
            let edge = &self.nodes[child].edge;
            let rest = &ids[step.matched..];
            let common = edge.iter().zip(rest).take_while(|(a, b)| a == b).count();
            let is_whole = common == edge.len();
            step = Step {
                node: child,
                matched: step.matched + common,
            };
            walk.push(step);
            if !is_whole {
                break;
            }
        }
        walk
    }

    /// The entry at or below `node` that gives it its least.
    fn least_below(&self, mut node: usize) -> Option<Entry> {
        let least = self.nodes[node].least;
        loop {
            let Node {
                entry, children, ..
            } = &self.nodes[node];
            if let Some(entry) = entry.filter(|entry| entry.least == least) {
                return Some(entry);
            }
            let has_it = |child: &&usize| self.nodes[**child].least == least;
            node = *children.values().find(has_it)?;
        }
    }

    /// Ids from the root to `node`.
    fn depth(&self, mut node: usize) -> usize {
        let mut depth = 0;
        while node != ROOT {
            depth += self.nodes[node].edge.len();
            node = self.nodes[node].parent;
        }
        depth
    }

    /// Puts a node in, below its parent.
    fn add(&mut self, node: Node) -> usize {
        let (parent, first) = (node.parent, node.edge[0]);
        let number = match self.free.pop() {
            Some(number) => {
                self.nodes[number] = node;
                number
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.nodes[parent].children.insert(first, number);
        number
    }

    /// Cuts the edge of `node` before its last `below` ids and returns the node at the cut.
    fn split(&mut self, node: usize, below: usize) -> usize {
        let Node { parent, edge, .. } = &mut self.nodes[node];
        let (parent, tail) = (*parent, edge.split_off(edge.len() - below));
        let head = std::mem::replace(edge, tail);
        let middle = self.add(Node::new(parent, head));
        self.hang(node, middle);
        middle
    }

    /// Makes `node` a child of `parent`.
    fn hang(&mut self, node: usize, parent: usize) {
        self.nodes[node].parent = parent;
        let first = self.nodes[node].edge[0];
        self.nodes[parent].children.insert(first, node);
    }

    /// Removes `node` if nothing ends or branches there, and its parent if nothing does there any
    /// more; returns the node that is left.
    fn prune(&mut self, node: usize) -> usize {
        let mut node = node;
        for _ in 0..2 {
            let Node {
                parent,
                children,
                entry,
                ..
            } = &self.nodes[node];
            let parent = *parent;
            if node == ROOT || entry.is_some() {
                return node;
            }
            match children.values().copied().collect::<Vec<_>>()[..] {
                [] => {
                    let first = self.nodes[node].edge[0];
                    self.nodes[parent].children.remove(&first);
                }
                [child] => {
                    let mut edge = std::mem::take(&mut self.nodes[node].edge);
                    edge.append(&mut self.nodes[child].edge);
                    self.nodes[child].edge = edge;
                    self.hang(child, parent);
                }
                _ => return node,
            }
            self.free.push(node);
            node = parent;
        }
        node
    }

    /// Works out the least of `node` and of all above it.
    fn update_least(&mut self, mut node: usize) {
        loop {
            let Node {
                entry, children, ..
            } = &self.nodes[node];
            let below = children.values().map(|&child| self.nodes[child].least);
            let own = entry.map(|entry| entry.least);
            self.nodes[node].least = below.chain(own).min().unwrap_or(usize::MAX);
            if node == ROOT {
                return;
            }
            node = self.nodes[node].parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Nodes that a tree of these sequences has: the root, every end and every branching.
    fn n_nodes(sequences: &BTreeMap<Vec<u32>, (u64, usize)>) -> usize {
        let longest = sequences.keys().map(Vec::len).max().unwrap_or(0);
        let mut n = 1;
        for len in 1..=longest {
            let mut next = BTreeMap::<&[u32], std::collections::BTreeSet<Option<u32>>>::new();
            for ids in sequences.keys().filter(|ids| ids.len() >= len) {
                next.entry(&ids[..len])
                    .or_default()
                    .insert(ids.get(len).copied());
            }
            n += next
                .values()
                .filter(|next| next.len() > 1 || next.contains(&None))
                .count();
        }
        n
    }

    proptest! {
        /// Against a plain map: every answer, and no node that is not needed.
        #[test]
        fn equals_a_list_of_sequences(
            acts in proptest::collection::vec(
                (proptest::collection::vec(0..3u32, 0..7), 0..8usize, any::<bool>()),
                1..60,
            ),
            asked in proptest::collection::vec(proptest::collection::vec(0..3u32, 0..9), 1..10),
        ) {
            let mut radix = Radix::new();
            let mut sequences = BTreeMap::<Vec<u32>, (u64, usize)>::new();
            for (key, (ids, least, is_insert)) in acts.into_iter().enumerate() {
                let key = key as u64;
                if is_insert {
                    radix.insert(&ids, key, least.min(ids.len()));
                    sequences.insert(ids.clone(), (key, least.min(ids.len())));
                } else {
                    prop_assert_eq!(radix.remove(&ids), sequences.remove(&ids).map(|(key, _)| key));
                }
                prop_assert_eq!(radix.nodes.len() - radix.free.len(), n_nodes(&sequences));
            }
            for ids in asked {
                let common = |other: &[u32]| ids.iter().zip(other).take_while(|(a, b)| a == b).count();
                let best = (sequences.iter())
                    .filter(|(other, (_, least))| common(other) >= *least)
                    .map(|(other, _)| common(other))
                    .max()
                    .unwrap_or(0);
                let found = radix.longest(&ids);
                prop_assert_eq!(found.map_or(0, |(_, len)| len), best);
                if let Some((key, len)) = found {
                    let (other, (_, least)) = (sequences.iter())
                        .find(|(_, (other, _))| *other == key)
                        .expect("only keys that were put in");
                    prop_assert!(*least <= len && common(other) >= len);
                }
                for least in 0..8 {
                    let covers = (sequences.iter())
                        .any(|(other, (_, l))| other.starts_with(&ids) && *l <= least);
                    prop_assert_eq!(radix.covers(&ids, least), covers);
                    let mut covered: Vec<u64> = (sequences.iter())
                        .filter(|(other, (_, l))| ids.starts_with(other) && *l >= least)
                        .map(|(_, (key, _))| *key)
                        .collect();
                    let mut found = radix.covered_by(&ids, least);
                    covered.sort_unstable();
                    found.sort_unstable();
                    prop_assert_eq!(found, covered);
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_cut_far_enough_gives_way_to_a_shorter_match() {
        let mut radix = Radix::new();
        radix.insert(&[1, 2, 3, 4, 5, 6], 10, 5);
        radix.insert(&[1, 2, 9, 9], 11, 1);
        assert_eq!(radix.longest(&[1, 2, 3, 4, 5, 7]), Some((10, 5)));
        assert_eq!(radix.longest(&[1, 2, 3, 4, 8]), Some((11, 2)));
        assert_eq!(radix.longest(&[2]), None);
        assert_eq!(radix.remove(&[1, 2, 3]), None);
        assert_eq!(radix.remove(&[1, 2, 9, 9]), Some(11));
        assert_eq!(radix.longest(&[1, 2, 3, 4, 8]), None);
    }
}
