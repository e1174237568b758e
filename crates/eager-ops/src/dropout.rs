//! Inverted dropout whose mask is a function of (seed, step, site, element), so nothing is stored:
//! the backward pass computes it again, a resumed run draws what the uninterrupted one would have,
//! and the fused and plain paths drop the same elements.

use std::cell::Cell;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use crate::cuda::{self, At, Gpu};
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::dispatch;

/// Elements a task handles; fixed, so that the work's split does not depend on the thread count.
const CHUNK: usize = 16 * 1024;

/// The dropout of one forward pass. Each use draws from a site of its own, numbered in call order.
#[derive(Debug)]
pub struct Dropout {
    p: f32,
    key: u64,
    sites: Cell<u64>,
}

impl Dropout {
    /// No dropout: evaluation, and every use is the identity.
    pub fn off() -> Self {
        Self::new(0.0, 0, 0)
    }

    /// Drops each element with probability `p` in `[0, 1)` and scales the others by `1 / (1 - p)`.
    /// The mask depends on `seed`, `step` and the call order within the pass.
    ///
    /// # Panics
    /// When `p` is not in `[0, 1)`.
    pub fn new(p: f32, seed: u64, step: u64) -> Self {
        assert!(
            (0.0..1.0).contains(&p),
            "dropout probability {p} is not in [0, 1)"
        );
        Self {
            p,
            key: mix64(seed ^ mix64(step)),
            sites: Cell::new(0),
        }
    }

    /// The mask of the next site; `None` when nothing is dropped.
    pub(crate) fn next_mask(&self) -> Option<Mask> {
        if self.p == 0.0 {
            return None;
        }
        let site = self.sites.get();
        self.sites.set(site + 1);
        Some(Mask::new(self.p, mix64(self.key.wrapping_add(mix64(site)))))
    }
}

/// SplitMix64's finaliser.
fn mix64(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One site's mask: a 32-bit hash of the element's index against a threshold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    low: u32,
    high: u32,
    threshold: u32,
    scale: f32,
}

impl Mask {
    fn new(p: f32, key: u64) -> Self {
        Self {
            low: key as u32,
            high: (key >> 32) as u32,
            threshold: (f64::from(p) * f64::from(u32::MAX)) as u32,
            scale: 1.0 / (1.0 - p),
        }
    }

    /// As the GPU's kernels take it.
    #[cfg(feature = "cuda")]
    pub(crate) fn words(self) -> [u32; 4] {
        [self.low, self.high, self.threshold, self.scale.to_bits()]
    }

    /// The factor of element `index`: 0, or `1 / (1 - p)`.
    #[inline(always)]
    pub(crate) fn factor(self, index: u32) -> f32 {
        // A two-round multiply–xorshift hash ("lowbias32" constants), keyed before each round.
        let x = index.wrapping_add(self.low);
        let x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad) ^ self.high;
        let x = (x ^ (x >> 15)).wrapping_mul(0xd35a_2d97);
        let x = x ^ (x >> 15);
        if x >= self.threshold { self.scale } else { 0.0 }
    }

    /// The factors of elements `0..n`, for the plain path.
    pub(crate) fn factors(self, n: usize) -> Vec<f32> {
        (0..n as u32).map(|i| self.factor(i)).collect()
    }
}

/// `out = base + mask∘x`, where `base` may be absent.
fn apply(mask: Mask, x: &[f32], base: Option<&[f32]>) -> Vec<f32> {
    let mut out = uninit(x.len());
    out.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .enumerate()
        .for_each(|(c, (out, x))| {
            let start = c * CHUNK;
            dispatch(
                #[inline(always)]
                || match base {
                    Some(base) => {
                        let base = &base[start..start + x.len()];
                        for (i, ((o, &x), &b)) in out.iter_mut().zip(x).zip(base).enumerate() {
                            *o = b + mask.factor((start + i) as u32) * x;
                        }
                    }
                    None => {
                        for (i, (o, &x)) in out.iter_mut().zip(x).enumerate() {
                            *o = mask.factor((start + i) as u32) * x;
                        }
                    }
                },
            )
        });
    out
}

