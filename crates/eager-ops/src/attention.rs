//! Multi-head attention over packed short sequences: of a sequence's queries over its keys and values.
//!
//! For sequence `s` and head `h`: `softmax(q·kᵀ / √d_h)·v`, over exactly the keys the sequence has, or the first of them
//! that a query sees. A sequence without keys gives zeros. Probabilities are not kept: the backward pass computes them
//! again from the queries and keys, which at these lengths costs less than the memory would.

use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::Segments;
#[cfg(feature = "cuda")]
use crate::cuda::attention::{Sequences, Strided};
#[cfg(feature = "cuda")]
use crate::cuda::{self, Gpu};
use crate::dropout::Mask;
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{Lanes, dispatch_lanes, exp};

/// The most keys a sequence may have.
pub const MAX_KEYS: usize = 256;

/// Sequences below which work is not split further.
const MIN_SEQUENCES: usize = 8;

/// Floats of a vector register; rows of probabilities are padded to a multiple.
const LANES: usize = 16;

/// What is the same for every sequence and head.
#[derive(Clone)]
pub(crate) struct Attention {
    pub(crate) queries: Segments,
    pub(crate) keys: Segments,
    pub(crate) heads: usize,
    /// For each query row how many keys of its sequence it sees, from the first on; all without.
    pub(crate) seen: Option<Arc<[u32]>>,
    pub(crate) mask: Option<Mask>,
}

/// A sequence's rows inside a wider matrix.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn get(self, row: usize, column: usize, width: usize) -> &'a [f32] {
        let at = row * self.stride + column;
        &self.data[at..at + width]
    }
}

/// One head of one sequence. Functions are generic over its width, so that the usual ones are compiled with constant
/// trip counts; 0 stands for any.
struct Head<'a> {
    q: Rows<'a>,
    /// Keys in the first half of a row, values in the second.
    kv: Rows<'a>,
    /// Queries and keys in the sequence.
    lengths: (usize, usize),
    /// Where the head's columns start, and how many there are.
    from: usize,
    width: usize,
    seen: Option<&'a [u32]>,
    mask: Option<Mask>,
    /// Index of the first query's probabilities in the dropout site, and the step to the next query's.
    site: (u32, u32),
}

/// Of one head: probabilities, their gradients and their dropout factors, a row a query, padded to whole vectors.
#[derive(Default)]
pub(crate) struct Scratch {
    p: Vec<f32>,
    ds: Vec<f32>,
    factors: Vec<f32>,
}

/// `out = Σ_r weight(r)·row(r)`.
#[inline(always)]
fn combine<'a>(
    out: &mut [f32],
    n: usize,
    weight: impl Fn(usize) -> f32,
    row: impl Fn(usize) -> &'a [f32],
) {
    // A usual head's width at once, so that its sums do not wait for each other.
    let done = combine_blocks::<{ 2 * LANES }>(out, 0, n, &weight, &row);
    let done = combine_blocks::<LANES>(out, done, n, &weight, &row);
    for (c, out) in out.iter_mut().enumerate().skip(done) {
        *out = (0..n).map(|r| weight(r) * row(r)[c]).sum();
    }
}

/// [`combine`] for the columns from `from` on, as many as make blocks of `B`; returns where they end.
#[inline(always)]
fn combine_blocks<'a, const B: usize>(
    out: &mut [f32],
    from: usize,
    n: usize,
    weight: &impl Fn(usize) -> f32,
    row: &impl Fn(usize) -> &'a [f32],
) -> usize {
    let end = from + (out.len() - from) / B * B;
    for c in (from..end).step_by(B) {
        let mut lanes = [0f32; B];
        for r in 0..n {
            let w = weight(r);
            for (lane, &x) in lanes.iter_mut().zip(&row(r)[c..c + B]) {
                *lane += w * x;
            }
        }
        out[c..c + B].copy_from_slice(&lanes);
    }
    end
}

/// `out[j] = x·row(j)`.
#[inline(always)]
fn products<'a>(lanes: Lanes, x: &[f32], out: &mut [f32], row: impl Fn(usize) -> &'a [f32]) {
    let mut fours = out.chunks_exact_mut(4);
    let mut j = 0;
    for four in &mut fours {
        four.copy_from_slice(&lanes.dots(x, [row(j), row(j + 1), row(j + 2), row(j + 3)]));
        j += 4;
    }
    for (out, j) in fours.into_remainder().iter_mut().zip(j..) {
        *out = lanes.dot(x, row(j));
    }
}

