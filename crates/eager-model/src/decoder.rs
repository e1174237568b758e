//! A stream's decoder: generates a code token by token under causal attention, with cross-attention to the history
//! (paper §3.2), and sums the code up at a summary token that stands behind it (§3.3).
//!
//! Tokens are the nodes of the stream's code trie, numbered as [`eager_codes::CodeTrie`] numbers them: a token belongs to
//! its level and its parent (as in the official code), and the root is the start token. A position's logits are its
//! hidden state times the embeddings of the prefix's children, the same table as the input's.

use std::ops::Range;

use candle_core::{Result, Tensor};
use eager_codes::CodeTrie;
use eager_ops::{Dropout, Layer, LayerInput, Ops, Pass, RowRanges, Segments};

use crate::layers::{self, Embedding};
use crate::{EagerConfig, Init, Steps, Vocabulary, Weights};

/// The codes of a batch's targets: what a decoder reads in training, and what it is to say.
#[derive(Clone, Debug)]
pub struct TargetCodes {
    /// Nodes below the root, `[batch, levels]`.
    pub paths: Vec<u32>,
    /// For each of `[batch, levels]`: the children of the true prefix, and which of them is true.
    pub rows: RowRanges,
    /// Tokens of a code.
    pub levels: usize,
}

impl TargetCodes {
    /// The own codes of `items`.
    ///
    /// # Errors
    /// When there is none, or one is not in the trie.
    pub fn new(trie: &CodeTrie, items: &[u32]) -> Result<Self> {
        if let Some(item) = items.iter().find(|&&i| i as usize >= trie.n_items()) {
            candle_core::bail!(
                "item {item} has no code: the trie has {} items",
                trie.n_items()
            )
        }
        let paths: Vec<u32> = items.iter().flat_map(|&i| trie.path(i)).copied().collect();
        let ranges = paths.iter().map(|&node| trie.children(trie.parent(node)));
        Ok(Self {
            rows: RowRanges::new(ranges.collect(), paths.clone())?,
            paths,
            levels: trie.levels(),
        })
    }

    /// Every token that is a child of a true prefix, once a prefix.
    pub fn siblings(&self) -> impl Iterator<Item = u32> {
        let mut ranges: Vec<_> = self
            .rows
            .ranges()
            .iter()
            .map(|r| (r.start, r.end))
            .collect();
        ranges.sort_unstable();
        ranges.dedup();
        ranges.into_iter().flat_map(|(start, end)| start..end)
    }

    /// Number of codes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.paths.len() / self.levels
    }

    /// Never true: see [`TargetCodes::new`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

/// What a decoder makes of a batch of codes.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The states that the next token is predicted from, `[batch · levels, d]`, a code's positions together. Where the
    /// true prefix has one child only there is nothing to predict: the row is then any other state.
    pub hidden: Tensor,
    /// The summary token's states, `[batch, d]`.
    pub summary: Tensor,
}

/// The first token behind the trie's nodes: the summary token. What follows belongs to the transfer task.
pub(crate) const SUMMARY: u32 = 0;

/// A stream's decoder.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    /// `[nodes + specials, d]`: every node of the trie, then the special tokens.
    tokens: Tensor,
    embedding: Embedding,
    layers: Vec<Layer>,
    levels: usize,
    nodes: u32,
    specials_end: u32,
}

impl Decoder {
    pub(crate) fn new(
        weights: &mut Weights,
        name: &str,
        config: &EagerConfig,
        trie: &CodeTrie,
        specials: usize,
    ) -> Result<Self> {
        let (levels, nodes) = (trie.levels(), trie.n_nodes());
        Ok(Self {
            tokens: weights.get(
                &format!("{name}.tokens"),
                (nodes + specials, config.d_model),
                Init::Normal(config.init),
            )?,
            // start, the code, summary
            embedding: Embedding::new(weights, name, (levels + 2, config.d_model), config.init)?,
            layers: layers::layers(
                weights,
                name,
                config.layer(true),
                config.decoder_layers,
                config.init,
            )?,
            levels,
            nodes: nodes as u32,
            specials_end: (nodes + specials) as u32,
        })
    }

    /// Token embeddings: row i is node i of the trie, the special tokens stand behind.
    pub(crate) fn tokens(&self) -> &Tensor {
        &self.tokens
    }

    /// The id of special token `number`.
    pub(crate) fn special(&self, number: u32) -> u32 {
        self.nodes + number
    }

