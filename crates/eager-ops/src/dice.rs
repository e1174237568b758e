//! Dice (Zhou et al., 2018, §5.3), DIN's activation: `p = σ((x - mean)/√(var + ε))`, `y = x·(p + α·(1 - p))`, with
//! the mean and variance of each column of `x: [n, d]` and a learned `α: [d]`.
//!
//! In training the statistics are those of `x` itself and the gradient runs through them too; in evaluation they are
//! constants.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::columns::Columns;
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{add_scaled, dispatch, each_column, exp};

/// Rows one task handles; fixed, so that the order of the sums over rows is too.
const ROWS: usize = 256;

pub(crate) struct DiceOp {
    pub(crate) columns: Columns,
    /// Whether `columns` are the statistics of `x`, so that the gradient runs through them.
    pub(crate) of_batch: bool,
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

impl CustomOp2 for DiceOp {
    fn name(&self) -> &'static str {
        "fused-dice"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        alpha: &CpuStorage,
        al: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, d) = xl.shape().dims2()?;
        let (x, alpha) = (slice(x, xl)?, slice(alpha, al)?);
        let Columns { mean, rstd } = &self.columns;
        if d == 0 || alpha.len() != d || mean.len() != d || rstd.len() != d {
            candle_core::bail!(
                "dice: x {:?}, alpha {:?}, statistics of {} columns",
                xl.shape(),
                al.shape(),
                mean.len()
            )
        }
        let mut y = uninit(n * d);
        y.par_chunks_mut(ROWS * d)
            .zip(x.par_chunks(ROWS * d))
            .for_each(|(y, x)| {
                dispatch(
                    #[inline(always)]
                    || {
                        for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                            each_column(
                                [y],
                                [],
                                [x, alpha, mean, rstd],
                                #[inline(always)]
                                |[x, alpha, mean, rstd]| {
                                    let p = sigmoid((x - mean) * rstd);
                                    ([x * (alpha + (1.0 - alpha) * p)], [])
                                },
                            );
                        }
                    },
                )
            });
        Ok((CpuStorage::F32(y), (n, d).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        alpha: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (n, d) = x.dims2()?;
        let (dx, dalpha) = with_slice(x, |x| {
            with_slice(alpha, |alpha| {
                with_slice(grad, |g| Ok(self.backward(x, alpha, g, n, d)))
            })
        })?;
        Ok((Some(tensor(dx, &[n, d])?), Some(tensor(dalpha, &[d])?)))
    }
}

impl DiceOp {
    /// With `z = (x - mean)·r`, `r = 1/√(var + ε)` and `dz = g·x·(1 - α)·p·(1 - p)`:
    /// `dx = g·(α + (1 - α)·p) + r·(dz - mean(dz) - z·mean(dz∘z))`, the means only where the statistics are the
    /// batch's; `dα = Σ g·x·(1 - p)`.
    fn backward(
        &self,
        x: &[f32],
        alpha: &[f32],
        g: &[f32],
        n: usize,
        d: usize,
    ) -> (Vec<f32>, Vec<f32>) {
        let Columns { mean, rstd } = &self.columns;
        let mut dx = uninit(n * d);
        let parts: Vec<Vec<f32>> = dx
            .par_chunks_mut(ROWS * d)
            .zip(x.par_chunks(ROWS * d))
            .zip(g.par_chunks(ROWS * d))
            .map(|((dx, x), g)| {
                let mut sums = vec![0.0; 3 * d];
                let (dalpha, rest) = sums.split_at_mut(d);
                let (sum_dz, sum_dzz) = rest.split_at_mut(d);
                dispatch(
                    #[inline(always)]
                    || {
                        for ((dx, x), g) in dx
                            .chunks_exact_mut(d)
                            .zip(x.chunks_exact(d))
                            .zip(g.chunks_exact(d))
                        {
                            each_column(
                                [dx],
                                [&mut *dalpha, &mut *sum_dz, &mut *sum_dzz],
                                [x, g, alpha, mean, rstd],
                                #[inline(always)]
                                |[x, g, alpha, mean, rstd]| {
                                    let z = (x - mean) * rstd;
                                    let p = sigmoid(z);
                                    let gx = g * x;
                                    let dz = gx * (1.0 - alpha) * p * (1.0 - p);
                                    let dx = g * (alpha + (1.0 - alpha) * p) + rstd * dz;
                                    ([dx], [gx * (1.0 - p), dz, dz * z])
                                },
                            );
                        }
                    },
                );
                sums
            })
            .collect();
        let mut total = vec![0.0; 3 * d];
        parts.iter().for_each(|p| add_scaled(&mut total, 1.0, p));
        if self.of_batch {
            let inverse = 1.0 / n as f32;
            // What is taken from each row: `shift + z·slope`.
            let shift: Vec<f32> = (0..d).map(|i| rstd[i] * total[d + i] * inverse).collect();
            let slope: Vec<f32> = (0..d)
                .map(|i| rstd[i] * total[2 * d + i] * inverse)
                .collect();
            subtract_line(&mut dx, x, &self.columns, &shift, &slope);
        }
        total.truncate(d);
        (dx, total)
    }
}

/// `dx -= shift + z·slope` for `z = (x - mean)·rstd`: the part of a gradient that ran through batch statistics.
pub(crate) fn subtract_line(
    dx: &mut [f32],
    x: &[f32],
    columns: &Columns,
    shift: &[f32],
    slope: &[f32],
) {
    let d = columns.mean.len();
    let Columns { mean, rstd } = columns;
    dx.par_chunks_mut(ROWS * d)
        .zip(x.par_chunks(ROWS * d))
        .for_each(|(dx, x)| {
            dispatch(
                #[inline(always)]
                || {
                    for (dx, x) in dx.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                        each_column(
                            [],
                            [dx],
                            [x, mean, rstd, shift, slope],
                            #[inline(always)]
                            |[x, mean, rstd, shift, slope]| {
                                ([], [-(shift + (x - mean) * rstd * slope)])
                            },
                        );
                    }
                },
            )
        });
}