/// `x ← x∘y`.
#[inline(always)]
fn multiply(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x *= y);
}

impl<'a> Head<'a> {
    #[inline(always)]
    fn width<const W: usize>(&self) -> usize {
        if W == 0 { self.width } else { W }
    }

    /// How many keys query `i` sees.
    #[inline(always)]
    fn seen(&self, i: usize) -> usize {
        self.seen.map_or(self.lengths.1, |seen| seen[i] as usize)
    }

    #[inline(always)]
    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    #[inline(always)]
    fn query<const W: usize>(&self, i: usize) -> &'a [f32] {
        self.q.get(i, self.from, self.width::<W>())
    }

    #[inline(always)]
    fn key<const W: usize>(&self, j: usize) -> &'a [f32] {
        self.kv.get(j, self.from, self.width::<W>())
    }

    #[inline(always)]
    fn value<const W: usize>(&self, j: usize) -> &'a [f32] {
        let column = self.kv.stride / 2 + self.from;
        self.kv.get(j, column, self.width::<W>())
    }

    /// Floats from one query's probabilities to the next's.
    #[inline(always)]
    fn padded(&self) -> usize {
        self.lengths.1.next_multiple_of(LANES)
    }

    /// Products of every query's row of `rows` with the first of `columns` that it sees, a row each, zeros behind.
    ///
    /// Here and below every step is done for all queries before the next, so that the CPU need not wait for one query's numbers
    /// to arrive in memory before it reads them.
    #[inline(always)]
    fn products(
        &self,
        lanes: Lanes,
        out: &mut [f32],
        row: impl Fn(usize) -> &'a [f32],
        column: impl Fn(usize) -> &'a [f32],
    ) {
        for (i, out) in out.chunks_exact_mut(self.padded()).enumerate() {
            let (seen, rest) = out.split_at_mut(self.seen(i));
            products(lanes, row(i), seen, &column);
            rest.fill(0.0);
        }
    }

    /// Probabilities of every query over the keys, a row each, zeros past those it sees.
    #[inline(always)]
    fn probabilities<const W: usize>(&self, lanes: Lanes, p: &mut [f32]) {
        let padded = self.padded();
        self.products(lanes, p, |i| self.query::<W>(i), |j| self.key::<W>(j));
        for (i, p) in p.chunks_exact_mut(padded).enumerate() {
            let seen = self.seen(i);
            p[seen..].fill(f32::NEG_INFINITY);
            let (highest, scale) = (lanes.max(p), self.scale());
            p.iter_mut().for_each(|p| *p = exp((*p - highest) * scale));
            p[seen..].fill(0.0);
        }
        for (i, p) in p.chunks_exact_mut(padded).enumerate() {
            let inverse = if self.seen(i) == 0 {
                0.0
            } else {
                1.0 / lanes.sum(p)
            };
            p.iter_mut().for_each(|p| *p *= inverse);
        }
    }

    /// The dropout factors of every query's probabilities.
    #[inline(always)]
    fn factors(&self, mask: Mask, factors: &mut [f32]) {
        for (i, factors) in factors.chunks_exact_mut(self.padded()).enumerate() {
            let step = (i as u32).wrapping_mul(self.site.1);
            let first = self.site.0.wrapping_add(step);
            for (j, factor) in factors.iter_mut().enumerate() {
                *factor = mask.factor(first.wrapping_add(j as u32));
            }
        }
    }

    /// Rows of `out` are `stride` apart.
    #[inline(always)]
    fn forward<const W: usize>(
        &self,
        lanes: Lanes,
        out: &mut [f32],
        stride: usize,
        scratch: &mut Scratch,
    ) {
        let padded = self.padded();
        let Scratch { p, factors, .. } = scratch;
        p.resize(self.lengths.0 * padded, 0.0);
        self.probabilities::<W>(lanes, p);
        if let Some(mask) = self.mask {
            factors.resize(p.len(), 0.0);
            self.factors(mask, factors);
            multiply(p, factors);
        }
        for (i, p) in p.chunks_exact(padded).enumerate() {
            let out = &mut out[i * stride + self.from..][..self.width::<W>()];
            combine(out, self.seen(i), |j| p[j], |j| self.value::<W>(j));
        }
    }

    /// With `P = p∘f` (dropout factors `f`): `dv = Pᵀg`, `dp = (g·vᵀ)∘f`,
    /// `ds = p∘(dp - Σ p∘dp)/√d_h`, `dq = ds·k`, `dk = dsᵀq`. `g` and `dq` are laid out as `q`, `dkv` as `kv`.
    #[inline(always)]
    fn backward<const W: usize>(
        &self,
        lanes: Lanes,
        g: Rows<'a>,
        dq: &mut [f32],
        dkv: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let ((queries, keys), width, padded) = (self.lengths, self.width::<W>(), self.padded());
        let Scratch { p, ds, factors } = scratch;
        p.resize(queries * padded, 0.0);
        ds.resize(queries * padded, 0.0);
        self.probabilities::<W>(lanes, p);
        let gradient = |i: usize| g.get(i, self.from, width);
        self.products(lanes, ds, gradient, |j| self.value::<W>(j));
        if let Some(mask) = self.mask {
            factors.resize(p.len(), 0.0);
            self.factors(mask, factors);
            multiply(ds, factors);
        }
        let scale = self.scale();
        for (p, ds) in p.chunks_exact(padded).zip(ds.chunks_exact_mut(padded)) {
            let mean = lanes.dot(p, ds);
            for (ds, &p) in ds.iter_mut().zip(p) {
                *ds = p * (*ds - mean) * scale;
            }
        }
        if self.mask.is_some() {
            multiply(p, factors);
        }
        for (i, ds) in ds.chunks_exact(padded).enumerate() {
            let dq = &mut dq[i * self.q.stride + self.from..][..width];
            combine(dq, self.seen(i), |j| ds[j], |j| self.key::<W>(j));
        }
        for j in 0..keys {
            let at = j * self.kv.stride + self.from;
            let weight = |i: usize| ds[i * padded + j];
            let dk = &mut dkv[at..at + width];
            combine(dk, queries, weight, |i| self.query::<W>(i));
            let at = at + self.kv.stride / 2;
            let weight = |i: usize| p[i * padded + j];
            let dv = &mut dkv[at..at + width];
            combine(dv, queries, weight, gradient);
        }
    }
}

