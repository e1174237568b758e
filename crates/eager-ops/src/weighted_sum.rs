//! Attention without a softmax: `y_c = Σ_t a_ct·v_t` over the positions of the candidate's own sequence.
//!
//! One thread does it all: a training shard has one, and the products are small.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use crate::pairs::Pairs;
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{add_scaled, dispatch, dispatch_lanes};

pub(crate) struct WeightedSumOp(pub(crate) Pairs);

impl CustomOp2 for WeightedSumOp {
    fn name(&self) -> &'static str {
        "fused-weighted-sum"
    }

    fn cpu_fwd(
        &self,
        weights: &CpuStorage,
        wl: &Layout,
        values: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let d = vl.shape().dims2()?.1;
        let (weights, values) = (slice(weights, wl)?, slice(values, vl)?);
        let rows = self.0.candidates().rows();
        let mut y = vec![0.0; rows * d];
        dispatch(
            #[inline(always)]
            || {
                for block in self.0.blocks() {
                    let mut pair = block.start;
                    for c in block.candidates {
                        let y = &mut y[c * d..(c + 1) * d];
                        for t in block.positions.clone() {
                            add_scaled(y, weights[pair], &values[t * d..(t + 1) * d]);
                            pair += 1;
                        }
                    }
                }
            },
        );
        Ok((CpuStorage::F32(y), (rows, d).into()))
    }

    /// `da_ct = g_c·v_t`, `dv_t = Σ_c a_ct·g_c`.
    fn bwd(
        &self,
        weights: &Tensor,
        values: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, d) = values.dims2()?;
        let mut dw = uninit(self.0.len());
        let mut dv = vec![0.0; rows * d];
        with_slice(weights, |weights| {
            with_slice(values, |values| {
                with_slice(grad, |g| {
                    dispatch_lanes(
                        #[inline(always)]
                        |lanes| {
                            for block in self.0.blocks() {
                                let mut pair = block.start;
                                for c in block.candidates {
                                    let g = &g[c * d..(c + 1) * d];
                                    for t in block.positions.clone() {
                                        let row = t * d..(t + 1) * d;
                                        dw[pair] = lanes.dot(g, &values[row.clone()]);
                                        add_scaled(&mut dv[row], weights[pair], g);
                                        pair += 1;
                                    }
                                }
                            }
                        },
                    );
                    Ok(())
                })
            })
        })?;
        Ok((
            Some(tensor(dw, weights.dims())?),
            Some(tensor(dv, &[rows, d])?),
        ))
    }
}
