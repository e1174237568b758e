//! The trie of the items' codes: what a decoder may say next after a prefix, and which item a whole code is.
//!
//! Nodes are numbered breadth first, so a level is a range of numbers, and so are the children of a node: a level's
//! logits or a node's children are slices of one table. Everything is in flat arrays.

use std::ops::Range;

use crate::{CodesError, ItemCodes, Result};

/// Codes as a tree. Root = node 0; every leaf is at depth [`levels`](Self::levels); a child's ordinal is its number less
/// the first of [`children`](Self::children).
///
/// Node and item numbers passed in must exist; the methods say where they panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeTrie {
    levels: usize,
    /// First node of every level, and the number of nodes: `[levels + 2]`.
    level_starts: Vec<u32>,
    /// Node `v`'s children are `child_starts[v]..child_starts[v + 1]`: `[nodes + 1]`.
    child_starts: Vec<u32>,
    /// `[nodes]`; the root is its own.
    parents: Vec<u32>,
    /// Items of the leaves, in their order.
    leaf_items: Vec<u32>,
    /// Nodes of the items' own codes, without the root: `[items, levels]`.
    paths: Vec<u32>,
    /// Item `i`'s leaves are `leaves[leaf_starts[i]..leaf_starts[i + 1]]`: `[items + 1]`.
    leaf_starts: Vec<u32>,
    leaves: Vec<u32>,
}

impl CodeTrie {
    /// The trie of valid codes.
    ///
    /// # Errors
    /// When two leaves have the same path, siblings are not numbered 0, 1, 2, …, or there are more nodes than a `u32`
    /// can number. ([`ItemCodes`] can only be made of codes for which this succeeds.)
    pub fn new(codes: &ItemCodes) -> Result<Self> {
        let (n, levels, n_leaves) = (codes.n_items(), codes.levels(), codes.n_leaves());
        if n_leaves.saturating_mul(levels) >= u32::MAX as usize {
            return Err(CodesError::TooManyNodes {
                items: n_leaves,
                levels,
            });
        }
        let mut order: Vec<u32> = (0..n_leaves as u32).collect();
        order.sort_unstable_by_key(|&leaf| (codes.leaf(leaf as usize).0, leaf));

        // How many ordinals a leaf has in common with the one before it.
        let mut common = vec![0; n_leaves];
        for (place, pair) in (1..).zip(order.windows(2)) {
            let (before, first) = codes.leaf(pair[0] as usize);
            let (path, second) = codes.leaf(pair[1] as usize);
            common[place] = before.iter().zip(path).take_while(|(a, b)| a == b).count();
            if common[place] == levels {
                return Err(CodesError::SharedLeaf {
                    first,
                    second,
                    path: path.to_vec(),
                });
            }
        }

        let mut trie = Self {
            levels,
            level_starts: vec![0, 1],
            child_starts: Vec::new(),
            parents: vec![0],
            leaf_items: order
                .iter()
                .map(|&leaf| codes.leaf(leaf as usize).1)
                .collect(),
            paths: vec![0; n * levels],
            leaf_starts: Vec::new(),
            leaves: Vec::new(),
        };
        let mut above = vec![0; n_leaves]; // node of the level above, for every leaf in order
        for level in 1..=levels {
            let mut node = 0;
            let mut expected = 0; // ordinal of the next new sibling
            for (place, &leaf) in order.iter().enumerate() {
                let (path, _) = codes.leaf(leaf as usize);
                if place == 0 || common[place] < level {
                    if place == 0 || common[place] + 1 < level {
                        expected = 0;
                        trie.child_starts.push(trie.parents.len() as u32);
                    }
                    if path[level - 1] != expected {
                        return Err(CodesError::Gap {
                            prefix: path[..level - 1].to_vec(),
                            expected,
                            found: path[level - 1],
                        });
                    }
                    expected += 1;
                    node = trie.parents.len() as u32;
                    trie.parents.push(above[place]);
                }
                above[place] = node;
                if let Some(path) = trie.paths.chunks_exact_mut(levels).nth(leaf as usize) {
                    path[level - 1] = node;
                }
            }
            trie.level_starts.push(trie.parents.len() as u32);
        }
        let n_nodes = trie.parents.len();
        trie.child_starts.resize(n_nodes + 1, n_nodes as u32);
        trie.gather_leaves(&order);
        Ok(trie)
    }

    /// Fills the leaves of every item: its own code's first, the others in the order of the codes.
    fn gather_leaves(&mut self, order: &[u32]) {
        let first = self.level(self.levels).start;
        let mut node_of = vec![0; order.len()]; // leaf in the order of the codes → node
        for (node, &leaf) in (first..).zip(order) {
            node_of[leaf as usize] = node;
        }
        let mut by_item: Vec<(u32, u32)> = node_of
            .iter()
            .map(|&node| self.leaf_items[(node - first) as usize])
            .zip(0u32..)
            .collect();
        by_item.sort_unstable();
        self.leaves = by_item
            .iter()
            .map(|&(_, leaf)| node_of[leaf as usize])
            .collect();
        let items = self.paths.len() / self.levels;
        self.leaf_starts = (0..=items as u32)
            .map(|item| by_item.partition_point(|&(i, _)| i < item) as u32)
            .collect();
    }

    /// Depth of every leaf, ≥ 1.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// Number of items, ≥ 1.
    #[must_use]
    pub fn n_items(&self) -> usize {
        self.leaf_starts.len() - 1
    }

    /// Number of nodes, with the root and the leaves.
    #[must_use]
    pub fn n_nodes(&self) -> usize {
        self.parents.len()
    }

    /// Number of leaves: at least one an item.
    #[must_use]
    pub fn n_leaves(&self) -> usize {
        self.leaf_items.len()
    }

    /// The children of a node; of a leaf none.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn children(&self, node: u32) -> Range<u32> {
        let node = node as usize;
        self.child_starts[node]..self.child_starts[node + 1]
    }

    /// The nodes at depth `level`; level 0 is the root alone.
    ///
    /// # Panics
    /// When `level` is above [`levels`](Self::levels).
    #[must_use]
    pub fn level(&self, level: usize) -> Range<u32> {
        self.level_starts[level]..self.level_starts[level + 1]
    }

    /// The parent of a node; the root's is itself.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn parent(&self, node: u32) -> u32 {
        self.parents[node as usize]
    }

    /// The item a leaf decodes to; `None` where the node is no leaf.
    #[must_use]
    pub fn item(&self, leaf: u32) -> Option<u32> {
        let place = leaf.checked_sub(self.level(self.levels).start)?;
        self.leaf_items.get(place as usize).copied()
    }

    /// The leaves below a node, which stand side by side; of a leaf itself.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn leaves_below(&self, node: u32) -> Range<u32> {
        let (mut first, mut last) = (node, node);
        while let (Some(child), Some(end)) =
            (self.children(first).next(), self.children(last).next_back())
        {
            (first, last) = (child, end);
        }
        first..last + 1
    }

    /// The nodes of an item's own code, below the root, the leaf last: `[levels]`.
    ///
    /// # Panics
    /// When there is no such item.
    #[must_use]
    pub fn path(&self, item: u32) -> &[u32] {
        &self.paths[item as usize * self.levels..][..self.levels]
    }

    /// All leaves that decode to an item, that of its own code first.
    ///
    /// # Panics
    /// When there is no such item.
    #[must_use]
    pub fn leaves(&self, item: u32) -> &[u32] {
        let item = item as usize;
        &self.leaves[self.leaf_starts[item] as usize..self.leaf_starts[item + 1] as usize]
    }
}