/// Calls `$head.$method::<W>(…)` with the head's width as a constant where it is a usual one.
macro_rules! with_width {
    ($head:ident . $method:ident ($($arg:expr),*)) => {
        dispatch_lanes(#[inline(always)] |lanes| match $head.width {
            32 => $head.$method::<32>(lanes, $($arg),*),
            64 => $head.$method::<64>(lanes, $($arg),*),
            _ => $head.$method::<0>(lanes, $($arg),*),
        })
    };
}

/// Cuts a packed `[rows, width]` buffer into one slice a sequence.
fn split<'a>(mut data: &'a mut [f32], segments: &Segments, width: usize) -> Vec<&'a mut [f32]> {
    segments
        .iter()
        .map(|range| {
            let (head, tail) = std::mem::take(&mut data).split_at_mut(range.len() * width);
            data = tail;
            head
        })
        .collect()
}

impl Attention {
    /// Checks the shapes that both forms share; `d` is the width of queries, keys and values.
    pub(crate) fn check(&self, query_rows: usize, key_rows: usize, d: usize) -> Result<()> {
        let (queries, keys) = (&self.queries, &self.keys);
        if queries.len() != keys.len() || queries.rows() != query_rows || keys.rows() != key_rows {
            candle_core::bail!(
                "attention: {query_rows} query rows and {key_rows} key rows, but segments of {} and {} sequences hold {} and {}",
                queries.len(),
                keys.len(),
                queries.rows(),
                keys.rows()
            )
        }
        if self.heads == 0 || !d.is_multiple_of(self.heads) {
            candle_core::bail!(
                "attention: width {d} is not a multiple of {} heads",
                self.heads
            )
        }
        if keys.longest() > MAX_KEYS {
            candle_core::bail!(
                "attention: a sequence of {} keys; at most {MAX_KEYS}",
                keys.longest()
            )
        }
        if let Some(seen) = &self.seen {
            let fits = |(queries, keys): (std::ops::Range<usize>, std::ops::Range<usize>)| {
                seen[queries].iter().all(|&s| s as usize <= keys.len())
            };
            if seen.len() != query_rows || !queries.iter().zip(keys.iter()).all(fits) {
                candle_core::bail!(
                    "attention: what each of {query_rows} queries sees is said for {}, or is more than its sequence has",
                    seen.len()
                )
            }
        }
        Ok(())
    }

    /// How many keys query row `row` sees, of `keys`.
    pub(crate) fn seen(&self, row: usize, keys: usize) -> usize {
        self.seen.as_ref().map_or(keys, |seen| seen[row] as usize)
    }

