//! The tanh form of GELU: `x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use crate::cuda::{self, At, Gpu};
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{dispatch, exp};

const CHUNK: usize = 16 * 1024;
const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

#[inline(always)]
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

#[inline(always)]
fn value(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * (x + CUBIC * x * x * x)))
}

/// GELU and its slope.
#[inline(always)]
fn value_and_slope(x: f32) -> (f32, f32) {
    let t = tanh(SQRT_2_OVER_PI * (x + CUBIC * x * x * x));
    let inner = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
    (
        0.5 * x * (1.0 + t),
        0.5 * (1.0 + t + x * (1.0 - t * t) * inner),
    )
}

/// `y = gelu(x + bias)`, row by row.
pub(crate) fn forward(x: &[f32], bias: &[f32], y: &mut [f32]) {
    let width = bias.len();
    dispatch(
        #[inline(always)]
        || {
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                for ((y, &x), &b) in y.iter_mut().zip(x).zip(bias) {
                    *y = value(x + b);
                }
            }
        },
    );
}

/// `y = gelu(x + bias)` again, its gradient `g` to that of `x` in its place, and `dbias += Σ` of that.
pub(crate) fn backward(x: &[f32], bias: &[f32], g: &mut [f32], y: &mut [f32], dbias: &mut [f32]) {
    let width = bias.len();
    dispatch(
        #[inline(always)]
        || {
            let rows = x.chunks_exact(width).zip(g.chunks_exact_mut(width));
            for ((x, g), y) in rows.zip(y.chunks_exact_mut(width)) {
                for (((&x, &b), g), y) in x.iter().zip(bias).zip(g.iter_mut()).zip(y) {
                    let (value, slope) = value_and_slope(x + b);
                    *y = value;
                    *g *= slope;
                }
                dbias.iter_mut().zip(&*g).for_each(|(sum, &g)| *sum += g);
            }
        },
    );
}

pub(crate) struct GeluOp;

impl CustomOp1 for GeluOp {
    fn name(&self) -> &'static str {
        "fused-gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, xl)?;
        let mut y = uninit(x.len());
        y.par_chunks_mut(CHUNK)
            .zip(x.par_chunks(CHUNK))
            .for_each(|(y, x)| {
                dispatch(
                    #[inline(always)]
                    || {
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = value(x);
                        }
                    },
                )
            });
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, xl: &Layout) -> Result<(CudaStorage, Shape)> {
        let (gpu, n) = (Gpu::of(x), xl.shape().elem_count());
        let y = gpu.uninit(n)?;
        gpu.gelu(y.at(), cuda::at(x, xl)?, At::NONE, n, 1)?;
        gpu.output(y, xl.shape())
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            return cuda::with([x, grad], |gpu, [at, g]| {
                let dx = gpu.uninit(x.elem_count())?;
                gpu.gelu_backward(dx.at(), g, at, At::NONE, x.elem_count(), 1)?;
                Ok(Some(gpu.tensor(dx, x.dims())))
            });
        }
        let dims = x.dims();
        with_slice(x, |x| {
            with_slice(grad, |g| {
                let mut dx = uninit(x.len());
                dx.par_chunks_mut(CHUNK)
                    .zip(x.par_chunks(CHUNK))
                    .zip(g.par_chunks(CHUNK))
                    .for_each(|((dx, x), g)| {
                        dispatch(
                            #[inline(always)]
                            || {
                                for ((dx, &x), &g) in dx.iter_mut().zip(x).zip(g) {
                                    *dx = g * value_and_slope(x).1;
                                }
                            },
                        )
                    });
                Ok(Some(tensor(dx, dims)?))
            })
        })
    }
}
