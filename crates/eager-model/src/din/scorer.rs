//! Scores of all items for a history, by the running statistics and outside of any graph.

use candle_core::Result;
use eager_ops::{Dropout, Ops, Pairs, Segments};

use super::statistics::Norms;
use super::{CandidateParts, Din, DinStatistics};
use crate::items_above;

/// Candidates scored at a time: their hidden states stay in the cache.
const CANDIDATES: usize = 512;

/// A DIN ready to score its whole catalogue: what depends on the candidate alone is computed once. It sees the
/// weights as they are; make another after an update.
#[derive(Debug)]
pub struct DinScorer {
    ops: Ops,
    din: Din,
    statistics: DinStatistics,
    /// Pieces of the catalogue, in order.
    pieces: Vec<CandidateParts>,
}

impl DinScorer {
    /// Scores with `din`'s present weights, normalised by `statistics`.
    ///
    /// # Errors
    /// When memory cannot be had.
    pub fn new(ops: Ops, din: &Din, statistics: &DinStatistics) -> Result<Self> {
        let din = din.detached();
        let n = din.items.dim(0)?;
        let pieces = (0..n)
            .step_by(CANDIDATES)
            .map(|first| {
                let items = din.items.narrow(0, first, CANDIDATES.min(n - first))?;
                din.candidate_parts(ops, &items)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            ops,
            din,
            statistics: statistics.clone(),
            pieces,
        })
    }

    /// Scores of all items after `history`, oldest item first; `[n_items]`.
    ///
    /// # Errors
    /// When the history is longer than the windows or an item is not in the table.
    pub fn score(&self, history: &[u32]) -> Result<Vec<f32>> {
        let positions = Segments::from_lengths(&[history.len()]);
        let b = self.ops.gather(&self.din.items, history)?; // [positions, d]
        let parts = self.din.history_parts(self.ops, &b, &positions)?;
        let mut norms = Norms::Known(&self.statistics);
        let mut scores = Vec::with_capacity(self.din.items.dim(0)?);
        for piece in &self.pieces {
            let n = piece.top.dim(0)?;
            let pairs = Pairs::new(&Segments::from_lengths(&[n]), &positions)?;
            let off = Dropout::off();
            let piece = self
                .din
                .scores(self.ops, piece, &parts, &pairs, &mut norms, &off)?;
            scores.extend(piece.to_vec1::<f32>()?);
        }
        Ok(scores)
    }

    /// How many items score higher than `target` after `history`, as [`items_above`] counts them. The target is in the
    /// first `k` where this is below `k`. Items of the history are not masked.
    ///
    /// # Errors
    /// As [`DinScorer::score`] and [`items_above`].
    pub fn rank(&self, history: &[u32], target: u32) -> Result<usize> {
        items_above(&self.score(history)?, target)
    }
}