    /// Index of the first probability of (query row, head) in the dropout site.
    pub(crate) fn site(&self, row: usize, head: usize) -> u32 {
        ((row * self.heads + head) * MAX_KEYS) as u32
    }

    /// One head of sequence `s`, of which `q` and `kv` are the rows.
    fn head<'a>(
        &'a self,
        s: usize,
        head: usize,
        q: &'a [f32],
        kv: &'a [f32],
        d: usize,
    ) -> Head<'a> {
        let (queries, width) = (self.queries.range(s), d / self.heads);
        Head {
            q: Rows { data: q, stride: d },
            kv: Rows {
                data: kv,
                stride: 2 * d,
            },
            lengths: (queries.len(), self.keys.range(s).len()),
            from: head * width,
            width,
            seen: self.seen.as_ref().map(|seen| &seen[queries.clone()]),
            mask: self.mask,
            site: (self.site(queries.start, head), self.site(1, 0)),
        }
    }

    /// Sequence `s` alone: its queries `q`, keys and values `kv`, and its rows of the output.
    pub(crate) fn sequence_forward(
        &self,
        s: usize,
        (q, kv): (&[f32], &[f32]),
        d: usize,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        if kv.is_empty() {
            return out.fill(0.0);
        }
        for h in 0..self.heads {
            let head = self.head(s, h, q, kv, d);
            with_width!(head.forward(out, d, scratch));
        }
    }

    /// The gradient `g` of sequence `s`'s output to that of its queries and of its keys and values.
    pub(crate) fn sequence_backward(
        &self,
        s: usize,
        (q, kv, g): (&[f32], &[f32], &[f32]),
        d: usize,
        (dq, dkv): (&mut [f32], &mut [f32]),
        scratch: &mut Scratch,
    ) {
        if kv.is_empty() {
            return dq.fill(0.0);
        }
        let g = Rows { data: g, stride: d };
        for h in 0..self.heads {
            let head = self.head(s, h, q, kv, d);
            with_width!(head.backward(g, dq, dkv, scratch));
        }
    }

    /// The rows of sequence `s` in packed queries and keys of width `d`.
    fn own<'a>(&self, s: usize, q: &'a [f32], kv: &'a [f32], d: usize) -> (&'a [f32], &'a [f32]) {
        let (queries, keys) = (self.queries.range(s), self.keys.range(s));
        (
            &q[queries.start * d..queries.end * d],
            &kv[keys.start * 2 * d..keys.end * 2 * d],
        )
    }
}

/// Rows of queries, and of keys and values, without gaps.
#[cfg(feature = "cuda")]
fn strided(q: cuda::At, kv: cuda::At, d: usize) -> (Strided, Strided) {
    let kv = Strided {
        at: kv,
        stride: 2 * d,
    };
    (Strided { at: q, stride: d }, kv)
}

/// Attention of `q: [nq, d]` over `kv: [nk, 2·d]`, keys and values side by side.
pub(crate) struct AttentionOp(pub(crate) Attention);

impl CustomOp2 for AttentionOp {
    fn name(&self) -> &'static str {
        "fused-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        kv: &CpuStorage,
        kvl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (nq, d) = ql.shape().dims2()?;
        let (q, kv) = (slice(q, ql)?, slice(kv, kvl)?);
        let mut out = uninit(nq * d);
        split(&mut out, &self.0.queries, d)
            .into_par_iter()
            .enumerate()
            .with_min_len(MIN_SEQUENCES)
            .for_each_init(Scratch::default, |scratch, (s, out)| {
                let own = self.0.own(s, q, kv, d);
                self.0.sequence_forward(s, own, d, out, scratch);
            });
        Ok((CpuStorage::F32(out), (nq, d).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        q: &CudaStorage,
        ql: &Layout,
        kv: &CudaStorage,
        kvl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let ((nq, d), gpu) = (ql.shape().dims2()?, Gpu::of(q));
        let out = gpu.uninit(nq * d)?;
        let (q, kv) = strided(cuda::at(q, ql)?, cuda::at(kv, kvl)?, d);
        Sequences::new(&gpu, &self.0, d)?.forward(&gpu, out.at(), q, kv)?;
        gpu.output(out, (nq, d))
    }

    fn bwd(
        &self,
        q: &Tensor,
        kv: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((nq, d), (nk, _)) = (q.dims2()?, kv.dims2()?);
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            return cuda::with([q, kv, grad], |gpu, [q, kv, g]| {
                let (dq, dkv) = (gpu.uninit(nq * d)?, gpu.uninit(nk * 2 * d)?);
                let grads = (dq.at(), dkv.at());
                Sequences::new(gpu, &self.0, d)?.backward(gpu, strided(q, kv, d), g, grads)?;
                let (dq, dkv) = (gpu.tensor(dq, &[nq, d]), gpu.tensor(dkv, &[nk, 2 * d]));
                Ok((Some(dq), Some(dkv)))
            });
        }
        let op = &self.0;
        with_slice(q, |q| {
            with_slice(kv, |kv| {
                with_slice(grad, |g| {
                    let (mut dq, mut dkv) = (uninit(nq * d), uninit(nk * 2 * d));
                    split(&mut dq, &op.queries, d)
                        .into_par_iter()
                        .zip(split(&mut dkv, &op.keys, 2 * d))
                        .enumerate()
                        .with_min_len(MIN_SEQUENCES)
                        .for_each_init(Scratch::default, |scratch, (s, grads)| {
                            let (own_q, own_kv) = op.own(s, q, kv, d);
                            let (own_g, _) = op.own(s, g, kv, d);
                            op.sequence_backward(s, (own_q, own_kv, own_g), d, grads, scratch);
                        });
                    Ok((
                        Some(tensor(dq, &[nq, d])?),
                        Some(tensor(dkv, &[nk, 2 * d])?),
                    ))
                })
            })
        })
    }
}

