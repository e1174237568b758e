//! Generating codes of one stream, held to its trie (paper §3.5): beam search, scoring of everything, and scoring of given
//! items. All three walk the trie level by level in the same way and differ in which prefixes they keep.
//!
//! A prefix is decoded only while the code can still branch below it: an only child has log-probability 0, so in a
//! hierarchical tree most of the last level costs nothing. Nothing is ever computed outside of the trie.

use std::cmp::Ordering;
use std::ops::Range;

use eager_codes::CodeTrie;
use eager_model::{Eager, Memory, Stream};
use eager_ops::{Ops, Segments};

use crate::recommender::check_items;
use crate::{InferError, Result};

/// A leaf of the trie and the log-probability of its whole code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leaf {
    /// Node of the trie.
    pub node: u32,
    /// Sum of the log-probabilities of its path's nodes among their siblings.
    pub log_prob: f32,
}

/// What generates a stream's codes.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The generator.
    pub model: &'a Eager,
    /// Which of its decoders.
    pub stream: Stream,
    /// That decoder's trie.
    pub trie: &'a CodeTrie,
    /// Form of the operations.
    pub ops: Ops,
}

/// A prefix.
#[derive(Clone, Copy, Debug)]
struct Beam {
    node: u32,
    log_prob: f32,
    /// Row of the decoding step that predicted it.
    row: u32,
}

/// Best first, then by node.
fn best_first(a: &Beam, b: &Beam) -> Ordering {
    b.log_prob.total_cmp(&a.log_prob).then(a.node.cmp(&b.node))
}

/// Keeps the first `width` of `list` by `order`, in no particular order.
pub(crate) fn select<T>(list: &mut Vec<T>, width: usize, order: impl Fn(&T, &T) -> Ordering) {
    if width > 0 && width < list.len() {
        list.select_nth_unstable_by(width - 1, order);
    }
    list.truncate(width);
}

/// Whether any node from `node` down has siblings to be told from.
fn branches(trie: &CodeTrie, mut node: u32) -> bool {
    loop {
        let children = trie.children(node);
        match children.len() {
            0 => return false,
            1 => node = children.start,
            _ => return true,
        }
    }
}

/// The most prefixes that one history can make a decoder say on one level.
pub(crate) fn widest(trie: &CodeTrie) -> usize {
    let branching = |level| trie.level(level).filter(|&v| branches(trie, v)).count();
    (0..trie.levels()).map(branching).max().unwrap_or(0)
}

