//! Batch normalisation (Ioffe & Szegedy, 2015): `y = (x - mean)/√(var + ε)·w + b` over the columns of `x: [n, d]`.
//!
//! In training the statistics are those of `x` itself and the gradient runs through them too; in evaluation they are
//! constants.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::columns::Columns;
use crate::dice::subtract_line;
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{add_scaled, dispatch, each_column};

/// Rows one task handles; fixed, so that the order of the sums over rows is too.
const ROWS: usize = 256;

pub(crate) struct BatchNormOp {
    pub(crate) columns: Columns,
    /// Whether `columns` are the statistics of `x`, so that the gradient runs through them.
    pub(crate) of_batch: bool,
}

impl CustomOp3 for BatchNormOp {
    fn name(&self) -> &'static str {
        "fused-batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, d) = xl.shape().dims2()?;
        let (x, w, b) = (slice(x, xl)?, slice(w, wl)?, slice(b, bl)?);
        let Columns { mean, rstd } = &self.columns;
        if d == 0 || w.len() != d || b.len() != d || mean.len() != d || rstd.len() != d {
            candle_core::bail!(
                "batch_norm: x {:?}, w {:?}, b {:?}, statistics of {} columns",
                xl.shape(),
                wl.shape(),
                bl.shape(),
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
                                [x, mean, rstd, w, b],
                                #[inline(always)]
                                |[x, mean, rstd, w, b]| ([(x - mean) * rstd * w + b], []),
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
        w: &Tensor,
        _b: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (n, d) = x.dims2()?;
        let (dx, dw, db) = with_slice(x, |x| {
            with_slice(w, |w| {
                with_slice(grad, |g| Ok(self.backward(x, w, g, n, d)))
            })
        })?;
        Ok((
            Some(tensor(dx, &[n, d])?),
            Some(tensor(dw, &[d])?),
            Some(tensor(db, &[d])?),
        ))
    }
}

impl BatchNormOp {
    /// With `z = (x - mean)·r`, `r = 1/√(var + ε)`: `dw = Σ g∘z`, `db = Σ g`, and
    /// `dx = r·w·(g - db/n - z·dw/n)`, the last two terms only where the statistics are the batch's.
    fn backward(
        &self,
        x: &[f32],
        w: &[f32],
        g: &[f32],
        n: usize,
        d: usize,
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let Columns { mean, rstd } = &self.columns;
        let mut dx = uninit(n * d);
        let parts: Vec<Vec<f32>> = dx
            .par_chunks_mut(ROWS * d)
            .zip(x.par_chunks(ROWS * d))
            .zip(g.par_chunks(ROWS * d))
            .map(|((dx, x), g)| {
                let mut sums = vec![0.0; 2 * d];
                let (dw, db) = sums.split_at_mut(d);
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
                                [&mut *dw, &mut *db],
                                [x, g, w, mean, rstd],
                                #[inline(always)]
                                |[x, g, w, mean, rstd]| {
                                    ([g * w * rstd], [g * (x - mean) * rstd, g])
                                },
                            );
                        }
                    },
                );
                sums
            })
            .collect();
        let mut dw = vec![0.0; 2 * d];
        parts.iter().for_each(|p| add_scaled(&mut dw, 1.0, p));
        let db = dw.split_off(d);
        if self.of_batch {
            let scale = |i: usize| rstd[i] * w[i] / n as f32;
            let shift: Vec<f32> = (0..d).map(|i| scale(i) * db[i]).collect();
            let slope: Vec<f32> = (0..d).map(|i| scale(i) * dw[i]).collect();
            subtract_line(&mut dx, x, &self.columns, &shift, &slope);
        }
        (dx, dw, db)
    }
}
