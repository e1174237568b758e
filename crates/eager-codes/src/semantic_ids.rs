//! TIGER's semantic ids (Rajput et al., 2023): an item's vector quantised level by level, each time what the levels before
//! left of it, and a last token that tells items with equal codewords apart.
//!
//! The quantiser is residual k-means: a level clusters the residuals of *all* items, so that its codewords mean the same
//! after every prefix. (In a tree of [`ItemCodes`] a token belongs to its prefix.) The paper's quantiser, an RQ-VAE, starts
//! from k-means and takes residuals in the same way, but is trained.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::clustering::{gather, partition};
use crate::config::{CodesConfig, MAX_LEVELS};
use crate::files::{self, numbers};
use crate::seed::NodeSeed;
use crate::{CodesError, ItemCodes, Result, Vectors};

/// How vectors become semantic ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SemanticIdConfig {
    /// Codewords of an id, one more token follows. Paper: 3.
    pub levels: usize,
    /// Centres of a level, fewer where there are fewer distinct residuals. Paper: 256.
    pub branching: usize,
    /// Most Lloyd iterations of one level. Ours.
    pub max_iterations: usize,
}

impl Default for SemanticIdConfig {
    fn default() -> Self {
        Self {
            levels: 3,
            branching: 256,
            max_iterations: 100,
        }
    }
}

impl SemanticIdConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// When one is outside its range.
    pub fn validate(&self) -> Result<()> {
        if !(1..MAX_LEVELS).contains(&self.levels) {
            return Err(CodesError::Config(format!(
                "`levels` is {}, expected 1 to {}",
                self.levels,
                MAX_LEVELS - 1
            )));
        }
        self.clustering().validate()
    }

    /// Of one level.
    fn clustering(&self) -> CodesConfig {
        CodesConfig {
            branching: self.branching,
            max_iterations: self.max_iterations,
            ..CodesConfig::default()
        }
    }
}

/// The id of every item: its codewords, and a last token.
///
/// The tokens of a place are 0, 1, 2, …, each of them some item's; those of different places have nothing to do with each
/// other. Items of equal codewords have the last tokens 0, 1, 2, … in their order, so no two ids are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SemanticIds {
    length: usize,
    /// `[items, length]`.
    tokens: Vec<u32>,
    /// Tokens of every place, `[length]`.
    vocabulary: Vec<u32>,
}

impl SemanticIds {
    /// Clusters item vectors into ids. Codewords of a level are numbered by their smallest item. The same vectors, config
    /// and seed give the same ids on any number of threads (of one processor type).
    ///
    /// # Errors
    /// When `config` is not valid.
    pub fn build(vectors: Vectors<'_>, config: &SemanticIdConfig, seed: u64) -> Result<Self> {
        config.validate()?;
        let (n, dim, clustering) = (vectors.rows(), vectors.dim(), config.clustering());
        let k = config.branching.min(n);
        let mut points = gather(vectors);
        let mut columns = Vec::with_capacity(config.levels);
        for level in 0..config.levels as u32 {
            let mut rng = NodeSeed(seed).child(level).rng();
            let found = partition(&points, k, &clustering, &mut rng)?;
            columns.push(by_smallest_item(&found.assignment));
            if columns.len() < config.levels {
                let residuals = points.residuals(&found.centres, &found.assignment);
                points = gather(Vectors::of_any_scale(&residuals, dim)?);
            }
        }
        let codewords: Vec<u32> = (0..n)
            .flat_map(|item| columns.iter().map(move |column| column[item]))
            .collect();
        let mut groups: HashMap<&[u32], u32> = HashMap::new();
        let mut tokens = Vec::with_capacity(n * (config.levels + 1));
        for own in codewords.chunks_exact(config.levels) {
            let next = groups.entry(own).or_default();
            tokens.extend_from_slice(own);
            tokens.push(*next);
            *next += 1;
        }
        Self::new(config.levels + 1, tokens)
    }

    /// Ids made elsewhere: `tokens` `[items, length]`, a length of at least 2.
    ///
    /// # Errors
    /// When there is no item, the shape does not fit, a token below the largest of its place is no item's, or the last
    /// tokens of equal codewords are not 0, 1, 2, … in the items' order.
    pub fn new(length: usize, tokens: Vec<u32>) -> Result<Self> {
        if !(2..=MAX_LEVELS).contains(&length)
            || tokens.is_empty()
            || !tokens.len().is_multiple_of(length)
        {
            return Err(CodesError::Shape(format!(
                "{} tokens are no ids of {length} tokens for one item or more; expected 2 to {MAX_LEVELS} an id",
                tokens.len()
            )));
        }
        let mut next: HashMap<&[u32], u32> = HashMap::new();
        for (item, id) in tokens.chunks_exact(length).enumerate() {
            let (codewords, last) = id.split_at(length - 1);
            let expected = next.entry(codewords).or_default();
            if last[0] != *expected {
                return Err(CodesError::Shape(format!(
                    "item {item} has the last token {}, expected {expected}: items of equal codewords, {codewords:?} here, \
                     are numbered in their order",
                    last[0]
                )));
            }
            *expected += 1;
        }
        let mut vocabulary = Vec::with_capacity(length);
        for place in 0..length {
            let mut own: Vec<u32> = tokens.iter().skip(place).step_by(length).copied().collect();
            own.sort_unstable();
            own.dedup();
            if let Some((missing, _)) = (0..).zip(&own).find(|(number, token)| number != *token) {
                return Err(CodesError::Shape(format!(
                    "no item has token {missing} in place {place}; tokens of a place are numbered from 0 without gaps"
                )));
            }
            vocabulary.push(own.len() as u32);
        }
        Ok(Self {
            length,
            tokens,
            vocabulary,
        })
    }

