//! How good codes are: the shape of the tree, how evenly items use it, how tight its clusters are, and whether items with
//! near vectors share prefixes.
//!
//! Everything is about the items' own codes; the balanced variant's further leaves count only where leaves are counted.

use std::fmt;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::neighbours::nearest_others;
use crate::{CodeTrie, CodesError, Result, Vectors};

/// What the report looks at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportConfig {
    /// Items whose neighbours are looked up; all where there are fewer. With 1,000 the 95 % interval of a share is
    /// ± 0.03 at worst.
    pub sample: usize,
    /// Nearest items of each, by cosine, exact.
    pub neighbours: usize,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self {
            sample: 1000,
            neighbours: 10,
        }
    }
}

/// Quality of one tree of codes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityReport {
    /// Items.
    pub items: usize,
    /// Leaves: the items, and in the balanced variant their duplicates.
    pub leaves: usize,
    /// Nodes, with the root.
    pub nodes: usize,
    /// Mean squared distance of an item to the mean of all: the inertia of level 0.
    pub variance: f64,
    /// The levels, from the root's children to the leaves.
    pub levels: Vec<LevelReport>,
    /// `depths[d]`: items that are alone from level `d + 1` on, before their codes were continued by only-children.
    pub depths: Vec<usize>,
    /// Items whose neighbours were looked up.
    pub sample: usize,
    /// Neighbours of each.
    pub neighbours: usize,
}

/// Quality of one level of a tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelReport {
    /// Level, counted from 1.
    pub level: usize,
    /// Nodes of the level.
    pub nodes: usize,
    /// Nodes of the level above that have two children or more: where a decoder chooses.
    pub choices: usize,
    /// Mean number of children of those; 0 where there is none.
    pub branching_mean: f64,
    /// Most children of a node of the level above.
    pub branching_max: usize,
    /// Entropy of the items over the nodes of the level, bits.
    pub entropy: f64,
    /// That entropy by its maximum, log₂ of the nodes: 1 where all are used alike; 0 with one node.
    pub entropy_normalised: f64,
    /// Entropy of the level's ordinal given the prefix, bits: what the decoder has to say at this step.
    pub entropy_given_prefix: f64,
    /// Mean squared distance of an item to the mean of its node.
    pub inertia: f64,
    /// Share of (item, near neighbour) pairs with the same prefix of this length.
    pub neighbours_sharing: f64,
    /// Share of all pairs of items with the same prefix of this length: what chance gives.
    pub pairs_sharing: f64,
}

impl QualityReport {
    /// Measures codes against the vectors they were made from. `seed` draws the sample.
    ///
    /// # Errors
    /// When vectors and codes have different numbers of items.
    pub fn new(
        vectors: Vectors<'_>,
        trie: &CodeTrie,
        config: &ReportConfig,
        seed: u64,
    ) -> Result<Self> {
        let n = trie.n_items();
        if vectors.rows() != n {
            return Err(CodesError::Mismatch {
                what: "vectors for a report",
                found: vectors.rows(),
                expected: n,
            });
        }
        let mut order: Vec<u32> = (0..n as u32).collect(); // items in the order of their leaves
        order.sort_unstable_by_key(|&item| trie.path(item).last().copied());

        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut sample: Vec<u32> = rand::seq::index::sample(&mut rng, n, config.sample.min(n))
            .into_iter()
            .map(|i| i as u32)
            .collect();
        sample.sort_unstable();
        let neighbours = config.neighbours.min(n - 1);
        let near = nearest_others(vectors, &sample, neighbours);
        let shared = shared_prefixes(trie, &sample, &near);

        let mut levels = Vec::with_capacity(trie.levels());
        let mut above = 0.0;
        for level in 1..=trie.levels() {
            let runs: Vec<&[u32]> = order
                .chunk_by(|&a, &b| trie.path(a)[level - 1] == trie.path(b)[level - 1])
                .collect();
            let nodes = trie.level(level).len();
            let entropy = entropy(runs.iter().map(|run| run.len()));
            let branching: Vec<usize> = trie
                .level(level - 1)
                .map(|v| trie.children(v).len())
                .collect();
            let choices: Vec<usize> = branching.iter().copied().filter(|&b| b > 1).collect();
            let pairs: u64 = runs.iter().map(|run| pairs(run.len())).sum();
            levels.push(LevelReport {
                level,
                nodes,
                choices: choices.len(),
                branching_mean: ratio(choices.iter().sum::<usize>() as f64, choices.len() as f64),
                branching_max: branching.iter().copied().max().unwrap_or(0),
                entropy,
                entropy_normalised: ratio(entropy, (nodes as f64).log2()).min(1.0),
                entropy_given_prefix: entropy - above,
                inertia: inertia(vectors, &runs) / n as f64,
                neighbours_sharing: ratio(
                    shared[level - 1] as f64,
                    (sample.len() * neighbours) as f64,
                ),
                pairs_sharing: ratio(pairs as f64, self::pairs(n) as f64),
            });
            above = entropy;
        }
        Ok(Self {
            items: n,
            leaves: trie.n_leaves(),
            nodes: trie.n_nodes(),
            variance: inertia(vectors, &[&order]) / n as f64,
            levels,
            depths: depths(trie, &order),
            sample: sample.len(),
            neighbours,
        })
    }
}

