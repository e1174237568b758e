//! Softmax cross-entropy of each row over *its own* contiguous range of a table's rows.
//!
//! In a code tree numbered breadth first the children of a node are neighbours, so the logits of one
//! level are `hidden · table[children]ᵀ`: no catalogue-wide product, no gather, no mask. Rows that
//! share a range (all of them on the first level) share one matrix product.

use std::ops::Range;
use std::sync::{Arc, Mutex};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use crate::cuda::{self, At, Buffer, Gpu, Grid, args};
use crate::leaves::Slot;
use crate::matmul::{Matrix, matmul};
use crate::storage::{keep, slice, take, tensor, uninit, with_slice};
use crate::vector::{dispatch_lanes, exp};

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
pub(crate) struct TreeCrossEntropyOp {
    rows: RowRanges,
    /// Whether there will be a backward pass.
    differentiate: bool,
    /// Where it leaves the table's gradient; without, that is candle's.
    slot: Option<Slot>,
    /// What the forward pass leaves for it.
    kept: Mutex<Option<Vec<Group>>>,
    #[cfg(feature = "cuda")]
    kept_on_gpu: Mutex<Option<OnGpu>>,
}

/// The rows that share a range.
struct Group {
    range: Range<usize>,
    rows: Vec<usize>,
    /// Their hidden states, side by side.
    hidden: Vec<f32>,
    /// A row of them each: over the range.
    probabilities: Vec<f32>,
}

impl TreeCrossEntropyOp {
    pub(crate) fn new(rows: &RowRanges, differentiate: bool, slot: Option<Slot>) -> Self {
        Self {
            rows: rows.clone(),
            differentiate,
            slot,
            kept: Mutex::new(None),
            #[cfg(feature = "cuda")]
            kept_on_gpu: Mutex::new(None),
        }
    }

    /// The width of rows, all shapes fitting.
    fn check(&self, hidden: &Layout, table: &Layout) -> Result<usize> {
        let ((n, d), (nodes, table_d)) = (hidden.shape().dims2()?, table.shape().dims2()?);
        if n != self.rows.len() || d != table_d {
            candle_core::bail!(
                "tree softmax: hidden {:?}, table {:?}, {} rows",
                hidden.shape(),
                table.shape(),
                self.rows.len()
            )
        }
        if let Some(range) = self.rows.ranges.iter().find(|r| r.end as usize > nodes) {
            candle_core::bail!("tree softmax: range {range:?} in a table of {nodes} rows")
        }
        Ok(d)
    }

    /// The summed loss, and what it was made of.
    fn pass(&self, hidden: &[f32], table: &[f32], d: usize) -> (f64, Vec<Group>) {
        let (mut loss, mut groups) = (0f64, vec![]);
        for (range, rows) in self.rows.groups() {
            let mut logits = uninit(rows.len() * range.len());
            let own = collect_rows(hidden, &rows, d);
            let children = Matrix::new(&table[range.start * d..range.end * d], range.len(), d);
            let product = Matrix::new(&own, rows.len(), d);
            matmul(&mut logits, product, children.t(), false);
            let targets: Vec<f32> = rows
                .iter()
                .zip(logits.chunks_exact(range.len()))
                .map(|(&r, logits)| logits[self.rows.targets[r] as usize - range.start])
                .collect();
            let normalisers = softmax_rows(&mut logits, range.len());
            for (normaliser, target) in normalisers.into_iter().zip(targets) {
                loss += f64::from(normaliser - target);
            }
            groups.push(Group {
                range,
                rows,
                hidden: own,
                probabilities: logits,
            });
        }
        (loss, groups)
    }
}

/// The gradient of the summed loss by every logit, and which logits there are.
#[cfg(feature = "cuda")]
struct OnGpu {
    dlogits: Buffer,
    _lists: Buffer<u32>,
    /// As in the kernels: a row's first table row, how many, where their logits lie, the target among them.
    ranges: [At; 4],
    /// Table rows of any range, the group of rows that has each, where a group begins, rows by group.
    nodes: usize,
    groups: [At; 4],
}