    /// Tokens of an id, ≥ 2: the levels, and one.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Number of items, ≥ 1.
    #[must_use]
    pub fn n_items(&self) -> usize {
        self.tokens.len() / self.length
    }

    /// How many tokens each place has, `[length]`.
    #[must_use]
    pub fn vocabulary(&self) -> &[u32] {
        &self.vocabulary
    }

    /// The id of an item, `[length]`.
    ///
    /// # Panics
    /// When there is no such item.
    #[must_use]
    pub fn id(&self, item: u32) -> &[u32] {
        &self.tokens[item as usize * self.length..][..self.length]
    }

    /// The tree of the prefixes that there are, for a [`CodeTrie`](crate::CodeTrie): children of a node in the order of
    /// their tokens.
    ///
    /// # Errors
    /// When there are more nodes than a `u32` can number.
    pub fn tree(&self) -> Result<ItemCodes> {
        let length = self.length;
        let mut order: Vec<u32> = (0..self.n_items() as u32).collect();
        order.sort_unstable_by_key(|&item| self.id(item));
        let mut ordinals = vec![0; self.tokens.len()];
        let (mut path, mut before) = (vec![0; length], self.id(order[0]));
        for &item in &order {
            let id = self.id(item);
            if let Some(differs) = (0..length).find(|&place| id[place] != before[place]) {
                path[differs] += 1;
                path[differs + 1..].fill(0);
            }
            before = id;
            ordinals[item as usize * length..][..length].copy_from_slice(&path);
        }
        ItemCodes::new(length, ordinals, Vec::new(), Vec::new())
    }

    /// How well the codewords tell items apart.
    #[must_use]
    pub fn report(&self) -> SemanticIdReport {
        let ids = || self.tokens.chunks_exact(self.length);
        let levels = self.length - 1;
        let distinct = |length: usize| ids().map(|id| &id[..length]).collect::<HashSet<_>>().len();
        let mut groups: HashMap<&[u32], usize> = HashMap::new();
        for id in ids() {
            *groups.entry(&id[..levels]).or_default() += 1;
        }
        let shared: usize = groups.values().filter(|&&items| items > 1).sum();
        SemanticIdReport {
            items: self.n_items(),
            vocabulary: self.vocabulary.clone(),
            prefixes: (1..=levels).map(distinct).collect(),
            collisions: shared as f64 / self.n_items() as f64,
            largest: groups.values().copied().max().unwrap_or(0),
        }
    }

    /// Writes a safetensors file with `ids` `[items, length]`, `u32`; to a temporary name beside, then renamed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes: Vec<u8> = self.tokens.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = vec![self.n_items(), self.length];
        let view = TensorView::new(Dtype::U32, shape, &bytes)?;
        files::save(path, &safetensors::serialize([(TENSOR, view)], None)?)
    }

    /// Reads a file of [`save`](Self::save).
    ///
    /// # Errors
    /// When the file cannot be read, is not of that form, or holds ids that [`new`](Self::new) refuses.
    pub fn load(path: &Path) -> Result<Self> {
        files::read(path, |bytes| {
            let (shape, tokens) = numbers(&SafeTensors::deserialize(bytes)?, TENSOR, 2)?;
            Self::new(shape[1], tokens)
        })
    }
}

/// Name of the tensor in the file.
const TENSOR: &str = "ids";

/// Clusters renumbered from 0 in the order of their smallest items.
fn by_smallest_item(assignment: &[u32]) -> Vec<u32> {
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    let number = |cluster: &u32| {
        let next = numbers.len() as u32;
        *numbers.entry(*cluster).or_insert(next)
    };
    assignment.iter().map(number).collect()
}

/// How well codewords tell items apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SemanticIdReport {
    /// Items.
    pub items: usize,
    /// Tokens of every place of an id, the last one's too.
    pub vocabulary: Vec<u32>,
    /// Distinct prefixes of 1, 2, … codewords, to all of them.
    pub prefixes: Vec<usize>,
    /// Share of items that have all their codewords in common with another.
    pub collisions: f64,
    /// Most items of equal codewords.
    pub largest: usize,
}

impl fmt::Display for SemanticIdReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} items; tokens by place {:?}; distinct prefixes by length {:?}; {:.1} % of items share all codewords with \
             another, {} at most",
            self.items,
            self.vocabulary,
            self.prefixes,
            100.0 * self.collisions,
            self.largest
        )
    }
}
