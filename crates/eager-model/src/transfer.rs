//! The semantic-guided transfer task's network (paper §3.4): a bidirectional decoder over `[CLS]` and a behaviour code,
//! which cross-attends the semantic summary. It reads the behaviour decoder's token embeddings, so that what it learns
//! reaches the behaviour stream. What is masked or replaced, and the losses, belong to `eager-losses`.

use candle_core::{Result, Tensor};
use eager_ops::{Layer, LayerInput, Pass, Segments};

use crate::decoder::{Decoder, SUMMARY};
use crate::layers::{self, Embedding, Linear};
use crate::{EagerConfig, Guide, Vocabulary, Weights};

/// Special tokens of the behaviour table, after the summary token.
const CLS: u32 = SUMMARY + 1;
const MASK: u32 = SUMMARY + 2;
pub(crate) const SPECIALS: usize = MASK as usize + 1;

/// Behaviour codes, true, masked or replaced, and the summaries that guide them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferCodes {
    /// Tokens, `[n, levels]`: nodes of the behaviour trie, or [`crate::Eager::mask_token`].
    pub tokens: Vec<u32>,
    /// For each code the row of the batch whose semantic summary guides it, `[n]`.
    pub guides: Vec<u32>,
    /// The positions whose states are wanted, ascending: see [`TransferCodes::cls`] and [`TransferCodes::token`].
    pub wanted: Vec<u32>,
}

impl TransferCodes {
    /// The position `[CLS]` of a code.
    #[must_use]
    pub fn cls(code: usize, levels: usize) -> u32 {
        (code * (levels + 1)) as u32
    }

    /// The position of a code's token, `token` being its number in [`TransferCodes::tokens`].
    #[must_use]
    pub fn token(token: usize, levels: usize) -> u32 {
        Self::cls(token / levels, levels) + 1 + (token % levels) as u32
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    guide: Linear,
    embedding: Embedding,
    layers: Vec<Layer>,
    recognise: Linear,
    levels: usize,
}

impl Transfer {
    pub(crate) fn new(
        weights: &mut Weights,
        config: &EagerConfig,
        levels: usize,
        semantic_dim: usize,
    ) -> Result<Self> {
        let d = config.d_model;
        let guide_dim = match config.guide {
            Guide::Summary => d,
            Guide::Projection => semantic_dim,
        };
        Ok(Self {
            guide: Linear::new(weights, "transfer.guide", guide_dim, d, config.init)?,
            embedding: Embedding::new(
                weights,
                "transfer",
                (levels + 1, config.d_model),
                config.init,
            )?,
            layers: layers::layers(
                weights,
                "transfer",
                config.layer(true),
                config.transfer_layers,
                config.init,
            )?,
            recognise: Linear::new(weights, "transfer.recognise", d, 1, config.init)?,
            levels,
        })
    }

    /// `guide` `[batch, guide dim]`; `[wanted, d]` out.
    pub(crate) fn forward(
        &self,
        pass: Pass<'_>,
        behaviour: &Decoder,
        guide: &Tensor,
        codes: &TransferCodes,
        vocabulary: &Vocabulary,
    ) -> Result<Tensor> {
        let (n, levels) = (codes.guides.len(), self.levels);
        if codes.tokens.len() != n * levels {
            candle_core::bail!(
                "transfer: {} tokens for {n} codes of {levels} levels",
                codes.tokens.len()
            )
        }
        let guide = self.guide.forward(pass.ops, guide)?; // [batch, d]
        let memory = pass.ops.gather(&guide, &codes.guides)?; // [n, d]
        let length = levels + 1;
        let cls = vocabulary.row(behaviour.special(CLS))?;
        let mut ids = Vec::with_capacity(n * length);
        for code in codes.tokens.chunks_exact(levels) {
            ids.push(cls);
            for &token in code {
                ids.push(vocabulary.row(token)?);
            }
        }
        let positions: Vec<u32> = (0..n).flat_map(|_| 0..length as u32).collect();
        let (rows, one) = (Segments::uniform(n, length), Segments::uniform(n, 1));
        let tokens = pass.gather(vocabulary.table(), &ids)?;
        let mut x = self.embedding.forward(pass, &tokens, &positions)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let last = i + 1 == self.layers.len();
            let input = LayerInput {
                rows: &rows,
                wanted: last.then_some(codes.wanted.as_slice()),
                causal: false,
                memory: Some((&memory, &one)),
            };
            x = layer.forward(pass, &x, input)?;
        }
        Ok(x)
    }

    /// Logit that code and guide belong together, of states at `[CLS]` `[n, d]`: `[n]`.
    pub(crate) fn recognise(&self, pass: Pass<'_>, cls: &Tensor) -> Result<Tensor> {
        self.recognise.forward(pass.ops, cls)?.squeeze(1)
    }
}

/// The token that stands for a masked one.
pub(crate) fn mask_token(behaviour: &Decoder) -> u32 {
    behaviour.special(MASK)
}