#[cfg(feature = "cuda")]
impl TreeCrossEntropyOp {
    /// The mean loss, a scalar.
    fn forward_on_gpu(
        &self,
        gpu: &Gpu,
        hidden: At,
        table: At,
        d: usize,
    ) -> Result<(Buffer, OnGpu)> {
        let (n, rows) = (self.rows.len(), &self.rows);
        let counts = rows.ranges.iter().map(|r| r.end - r.start);
        let mut logits = 0;
        let places = counts.clone().map(|count| {
            let place = logits;
            logits += count;
            place
        });
        let targets = rows
            .ranges
            .iter()
            .zip(&*rows.targets)
            .map(|(r, t)| t - r.start);
        let (mut nodes, mut of_nodes, mut starts, mut order) = (vec![], vec![], vec![0], vec![]);
        for (group, (range, own)) in rows.groups().into_iter().enumerate() {
            of_nodes.extend(range.clone().map(|_| group as u32));
            nodes.extend(range.map(|node| node as u32));
            order.extend(own.into_iter().map(|row| row as u32));
            starts.push(order.len() as u32);
        }
        let firsts = rows.ranges.iter().map(|r| r.start);
        let mut lists: Vec<u32> = firsts.chain(counts).collect();
        lists.extend(places.collect::<Vec<_>>());
        lists.extend(targets);
        let lengths = [nodes.len(), nodes.len(), starts.len(), order.len()];
        [nodes, of_nodes, starts, order]
            .iter()
            .for_each(|list| lists.extend(list));
        let lists = gpu.upload(&lists)?;
        let ranges = [0, n, 2 * n, 3 * n].map(|at| lists.at().plus(at));
        let mut at = 4 * n;
        let groups = lengths.map(|length| {
            at += length;
            lists.at().plus(at - length)
        });
        let dlogits = gpu.uninit(logits as usize)?;
        let losses = gpu.uninit(n)?;
        let arguments = args![dlogits.at(), losses.at(), hidden, table, ranges, d as i32];
        gpu.launch("tree_softmax", Grid::Blocks(n), arguments)?;
        let loss = gpu.mean(losses.at(), n, n)?;
        let kept = OnGpu {
            dlogits,
            _lists: lists,
            ranges,
            nodes: lengths[0],
            groups,
        };
        Ok((loss, kept))
    }

    fn backward_on_gpu(
        &self,
        h: &Tensor,
        t: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((n, d), nodes, tracked) = (h.dims2()?, t.dim(0)?, t.track_op());
        let kept = take(&self.kept_on_gpu)?;
        cuda::with([h, t, grad], |gpu, [hidden, table, g]| {
            // Whoever differentiates a graph twice waits for a second pass here.
            let kept = match kept {
                Some(kept) => kept,
                None => self.forward_on_gpu(gpu, hidden, table, d)?.1,
            };
            let (by, dlogits) = (1.0 / n as f32, kept.dlogits.at());
            let dh = gpu.uninit(n * d)?;
            let arguments = args![dh.at(), dlogits, table, g, by, kept.ranges, d as i32];
            gpu.launch("tree_dhidden", Grid::Blocks(n), arguments)?;
            let mut dt = None;
            if tracked {
                let sums = gpu.zeros(nodes * d)?;
                let [own, of, starts, order] = kept.groups;
                gpu.launch(
                    "tree_dtable",
                    Grid::Blocks(kept.nodes),
                    args![
                        sums.at(),
                        dlogits,
                        hidden,
                        g,
                        by,
                        kept.ranges,
                        own,
                        of,
                        starts,
                        order,
                        d as i32
                    ],
                )?;
                dt = Some(gpu.tensor(sums, &[nodes, d]));
            }
            Ok((Some(gpu.tensor(dh, &[n, d])), dt))
        })
    }
}

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
    dispatch_lanes(
        #[inline(always)]
        |lanes| {
            // A closure in `map(…).collect()` is a function of its own, compiled for the baseline.
            for (row, normaliser) in logits.chunks_exact_mut(width).zip(&mut normalisers) {
                let highest = lanes.max(row);
                for x in row.iter_mut() {
                    *x = exp(*x - highest);
                }
                let total = lanes.sum(row);
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
        let d = self.check(hl, tl)?;
        let (hidden, table) = (slice(h, hl)?, slice(t, tl)?);
        let (loss, groups) = self.pass(hidden, table, d);
        if self.differentiate {
            keep(&self.kept, groups)?;
        }
        let mean = loss / self.rows.len() as f64;
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
        let (d, gpu) = (self.check(hl, tl)?, Gpu::of(h));
        let (loss, kept) = self.forward_on_gpu(&gpu, cuda::at(h, hl)?, cuda::at(t, tl)?, d)?;
        keep(&self.kept_on_gpu, kept)?;
        gpu.output(loss, ())
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
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            return self.backward_on_gpu(h, t, grad);
        }
        let ((n, d), (nodes, _)) = (h.dims2()?, t.dims2()?);
        let scale = grad.to_scalar::<f32>()? / n as f32;
        let tracked = t.track_op();
        let kept = take(&self.kept)?;
        with_slice(h, |hidden| {
            with_slice(t, |table| {
                let mut dh = uninit(n * d);
                let mut dt = if tracked {
                    vec![0.0; nodes * d]
                } else {
                    vec![]
                };
                // Whoever differentiates a graph twice waits for a second pass here.
                let groups = kept.unwrap_or_else(|| self.pass(hidden, table, d).1);
                for Group {
                    range,
                    rows,
                    hidden: own,
                    probabilities: mut dlogits,
                } in groups
                {
                    let width = range.len();
                    let own = Matrix::new(&own, rows.len(), d);
                    let span = range.start * d..range.end * d;
                    let children = Matrix::new(&table[span.clone()], width, d);
                    for (&r, row) in rows.iter().zip(dlogits.chunks_exact_mut(width)) {
                        row[self.rows.targets[r] as usize - range.start] -= 1.0;
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
                    Slot::take_in(self.slot.as_ref(), dt, &[nodes, d])?
                } else {
                    None
                };
                Ok((Some(tensor(dh, &[n, d])?), dt))
            })
        })
    }
}