/// Queries one task handles.
const PREFIX_ROWS: usize = 64;

/// Attention of each of `queries` `[n, d]` over one row of every step: row `rows[step][i]` of `past[step]` `[_, 2·d]` is
/// query `i`'s key and value there. Outside of any graph.
pub(crate) fn prefix_attention(
    queries: &[f32],
    past: &[&[f32]],
    rows: &[Vec<u32>],
    d: usize,
    heads: usize,
) -> Vec<f32> {
    let mut out = uninit(queries.len());
    let width = d / heads;
    let scale = 1.0 / (width as f32).sqrt();
    out.par_chunks_mut(PREFIX_ROWS * d)
        .enumerate()
        .for_each(|(chunk, out)| {
            let mut p = vec![0.0; past.len()];
            dispatch_lanes(
                #[inline(always)]
                |lanes| {
                    for (i, out) in (chunk * PREFIX_ROWS..).zip(out.chunks_exact_mut(d)) {
                        let at = |step: usize, column: usize| {
                            let from = rows[step][i] as usize * 2 * d + column;
                            &past[step][from..from + width]
                        };
                        for from in (0..d).step_by(width) {
                            let q = &queries[i * d + from..][..width];
                            for (step, p) in p.iter_mut().enumerate() {
                                *p = lanes.dot(q, at(step, from)) * scale;
                            }
                            let highest = lanes.max(&p);
                            p.iter_mut().for_each(|p| *p = exp(*p - highest));
                            let inverse = 1.0 / p.iter().sum::<f32>();
                            let out = &mut out[from..from + width];
                            combine(out, p.len(), |s| p[s] * inverse, |s| at(s, d + from));
                        }
                    }
                },
            )
        });
    out
}

/// [`prefix_attention`] on a GPU; `past` is contiguous.
#[cfg(feature = "cuda")]
pub(crate) fn prefix_attention_on_gpu(
    queries: &Tensor,
    past: &[Tensor],
    rows: &[Vec<u32>],
    heads: usize,
) -> Result<Tensor> {
    let (n, d) = queries.dims2()?;
    if past.len() > MAX_KEYS {
        candle_core::bail!("prefix attention: {} steps; at most {MAX_KEYS}", past.len())
    }
    let places = past.iter().map(|step| Ok(cuda::place(step)?.address()));
    let places = places.collect::<Result<Vec<u64>>>()?;
    cuda::with([queries], |gpu, [q]| {
        let (places, rows) = (gpu.upload(&places)?, gpu.upload(&rows.concat())?);
        let out = gpu.uninit(n * d)?;
        let sizes = [past.len(), n, d, heads].map(|x| x as i32);
        let [steps, n_i, d_i, heads_i] = sizes;
        gpu.launch(
            "prefix_attention",
            cuda::Grid::Rows(n * heads),
            cuda::args![
                out.at(),
                q,
                places.at(),
                rows.at(),
                steps,
                n_i,
                d_i,
                heads_i
            ],
        )?;
        Ok(gpu.tensor(out, &[n, d]))
    })
}
