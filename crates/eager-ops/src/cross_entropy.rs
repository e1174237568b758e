//! Softmax cross-entropy over all rows of a table: loss and gradients in one pass over blocks of rows.
//!
//! The gradient is a matter of the same logits, so the forward pass makes it too while they are at hand, up to the factor
//! that the backward pass brings. Of `[n, rows]` logits a block is there at a time, and no probability is kept.

use std::sync::{Arc, Mutex};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use crate::cuda::{self, At, Buffer, Gpu, Grid, Matrix as GpuMatrix, args};
use crate::matmul::{Matrix, matmul};
use crate::storage::{keep, slice, take, tensor, uninit, with_slice};
use crate::tree_softmax::softmax_rows;
use crate::vector::dispatch;

/// Rows of a block. More of them pack the table less often, fewer keep the logits nearer.
const ROWS: usize = if cfg!(test) { 8 } else { 128 };

/// Logits that are there at a time on a GPU.
#[cfg(feature = "cuda")]
const GPU_LOGITS: usize = if cfg!(test) { 64 } else { 1 << 28 };

/// Mean over rows of `-log softmax(hidden_i · tableᵀ)[target_i]`.
pub(crate) struct CrossEntropyOp {
    targets: Arc<[u32]>,
    /// Whether there will be a backward pass.
    differentiate: bool,
    kept: Mutex<Option<Gradients>>,
    #[cfg(feature = "cuda")]
    kept_on_gpu: Mutex<Option<(Buffer, Buffer)>>,
}

/// Of the *sum* over rows.
struct Gradients {
    hidden: Vec<f32>,
    table: Vec<f32>,
}

impl CrossEntropyOp {
    pub(crate) fn new(targets: &[u32], differentiate: bool) -> Self {
        Self {
            targets: targets.into(),
            differentiate,
            kept: Mutex::new(None),
            #[cfg(feature = "cuda")]
            kept_on_gpu: Mutex::new(None),
        }
    }

    /// Items and width, all shapes fitting.
    fn check(&self, hidden: &Layout, table: &Layout) -> Result<(usize, usize)> {
        let ((n, d), (items, width)) = (hidden.shape().dims2()?, table.shape().dims2()?);
        if n == 0 || n != self.targets.len() || d == 0 || d != width {
            candle_core::bail!(
                "cross entropy: hidden {:?}, table {:?}, {} targets",
                hidden.shape(),
                table.shape(),
                self.targets.len()
            )
        }
        if let Some(target) = self.targets.iter().find(|&&t| t as usize >= items) {
            candle_core::bail!("cross entropy: target {target} in a table of {items} rows")
        }
        Ok((items, d))
    }

    /// As [`CrossEntropyOp::pass`]: the losses of the rows, and the gradients of their sum.
    #[cfg(feature = "cuda")]
    fn pass_on_gpu(
        &self,
        gpu: &Gpu,
        (hidden, table): (At, At),
        (items, d): (usize, usize),
        differentiate: bool,
    ) -> Result<(Buffer, Option<(Buffer, Buffer)>)> {
        let n = self.targets.len();
        let block = (GPU_LOGITS / items).clamp(1, n);
        let (logits, losses) = (gpu.uninit(block * items)?, gpu.uninit(n)?);
        let targets = gpu.upload(&self.targets)?;
        let grads = match differentiate {
            true => Some((gpu.uninit(n * d)?, gpu.uninit(items * d)?)),
            false => None,
        };
        let rows = GpuMatrix::new(table, items, d);
        for first in (0..n).step_by(block) {
            let own = block.min(n - first);
            let dlogits = GpuMatrix::new(logits.at(), own, items);
            let states = GpuMatrix::new(hidden.plus(first * d), own, d);
            gpu.matmul(logits.at(), states, rows.t(), false)?;
            let (losses, targets) = (losses.at().plus(first), targets.at().plus(first));
            let arguments = args![logits.at(), losses, targets, items as i32];
            gpu.launch("softmax_rows", Grid::Blocks(own), arguments)?;
            if let Some((dhidden, dtable)) = &grads {
                gpu.matmul(dhidden.at().plus(first * d), dlogits, rows, false)?;
                gpu.matmul(dtable.at(), dlogits.t(), states, first > 0)?;
            }
        }
        Ok((losses, grads))
    }

