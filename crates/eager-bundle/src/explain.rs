//! Why an item is recommended: its code in each stream's tree, token by token, with what else has the same prefix.

use std::ops::Range;

use eager_model::{PerStream, Stream};

use crate::{Bundle, BundleError, Result};

/// An item's codes, as a history makes them likely.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The item.
    pub item: u32,
    /// Its code in each stream: of its most probable leaf.
    pub streams: PerStream<CodePath>,
}

/// A code with its probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct CodePath {
    /// Log-probability of the whole code.
    pub log_prob: f32,
    /// From the first token to the leaf, `[levels]`.
    pub tokens: Vec<Token>,
}

/// One token of a code.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Node of the trie, see [`eager_codes::CodeTrie`].
    pub node: u32,
    /// Which of its siblings it is, from 0.
    pub ordinal: u32,
    /// Siblings, itself among them: what the decoder chose from.
    pub siblings: usize,
    /// Log-probability of this token after those before it; 0 for an only child.
    pub log_prob: f32,
    /// Leaves below.
    pub leaves: usize,
    /// The first few items below, each once.
    pub samples: Vec<u32>,
}

impl Bundle {
    /// How likely `history` makes each token of an item's codes; with up to `samples` items of every prefix.
    ///
    /// # Errors
    /// When the history is empty, or an item does not exist.
    pub fn explain(&self, history: &[u32], item: u32, samples: usize) -> Result<Explanation> {
        Ok(self.explain_each(history, &[item], samples)?.swap_remove(0))
    }

    /// As [`explain`](Self::explain) for each of `items`, a list, in one pass.
    ///
    /// # Errors
    /// As [`explain`](Self::explain).
    pub fn explain_each(
        &self,
        history: &[u32],
        items: &[u32],
        samples: usize,
    ) -> Result<Vec<Explanation>> {
        let n = self.items().len();
        if let Some(item) = items.iter().find(|&&item| item as usize >= n) {
            return Err(BundleError::Query {
                query: 0,
                fault: format!("there is no item {item}, only 0 to {}", n - 1),
            });
        }
        let mut streams = PerStream::try_from_fn(|stream| {
            let search = self.recommender().search(stream);
            // A row a leaf: an item of several leaves is explained by the most probable one; of equal ones by the first.
            let leaves = |item: &u32| search.trie.leaves(*item);
            let rows: Vec<u32> = items.iter().flat_map(leaves).copied().collect();
            let mut found = vec![];
            if !rows.is_empty() {
                let memory = self.recommender().encode(&vec![history; rows.len()])?;
                found = search.prefixes(&memory, &rows)?;
            }
            let mut found = rows.into_iter().zip(found);
            let paths = items.iter().map(|item| {
                let mut best: Option<(u32, Vec<f32>)> = None;
                for (leaf, prefixes) in found.by_ref().take(leaves(item).len()) {
                    let better = |(_, other): &(u32, Vec<f32>)| prefixes.last() > other.last();
                    if best.as_ref().is_none_or(better) {
                        best = Some((leaf, prefixes));
                    }
                }
                let (leaf, prefixes) = best.unwrap_or_default();
                self.code_path(stream, leaf, &prefixes, samples)
            });
            Ok::<_, BundleError>(paths.collect::<Vec<_>>().into_iter())
        })?;
        let explanations = items.iter().map_while(|&item| {
            let streams = PerStream {
                behaviour: streams.behaviour.next()?,
                semantic: streams.semantic.next()?,
            };
            Some(Explanation { item, streams })
        });
        Ok(explanations.collect())
    }

    /// The items below a node of a stream's tree, each once, in the order of the leaves.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn items_below(&self, stream: Stream, node: u32) -> impl Iterator<Item = u32> {
        let trie = self.recommender().trie(stream);
        let mut seen = std::collections::HashSet::new();
        let leaves: Range<u32> = trie.leaves_below(node);
        leaves
            .filter_map(|leaf| trie.item(leaf))
            .filter(move |&item| seen.insert(item))
    }

    fn code_path(&self, stream: Stream, leaf: u32, prefixes: &[f32], samples: usize) -> CodePath {
        let trie = self.recommender().trie(stream);
        let mut nodes = vec![leaf];
        while nodes.len() < trie.levels() {
            nodes.push(trie.parent(nodes[nodes.len() - 1]));
        }
        nodes.reverse();
        let mut before = 0.0;
        let tokens = nodes.iter().zip(prefixes).map(|(&node, &log_prob)| {
            let siblings = trie.children(trie.parent(node));
            let token = Token {
                node,
                ordinal: node - siblings.start,
                siblings: siblings.len(),
                log_prob: log_prob - before,
                leaves: trie.leaves_below(node).len(),
                samples: self.items_below(stream, node).take(samples).collect(),
            };
            before = log_prob;
            token
        });
        let tokens = tokens.collect();
        CodePath {
            log_prob: before,
            tokens,
        }
    }
}
