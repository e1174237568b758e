//! SASRec (Kang & McAuley, 2018): a causal transformer over the history, whose state at an item predicts the next.
//!
//! Layers are post-norm with GELU, as in RecBole's SASRec; the paper's are pre-norm with ReLU. Positions count from the
//! oldest item that is read, so that a state is the same whatever follows it. Sequences are packed: no padding.

use candle_core::{Result, Tensor};
use eager_model::{Embedding, Histories, Init, Parameters, Weights, layers};
use eager_ops::{Layer, LayerInput, Pass};

use crate::{NextItem, SasrecConfig, check};

/// The model.
#[derive(Debug)]
pub struct Sasrec {
    config: SasrecConfig,
    items: Tensor,
    embedding: Embedding,
    layers: Vec<Layer>,
    parameters: Parameters,
}

impl Sasrec {
    /// Makes the model of `weights`: drawn, or saved ones of the same configuration.
    ///
    /// # Errors
    /// When `config` is not valid, or saved weights do not fit.
    pub fn new(config: &SasrecConfig, n_items: usize, mut weights: Weights) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let (d, init) = (config.d_model, config.init);
        let w = &mut weights;
        Ok(Self {
            items: w.get("items", (n_items, d), Init::Normal(init))?,
            embedding: Embedding::new(w, "embedding", (config.window, d), init)?,
            layers: layers(w, "layers", config.layer(), config.layers, init)?,
            parameters: weights.finish()?,
            config: config.clone(),
        })
    }

    /// States of the last layer at the `wanted` rows; at all without.
    fn forward(
        &self,
        pass: Pass<'_>,
        histories: &Histories,
        wanted: Option<&[u32]>,
    ) -> Result<Tensor> {
        check(histories, self.config.window, self.items.dim(0)?)?;
        let rows = histories.rows();
        let positions: Vec<u32> = rows.iter().flat_map(|r| 0..r.len() as u32).collect();
        let items = pass.ops.gather(&self.items, histories.items())?; // [rows, d]
        let mut x = self.embedding.forward(pass, &items, &positions)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let last = i + 1 == self.layers.len();
            let input = LayerInput {
                rows,
                wanted: wanted.filter(|_| last),
                causal: true,
                memory: None,
            };
            x = layer.forward(pass, &x, input)?;
        }
        Ok(x)
    }
}

impl NextItem for Sasrec {
    fn items(&self) -> &Tensor {
        &self.items
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn window(&self) -> usize {
        self.config.window
    }

    fn dropout(&self) -> f32 {
        self.config.dropout
    }

    fn every_position(&self) -> bool {
        true
    }

    fn states(&self, pass: Pass<'_>, histories: &Histories) -> Result<Tensor> {
        self.forward(pass, histories, None)
    }

    fn last(&self, pass: Pass<'_>, histories: &Histories) -> Result<Tensor> {
        let last = histories
            .rows()
            .iter()
            .map(|r| r.end.saturating_sub(1) as u32);
        self.forward(pass, histories, Some(&last.collect::<Vec<_>>()))
    }
}
