//! `y = x·wᵀ + b` for `x: [n, in]`, `w: [out, in]`, `b: [out]`, as one graph node.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use crate::cuda::{self, Gpu, Matrix as GpuMatrix};
use crate::matmul::{Matrix, matmul};
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{add_scaled, dispatch};

/// Rows whose bias gradient one task sums; fixed, so the sum's order is too.
const ROWS: usize = 256;

pub(crate) struct LinearOp;

/// Rows, inputs and outputs.
fn check(x: &Layout, w: &Layout, b: &Layout) -> Result<(usize, usize, usize)> {
    let ((n, inner), (out, w_inner)) = (x.shape().dims2()?, w.shape().dims2()?);
    if inner != w_inner || b.shape().dims1()? != out {
        candle_core::bail!(
            "linear: x {:?}, w {:?}, b {:?}",
            x.shape(),
            w.shape(),
            b.shape()
        )
    }
    Ok((n, inner, out))
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        "fused-linear"
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
        let (n, inner, out) = check(xl, wl, bl)?;
        let (x, w, b) = (slice(x, xl)?, slice(w, wl)?, slice(b, bl)?);
        let mut y = uninit(n * out);
        if out > 0 {
            y.chunks_exact_mut(out)
                .for_each(|row| row.copy_from_slice(b));
        }
        matmul(
            &mut y,
            Matrix::new(x, n, inner),
            Matrix::new(w, out, inner).t(),
            true,
        );
        Ok((CpuStorage::F32(y), (n, out).into()))
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
        let (n, inner, out) = check(xl, wl, bl)?;
        let gpu = Gpu::of(x);
        let y = gpu.uninit(n * out)?;
        let affine = (cuda::at(w, wl)?, cuda::at(b, bl)?);
        gpu.linear(y.at(), cuda::at(x, xl)?, n, affine, inner, out)?;
        gpu.output(y, (n, out))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _b: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let ((n, inner), (out, _)) = (x.dims2()?, w.dims2()?);
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            let tracked = x.track_op();
            return cuda::with([x, w, grad], |gpu, [x, w, g]| {
                let g_matrix = GpuMatrix::new(g, n, out);
                let mut dx = None;
                if tracked {
                    let own = gpu.uninit(n * inner)?;
                    gpu.matmul(own.at(), g_matrix, GpuMatrix::new(w, out, inner), false)?;
                    dx = Some(gpu.tensor(own, &[n, inner]));
                }
                let (dw, db) = (gpu.uninit(out * inner)?, gpu.uninit(out)?);
                gpu.matmul(dw.at(), g_matrix.t(), GpuMatrix::new(x, n, inner), false)?;
                gpu.column_sums(db.at(), g, n, out)?;
                let (dw, db) = (gpu.tensor(dw, &[out, inner]), gpu.tensor(db, &[out]));
                Ok((dx, Some(dw), Some(db)))
            });
        }
        with_slice(grad, |g| {
            let g_matrix = Matrix::new(g, n, out);
            let dx = if x.track_op() {
                with_slice(w, |w| {
                    let mut dx = uninit(n * inner);
                    matmul(&mut dx, g_matrix, Matrix::new(w, out, inner), false);
                    Ok(Some(tensor(dx, &[n, inner])?))
                })?
            } else {
                None
            };
            let dw = with_slice(x, |x| {
                let mut dw = uninit(out * inner);
                matmul(&mut dw, g_matrix.t(), Matrix::new(x, n, inner), false);
                tensor(dw, &[out, inner])
            })?;
            Ok((dx, Some(dw), Some(tensor(column_sums(g, out), &[out])?)))
        })
    }
}

/// Sums over the rows of `g: [n, width]`.
pub(crate) fn column_sums(g: &[f32], width: usize) -> Vec<f32> {
    if width == 0 {
        return vec![];
    }
    let parts: Vec<Vec<f32>> = g
        .par_chunks(ROWS * width)
        .map(|rows| {
            let mut sums = vec![0.0; width];
            dispatch(
                #[inline(always)]
                || {
                    rows.chunks_exact(width)
                        .for_each(|row| add_scaled(&mut sums, 1.0, row))
                },
            );
            sums
        })
        .collect();
    let mut total = vec![0.0; width];
    parts
        .iter()
        .for_each(|part| add_scaled(&mut total, 1.0, part));
    total
}
