//! Codes of a catalogue that changes: new items on the tree as it stands, and the tree without some of its items.

use rayon::prelude::*;

use crate::points::squared_distance;
use crate::{CodeTrie, CodesError, ItemCodes, Result, Vectors};

/// Codes after a change, and where the nodes of their trie were before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedCodes {
    /// The codes.
    pub codes: ItemCodes,
    /// For each node of the trie of [`codes`](Self::codes) the same node's number before; `None` for a new one: `[nodes]`.
    pub origins: Vec<Option<u32>>,
}

impl ItemCodes {
    /// The same codes with those of further items behind them, on the tree as it stands: no node moves, so that every
    /// path there is stays what it is. `vectors` are those of the items there are, `new` those of the further ones.
    ///
    /// From the root an item descends to the child whose mean vector is nearest (squared distance, the lowest ordinal of
    /// equal ones), down to a node whose children hold one leaf each: what k-means no longer split. There it becomes the
    /// next child, whose path goes on with only-children, if the node has fewer than `branching`; if it is full, the
    /// item goes on to the nearest child where the tree is deep enough for two to part below it, else to the next
    /// nearest node with room. Means are those before the call; room is taken in the order of the items.
    ///
    /// # Errors
    /// When the vectors are not of these items or not of one width, or no node has room.
    pub fn extended(
        &self,
        vectors: Vectors<'_>,
        new: Vectors<'_>,
        branching: usize,
    ) -> Result<ChangedCodes> {
        let (levels, n) = (self.levels(), self.n_items());
        let before = CodeTrie::new(self)?;
        let means = node_means(&before, vectors)?;
        if new.dim() != vectors.dim() {
            return Err(CodesError::Shape(format!(
                "new vectors of width {}, the items' have {}",
                new.dim(),
                vectors.dim()
            )));
        }
        let mut tree = Growing {
            before: &before,
            means: &means,
            dim: vectors.dim(),
            branching,
            sizes: (0..before.n_nodes() as u32)
                .map(|node| before.children(node).len())
                .collect(),
        };
        let mut codes: Vec<u32> = (0..n as u32)
            .flat_map(|item| self.code(item))
            .copied()
            .collect();
        for row in 0..new.rows() {
            let full = CodesError::NoRoom { row, branching };
            let parent = tree.place(0, 0, new.row(row)).ok_or(full)?;
            let first = codes.len();
            let mut node = parent;
            while node != 0 {
                codes.push(ordinal(&before, node));
                node = before.parent(node);
            }
            codes[first..].reverse();
            codes.push(tree.sizes[parent as usize] as u32);
            codes.resize(first + levels, 0);
            tree.sizes[parent as usize] += 1;
        }
        let (extra_codes, extra_items) = self.extra_parts();
        let codes = Self::new(levels, codes, extra_codes, extra_items)?;
        let after = CodeTrie::new(&codes)?;
        let mut origins = vec![None; after.n_nodes()];
        origins[0] = Some(0);
        for node in 0..after.n_nodes() {
            let Some(origin) = origins[node] else {
                continue;
            };
            // Paths stay, so the first children are the old ones.
            for (child, old) in after.children(node as u32).zip(before.children(origin)) {
                origins[child as usize] = Some(old);
            }
        }
        Ok(ChangedCodes { codes, origins })
    }

