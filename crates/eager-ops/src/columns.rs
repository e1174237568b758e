//! Mean and variance of each column of `x: [n, d]`: what batch normalisation and Dice normalise by.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::linear::column_sums;
use crate::storage::{tensor, with_slice};
use crate::vector::{add_scaled, dispatch};

/// Rows whose squares one task sums; fixed, so the sum's order is too.
const ROWS: usize = 256;

/// Mean and biased variance (the sum of squares over `n`) of each column, both `[d]`, outside of any graph.
#[derive(Clone, Debug)]
pub struct ColumnStatistics {
    /// Means.
    pub mean: Tensor,
    /// Variances.
    pub var: Tensor,
}

impl ColumnStatistics {
    /// A column's mean and reciprocal standard deviation, for the fused kernels.
    pub(crate) fn scales(&self, eps: f64) -> Result<Columns> {
        let mean = with_slice(&self.mean, |m| Ok(m.to_vec()))?;
        let rstd = with_slice(&self.var, |v| {
            Ok(v.iter().map(|v| 1.0 / (v + eps as f32).sqrt()).collect())
        })?;
        Ok(Columns { mean, rstd })
    }
}

/// What a fused kernel needs of the statistics.
#[derive(Clone)]
pub(crate) struct Columns {
    pub(crate) mean: Vec<f32>,
    /// `1 / √(var + ε)`.
    pub(crate) rstd: Vec<f32>,
}

/// In two passes, so that a large mean costs no precision.
pub(crate) fn statistics(x: &Tensor) -> Result<ColumnStatistics> {
    let (n, d) = x.dims2()?;
    if n == 0 || d == 0 {
        candle_core::bail!("column statistics: x {:?} has no elements", x.shape())
    }
    with_slice(x, |x| {
        let inverse = 1.0 / n as f32;
        let mut mean = column_sums(x, d);
        mean.iter_mut().for_each(|m| *m *= inverse);
        let parts: Vec<Vec<f32>> = x
            .par_chunks(ROWS * d)
            .map(|rows| {
                let mut sums = vec![0.0; d];
                dispatch(
                    #[inline(always)]
                    || {
                        for row in rows.chunks_exact(d) {
                            for ((s, &x), &m) in sums.iter_mut().zip(row).zip(&mean) {
                                *s += (x - m) * (x - m);
                            }
                        }
                    },
                );
                sums
            })
            .collect();
        let mut var = vec![0.0; d];
        parts.iter().for_each(|p| add_scaled(&mut var, inverse, p));
        Ok(ColumnStatistics {
            mean: tensor(mean, &[d])?,
            var: tensor(var, &[d])?,
        })
    })
}