    /// The ids of all special tokens.
    pub(crate) fn specials(&self) -> Range<u32> {
        self.nodes..self.specials_end
    }

    /// Teacher-forced pass over `codes`, one for each sequence of `memory` `[memory rows, d]`.
    pub(crate) fn forward(
        &self,
        pass: Pass<'_>,
        (memory, memory_rows): (&Tensor, &Segments),
        codes: &TargetCodes,
        vocabulary: &Vocabulary,
    ) -> Result<Decoded> {
        let (batch, levels) = (codes.len(), self.levels);
        if codes.levels != levels || batch != memory_rows.len() {
            candle_core::bail!(
                "{batch} codes of {} levels for {} histories and a decoder of {levels} levels",
                codes.levels,
                memory_rows.len()
            )
        }
        let length = levels + 2;
        let (start, summary) = (vocabulary.row(0)?, vocabulary.row(self.special(SUMMARY))?);
        let mut ids = Vec::with_capacity(batch * length);
        for path in codes.paths.chunks_exact(levels) {
            ids.push(start);
            for &token in path {
                ids.push(vocabulary.row(token)?);
            }
            ids.push(summary);
        }
        let positions: Vec<u32> = (0..batch).flat_map(|_| 0..length as u32).collect();
        let rows = Segments::uniform(batch, length);
        let tokens = pass.gather(vocabulary.table(), &ids)?;
        let mut x = self.embedding.forward(pass, &tokens, &positions)?;
        // Of the last layer, the states that choose among children and the summaries; what an only child is predicted from
        // is chosen by nobody.
        let chooses = |row: usize| codes.rows.ranges()[row].len() > 1;
        let mut wanted = Vec::with_capacity(batch * (levels + 1));
        let (mut hidden, mut summary) = (Vec::with_capacity(batch * levels), vec![]);
        for b in 0..batch {
            for level in 0..levels {
                hidden.push(wanted.len() as u32);
                if chooses(b * levels + level) {
                    wanted.push((b * length + level) as u32);
                }
            }
            summary.push(wanted.len() as u32);
            wanted.push((b * length + levels + 1) as u32);
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let last = i + 1 == self.layers.len();
            let input = LayerInput {
                rows: &rows,
                wanted: last.then_some(wanted.as_slice()),
                causal: true,
                memory: Some((memory, memory_rows)),
            };
            x = layer.forward(pass, &x, input)?;
        } // [wanted, d]
        Ok(Decoded {
            hidden: pass.ops.gather(&x, &hidden)?,
            summary: pass.ops.gather(&x, &summary)?,
        })
    }

    /// Begins to decode for the histories behind `memory` `[memory rows, d]`: their keys and values are computed once.
    pub(crate) fn begin(
        &self,
        ops: Ops,
        memory: &Tensor,
        memory_rows: &Segments,
    ) -> Result<Decoding<'_>> {
        Ok(Decoding {
            decoder: self,
            ops,
            steps: Steps::new(&self.layers, ops, memory, memory_rows)?,
        })
    }
}

/// A decoder between two tokens of the codes that its beams say.
#[derive(Clone, Debug)]
pub struct Decoding<'a> {
    decoder: &'a Decoder,
    ops: Ops,
    steps: Steps<'a>,
}

impl Decoding<'_> {
    /// Says one more token on every beam: `nodes` `[beams]`, each going on from row `parents[i]` of the last step
    /// (ignored at the first, which says the root). The beams of a history stand together; `beams` says how many each
    /// has. `[beams, d]` out: the states that the children of `nodes` are predicted from.
    ///
    /// # Errors
    /// When the lengths do not fit, a parent is no row of the last step, or the code has ended.
    pub fn step(&mut self, nodes: &[u32], parents: &[u32], beams: &Segments) -> Result<Tensor> {
        let (decoder, step) = (self.decoder, self.steps.made());
        if step >= decoder.levels {
            candle_core::bail!("a code of {} levels has ended", decoder.levels)
        }
        let off = Dropout::off();
        let pass = Pass {
            ops: self.ops,
            dropout: &off,
            leaves: None,
        };
        let positions = vec![step as u32; nodes.len()];
        let tokens = self.ops.gather(&decoder.tokens, nodes)?;
        let x = decoder.embedding.forward(pass, &tokens, &positions)?;
        self.steps.step(&x, parents, beams)
    }
}
