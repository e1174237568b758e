//! `y = (x - mean) / sqrt(var + eps) · w + b` over the last dimension of `x: [n, d]`.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{add_scaled, dispatch, dot, sum};

/// Rows one task handles; fixed, so that the order of the weight gradient's sum is too.
const ROWS: usize = 64;

pub(crate) struct LayerNormOp {
    pub(crate) eps: f32,
}

/// Mean and reciprocal standard deviation, in two passes so that a large mean costs no precision.
#[inline(always)]
fn statistics(x: &[f32], centred: &mut [f32], eps: f32) -> f32 {
    let n = x.len() as f32;
    let mean = sum(x) / n;
    for (c, &x) in centred.iter_mut().zip(x) {
        *c = x - mean;
    }
    1.0 / (dot(centred, centred) / n + eps).sqrt()
}

impl CustomOp3 for LayerNormOp {
    fn name(&self) -> &'static str {
        "fused-layer-norm"
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
        if d == 0 || wl.shape().dims1()? != d || bl.shape().dims1()? != d {
            candle_core::bail!(
                "layer_norm: x {:?}, w {:?}, b {:?}",
                xl.shape(),
                wl.shape(),
                bl.shape()
            )
        }
        let (x, w, b) = (slice(x, xl)?, slice(w, wl)?, slice(b, bl)?);
        let mut y = uninit(n * d);
        y.par_chunks_mut(ROWS * d)
            .zip(x.par_chunks(ROWS * d))
            .for_each(|(y, x)| {
                dispatch(
                    #[inline(always)]
                    || {
                        for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                            let scale = statistics(x, y, self.eps);
                            for ((y, &w), &b) in y.iter_mut().zip(w).zip(b) {
                                *y = *y * scale * w + b;
                            }
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
        with_slice(x, |x| {
            with_slice(w, |w| {
                with_slice(grad, |g| backward(x, w, g, n, d, self.eps))
            })
        })
    }
}

/// With `x̂` the normalised input and `h = g∘w`: `dx = (h - mean(h) - x̂·mean(h∘x̂)) / σ`,
/// `dw = Σ g∘x̂`, `db = Σ g`.
fn backward(
    x: &[f32],
    w: &[f32],
    g: &[f32],
    n: usize,
    d: usize,
    eps: f32,
) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
    let mut dx = uninit(n * d);
    let parts: Vec<Vec<f32>> = dx
        .par_chunks_mut(ROWS * d)
        .zip(x.par_chunks(ROWS * d))
        .zip(g.par_chunks(ROWS * d))
        .map(|((dx, x), g)| {
            let mut weight_and_bias = vec![0.0; 2 * d];
            let (dw, db) = weight_and_bias.split_at_mut(d);
            let (mut x_hat, mut h) = (vec![0.0; d], vec![0.0; d]);
            dispatch(
                #[inline(always)]
                || {
                    for ((dx, x), g) in dx
                        .chunks_exact_mut(d)
                        .zip(x.chunks_exact(d))
                        .zip(g.chunks_exact(d))
                    {
                        let scale = statistics(x, &mut x_hat, eps);
                        for i in 0..d {
                            x_hat[i] *= scale;
                            h[i] = g[i] * w[i];
                            dw[i] += g[i] * x_hat[i];
                            db[i] += g[i];
                        }
                        let mean_h = sum(&h) / d as f32;
                        let mean_hx = dot(&h, &x_hat) / d as f32;
                        for ((dx, &h), &x_hat) in dx.iter_mut().zip(&h).zip(&x_hat) {
                            *dx = scale * (h - mean_h - x_hat * mean_hx);
                        }
                    }
                },
            );
            weight_and_bias
        })
        .collect();
    let mut total = vec![0.0; 2 * d];
    parts
        .iter()
        .for_each(|part| add_scaled(&mut total, 1.0, part));
    let db = total.split_off(d);
    Ok((
        Some(tensor(dx, &[n, d])?),
        Some(tensor(total, &[d])?),
        Some(tensor(db, &[d])?),
    ))
}
