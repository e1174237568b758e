//! The direct head: the encoder's state at a history's newest item, mapped once, against every item's embedding. What a
//! sequence model with a softmax over the catalogue does (SASRec with cross-entropy); not in the paper.

use candle_core::{Result, Tensor};

use crate::encoder::Memory;
use crate::layers::{Linear, Pass};
use crate::{EagerConfig, Stream, Weights};

#[derive(Debug)]
pub(crate) struct DirectHead {
    query: Linear,
}

impl DirectHead {
    pub(crate) fn new(weights: &mut Weights, config: &EagerConfig) -> Result<Self> {
        let d = config.d_model;
        Ok(Self {
            query: Linear::new(weights, "direct.query", d, d, config.init)?,
        })
    }

    /// `[batch, d]`, whose products with the items' embeddings are logits.
    pub(crate) fn forward(&self, pass: Pass<'_>, memory: &Memory) -> Result<Tensor> {
        let newest: Vec<u32> = memory.rows.iter().map(|rows| rows.end as u32 - 1).collect();
        // One table, so both streams' states are the same.
        let states = (pass.ops).gather(&memory.hidden[Stream::Behaviour], &newest)?;
        let states = pass.ops.dropout(&states, pass.dropout)?;
        self.query.forward(pass.ops, &states)
    }
}