impl Search<'_> {
    /// The `width` best leaves of every history that beam search finds, best first, equal ones by node: at every level the
    /// `width` best prefixes are kept. With as many beams as leaves that is every leaf.
    ///
    /// # Errors
    /// When the trie is not the decoder's, or a log-probability is not a number.
    pub fn beam_search(&self, memory: &Memory, width: usize) -> Result<Vec<Vec<Leaf>>> {
        let starts = vec![true; memory.rows.len()];
        let mut found = self.walk(memory, &starts, |_, _, beams| {
            select(beams, width, best_first);
        })?;
        for beams in &mut found {
            beams.sort_unstable_by(best_first);
        }
        let leaf = |b: Beam| Leaf {
            node: b.node,
            log_prob: b.log_prob,
        };
        Ok(found
            .into_iter()
            .map(|beams| beams.into_iter().map(leaf).collect())
            .collect())
    }

    /// The log-probability of every leaf, `[leaves]` in the trie's order, for every history. Their probabilities sum to 1.
    ///
    /// # Errors
    /// As [`beam_search`](Self::beam_search).
    pub fn leaves(&self, memory: &Memory) -> Result<Vec<Vec<f32>>> {
        let starts = vec![true; memory.rows.len()];
        let found = self.walk(memory, &starts, |_, _, _| ())?;
        // Children follow each other in the order of their parents, so the last level stands in its own order.
        let scores = |beams: Vec<Beam>| beams.iter().map(|b| b.log_prob).collect();
        Ok(found.into_iter().map(scores).collect())
    }

    /// The log-probability of every item, `[items]`, for every history: that of its most probable leaf.
    ///
    /// # Errors
    /// As [`beam_search`](Self::beam_search).
    pub fn exact(&self, memory: &Memory) -> Result<Vec<Vec<f32>>> {
        let first = self.trie.level(self.trie.levels()).start;
        let of_items = |leaves: Vec<f32>| {
            let mut items = vec![f32::NEG_INFINITY; self.trie.n_items()];
            for (leaf, log_prob) in (first..).zip(leaves) {
                if let Some(item) = self.trie.item(leaf) {
                    let best = &mut items[item as usize];
                    *best = best.max(log_prob);
                }
            }
            items
        };
        Ok(self.leaves(memory)?.into_iter().map(of_items).collect())
    }

    /// The log-probabilities of each history's `items`, in their order: those of their most probable leaves. Only the
    /// prefixes of their codes are decoded.
    ///
    /// # Errors
    /// As [`beam_search`](Self::beam_search); when there are not as many lists as histories, or an item is unknown.
    pub fn score_items(&self, memory: &Memory, items: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let trie = self.trie;
        if items.len() != memory.rows.len() {
            return Err(InferError::Lengths {
                what: "lists of items",
                found: items.len(),
                expected: memory.rows.len(),
            });
        }
        check_items(items, trie.n_items())?;
        // For each history and level above 0 the nodes on the way to its items, ascending.
        let wanted: Vec<Vec<Vec<u32>>> = items
            .iter()
            .map(|items| {
                let mut nodes: Vec<u32> = items
                    .iter()
                    .flat_map(|&i| trie.leaves(i))
                    .copied()
                    .collect();
                nodes.sort_unstable();
                nodes.dedup();
                let mut levels = vec![nodes];
                for _ in 1..trie.levels() {
                    // Parents stand in the order of their children.
                    let below = &levels[levels.len() - 1];
                    let mut above: Vec<u32> = below.iter().map(|&v| trie.parent(v)).collect();
                    above.dedup();
                    levels.push(above);
                }
                levels.reverse();
                levels
            })
            .collect();
        let starts: Vec<bool> = items.iter().map(|items| !items.is_empty()).collect();
        let found = self.walk(memory, &starts, |level, history, beams| {
            let wanted = &wanted[history][level - 1];
            beams.retain(|beam| wanted.binary_search(&beam.node).is_ok());
        })?;
        let best = |beams: &[Beam], item: u32| {
            trie.leaves(item)
                .iter()
                .filter_map(|&leaf| beams.binary_search_by_key(&leaf, |b| b.node).ok())
                .map(|at| beams[at].log_prob)
                .fold(f32::NEG_INFINITY, f32::max)
        };
        Ok(items
            .iter()
            .zip(&found)
            .map(|(items, beams)| items.iter().map(|&item| best(beams, item)).collect())
            .collect())
    }

    /// The log-probability of every prefix of one leaf's code a history, `[levels]`, from the first token to the leaf: what a
    /// token costs is the difference to the one before.
    ///
    /// # Errors
    /// As [`beam_search`](Self::beam_search); when there are not as many leaves as histories, or a node is no leaf.
    pub fn prefixes(&self, memory: &Memory, leaves: &[u32]) -> Result<Vec<Vec<f32>>> {
        let (trie, levels) = (self.trie, self.trie.levels());
        if leaves.len() != memory.rows.len() {
            return Err(InferError::Lengths {
                what: "leaves",
                found: leaves.len(),
                expected: memory.rows.len(),
            });
        }
        let mut paths = Vec::with_capacity(leaves.len());
        for (history, &leaf) in leaves.iter().enumerate() {
            if trie.item(leaf).is_none() {
                return Err(InferError::NotALeaf {
                    history,
                    node: leaf,
                    stream: self.stream.name(),
                });
            }
            let mut path = vec![leaf; levels];
            for level in (0..levels - 1).rev() {
                path[level] = trie.parent(path[level + 1]);
            }
            paths.push(path);
        }
        let mut found = vec![Vec::with_capacity(levels); leaves.len()];
        self.walk(
            memory,
            &vec![true; leaves.len()],
            |level, history, beams| {
                beams.retain(|beam| beam.node == paths[history][level - 1]);
                found[history].extend(beams.iter().map(|beam| beam.log_prob));
            },
        )?;
        Ok(found)
    }

    /// From the root to the leaves, for the histories of `starts`. On every level `keep(level, history, prefixes)` says
    /// which prefixes go on; they come ascending by node if those of the level above were left ascending.
    fn walk(
        &self,
        memory: &Memory,
        starts: &[bool],
        mut keep: impl FnMut(usize, usize, &mut Vec<Beam>),
    ) -> Result<Vec<Vec<Beam>>> {
        let (trie, tokens) = (self.trie, self.model.tokens(self.stream));
        let root = Beam {
            node: 0,
            log_prob: 0.0,
            row: 0,
        };
        let mut found: Vec<Vec<Beam>> = starts
            .iter()
            .map(|&start| if start { vec![root] } else { vec![] })
            .collect();
        if !starts.contains(&true) {
            return Ok(found);
        }
        let mut decoding = self.model.begin(self.stream, self.ops, memory)?;
        for level in 1..=trie.levels() {
            let (mut nodes, mut parents) = (vec![], vec![]);
            let mut lengths = Vec::with_capacity(found.len());
            for beams in &found {
                let before = nodes.len();
                for beam in beams.iter().filter(|b| branches(trie, b.node)) {
                    nodes.push(beam.node);
                    parents.push(beam.row);
                }
                lengths.push(nodes.len() - before);
            }
            let scores = if nodes.is_empty() {
                None
            } else {
                let beams = Segments::from_lengths(&lengths);
                let hidden = decoding.step(&nodes, &parents, &beams)?; // [beams, d]
                let children: Vec<Range<u32>> = nodes.iter().map(|&v| trie.children(v)).collect();
                Some(self.ops.tree_scores(&hidden, tokens, &children)?)
            };
            let mut row = 0; // of the step
            for (history, (beams, &decoded)) in found.iter_mut().zip(&lengths).enumerate() {
                let mine = row..row + decoded;
                let size = nodes[mine.clone()].iter().map(|&v| trie.children(v).len());
                let mut next = Vec::with_capacity(size.sum::<usize>() + beams.len() - decoded);
                for beam in beams.iter() {
                    let children = trie.children(beam.node);
                    match &scores {
                        Some(scores) if row < mine.end && nodes[row] == beam.node => {
                            let children = children.zip(scores.row(row));
                            next.extend(children.map(|(node, log_prob)| Beam {
                                node,
                                log_prob: beam.log_prob + log_prob,
                                row: row as u32,
                            }));
                            row += 1;
                        }
                        _ => next.extend(children.map(|node| Beam { node, ..*beam })),
                    }
                }
                if next.iter().any(|beam| beam.log_prob.is_nan()) {
                    return Err(InferError::NotANumber {
                        history,
                        part: match self.stream {
                            Stream::Behaviour => "behaviour decoder",
                            Stream::Semantic => "semantic decoder",
                        },
                    });
                }
                keep(level, history, &mut next);
                *beams = next;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use eager_codes::ItemCodes;

    use super::*;

    #[test]
    fn selection_keeps_the_first() {
        for width in 0..7 {
            let mut list = vec![3, 1, 4, 0, 2];
            select(&mut list, width, i32::cmp);
            list.sort_unstable();
            assert_eq!(list, (0..5.min(width as i32)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn only_chains_do_not_branch() {
        // 0.0.0, 0.0.1, 1.0.0: the root and 0, 0.0 branch, 1 and 1.0 do not.
        let codes = ItemCodes::new(3, vec![0, 0, 0, 0, 0, 1, 1, 0, 0], vec![], vec![]).unwrap();
        let trie = CodeTrie::new(&codes).unwrap();
        let all: Vec<bool> = (0..trie.n_nodes() as u32)
            .map(|v| branches(&trie, v))
            .collect();
        assert_eq!(all, [true, true, false, true, false, false, false, false]);
        assert_eq!(widest(&trie), 1);
    }
}
