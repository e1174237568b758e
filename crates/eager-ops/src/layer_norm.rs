//! `y = (x - mean) / sqrt(var + eps) · w + b` over the last dimension of `x: [n, d]`.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use crate::cuda::{self, At, Buffer, Gpu};
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{Lanes, add_scaled, dispatch_lanes};

/// Rows one task handles; fixed, so that the order of the weight gradient's sum is too.
const ROWS: usize = 64;

pub(crate) struct LayerNormOp {
    pub(crate) eps: f32,
}

/// Brings a row to mean 0 and variance 1; returns the reciprocal standard deviation. In two passes, so that a large mean
/// costs no precision.
#[inline(always)]
pub(crate) fn normalise(lanes: Lanes, x: &mut [f32], eps: f32) -> f32 {
    let n = x.len() as f32;
    let mean = lanes.sum(x) / n;
    x.iter_mut().for_each(|x| *x -= mean);
    let rstd = 1.0 / (lanes.dot(x, x) / n + eps).sqrt();
    x.iter_mut().for_each(|x| *x *= rstd);
    rstd
}

/// With `x̂` the normalised row and `h = g∘w`: `(h - mean(h) - x̂·mean(h∘x̂)) / σ` in the place of `g`,
/// `dw += g∘x̂`, `db += g`.
#[inline(always)]
pub(crate) fn backward(
    lanes: Lanes,
    g: &mut [f32],
    x_hat: &[f32],
    rstd: f32,
    w: &[f32],
    (dw, db): (&mut [f32], &mut [f32]),
) {
    for ((dw, &g), &x) in dw.iter_mut().zip(&*g).zip(x_hat) {
        *dw += g * x;
    }
    add_scaled(db, 1.0, g);
    g.iter_mut().zip(w).for_each(|(g, &w)| *g *= w);
    let d = g.len() as f32;
    let mean = lanes.sum(g) / d;
    let mean_x = lanes.dot(g, x_hat) / d;
    for (g, &x) in g.iter_mut().zip(x_hat) {
        *g = rstd * (*g - mean - x * mean_x);
    }
}

/// Rows and width.
fn check(x: &Layout, w: &Layout, b: &Layout) -> Result<(usize, usize)> {
    let (n, d) = x.shape().dims2()?;
    if d == 0 || w.shape().dims1()? != d || b.shape().dims1()? != d {
        candle_core::bail!(
            "layer_norm: x {:?}, w {:?}, b {:?}",
            x.shape(),
            w.shape(),
            b.shape()
        )
    }
    Ok((n, d))
}

#[cfg(feature = "cuda")]
impl LayerNormOp {
    /// The output, the normalised rows and the reciprocal standard deviations.
    fn normal_on_gpu(
        &self,
        gpu: &Gpu,
        x: At,
        affine: (At, At),
        (n, d): (usize, usize),
    ) -> Result<(Buffer, Buffer, Buffer)> {
        let (y, normal, rstd) = (gpu.uninit(n * d)?, gpu.uninit(n * d)?, gpu.uninit(n)?);
        let out = (y.at(), normal.at(), rstd.at());
        gpu.add_norm(out, (x, At::NONE, At::NONE, None), affine, self.eps, (n, d))?;
        Ok((y, normal, rstd))
    }
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
        let (n, d) = check(xl, wl, bl)?;
        let (x, w, b) = (slice(x, xl)?, slice(w, wl)?, slice(b, bl)?);
        let mut y = uninit(n * d);
        y.par_chunks_mut(ROWS * d)
            .zip(x.par_chunks(ROWS * d))
            .for_each(|(y, x)| {
                dispatch_lanes(
                    #[inline(always)]
                    |lanes| {
                        for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                            y.copy_from_slice(x);
                            normalise(lanes, y, self.eps);
                            for ((y, &w), &b) in y.iter_mut().zip(w).zip(b) {
                                *y = *y * w + b;
                            }
                        }
                    },
                )
            });
        Ok((CpuStorage::F32(y), (n, d).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        w: &CudaStorage,
        wl: &Layout,
        b: &CudaStorage,
        bl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (n, d) = check(xl, wl, bl)?;
        let affine = (cuda::at(w, wl)?, cuda::at(b, bl)?);
        let gpu = Gpu::of(x);
        let y = self
            .normal_on_gpu(&gpu, cuda::at(x, xl)?, affine, (n, d))?
            .0;
        gpu.output(y, (n, d))
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
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            return cuda::with([x, w, grad], |gpu, [x, w, g]| {
                // Scale and shift make the output, which is not wanted here.
                let (_, normal, rstd) = self.normal_on_gpu(gpu, x, (w, w), (n, d))?;
                let (dx, dw, db) = (gpu.uninit(n * d)?, gpu.uninit(d)?, gpu.uninit(d)?);
                let norm = (normal.at(), rstd.at(), w, None);
                gpu.add_norm_backward((dx.at(), At::NONE), g, norm, (n, d))?;
                let sums = (dw.at(), db.at(), At::NONE);
                gpu.norm_column_sums(sums, (g, normal.at(), At::NONE), (n, d))?;
                Ok((
                    Some(gpu.tensor(dx, &[n, d])),
                    Some(gpu.tensor(dw, &[d])),
                    Some(gpu.tensor(db, &[d])),
                ))
            });
        }
        with_slice(x, |x| {
            with_slice(w, |w| {
                with_slice(grad, |g| all_rows_backward(x, w, g, n, d, self.eps))
            })
        })
    }
}

fn all_rows_backward(
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
            let mut x_hat = vec![0.0; d];
            dispatch_lanes(
                #[inline(always)]
                |lanes| {
                    let rows = dx.chunks_exact_mut(d).zip(x.chunks_exact(d));
                    for ((dx, x), g) in rows.zip(g.chunks_exact(d)) {
                        x_hat.copy_from_slice(x);
                        let rstd = normalise(lanes, &mut x_hat, eps);
                        dx.copy_from_slice(g);
                        backward(lanes, dx, &x_hat, rstd, w, (&mut *dw, &mut *db));
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
