//! The shared encoder: a transformer over the items of a history (paper §3.2). Positions count from the newest item,
//! as left padding does in the official code.

use candle_core::{Result, Tensor};
use eager_ops::{Layer, LayerInput, LowPass, Pass, Segments};

use crate::filter_layer::{FilterInput, FilterLayer};
use crate::layers::{self, Embedding};
use crate::{EagerConfig, Init, ItemTable, PerStream, Weights};

/// Histories packed end to end.
#[derive(Clone, Debug)]
pub struct Histories {
    items: Vec<u32>,
    rows: Segments,
}

impl Histories {
    /// `items` of all histories, oldest first; `offsets` says where each begins, and the end: one more than histories.
    ///
    /// # Errors
    /// When the offsets do not start at 0, decrease, or do not end at the number of items.
    pub fn new(items: &[u32], offsets: &[u32]) -> Result<Self> {
        let rows = Segments::from_offsets(offsets)?;
        if rows.rows() != items.len() {
            candle_core::bail!(
                "histories: offsets end at {}, there are {} items",
                rows.rows(),
                items.len()
            )
        }
        Ok(Self {
            items: items.to_vec(),
            rows,
        })
    }

    /// The newest `most` items of each of `histories`, which are oldest first.
    ///
    /// # Errors
    /// When there are more items than a `u32` can number.
    pub fn newest(histories: &[&[u32]], most: usize) -> Result<Self> {
        let (mut items, mut offsets) = (vec![], vec![0]);
        for history in histories {
            items.extend_from_slice(&history[history.len().saturating_sub(most)..]);
            offsets.push(u32::try_from(items.len()).map_err(candle_core::Error::wrap)?);
        }
        Ok(Self {
            rows: Segments::from_offsets(&offsets)?,
            items,
        })
    }

    /// Items of all histories end to end, oldest first.
    #[must_use]
    pub fn items(&self) -> &[u32] {
        &self.items
    }

    /// Where each history lies among them.
    #[must_use]
    pub fn rows(&self) -> &Segments {
        &self.rows
    }

    /// Number of histories.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// What the encoder makes of histories: a hidden state for each item, in each stream's view.
#[derive(Clone, Debug)]
pub struct Memory {
    /// `[rows, d]` each; the same tensor where the streams share their item table.
    pub hidden: PerStream<Tensor>,
    /// The histories' rows.
    pub rows: Segments,
}

#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    /// `[n_items, d]`, or `[2 · n_items, d]` with a table for each stream, behaviour first.
    items: Tensor,
    embedding: Embedding,
    layers: Layers,
    n_items: usize,
    window: usize,
    shared: bool,
}

#[derive(Clone, Debug)]
enum Layers {
    Attention(Vec<Layer>),
    Filter(Vec<FilterLayer>),
}

impl Layers {
    fn new(weights: &mut Weights, config: &EagerConfig) -> Result<Self> {
        let (n, shape, init) = (config.encoder_layers, config.layer(false), config.init);
        let filter = &config.filter;
        if filter.alpha == 0.0 {
            return layers::layers(weights, "encoder", shape, n, init).map(Self::Attention);
        }
        let low_pass = LowPass::new(config.window - 1, filter.frequencies())?;
        let layer = |i| {
            let filter = (filter.alpha, low_pass.clone());
            FilterLayer::new(weights, &format!("encoder.{i}"), shape, init, filter)
        };
        (0..n).map(layer).collect::<Result<_>>().map(Self::Filter)
    }

    /// `x` `[rows, d]`; the same shape out.
    fn forward(&self, pass: Pass<'_>, x: Tensor, rows: &Segments) -> Result<Tensor> {
        match self {
            Self::Attention(layers) => layers.iter().try_fold(x, |x, layer| {
                let input = LayerInput {
                    rows,
                    wanted: None,
                    causal: false,
                    memory: None,
                };
                layer.forward(pass, &x, input)
            }),
            Self::Filter(layers) => layers.iter().try_fold(x, |x, layer| {
                let input = FilterInput {
                    rows,
                    keys: (None, rows),
                    seen: None,
                };
                layer.forward(pass, &x, input)
            }),
        }
    }
}

impl Encoder {
    pub(crate) fn new(weights: &mut Weights, config: &EagerConfig, n_items: usize) -> Result<Self> {
        let shared = config.items == ItemTable::Shared;
        let rows = if shared { n_items } else { 2 * n_items };
        Ok(Self {
            items: weights.get(
                "encoder.items",
                (rows, config.d_model),
                Init::Normal(config.init),
            )?,
            embedding: Embedding::new(
                weights,
                "encoder",
                (config.window - 1, config.d_model),
                config.init,
            )?,
            layers: Layers::new(weights, config)?,
            n_items,
            window: config.window,
            shared,
        })
    }

    pub(crate) fn items(&self) -> &Tensor {
        &self.items
    }

    pub(crate) fn forward(&self, pass: Pass<'_>, histories: &Histories) -> Result<Memory> {
        let rows = &histories.rows;
        // Later steps read the state at a history's newest item.
        if let Some(history) = rows.iter().position(|r| r.is_empty()) {
            candle_core::bail!("history {history} is empty: the encoder needs at least one item")
        }
        if rows.longest() >= self.window {
            candle_core::bail!(
                "a history of {} items in a window of {} positions holds at most {}: keep the newest",
                rows.longest(),
                self.window,
                self.window - 1
            )
        }
        if let Some(item) = histories
            .items
            .iter()
            .find(|&&i| i as usize >= self.n_items)
        {
            candle_core::bail!(
                "item {item} of a history is not among {} items",
                self.n_items
            )
        }
        let mut positions: Vec<u32> = rows
            .iter()
            .flat_map(|r| (0..r.len() as u32).rev())
            .collect();
        if self.shared {
            let hidden = self.encode(pass, &histories.items, &positions, rows)?;
            return Ok(Memory {
                hidden: PerStream::from_fn(|_| hidden.clone()),
                rows: rows.clone(),
            });
        }
        // Both streams' views of every history in one pass, behaviour first.
        let offset = self.n_items as u32;
        let items = histories.items.iter().copied();
        let items: Vec<u32> = items.clone().chain(items.map(|i| i + offset)).collect();
        positions.extend_from_within(..);
        let lengths: Vec<usize> = rows.iter().chain(rows.iter()).map(|r| r.len()).collect();
        let both = self.encode(pass, &items, &positions, &Segments::from_lengths(&lengths))?;
        let n = rows.rows();
        Ok(Memory {
            hidden: PerStream {
                behaviour: both.narrow(0, 0, n)?,
                semantic: both.narrow(0, n, n)?,
            },
            rows: rows.clone(),
        })
    }

    fn encode(
        &self,
        pass: Pass<'_>,
        items: &[u32],
        positions: &[u32],
        rows: &Segments,
    ) -> Result<Tensor> {
        let items = pass.rows(&self.items, items)?;
        let x = self.embedding.forward(pass, &items, positions)?;
        self.layers.forward(pass, x, rows)
    }
}