/// Pairs of a set's members.
pub(crate) fn pairs(members: usize) -> u64 {
    let members = members as u64;
    members * members.saturating_sub(1) / 2
}

/// `a / b`, 0 where `b` is.
pub(crate) fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

/// Entropy in bits of the shares that the counts are of their sum.
pub(crate) fn entropy(counts: impl Iterator<Item = usize> + Clone) -> f64 {
    let total = counts.clone().sum::<usize>() as f64;
    let bits = |count: usize| match count {
        0 => 0.0,
        count => -(count as f64 / total) * (count as f64 / total).log2(),
    };
    counts.map(bits).sum::<f64>().max(0.0)
}

/// Sum of the squared distances of items to the mean of their run.
fn inertia(vectors: Vectors<'_>, runs: &[&[u32]]) -> f64 {
    let of_run = |run: &&[u32]| -> f64 {
        let mut mean = vec![0.0f64; vectors.dim()];
        for &item in *run {
            for (total, &x) in mean.iter_mut().zip(vectors.row(item as usize)) {
                *total += f64::from(x);
            }
        }
        for total in &mut mean {
            *total /= run.len() as f64;
        }
        let to_mean = |&item: &u32| -> f64 {
            let row = vectors.row(item as usize).iter();
            row.zip(&mean)
                .map(|(&x, m)| (f64::from(x) - m).powi(2))
                .sum()
        };
        run.iter().map(to_mean).sum()
    };
    let parts: Vec<f64> = runs.par_iter().map(of_run).collect();
    parts.iter().sum()
}

/// `[levels]`: (item, neighbour) pairs that share a prefix of each length.
fn shared_prefixes(trie: &CodeTrie, sample: &[u32], near: &[Vec<u32>]) -> Vec<usize> {
    let mut shared = vec![0; trie.levels()];
    for (&item, near) in sample.iter().zip(near) {
        for &other in near {
            let same = trie
                .path(item)
                .iter()
                .zip(trie.path(other))
                .take_while(|(a, b)| a == b);
            for (count, _) in shared.iter_mut().zip(same) {
                *count += 1;
            }
        }
    }
    shared
}

/// Items by the first level at which no other item's code shares their node; `order` is that of the leaves.
fn depths(trie: &CodeTrie, order: &[u32]) -> Vec<usize> {
    let common = |a: &u32, b: &u32| {
        let same = trie
            .path(*a)
            .iter()
            .zip(trie.path(*b))
            .take_while(|(a, b)| a == b);
        same.count()
    };
    let mut depths = vec![0; trie.levels()];
    for (place, item) in order.iter().enumerate() {
        let before = place.checked_sub(1).map_or(0, |p| common(&order[p], item));
        let after = order.get(place + 1).map_or(0, |next| common(item, next));
        depths[before.max(after)] += 1;
    }
    depths
}

impl fmt::Display for QualityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} items, {} leaves, {} nodes on {} levels; variance {:.4}",
            self.items,
            self.leaves,
            self.nodes,
            self.levels.len(),
            self.variance
        )?;
        writeln!(
            f,
            "level    nodes  branching mean  max  entropy (of most, given prefix)  inertia  shared by near  by any    alone"
        )?;
        for (level, alone) in self.levels.iter().zip(&self.depths) {
            writeln!(
                f,
                "{:>5} {:>8} {:>15.1} {:>4} {:>8.3} ({:>7.3} {:>13.3}) {:>9.4} {:>15.3} {:>7.4} {:>8}",
                level.level,
                level.nodes,
                level.branching_mean,
                level.branching_max,
                level.entropy,
                level.entropy_normalised,
                level.entropy_given_prefix,
                level.inertia,
                level.neighbours_sharing,
                level.pairs_sharing,
                alone
            )?;
        }
        write!(
            f,
            "near: the {} nearest by cosine of {} items",
            self.neighbours, self.sample
        )
    }
}
