//! The codes of a catalogue: one path an item, and the further leaves that the balanced variant gives to some. This is
//! what a run keeps; the trie is made from it.

use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::config::{CodesConfig, MAX_LEVELS, Variant};
use crate::files::{self, numbers};
use crate::{CodeTrie, CodesError, Result, Vectors, balanced, plain};

/// Paths from the root, as ordinals of children: `levels` of them for every item.
///
/// Where an item was alone before the last level, its path goes on with only-children (ordinal 0). No two leaves have
/// the same path, and siblings are numbered 0, 1, 2, …, whichever way the codes were made or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemCodes {
    levels: usize,
    /// `[items, levels]`.
    codes: Vec<u32>,
    /// `[extra, levels]`.
    extra_codes: Vec<u32>,
    /// `[extra]`.
    extra_items: Vec<u32>,
}

impl ItemCodes {
    /// Clusters item vectors into codes. The same vectors, config and seed give the same codes on any number of threads
    /// (of one processor type: matrix products differ in the last digit between instruction sets).
    ///
    /// A single item has one level and one leaf; in the balanced variant `depth` levels, where given. Fewer items than
    /// `branching` have one level, each its own child; in the balanced variant the children left over go to duplicates.
    /// Equal vectors are allowed.
    ///
    /// # Errors
    /// When `config` is not valid, the balanced tree would have too few leaves or too many, the plain one would be deeper
    /// than [`MAX_LEVELS`], or the `kmeans` backend fails.
    pub fn build(vectors: Vectors<'_>, config: &CodesConfig, seed: u64) -> Result<Self> {
        config.validate()?;
        if vectors.rows() == 1 {
            let levels = match config.variant {
                Variant::Plain => 1,
                Variant::Balanced => config.depth.unwrap_or(1),
            };
            return Self::new(levels, vec![0; levels], Vec::new(), Vec::new());
        }
        match config.variant {
            Variant::Plain => plain::build(vectors, config, seed),
            Variant::Balanced => balanced::build(vectors, config, seed),
        }
    }

    /// Codes made elsewhere: `codes` `[items, levels]`, and the paths `extra_codes` `[extra, levels]` of further leaves
    /// with their items `extra_items` `[extra]`.
    ///
    /// # Errors
    /// When there is no item, the shapes do not fit, there are more than [`MAX_LEVELS`] levels, a further leaf's item
    /// does not exist, two leaves have the same path, siblings are not numbered 0, 1, 2, …, or there are more nodes than
    /// a `u32` can number.
    pub fn new(
        levels: usize,
        codes: Vec<u32>,
        extra_codes: Vec<u32>,
        extra_items: Vec<u32>,
    ) -> Result<Self> {
        if !(1..=MAX_LEVELS).contains(&levels)
            || codes.is_empty()
            || !codes.len().is_multiple_of(levels)
        {
            return Err(CodesError::Shape(format!(
                "{} ordinals are no codes of {levels} levels for one item or more; expected 1 to {MAX_LEVELS} levels",
                codes.len()
            )));
        }
        let items = codes.len() / levels;
        if extra_codes.len() != extra_items.len().saturating_mul(levels) {
            return Err(CodesError::Shape(format!(
                "{} ordinals are no codes of {levels} levels for {} further leaves",
                extra_codes.len(),
                extra_items.len()
            )));
        }
        if let Some(leaf) = extra_items.iter().position(|&item| item as usize >= items) {
            return Err(CodesError::UnknownItem {
                leaf,
                item: extra_items[leaf],
                items,
            });
        }
        let codes = Self {
            levels,
            codes,
            extra_codes,
            extra_items,
        };
        CodeTrie::new(&codes)?;
        Ok(codes)
    }

    /// Ordinals in a code, 1 to [`MAX_LEVELS`].
    #[must_use]
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// Number of items, ≥ 1.
    #[must_use]
    pub fn n_items(&self) -> usize {
        self.codes.len() / self.levels
    }

    /// Number of leaves: the items, and the further leaves of the balanced variant.
    #[must_use]
    pub fn n_leaves(&self) -> usize {
        self.n_items() + self.extra_items.len()
    }

    /// The code of an item, `[levels]`.
    ///
    /// # Panics
    /// When there is no such item.
    #[must_use]
    pub fn code(&self, item: u32) -> &[u32] {
        &self.codes[item as usize * self.levels..][..self.levels]
    }

    /// The further leaves: a path, `[levels]`, and the item it decodes to.
    pub fn extra(&self) -> impl Iterator<Item = (&[u32], u32)> {
        self.extra_codes
            .chunks_exact(self.levels)
            .zip(self.extra_items.iter().copied())
    }

    /// Paths and items of the further leaves, as [`new`](Self::new) takes them.
    pub(crate) fn extra_parts(&self) -> (Vec<u32>, Vec<u32>) {
        (self.extra_codes.clone(), self.extra_items.clone())
    }

    /// Path and item of a leaf: first those of the items' own codes, then the further ones.
    pub(crate) fn leaf(&self, leaf: usize) -> (&[u32], u32) {
        match leaf.checked_sub(self.n_items()) {
            None => (self.code(leaf as u32), leaf as u32),
            Some(extra) => (
                &self.extra_codes[extra * self.levels..][..self.levels],
                self.extra_items[extra],
            ),
        }
    }

    /// Writes a safetensors file with `codes` `[items, levels]`, `extra_codes` `[extra, levels]` and `extra_items`
    /// `[extra]`, all `u32`; to a temporary name beside, then renamed. Equal codes give equal bytes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let extra = self.extra_items.len();
        let parts = [
            ("codes", vec![self.n_items(), self.levels], &self.codes),
            ("extra_codes", vec![extra, self.levels], &self.extra_codes),
            ("extra_items", vec![extra], &self.extra_items),
        ]
        .map(|(name, shape, numbers)| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            (name, shape, bytes)
        });
        let mut views = Vec::with_capacity(parts.len());
        for (name, shape, bytes) in &parts {
            views.push((*name, TensorView::new(Dtype::U32, shape.clone(), bytes)?));
        }
        let bytes = safetensors::serialize(views, None)?;
        files::save(path, &bytes)
    }

    /// Reads a file of [`save`](Self::save).
    ///
    /// # Errors
    /// When the file cannot be read, is not of that form, or holds codes that [`new`](Self::new) refuses.
    pub fn load(path: &Path) -> Result<Self> {
        files::read(path, Self::from_bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes)?;
        let (shape, codes) = numbers(&file, "codes", 2)?;
        let (extra_shape, extra_codes) = numbers(&file, "extra_codes", 2)?;
        let (_, extra_items) = numbers(&file, "extra_items", 1)?;
        if extra_shape[1] != shape[1] {
            return Err(CodesError::Shape(format!(
                "`codes` has {} levels, `extra_codes` {}",
                shape[1], extra_shape[1]
            )));
        }
        Self::new(shape[1], codes, extra_codes, extra_items)
    }
}
