//! Log-probabilities of each row over *its own* contiguous range of a table's rows, for inference: what
//! [`crate::Ops::tree_cross_entropy`] trains, without targets, gradient or graph.
//!
//! Rows that share a range are worked off together. Every logit is one dot product, summed in the same order however many rows
//! there are, so that a row's scores do not depend on the rows beside it.

use std::ops::Range;

use candle_core::{D, Result, Tensor};
use candle_nn::ops::log_softmax;

use crate::plain;
use crate::storage::{uninit, with_slice};
use crate::vector::{Lanes, dispatch_lanes, exp};

/// Rows of one range that are multiplied with a child at a time: few enough to stay in the cache.
const ROWS: usize = 32;

/// Elements of the gathered children that the plain form holds at a time.
const PLAIN_ELEMENTS: usize = 1 << 24;

/// A log-probability for every element of every row's range.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeScores {
    values: Vec<f32>,
    /// Row `i` owns `values[offsets[i]..offsets[i + 1]]`.
    offsets: Vec<usize>,
}

impl TreeScores {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row `i`'s log-probabilities, in the order of its range.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[self.offsets[i]..self.offsets[i + 1]]
    }
}

/// See [`crate::Ops::tree_scores`].
pub(crate) fn tree_scores(
    fused: bool,
    hidden: &Tensor,
    table: &Tensor,
    ranges: &[Range<u32>],
) -> Result<TreeScores> {
    let ((n, d), (nodes, width)) = (hidden.dims2()?, table.dims2()?);
    if n != ranges.len() || d != width {
        candle_core::bail!(
            "tree scores: hidden {:?}, table {:?}, {} ranges",
            hidden.shape(),
            table.shape(),
            ranges.len()
        )
    }
    if let Some(i) = ranges
        .iter()
        .position(|r| r.start > r.end || r.end as usize > nodes)
    {
        candle_core::bail!(
            "tree scores: range {:?} of row {i} in a table of {nodes} rows",
            ranges[i]
        )
    }
    let mut offsets = vec![0];
    let mut end = 0;
    offsets.extend(ranges.iter().map(|r| {
        end += r.len();
        end
    }));
    #[cfg(feature = "cuda")]
    if fused && crate::cuda::is_cuda_f32(hidden) {
        let values = on_gpu(hidden, table, ranges, &offsets)?;
        return Ok(TreeScores { values, offsets });
    }
    let values = if fused {
        with_slice(hidden, |hidden| {
            with_slice(table, |table| {
                Ok(packed(hidden, table, d, ranges, &offsets))
            })
        })?
    } else {
        plain_packed(hidden, table, ranges)?
    };
    Ok(TreeScores { values, offsets })
}

#[cfg(feature = "cuda")]
fn on_gpu(
    hidden: &Tensor,
    table: &Tensor,
    ranges: &[Range<u32>],
    offsets: &[usize],
) -> Result<Vec<f32>> {
    use crate::cuda::{Grid, args, with};
    let (n, d) = hidden.dims2()?;
    let all = offsets[n];
    with([hidden, table], |gpu, [hidden, table]| {
        let mut lists: Vec<u32> = ranges.iter().map(|r| r.start).collect();
        lists.extend(ranges.iter().map(|r| r.end - r.start));
        lists.extend(offsets[..n].iter().map(|&at| at as u32));
        let lists = gpu.upload(&lists)?;
        let places = [0, n, 2 * n, 0].map(|at| lists.at().plus(at));
        let scores = gpu.uninit(all)?;
        let arguments = args![scores.at(), hidden, table, places, d as i32];
        gpu.launch("tree_scores", Grid::Blocks(n), arguments)?;
        let mut scores = gpu.read(&scores)?;
        scores.truncate(all); // a buffer of nothing has one
        Ok(scores)
    })
}

fn packed(
    hidden: &[f32],
    table: &[f32],
    d: usize,
    ranges: &[Range<u32>],
    offsets: &[usize],
) -> Vec<f32> {
    let mut values = uninit(offsets[ranges.len()]);
    let key = |i: u32| (ranges[i as usize].start, ranges[i as usize].end);
    let mut order: Vec<u32> = (0..ranges.len() as u32).collect();
    order.sort_unstable_by_key(|&i| (key(i), i));
    for rows in order.chunk_by(|&a, &b| key(a) == key(b)) {
        let range = &ranges[rows[0] as usize];
        let width = range.len();
        if width == 0 {
            continue;
        }
        let children = &table[range.start as usize * d..range.end as usize * d];
        dispatch_lanes(
            #[inline(always)]
            |lanes| {
                for rows in rows.chunks(ROWS) {
                    // A child is read once for all of them.
                    for (j, child) in children.chunks_exact(d).enumerate() {
                        let state = |i: u32| &hidden[i as usize * d..][..d];
                        let (fours, rest) = rows.as_chunks::<4>();
                        for four in fours {
                            let scores = lanes.dots(child, four.map(state));
                            for (i, score) in four.iter().zip(scores) {
                                values[offsets[*i as usize] + j] = score;
                            }
                        }
                        for &i in rest {
                            values[offsets[i as usize] + j] = lanes.dot(child, state(i));
                        }
                    }
                }
                for &i in rows {
                    log_softmax_row(lanes, &mut values[offsets[i as usize]..][..width]);
                }
            },
        );
    }
    values
}

/// Logits to log-probabilities; at least one.
#[inline(always)]
fn log_softmax_row(lanes: Lanes, row: &mut [f32]) {
    let highest = lanes.max(row);
    let mut sums = [0f32; 16];
    let chunks = row.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|&x| exp(x - highest)).sum();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += exp(x - highest);
        }
    }
    let normaliser = (sums.iter().sum::<f32>() + rest).ln() + highest;
    row.iter_mut().for_each(|x| *x -= normaliser);
}