    /// The sum over rows, and its gradients if wanted. With `p` the probabilities: `dlogits = p - onehot`,
    /// `dhidden = dlogits·table`, `dtable = dlogitsᵀ·hidden`.
    fn pass(
        &self,
        (hidden, table): (&[f32], &[f32]),
        d: usize,
        differentiate: bool,
    ) -> (f64, Option<Gradients>) {
        let items = table.len() / d;
        let rows = Matrix::new(table, items, d);
        let block = ROWS.min(self.targets.len());
        let mut logits = uninit(block * items);
        let mut grads = differentiate.then(|| Gradients {
            hidden: uninit(hidden.len()),
            table: vec![0.0; table.len()],
        });
        let mut loss = 0f64;
        for (b, (hidden, targets)) in hidden
            .chunks(block * d)
            .zip(self.targets.chunks(block))
            .enumerate()
        {
            let n = targets.len();
            let logits = &mut logits[..n * items];
            let own = Matrix::new(hidden, n, d);
            matmul(logits, own, rows.t(), false);
            let places = || targets.iter().enumerate();
            let at = |(row, &target): (usize, &u32)| row * items + target as usize;
            let chosen: Vec<f32> = places().map(|place| logits[at(place)]).collect();
            for (normaliser, chosen) in softmax_rows(logits, items).into_iter().zip(chosen) {
                loss += f64::from(normaliser - chosen);
            }
            if let Some(grads) = &mut grads {
                places().for_each(|place| logits[at(place)] -= 1.0);
                let dlogits = Matrix::new(logits, n, items);
                let first = b * block * d;
                matmul(
                    &mut grads.hidden[first..first + n * d],
                    dlogits,
                    rows,
                    false,
                );
                matmul(&mut grads.table, dlogits.t(), own, true);
            }
        }
        (loss, grads)
    }
}

/// `x·factor` in a new tensor.
fn scaled(mut x: Vec<f32>, factor: f32, shape: &[usize]) -> Result<Tensor> {
    dispatch(
        #[inline(always)]
        || x.iter_mut().for_each(|x| *x *= factor),
    );
    tensor(x, shape)
}

impl CustomOp2 for CrossEntropyOp {
    fn name(&self) -> &'static str {
        "fused-cross-entropy"
    }

    fn cpu_fwd(
        &self,
        h: &CpuStorage,
        hl: &Layout,
        t: &CpuStorage,
        tl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, d) = self.check(hl, tl)?;
        let (loss, grads) = self.pass((slice(h, hl)?, slice(t, tl)?), d, self.differentiate);
        if let Some(grads) = grads {
            keep(&self.kept, grads)?;
        }
        let mean = loss / self.targets.len() as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), ().into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        h: &CudaStorage,
        hl: &Layout,
        t: &CudaStorage,
        tl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (size, gpu) = (self.check(hl, tl)?, Gpu::of(h));
        let operands = (cuda::at(h, hl)?, cuda::at(t, tl)?);
        let (losses, grads) = self.pass_on_gpu(&gpu, operands, size, self.differentiate)?;
        if let Some(grads) = grads {
            keep(&self.kept_on_gpu, grads)?;
        }
        let n = self.targets.len();
        gpu.output(gpu.mean(losses.at(), n, n)?, ())
    }

    fn bwd(
        &self,
        h: &Tensor,
        t: &Tensor,
        _loss: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            let (items, d) = t.dims2()?;
            let kept = take(&self.kept_on_gpu)?;
            return cuda::with([h, t, grad], |gpu, [hidden, table, g]| {
                let grads = match kept {
                    Some(grads) => Some(grads),
                    None => self.pass_on_gpu(gpu, (hidden, table), (items, d), true)?.1,
                };
                let Some((dhidden, dtable)) = grads else {
                    candle_core::bail!("cross entropy: no gradient was made")
                };
                let n = self.targets.len();
                let by = 1.0 / n as f32;
                gpu.scale(dhidden.at(), g, by, n * d)?;
                gpu.scale(dtable.at(), g, by, items * d)?;
                let dhidden = gpu.tensor(dhidden, h.dims());
                Ok((Some(dhidden), Some(gpu.tensor(dtable, t.dims()))))
            });
        }
        let factor = grad.to_scalar::<f32>()? / self.targets.len() as f32;
        let grads = match take(&self.kept)? {
            Some(grads) => Some(grads),
            // Whoever differentiates a graph twice waits for a second pass here.
            None => with_slice(h, |hidden| {
                with_slice(t, |table| Ok(self.pass((hidden, table), h.dim(1)?, true).1))
            })?,
        };
        let Some(Gradients { hidden, table }) = grads else {
            candle_core::bail!("cross entropy: no gradient was made")
        };
        Ok((
            Some(scaled(hidden, factor, h.dims())?),
            Some(scaled(table, factor, t.dims())?),
        ))
    }
}
