//! A filter along sequences of one length that keeps low frequencies and scales the others: `y = low + s²∘(x - low)` with
//! `low` the part of `x` below a cut-off of its discrete Fourier transform over the sequence axis.
//!
//! Cutting a spectrum is linear, so `low` is a product with one constant matrix, `[length, length]`.

use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use crate::Segments;
#[cfg(feature = "cuda")]
use crate::cuda::{self, At, Buffer, Gpu, Grid, args};
use crate::matmul::{Matrix, matmul};
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::dispatch;

/// What lies below a cut-off of the spectrum, as a projection of sequences of one length. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LowPass {
    length: usize,
    /// Positions whose output is made, the last ones of a sequence.
    outputs: usize,
    /// `[outputs, length]`.
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
            outputs: length,
            matrix: matrix.collect(),
        })
    }

    /// The same for the last position alone.
    #[must_use]
    pub fn last(&self) -> Self {
        Self {
            length: self.length,
            outputs: 1,
            matrix: self.matrix[self.matrix.len() - self.length..].into(),
        }
    }

    /// Positions of a sequence.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Rows of the outputs of each of `rows`' sequences among all rows: its last [`LowPass::last`] or all.
    pub fn outputs<'a>(&'a self, rows: &'a Segments) -> impl Iterator<Item = Range<usize>> + 'a {
        rows.iter()
            .map(|r| r.end - self.outputs.min(r.len())..r.end)
    }

    pub(crate) fn check(&self, x: &Shape, scale: &Shape, rows: &Segments) -> Result<usize> {
        let (n, d) = x.dims2()?;
        if d == 0 || n != rows.rows() || rows.longest() > self.length || scale.dims1()? != d {
            candle_core::bail!(
                "frequency filter: x {x:?} and scale {scale:?} for {} rows in sequences of at most {} positions, of {}",
                rows.rows(),
                rows.longest(),
                self.length
            )
        }
        Ok(d)
    }

    /// `[outputs, length]`.
    pub(crate) fn tensor(&self, like: &Tensor) -> Result<Tensor> {
        let shape = (self.outputs, self.length);
        Tensor::from_slice(&self.matrix, shape, like.device())?.to_dtype(like.dtype())
    }

    /// What of it a sequence of `n` positions has, the last ones: `[outputs, n]`.
    fn view(&self, n: usize) -> Matrix<'_> {
        let outputs = self.outputs.min(n);
        let first = (self.outputs - outputs) * self.length + self.length - n;
        Matrix::strided(&self.matrix[first..], outputs, n, self.length)
    }
}

pub(crate) struct FrequencyFilterOp {
    pub(crate) low_pass: LowPass,
    pub(crate) rows: Segments,
}

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
        let d = self.low_pass.check(xl.shape(), sl.shape(), &self.rows)?;
        let (x, scale) = (slice(x, xl)?, slice(scale, sl)?);
        let n: usize = self.low_pass.outputs(&self.rows).map(|r| r.len()).sum();
        let mut y = uninit(n * d);
        let mut left = &mut y[..];
        for (r, own) in self.sequences() {
            let (y, rest) = left.split_at_mut(own.len() * d);
            left = rest;
            let sequence = Matrix::new(&x[r.start * d..], r.len(), d);
            matmul(y, self.low_pass.view(r.len()), sequence, false);
            let own = &x[own.start * d..own.end * d];
            dispatch(
                #[inline(always)]
                || {
                    for (y, x) in y.chunks_exact_mut(d).zip(own.chunks_exact(d)) {
                        for ((y, &x), &s) in y.iter_mut().zip(x).zip(scale) {
                            *y += s * s * (x - *y);
                        }
                    }
                },
            );
        }
        Ok((CpuStorage::F32(y), (n, d).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        scale: &CudaStorage,
        sl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let d = self.low_pass.check(xl.shape(), sl.shape(), &self.rows)?;
        let (gpu, places) = (Gpu::of(x), (cuda::at(x, xl)?, cuda::at(scale, sl)?));
        let filter = self.on_gpu(&gpu)?;
        let y = filter.apply(&gpu, places, At::NONE, d)?;
        gpu.output(y, (filter.outputs, d))
    }

    /// `dlow = (1 - s²)∘g`, `dx = lowᵀ(dlow) + s²∘g`, `ds = 2s∘Σ (x - low)∘g`.
    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let d = self.low_pass.check(x.shape(), scale.shape(), &self.rows)?;
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            return cuda::with([x, scale, grad], |gpu, [at, scale, g]| {
                let (filter, n) = (self.on_gpu(gpu)?, x.dim(0)?);
                let dx = gpu.uninit(n * d)?;
                let arguments = args![dx.at(), scale, g, filter.words, n as i32, d as i32];
                let grid = Grid::Elements(n * d);
                gpu.launch("frequency_filter_backward", grid, arguments)?;
                let terms = filter.apply(gpu, (at, scale), g, d)?;
                let ds = gpu.uninit(d)?;
                gpu.column_sums(ds.at(), terms.at(), filter.outputs, d)?;
                Ok((Some(gpu.tensor(dx, x.dims())), Some(gpu.tensor(ds, &[d]))))
            });
        }
        let (dx, ds) = with_slice(x, |x| {
            with_slice(scale, |scale| {
                with_slice(grad, |g| Ok(self.backward(x, scale, g, d)))
            })
        })?;
        Ok((Some(tensor(dx, x.dims())?), Some(tensor(ds, &[d])?)))
    }
}