    /// The codes of those items that `keep` says, `[items]`, numbered anew in their order. Siblings move up, so that they
    /// stay 0, 1, 2, …; a node without a leaf is gone, and the depth stays.
    ///
    /// # Errors
    /// When `keep` is not of these items, or keeps none.
    pub fn retained(&self, keep: &[bool]) -> Result<ChangedCodes> {
        let (levels, n) = (self.levels(), self.n_items());
        if keep.len() != n {
            return Err(CodesError::Mismatch {
                what: "choices of items to keep",
                found: keep.len(),
                expected: n,
            });
        }
        let before = CodeTrie::new(self)?;
        let mut kept = vec![false; before.n_nodes()];
        for leaf in before.level(levels) {
            if before.item(leaf).is_some_and(|item| keep[item as usize]) {
                let mut node = leaf;
                while !kept[node as usize] {
                    kept[node as usize] = true;
                    node = before.parent(node);
                }
            }
        }
        // Ordinals among what is left.
        let mut ordinals = vec![0; before.n_nodes()];
        for node in 0..before.n_nodes() as u32 {
            let left = before.children(node).filter(|&child| kept[child as usize]);
            for (place, child) in (0..).zip(left) {
                ordinals[child as usize] = place;
            }
        }
        let renumbered = |path: &[u32], to: &mut Vec<u32>| {
            let mut node = 0;
            for &ordinal in path {
                node = before.children(node).start + ordinal;
                to.push(ordinals[node as usize]);
            }
        };
        let (mut codes, mut numbers, mut next) = (vec![], vec![0; n], 0);
        for item in (0..n as u32).filter(|&item| keep[item as usize]) {
            renumbered(self.code(item), &mut codes);
            numbers[item as usize] = next;
            next += 1;
        }
        let (mut extra_codes, mut extra_items) = (vec![], vec![]);
        for (path, item) in self.extra().filter(|&(_, item)| keep[item as usize]) {
            renumbered(path, &mut extra_codes);
            extra_items.push(numbers[item as usize]);
        }
        let codes = Self::new(levels, codes, extra_codes, extra_items)?;
        // Both tries are numbered breadth first, and the order of what is left is the same.
        let origins = (0..before.n_nodes() as u32).filter(|&node| kept[node as usize]);
        Ok(ChangedCodes {
            codes,
            origins: origins.map(Some).collect(),
        })
    }
}

/// The mean of the vectors of the leaves below every node, row-major `[nodes, dim]`; an item of several leaves counts as
/// often.
///
/// # Errors
/// When the vectors are not of the trie's items.
pub fn node_means(trie: &CodeTrie, vectors: Vectors<'_>) -> Result<Vec<f32>> {
    if vectors.rows() != trie.n_items() {
        return Err(CodesError::Mismatch {
            what: "vectors for the means of nodes",
            found: vectors.rows(),
            expected: trie.n_items(),
        });
    }
    let dim = vectors.dim();
    let mut means = vec![0.0; trie.n_nodes() * dim];
    means
        .par_chunks_exact_mut(dim)
        .zip(0..trie.n_nodes() as u32)
        .for_each(|(mean, node)| {
            let leaves = trie.leaves_below(node);
            let count = leaves.len() as f64;
            let mut sums = vec![0.0; dim];
            for item in leaves.filter_map(|leaf| trie.item(leaf)) {
                for (sum, &x) in sums.iter_mut().zip(vectors.row(item as usize)) {
                    *sum += f64::from(x);
                }
            }
            for (mean, sum) in mean.iter_mut().zip(sums) {
                *mean = (sum / count) as f32;
            }
        });
    Ok(means)
}

/// Which of its siblings a node is.
fn ordinal(trie: &CodeTrie, node: u32) -> u32 {
    node - trie.children(trie.parent(node)).start
}

/// A tree that takes in items.
struct Growing<'a> {
    before: &'a CodeTrie,
    /// `[nodes, dim]`.
    means: &'a [f32],
    dim: usize,
    branching: usize,
    /// Children of every node, the new ones included.
    sizes: Vec<usize>,
}

impl Growing<'_> {
    /// The node below `node`, at depth `depth`, that takes `vector` as a child.
    fn place(&self, node: u32, depth: usize, vector: &[f32]) -> Option<u32> {
        if depth == self.before.levels() {
            return None;
        }
        let children = self.before.children(node);
        let unsplit = children.len() == self.before.leaves_below(node).len();
        if unsplit && self.sizes[node as usize] < self.branching {
            return Some(node);
        }
        let distance = |child: u32| {
            let mean = &self.means[child as usize * self.dim..][..self.dim];
            squared_distance(mean, vector)
        };
        let mut order: Vec<_> = children.map(|child| (distance(child), child)).collect();
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        order
            .into_iter()
            .find_map(|(_, child)| self.place(child, depth + 1, vector))
    }
}
