//! `y = x·wᵀ + b` for `x: [n, in]`, `w: [out, in]`, `b: [out]`, as one graph node.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::matmul::{Matrix, matmul};
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{add_scaled, dispatch};

/// Rows whose bias gradient one task sums; fixed, so the sum's order is too.
const ROWS: usize = 256;

pub(crate) struct LinearOp;

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
        let ((n, inner), (out, w_inner)) = (xl.shape().dims2()?, wl.shape().dims2()?);
        if inner != w_inner || bl.shape().dims1()? != out {
            candle_core::bail!(
                "linear: x {:?}, w {:?}, b {:?}",
                xl.shape(),
                wl.shape(),
                bl.shape()
            )
        }
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

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _b: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let ((n, inner), (out, _)) = (x.dims2()?, w.dims2()?);
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
