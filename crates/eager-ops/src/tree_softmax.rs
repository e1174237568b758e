//! Softmax cross-entropy of each row over *its own* contiguous range of a table's rows.
//!
//! In a code tree numbered breadth first the children of a node are neighbours, so the logits of one
//! level are `hidden · table[children]ᵀ`: no catalogue-wide product, no gather, no mask. Rows that
//! share a range (all of them on the first level) share one matrix product.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use crate::matmul::{Matrix, matmul};
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{dispatch, exp, max, sum};

/// For each row, the table rows its logits run over and which of them is the target.
#[derive(Clone, Debug)]
pub struct RowRanges {
    ranges: Arc<[Range<u32>]>,
    targets: Arc<[u32]>,
}

impl RowRanges {
    /// `targets[i]` is a table row inside `ranges[i]`. Two ranges are equal or disjoint, as siblings are.
    ///
    /// # Errors
    /// When the lengths differ, there is no row, a target lies outside its range, or ranges overlap.
    pub fn new(ranges: Vec<Range<u32>>, targets: Vec<u32>) -> Result<Self> {
        if ranges.is_empty() || ranges.len() != targets.len() {
            candle_core::bail!(
                "tree softmax: {} ranges for {} targets",
                ranges.len(),
                targets.len()
            )
        }
        if let Some(i) = (0..ranges.len()).find(|&i| !ranges[i].contains(&targets[i])) {
            candle_core::bail!(
                "tree softmax: target {} of row {i} is not in {:?}",
                targets[i],
                ranges[i]
            )
        }
        let mut sorted: Vec<_> = ranges.iter().map(|r| (r.start, r.end)).collect();
        sorted.sort_unstable();
        sorted.dedup();
        if let Some(w) = sorted.windows(2).find(|w| w[0].1 > w[1].0) {
            candle_core::bail!("tree softmax: ranges {:?} and {:?} overlap", w[0], w[1])
        }
        Ok(Self {
            ranges: ranges.into(),
            targets: targets.into(),
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Never true: see [`RowRanges::new`].
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Each row's range.
    pub fn ranges(&self) -> &[Range<u32>] {
        &self.ranges
    }

    /// Each row's target.
    pub fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// Rows by range: `(range, rows that have it)`, in the order of ranges, rows ascending.
    fn groups(&self) -> Vec<(Range<usize>, Vec<usize>)> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&i| self.ranges[i].start);
        order
            .chunk_by(|&a, &b| self.ranges[a].start == self.ranges[b].start)
            .map(|rows| {
                let range = &self.ranges[rows[0]];
                (range.start as usize..range.end as usize, rows.to_vec())
            })
            .collect()
    }
}

/// Mean over rows of `-log softmax(hidden_i · table[range_i]ᵀ)[target_i]`.
pub(crate) struct TreeCrossEntropyOp(pub(crate) RowRanges);

/// The rows of `hidden` named by `rows`, side by side.
fn collect_rows(hidden: &[f32], rows: &[usize], d: usize) -> Vec<f32> {
    rows.iter()
        .flat_map(|&r| &hidden[r * d..(r + 1) * d])
        .copied()
        .collect()
}

/// Turns each row of logits into probabilities; returns each row's `log Σ exp`.
pub(crate) fn softmax_rows(logits: &mut [f32], width: usize) -> Vec<f32> {
    let mut normalisers = vec![0.0; logits.len() / width];
    dispatch(
        #[inline(always)]
        || {
            // A closure in `map(…).collect()` is a function of its own, compiled for the baseline.
            for (row, normaliser) in logits.chunks_exact_mut(width).zip(&mut normalisers) {
                let highest = max(row);
                for x in row.iter_mut() {
                    *x = exp(*x - highest);
                }
                let total = sum(row);
                let inverse = 1.0 / total;
                for x in row.iter_mut() {
                    *x *= inverse;
                }
                *normaliser = total.ln() + highest;
            }
        },
    );
    normalisers
}

impl CustomOp2 for TreeCrossEntropyOp {
    fn name(&self) -> &'static str {
        "fused-tree-cross-entropy"
    }