/// The filter as the kernels take it.
#[cfg(feature = "cuda")]
struct OnGpu {
    words: [u64; 6],
    /// Rows of the output.
    outputs: usize,
    _matrix: Buffer,
    _lists: Buffer<u32>,
}

#[cfg(feature = "cuda")]
impl OnGpu {
    /// The output; with its gradient `g` the terms of the scale's gradient.
    fn apply(&self, gpu: &Gpu, (x, scale): (At, At), g: At, d: usize) -> Result<Buffer> {
        let y = gpu.uninit(self.outputs * d)?;
        gpu.launch(
            "frequency_filter",
            Grid::Elements(self.outputs * d),
            args![
                y.at(),
                x,
                scale,
                g,
                self.words,
                self.outputs as i32,
                d as i32
            ],
        )?;
        Ok(y)
    }
}

#[cfg(feature = "cuda")]
impl FrequencyFilterOp {
    fn on_gpu(&self, gpu: &Gpu) -> Result<OnGpu> {
        let low_pass = &self.low_pass;
        let (mut sources, mut firsts) = (vec![], vec![0]);
        for own in low_pass.outputs(&self.rows) {
            sources.extend(own.map(|row| row as u32));
            firsts.push(sources.len() as u32);
        }
        let outputs = sources.len();
        let lists = gpu.upload(&[sources, firsts].concat())?;
        let matrix = gpu.upload(&low_pass.matrix)?;
        let (first, owner) = self.rows.on_gpu(gpu)?;
        let first_output = lists.at().plus(outputs);
        let places = [matrix.at(), owner, first, lists.at(), first_output];
        let sizes = low_pass.outputs as u64 | (low_pass.length as u64) << 32;
        let mut words = [sizes; 6];
        words
            .iter_mut()
            .zip(places)
            .for_each(|(word, at)| *word = at.address());
        Ok(OnGpu {
            words,
            outputs,
            _matrix: matrix,
            _lists: lists,
        })
    }
}

impl FrequencyFilterOp {
    /// Rows of every sequence that has some, and those of its outputs.
    fn sequences(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let own = self.low_pass.outputs(&self.rows);
        self.rows.iter().zip(own).filter(|(r, _)| !r.is_empty())
    }

    fn backward(&self, x: &[f32], scale: &[f32], g: &[f32], d: usize) -> (Vec<f32>, Vec<f32>) {
        let mut dx = uninit(x.len());
        let mut ds = vec![0.0; d];
        let most = self.low_pass.outputs * d;
        let (mut low, mut dlow) = (uninit(most), uninit(most));
        let mut left = g;
        for (r, own) in self.sequences() {
            let (g, rest) = left.split_at(own.len() * d);
            left = rest;
            let projection = self.low_pass.view(r.len());
            let sequence = Matrix::new(&x[r.start * d..], r.len(), d);
            matmul(&mut low, projection, sequence, false);
            let outputs = own.len();
            let own = own.start * d..own.end * d;
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
            let dx_sequence = &mut dx[r.start * d..r.end * d];
            matmul(dx_sequence, projection.t(), dlow, false);
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
