#![doc = include_str!("../README.md")]

mod bsarec;
mod config;
mod loss;
mod rank;
mod sasrec;
mod tiger;

use candle_core::{Result, Tensor};
use eager_model::{Histories, Parameters};
use eager_ops::Pass;

pub use bsarec::Bsarec;
pub use config::{BsarecConfig, SasrecConfig, TigerConfig};
pub use eager_model::ConfigError;
pub use loss::{Draws, LossConfig, Sample, SoftmaxLoss, softmax_loss};
pub use rank::{Rank, ranks};
pub use sasrec::Sasrec;
pub use tiger::{Candidate, Tiger};

/// A model whose score of an item is the product of a state with the item's embedding.
pub trait NextItem: Sync {
    /// The item embeddings, `[n_items, d]`.
    fn items(&self) -> &Tensor;

    /// All parameters.
    fn parameters(&self) -> &Parameters;

    /// Items of a history that it reads at most.
    fn window(&self) -> usize;

    /// Share that training drops.
    fn dropout(&self) -> f32;

    /// Whether a training pass has a state at every item, for the item after it; else only at the last of each history.
    fn every_position(&self) -> bool;

    /// The states of a training pass: `[items, d]` or `[histories, d]`, as [`every_position`](Self::every_position) says.
    ///
    /// # Errors
    /// When a history is empty, longer than the window, or holds an unknown item.
    fn states(&self, pass: Pass<'_>, histories: &Histories) -> Result<Tensor>;

    /// The state after each history's last item, `[histories, d]`.
    ///
    /// # Errors
    /// As [`states`](Self::states).
    fn last(&self, pass: Pass<'_>, histories: &Histories) -> Result<Tensor>;
}

/// Whether a model of this window and catalogue can read the histories.
fn check(histories: &Histories, window: usize, n_items: usize) -> Result<()> {
    let rows = histories.rows();
    if let Some(history) = rows.iter().position(|r| r.is_empty() || r.len() > window) {
        candle_core::bail!(
            "history {history} has {} items; 1 to {window} can be read: keep the newest",
            rows.range(history).len()
        )
    }
    match histories.items().iter().find(|&&i| i as usize >= n_items) {
        Some(item) => candle_core::bail!("item {item} of a history is not among {n_items} items"),
        None => Ok(()),
    }
}