    fn cpu_fwd(
        &self,
        h: &CpuStorage,
        hl: &Layout,
        t: &CpuStorage,
        tl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((n, d), (nodes, table_d)) = (hl.shape().dims2()?, tl.shape().dims2()?);
        if n != self.0.len() || d != table_d {
            candle_core::bail!(
                "tree softmax: hidden {:?}, table {:?}, {} rows",
                hl.shape(),
                tl.shape(),
                self.0.len()
            )
        }
        let (hidden, table) = (slice(h, hl)?, slice(t, tl)?);
        let mut loss = 0f64;
        for (range, rows) in self.0.groups() {
            if range.end > nodes {
                candle_core::bail!("tree softmax: range {range:?} in a table of {nodes} rows")
            }
            let mut logits = uninit(rows.len() * range.len());
            let own = collect_rows(hidden, &rows, d);
            let children = Matrix::new(&table[range.start * d..range.end * d], range.len(), d);
            matmul(
                &mut logits,
                Matrix::new(&own, rows.len(), d),
                children.t(),
                false,
            );
            let targets: Vec<f32> = rows
                .iter()
                .zip(logits.chunks_exact(range.len()))
                .map(|(&r, logits)| logits[self.0.targets[r] as usize - range.start])
                .collect();
            for (normaliser, target) in softmax_rows(&mut logits, range.len())
                .into_iter()
                .zip(targets)
            {
                loss += f64::from(normaliser - target);
            }
        }
        Ok((CpuStorage::F32(vec![(loss / n as f64) as f32]), ().into()))
    }

    /// With `p` the probabilities: `dlogits = (p - onehot)·g/n`, `dhidden = dlogits·table[range]`,
    /// `dtable[range] = dlogitsᵀ·hidden`.
    fn bwd(
        &self,
        h: &Tensor,
        t: &Tensor,
        _loss: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((n, d), (nodes, _)) = (h.dims2()?, t.dims2()?);
        let scale = grad.to_scalar::<f32>()? / n as f32;
        let tracked = t.track_op();
        with_slice(h, |hidden| {
            with_slice(t, |table| {
                let mut dh = uninit(n * d);
                let mut dt = if tracked {
                    vec![0.0; nodes * d]
                } else {
                    vec![]
                };
                for (range, rows) in self.0.groups() {
                    let width = range.len();
                    let own = collect_rows(hidden, &rows, d);
                    let own = Matrix::new(&own, rows.len(), d);
                    let span = range.start * d..range.end * d;
                    let children = Matrix::new(&table[span.clone()], width, d);
                    let mut dlogits = uninit(rows.len() * width);
                    matmul(&mut dlogits, own, children.t(), false);
                    softmax_rows(&mut dlogits, width);
                    for (&r, row) in rows.iter().zip(dlogits.chunks_exact_mut(width)) {
                        row[self.0.targets[r] as usize - range.start] -= 1.0;
                        row.iter_mut().for_each(|x| *x *= scale);
                    }
                    let dlogits = Matrix::new(&dlogits, rows.len(), width);
                    let mut dh_rows = uninit(rows.len() * d);
                    matmul(&mut dh_rows, dlogits, children, false);
                    for (&r, row) in rows.iter().zip(dh_rows.chunks_exact(d)) {
                        dh[r * d..(r + 1) * d].copy_from_slice(row);
                    }
                    if tracked {
                        matmul(&mut dt[span], dlogits.t(), own, false);
                    }
                }
                let dt = if tracked {
                    Some(tensor(dt, &[nodes, d])?)
                } else {
                    None
                };
                Ok((Some(tensor(dh, &[n, d])?), dt))
            })
        })
    }
}