/// `mask∘x` on a GPU.
#[cfg(feature = "cuda")]
fn dropout_on_gpu(mask: Mask, x: &Tensor) -> Result<Tensor> {
    cuda::with([x], |gpu, [at]| {
        let y = gpu.dropout(mask, at, At::NONE, x.elem_count())?;
        Ok(gpu.tensor(y, x.dims()))
    })
}

/// `mask∘x`.
pub(crate) struct DropoutOp(pub(crate) Mask);

impl CustomOp1 for DropoutOp {
    fn name(&self) -> &'static str {
        "fused-dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((
            CpuStorage::F32(apply(self.0, slice(x, xl)?, None)),
            xl.shape().clone(),
        ))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, xl: &Layout) -> Result<(CudaStorage, Shape)> {
        let gpu = Gpu::of(x);
        let y = gpu.dropout(self.0, cuda::at(x, xl)?, At::NONE, xl.shape().elem_count())?;
        gpu.output(y, xl.shape())
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            return dropout_on_gpu(self.0, grad).map(Some);
        }
        with_slice(grad, |g| {
            Ok(Some(tensor(apply(self.0, g, None), x.dims())?))
        })
    }
}

/// `residual + mask∘x`.
pub(crate) struct AddDropoutOp(pub(crate) Mask);

impl CustomOp2 for AddDropoutOp {
    fn name(&self) -> &'static str {
        "fused-add-dropout"
    }

    fn cpu_fwd(
        &self,
        r: &CpuStorage,
        rl: &Layout,
        x: &CpuStorage,
        xl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if rl.shape() != xl.shape() {
            candle_core::bail!(
                "add_dropout: residual {:?} and input {:?} differ",
                rl.shape(),
                xl.shape()
            )
        }
        Ok((
            CpuStorage::F32(apply(self.0, slice(x, xl)?, Some(slice(r, rl)?))),
            xl.shape().clone(),
        ))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        r: &CudaStorage,
        rl: &Layout,
        x: &CudaStorage,
        xl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        if rl.shape() != xl.shape() {
            candle_core::bail!(
                "add_dropout: residual {:?} and input {:?} differ",
                rl.shape(),
                xl.shape()
            )
        }
        let gpu = Gpu::of(x);
        let n = xl.shape().elem_count();
        let y = gpu.dropout(self.0, cuda::at(x, xl)?, cuda::at(r, rl)?, n)?;
        gpu.output(y, xl.shape())
    }

    fn bwd(
        &self,
        _r: &Tensor,
        x: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            return Ok((Some(grad.clone()), Some(dropout_on_gpu(self.0, grad)?)));
        }
        let dx = with_slice(grad, |g| tensor(apply(self.0, g, None), x.dims()))?;
        Ok((Some(grad.clone()), Some(dx)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_drop_the_stated_share_and_keep_the_mean() {
        for p in [0.1f32, 0.5, 0.9] {
            let n = 200_000;
            let factors = Dropout::new(p, 7, 3).next_mask().unwrap().factors(n);
            let dropped = factors.iter().filter(|&&f| f == 0.0).count() as f64 / n as f64;
            let sd = (f64::from(p) * (1.0 - f64::from(p)) / n as f64).sqrt();
            assert!(
                (dropped - f64::from(p)).abs() < 5.0 * sd,
                "p {p}: dropped {dropped}"
            );
            // Neighbours are independent: the share of adjacent pairs both dropped is p².
            let pairs = factors
                .windows(2)
                .filter(|w| w[0] == 0.0 && w[1] == 0.0)
                .count() as f64
                / n as f64;
            assert!(
                (pairs - f64::from(p * p)).abs() < 0.005,
                "p {p}: pairs {pairs}"
            );
        }
    }

    #[test]
    fn sites_and_steps_draw_different_masks_and_repeat_exactly() {
        let draw = |seed, step, site: usize| {
            let d = Dropout::new(0.5, seed, step);
            (0..=site)
                .map(|_| d.next_mask().unwrap().factors(256))
                .last()
                .unwrap()
        };
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        assert_ne!(draw(1, 2, 3), draw(1, 2, 2));
        assert_ne!(draw(1, 2, 3), draw(1, 3, 3));
        assert_ne!(draw(1, 2, 3), draw(2, 2, 3));
        assert!(Dropout::off().next_mask().is_none());
    }
}