/// The same composed of candle's operations: children padded to the longest range of a chunk of rows.
fn plain_packed(hidden: &Tensor, table: &Tensor, ranges: &[Range<u32>]) -> Result<Vec<f32>> {
    let (d, device) = (hidden.dim(1)?, hidden.device());
    let longest = ranges.iter().map(Range::len).max().unwrap_or(0);
    let rows = (PLAIN_ELEMENTS / (longest * d).max(1)).max(1);
    let mut values = Vec::new();
    for (chunk, ranges) in ranges.chunks(rows).enumerate() {
        let (n, longest) = (
            ranges.len(),
            ranges.iter().map(Range::len).max().unwrap_or(0),
        );
        if longest == 0 {
            continue;
        }
        let own = hidden.narrow(0, chunk * rows, n)?;
        let logits = if ranges.iter().all(|r| *r == ranges[0]) {
            let children = table.narrow(0, ranges[0].start as usize, longest)?;
            own.matmul(&children.t()?)?
        } else {
            let padded = |r: &Range<u32>| {
                let (start, len) = (r.start, r.len() as u32);
                (0..longest as u32).map(move |j| if j < len { start + j } else { 0 })
            };
            let ids: Vec<u32> = ranges.iter().flat_map(padded).collect();
            let bias: Vec<f32> = ranges
                .iter()
                .flat_map(|r| (0..longest).map(move |j| if j < r.len() { 0.0 } else { -1e9 }))
                .collect();
            let bias = Tensor::from_vec(bias, (n, longest), device)?.to_dtype(hidden.dtype())?;
            let children = plain::gather(table, &ids)?.reshape((n, longest, d))?;
            let products = children.matmul(&own.reshape((n, d, 1))?)?.squeeze(2)?;
            (products + bias)?
        };
        let scores = log_softmax(&logits, D::Minus1)?.to_dtype(candle_core::DType::F32)?;
        for (row, range) in scores.to_vec2::<f32>()?.iter().zip(ranges) {
            values.extend_from_slice(&row[..range.len()]);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::Ops;

    fn random(rng: &mut ChaCha8Rng, n: usize, d: usize) -> (Vec<f32>, Tensor) {
        let data: Vec<f32> = (0..n * d).map(|_| rng.random_range(-1.5..1.5)).collect();
        let tensor = Tensor::from_slice(&data, (n, d), &Device::Cpu).unwrap();
        (data, tensor)
    }

    #[test]
    fn both_forms_match_the_naive_loop() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        for (n, d, nodes) in [(1, 5, 9), (40, 16, 60), (200, 33, 120)] {
            let (h, hidden) = random(&mut rng, n, d);
            let (t, table) = random(&mut rng, nodes, d);
            // A few siblings' ranges, shared by few and many rows; one of a single child, one empty.
            let cuts = [0, 1, 1, 4, nodes as u32 / 2, nodes as u32];
            let ranges: Vec<Range<u32>> = (0..n)
                .map(|_| {
                    let at = rng.random_range(0..cuts.len() - 1);
                    cuts[at]..cuts[at + 1]
                })
                .collect();
            for ops in [Ops::Fused, Ops::Plain] {
                let scores = ops.tree_scores(&hidden, &table, &ranges).unwrap();
                assert_eq!(scores.len(), n);
                for (i, range) in ranges.iter().enumerate() {
                    let logit = |node: u32| -> f64 {
                        let (h, t) = (&h[i * d..][..d], &t[node as usize * d..][..d]);
                        h.iter()
                            .zip(t)
                            .map(|(&a, &b)| f64::from(a) * f64::from(b))
                            .sum()
                    };
                    let total: f64 = range.clone().map(|v| logit(v).exp()).sum();
                    let found = scores.row(i);
                    assert_eq!(found.len(), range.len());
                    for (node, &found) in range.clone().zip(found) {
                        let want = logit(node) - total.ln();
                        assert!((f64::from(found) - want).abs() < 2e-5 * (1.0 + want.abs()));
                    }
                    if range.len() == 1 {
                        assert_eq!(found, [0.0]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let mut rng = ChaCha8Rng::seed_from_u64(13);
        let (n, d, nodes) = (150, 128, 300);
        let (h, hidden) = random(&mut rng, n, d);
        let (_, table) = random(&mut rng, nodes, d);
        let ranges: Vec<Range<u32>> = (0..n as u32)
            .map(|i| i % 3 * 47..i % 3 * 47 + 47 + i % 3)
            .collect();
        let together = Ops::Fused.tree_scores(&hidden, &table, &ranges).unwrap();
        for i in 0..n {
            let one = Tensor::from_slice(&h[i * d..][..d], (1, d), &Device::Cpu).unwrap();
            let alone = Ops::Fused
                .tree_scores(&one, &table, &ranges[i..=i])
                .unwrap();
            assert_eq!(alone.row(0), together.row(i));
        }
    }

    #[test]
    fn nothing_gives_nothing_and_misfits_are_refused() {
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        let (_, none) = random(&mut rng, 0, 4);
        let (_, hidden) = random(&mut rng, 1, 4);
        let (_, table) = random(&mut rng, 3, 4);
        for ops in [Ops::Fused, Ops::Plain] {
            assert!(ops.tree_scores(&none, &table, &[]).unwrap().is_empty());
            let refused =
                |ranges: &[Range<u32>]| ops.tree_scores(&hidden, &table, ranges).unwrap_err();
            assert!(refused(&[]).to_string().contains("0 ranges"));
            assert!(
                refused(std::slice::from_ref(&(2..4)))
                    .to_string()
                    .contains("2..4")
            );
        }
    }
}
