//! Rows of a table by id: `y[i] = table[ids[i]]`, with gradients summed per row in the order of `ids`.

use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use crate::cuda::{self, Gpu};
use crate::leaves::Slot;
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{add_scaled, dispatch};

pub(crate) struct GatherOp {
    pub(crate) ids: Arc<[u32]>,
    /// Where the table's gradient goes; without, it is candle's.
    pub(crate) slot: Option<Slot>,
}

/// The different ones of `ids`, ascending, and of each of `ids` its place among them.
pub(crate) fn distinct(ids: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut own = ids.to_vec();
    own.sort_unstable();
    own.dedup();
    let place = |id: &u32| own.partition_point(|o| o < id) as u32;
    let places = ids.iter().map(place).collect();
    (own, places)
}

/// Rows `g` `[ids, d]` summed by id, in the order of `ids`: `[rows, d]`.
fn sums(g: &[f32], ids: &[u32], rows: usize, d: usize) -> Vec<f32> {
    let mut sums = vec![0.0; rows * d];
    dispatch(
        #[inline(always)]
        || {
            for (&id, g) in ids.iter().zip(g.chunks_exact(d)) {
                add_scaled(&mut sums[id as usize * d..][..d], 1.0, g);
            }
        },
    );
    sums
}

impl CustomOp1 for GatherOp {
    fn name(&self) -> &'static str {
        "fused-gather"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, d) = layout.shape().dims2()?;
        let table = slice(table, layout)?;
        let mut y = uninit(self.ids.len() * d);
        for (i, &id) in self.ids.iter().enumerate() {
            let id = id as usize;
            if id >= rows {
                candle_core::bail!("gather: id {id} at position {i} in a table of {rows} rows")
            }
            y[i * d..(i + 1) * d].copy_from_slice(&table[id * d..(id + 1) * d]);
        }
        Ok((CpuStorage::F32(y), (self.ids.len(), d).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, table: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (rows, d) = layout.shape().dims2()?;
        if let Some((i, id)) = (self.ids.iter().enumerate()).find(|&(_, &id)| id as usize >= rows) {
            candle_core::bail!("gather: id {id} at position {i} in a table of {rows} rows")
        }
        let (gpu, n) = (Gpu::of(table), self.ids.len());
        let y = gpu.uninit(n * d)?;
        let ids = gpu.upload(&self.ids)?;
        gpu.gather(y.at(), cuda::at(table, layout)?, &ids, n, d)?;
        gpu.output(y, (n, d))
    }

    fn bwd(&self, table: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, d) = table.dims2()?;
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            return cuda::with([grad], |gpu, [g]| {
                let sums = gpu.sum_at(g, &self.ids, rows, d)?;
                Ok(Some(gpu.tensor(sums, &[rows, d])))
            });
        }
        with_slice(grad, |g| match &self.slot {
            None => tensor(sums(g, &self.ids, rows, d), &[rows, d]).map(Some),
            Some(slot) => {
                let (own, places) = distinct(&self.ids);
                slot.add_rows(rows * d, &own, &sums(g, &places, own.len(), d))?;
                Ok(None)
            }
        })
    }
}
