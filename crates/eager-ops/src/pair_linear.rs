//! `y_ct = W·(q_c∘b_t) + u_c + v_t` for every pair of a candidate `c` and a position `t` of one sequence: a linear
//! layer over `[q, b, q∘b]` whose first two parts were computed once a row (see [`crate::Ops::pair_linear`]).
//!
//! The products `q_c∘b_t` live in a buffer that stays in the cache, forward and backward; written out they would be
//! the largest tensor of DIN. One thread does it all (a training shard has one), the matrix products apart.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use crate::matmul::{Matrix, matmul};
use crate::pairs::{Block, Pairs};
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{add_scaled, dispatch};

/// Pairs whose products are held at a time: at DIN's width of 96, 192 KiB.
const PAIRS: usize = 512;

/// Operands: `left` `[candidates, d + h]` is `q` and `u` side by side, `right` `[positions, d + h]` is `b` and `v`,
/// `w` is `[h, d]`.
pub(crate) struct PairLinearOp(pub(crate) Pairs);

/// A sequence cut by candidates into pieces of at most about [`PAIRS`] pairs.
fn pieces(block: Block) -> impl Iterator<Item = Block> {
    let n = block.positions.len();
    let step = PAIRS.checked_div(n).unwrap_or(block.candidates.len());
    let step = step.max(1);
    let Block {
        candidates,
        positions,
        start,
    } = block;
    candidates.clone().step_by(step).map(move |first| Block {
        candidates: first..candidates.end.min(first + step),
        positions: positions.clone(),
        start: start + (first - candidates.start) * n,
    })
}

/// Row by row `q_c∘b_t`; rows are `width` apart in `left` and `right`.
fn products(out: &mut [f32], left: &[f32], right: &[f32], block: &Block, d: usize, width: usize) {
    dispatch(
        #[inline(always)]
        || {
            let mut rows = out.chunks_exact_mut(d);
            for c in block.candidates.clone() {
                let q = &left[c * width..c * width + d];
                for (t, out) in block.positions.clone().zip(&mut rows) {
                    let b = &right[t * width..t * width + d];
                    for ((o, &q), &b) in out.iter_mut().zip(q).zip(b) {
                        *o = q * b;
                    }
                }
            }
        },
    );
}

impl CustomOp3 for PairLinearOp {
    fn name(&self) -> &'static str {
        "fused-pair-linear"
    }

    fn cpu_fwd(
        &self,
        left: &CpuStorage,
        ll: &Layout,
        right: &CpuStorage,
        rl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (h, d) = wl.shape().dims2()?;
        let width = d + h;
        let (left, right, w) = (slice(left, ll)?, slice(right, rl)?, slice(w, wl)?);
        let mut y = uninit(self.0.len() * h);
        let mut held = vec![];
        for block in self.0.blocks().flat_map(pieces) {
            let n = block.candidates.len() * block.positions.len();
            held.resize(held.len().max(n * d), 0.0);
            products(&mut held[..n * d], left, right, &block, d, width);
            let y = &mut y[block.start * h..(block.start + n) * h];
            dispatch(
                #[inline(always)]
                || {
                    let mut rows = y.chunks_exact_mut(h.max(1));
                    for c in block.candidates.clone() {
                        let u = &left[c * width + d..(c + 1) * width];
                        for (t, y) in block.positions.clone().zip(&mut rows) {
                            let v = &right[t * width + d..(t + 1) * width];
                            for ((y, &u), &v) in y.iter_mut().zip(u).zip(v) {
                                *y = u + v;
                            }
                        }
                    }
                },
            );
            matmul(y, Matrix::new(&held, n, d), Matrix::new(w, h, d).t(), true);
        }
        Ok((CpuStorage::F32(y), (self.0.len(), h).into()))
    }

    /// With `dp = g·W` (rows of pairs): `dq_c = Σ_t dp_ct∘b_t`, `du_c = Σ_t g_ct`, `db_t = Σ_c dp_ct∘q_c`,
    /// `dv_t = Σ_c g_ct`, `dW = gᵀ·(q∘b)`.
    fn bwd(
        &self,
        left: &Tensor,
        right: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (h, d) = w.dims2()?;
        let mut grads = Gradients {
            left: vec![0.0; left.elem_count()],
            right: vec![0.0; right.elem_count()],
            w: vec![0.0; h * d],
        };
        with_slice(left, |left| {
            with_slice(right, |right| {
                with_slice(w, |w| {
                    with_slice(grad, |g| {
                        self.backward(left, right, w, g, h, d, &mut grads);
                        Ok(())
                    })
                })
            })
        })?;
        Ok((
            Some(tensor(grads.left, left.dims())?),
            Some(tensor(grads.right, right.dims())?),
            Some(tensor(grads.w, &[h, d])?),
        ))
    }
}

struct Gradients {
    left: Vec<f32>,
    right: Vec<f32>,
    w: Vec<f32>,
}

impl PairLinearOp {
    #[allow(clippy::too_many_arguments)]
    fn backward(
        &self,
        left: &[f32],
        right: &[f32],
        w: &[f32],
        g: &[f32],
        h: usize,
        d: usize,
        grads: &mut Gradients,
    ) {
        let width = d + h;
        let (mut held, mut dp) = (vec![], vec![]);
        for block in self.0.blocks().flat_map(pieces) {
            let n = block.candidates.len() * block.positions.len();
            held.resize(held.len().max(n * d), 0.0);
            dp.resize(dp.len().max(n * d), 0.0);
            products(&mut held[..n * d], left, right, &block, d, width);
            let g = &g[block.start * h..(block.start + n) * h];
            let g_matrix = Matrix::new(g, n, h);
            matmul(&mut grads.w, g_matrix.t(), Matrix::new(&held, n, d), true);
            matmul(&mut dp, g_matrix, Matrix::new(w, h, d), false);
            dispatch(
                #[inline(always)]
                || {
                    let mut pair = 0;
                    for c in block.candidates.clone() {
                        let q = &left[c * width..c * width + d];
                        let (dq, du) = grads.left[c * width..(c + 1) * width].split_at_mut(d);
                        for t in block.positions.clone() {
                            let b = &right[t * width..t * width + d];
                            let (db, dv) = grads.right[t * width..(t + 1) * width].split_at_mut(d);
                            let dp = &dp[pair * d..(pair + 1) * d];
                            for ((dq, &b), &dp) in dq.iter_mut().zip(b).zip(dp) {
                                *dq += dp * b;
                            }
                            for ((db, &q), &dp) in db.iter_mut().zip(q).zip(dp) {
                                *db += dp * q;
                            }
                            let g = &g[pair * h..(pair + 1) * h];
                            add_scaled(du, 1.0, g);
                            add_scaled(dv, 1.0, g);
                            pair += 1;
                        }
                    }
                },
            );
        }
    }
}
