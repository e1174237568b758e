//! Means of elementwise losses: one launch makes the loss and its slope, a second scales the slope.

use std::sync::Mutex;

use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{At, Buffer, Gpu, Grid, Size, args, at, with};
use crate::storage::{keep, take};

/// Blocks of such a launch.
const BLOCKS: usize = 64;

/// Which loss.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Of the difference of both operands.
    SmoothL1,
    /// Of logits whose label is 1, the first operand, and of those whose label is 0.
    Logistic,
}

/// The mean loss of two contiguous operands.
pub(crate) struct MeanLossOp {
    kind: Kind,
    /// The gradients of the summed loss.
    kept: Mutex<Option<[Buffer; 2]>>,
}

impl MeanLossOp {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            kept: Mutex::new(None),
        }
    }

    /// Elements whose mean it is.
    fn count(&self, [first, second]: [usize; 2]) -> usize {
        match self.kind {
            Kind::SmoothL1 => first,
            Kind::Logistic => first + second,
        }
    }

    fn forward(
        &self,
        gpu: &Gpu,
        [x, y]: [At; 2],
        [n, m]: [usize; 2],
    ) -> Result<(Buffer, [Buffer; 2])> {
        let parts = gpu.uninit(2 * BLOCKS)?;
        let (slopes, others) = (gpu.uninit(n)?, gpu.uninit(m)?);
        let grid = Grid::Blocks(BLOCKS);
        let used = match self.kind {
            Kind::SmoothL1 => {
                let arguments = args![parts.at(), slopes.at(), x, y, Size(n)];
                gpu.launch("smooth_l1", grid, arguments)?;
                BLOCKS
            }
            Kind::Logistic => {
                let second = parts.at().plus(BLOCKS);
                for (parts, slopes, x, label, n) in [
                    (parts.at(), slopes.at(), x, 1f32, n),
                    (second, others.at(), y, 0f32, m),
                ] {
                    let arguments = args![parts, slopes, x, label, Size(n)];
                    gpu.launch("logistic", grid, arguments)?;
                }
                2 * BLOCKS
            }
        };
        let loss = gpu.mean(parts.at(), used, self.count([n, m]))?;
        Ok((loss, [slopes, others]))
    }
}

impl CustomOp2 for MeanLossOp {
    fn name(&self) -> &'static str {
        "fused-mean-loss"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("mean loss: a GPU's operation")
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        y: &CudaStorage,
        yl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let sizes = [xl, yl].map(|layout| layout.shape().elem_count());
        if matches!(self.kind, Kind::SmoothL1) && xl.shape() != yl.shape() {
            candle_core::bail!("smooth L1: {:?} and {:?} differ", xl.shape(), yl.shape())
        }
        let gpu = Gpu::of(x);
        let (loss, kept) = self.forward(&gpu, [at(x, xl)?, at(y, yl)?], sizes)?;
        keep(&self.kept, kept)?;
        gpu.output(loss, ())
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _loss: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let kept = take(&self.kept)?;
        let sizes = [x.elem_count(), y.elem_count()];
        with([x, y, grad], |gpu, [x_at, y_at, g]| {
            // Whoever differentiates a graph twice waits for a second pass here.
            let [slopes, others] = match kept {
                Some(kept) => kept,
                None => self.forward(gpu, [x_at, y_at], sizes)?.1,
            };
            let by = 1.0 / self.count(sizes) as f32;
            gpu.scale(slopes.at(), g, by, sizes[0])?;
            let dx = gpu.tensor(slopes, x.dims());
            let dy = match self.kind {
                Kind::SmoothL1 if y.track_op() => Some(dx.neg()?),
                Kind::SmoothL1 => None,
                Kind::Logistic => {
                    gpu.scale(others.at(), g, by, sizes[1])?;
                    Some(gpu.tensor(others, y.dims()))
                }
            };
            Ok((Some(dx), dy))
        })
    }
}
