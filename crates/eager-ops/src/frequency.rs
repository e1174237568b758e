//! A filter along sequences of one length that keeps low frequencies and scales the others: `y = low + s²∘(x - low)` with
//! `low` the part of `x` below a cut-off of its discrete Fourier transform over the sequence axis.
//!
//! Cutting a spectrum is linear, so `low` is a product with one constant matrix, `[length, length]`.

use std::f64::consts::TAU;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use crate::matmul::{Matrix, matmul};
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::dispatch;

/// What lies below a cut-off of the spectrum, as a projection of sequences of one length. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LowPass {
    length: usize,
    /// First position whose output is made.
    from: usize,
    /// `[length - from, length]`.
    matrix: Arc<[f32]>,
}

impl LowPass {
    /// The lowest `frequencies` of sequences of `length` positions, the constant one included:
    /// `irfft(rfft(x)[..frequencies])`.
    ///
    /// # Errors
    /// When there is no frequency, or there are more than `length / 2 + 1`.
    pub fn new(length: usize, frequencies: usize) -> Result<Self> {
        if frequencies == 0 || frequencies > length / 2 + 1 {
            candle_core::bail!(
                "low pass: {frequencies} frequencies of a sequence of {length} positions, which has {}",
                length / 2 + 1
            )
        }
        let of = |s: usize, t: usize| {
            let wave = |k: usize| {
                // All but the constant and the highest of an even length stand for two, k and length - k.
                let copies = if k == 0 || 2 * k == length { 1.0 } else { 2.0 };
                let turns = (k * s) as f64 - (k * t) as f64;
                copies * (TAU * turns / length as f64).cos() / length as f64
            };
            (0..frequencies).map(wave).sum::<f64>() as f32
        };
        let matrix = (0..length).flat_map(|s| (0..length).map(move |t| of(s, t)));
        Ok(Self {
            length,
            from: 0,
            matrix: matrix.collect(),
        })
    }

    /// The same for the last position alone.
    #[must_use]
    pub fn last(&self) -> Self {
        Self {
            length: self.length,
            from: self.length - 1,
            matrix: self.matrix[(self.length - 1 - self.from) * self.length..].into(),
        }
    }

    /// Positions of a sequence.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Positions whose output is made, the last of a sequence.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.length - self.from
    }

    pub(crate) fn check(&self, x: &Shape, scale: &Shape) -> Result<(usize, usize)> {
        let (rows, d) = x.dims2()?;
        if d == 0 || !rows.is_multiple_of(self.length) || scale.dims1()? != d {
            candle_core::bail!(
                "frequency filter: x {x:?} and scale {scale:?} for sequences of {} positions",
                self.length
            )
        }
        Ok((rows / self.length, d))
    }

    /// `[outputs, length]`.
    pub(crate) fn tensor(&self, like: &Tensor) -> Result<Tensor> {
        let shape = (self.outputs(), self.length);
        Tensor::from_slice(&self.matrix, shape, like.device())?.to_dtype(like.dtype())
    }

    fn view(&self) -> Matrix<'_> {
        Matrix::new(&self.matrix, self.outputs(), self.length)
    }
}

pub(crate) struct FrequencyFilterOp(pub(crate) LowPass);

impl CustomOp2 for FrequencyFilterOp {
    fn name(&self) -> &'static str {
        "fused-frequency-filter"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        scale: &CpuStorage,
        sl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, d) = self.0.check(xl.shape(), sl.shape())?;
        let (x, scale) = (slice(x, xl)?, slice(scale, sl)?);
        let (length, outputs) = (self.0.length, self.0.outputs());
        let mut y = uninit(n * outputs * d);
        let sequences = y
            .chunks_exact_mut(outputs * d)
            .zip(x.chunks_exact(length * d));
        for (y, x) in sequences {
            matmul(y, self.0.view(), Matrix::new(x, length, d), false);
            dispatch(
                #[inline(always)]
                || {
                    let own = &x[self.0.from * d..];
                    for (y, x) in y.chunks_exact_mut(d).zip(own.chunks_exact(d)) {
                        for ((y, &x), &s) in y.iter_mut().zip(x).zip(scale) {
                            *y += s * s * (x - *y);
                        }
                    }
                },
            );
        }
        Ok((CpuStorage::F32(y), (n * outputs, d).into()))
    }

    /// `dlow = (1 - s²)∘g`, `dx = lowᵀ(dlow) + s²∘g`, `ds = 2s∘Σ (x - low)∘g`.
    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, d) = self.0.check(x.shape(), scale.shape())?;
        let (dx, ds) = with_slice(x, |x| {
            with_slice(scale, |scale| {
                with_slice(grad, |g| Ok(self.backward(x, scale, g, d)))
            })
        })?;
        Ok((Some(tensor(dx, x.dims())?), Some(tensor(ds, &[d])?)))
    }
}

impl FrequencyFilterOp {
    fn backward(&self, x: &[f32], scale: &[f32], g: &[f32], d: usize) -> (Vec<f32>, Vec<f32>) {
        let (length, outputs) = (self.0.length, self.0.outputs());
        let mut dx = uninit(x.len());
        let mut ds = vec![0.0; d];
        let (mut low, mut dlow) = (uninit(outputs * d), uninit(outputs * d));
        let sequences = dx
            .chunks_exact_mut(length * d)
            .zip(x.chunks_exact(length * d));
        for ((dx, x), g) in sequences.zip(g.chunks_exact(outputs * d)) {
            matmul(&mut low, self.0.view(), Matrix::new(x, length, d), false);
            let own = self.0.from * d..;
            dispatch(
                #[inline(always)]
                || {
                    let rows = low.chunks_exact(d).zip(dlow.chunks_exact_mut(d));
                    let rows = rows
                        .zip(x[own.clone()].chunks_exact(d))
                        .zip(g.chunks_exact(d));
                    for (((low, dlow), x), g) in rows {
                        for i in 0..d {
                            dlow[i] = (1.0 - scale[i] * scale[i]) * g[i];
                            ds[i] += (x[i] - low[i]) * g[i];
                        }
                    }
                },
            );
            let dlow = Matrix::new(&dlow, outputs, d);
            matmul(dx, self.0.view().t(), dlow, false);
            dispatch(
                #[inline(always)]
                || {
                    for (dx, g) in dx[own.clone()].chunks_exact_mut(d).zip(g.chunks_exact(d)) {
                        for ((dx, &g), &s) in dx.iter_mut().zip(g).zip(scale) {
                            *dx += s * s * g;
                        }
                    }
                },
            );
        }
        ds.iter_mut().zip(scale).for_each(|(ds, s)| *ds *= 2.0 * s);
        (dx, ds)
    }
}
