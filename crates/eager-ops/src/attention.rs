//! Multi-head attention over packed short sequences, self and cross.
//!
//! For sequence `s` and head `h`: `softmax(q·kᵀ / √d_h)·v`, over exactly the keys the sequence has.
//! A sequence without keys gives zeros. Probabilities are not kept: the backward pass computes them
//! again from the queries and keys, which at these lengths costs less than the memory would.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::Segments;
use crate::dropout::Mask;
use crate::storage::{slice, tensor, uninit, with_slice};
use crate::vector::{add_scaled, dispatch, exp, sum};

/// The most keys a sequence may have.
pub const MAX_KEYS: usize = 256;

/// Sequences below which work is not split further.
const MIN_SEQUENCES: usize = 8;

/// What is the same for every sequence and head.
#[derive(Clone)]
pub(crate) struct Attention {
    pub(crate) queries: Segments,
    pub(crate) keys: Segments,
    pub(crate) heads: usize,
    /// Query `i` sees keys `0..=i` only.
    pub(crate) causal: bool,
    pub(crate) mask: Option<Mask>,
}

/// One sequence's rows of queries, keys or values inside a wider matrix.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
    column: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn get(self, row: usize, from: usize, width: usize) -> &'a [f32] {
        let at = row * self.stride + self.column + from;
        &self.data[at..at + width]
    }
}

/// The gradient rows of one sequence: `column` is where queries, keys or values begin.
struct RowsMut<'a> {
    data: &'a mut [f32],
    stride: usize,
    column: usize,
}

impl RowsMut<'_> {
    #[inline(always)]
    fn get(&mut self, row: usize, from: usize, width: usize) -> &mut [f32] {
        let at = row * self.stride + self.column + from;
        &mut self.data[at..at + width]
    }
}

/// One head of one sequence.
struct Head<'a> {
    q: Rows<'a>,
    k: Rows<'a>,
    v: Rows<'a>,
    /// Queries and keys in the sequence.
    lengths: (usize, usize),
    /// Where the head's columns start, and how many there are.
    from: usize,
    width: usize,
    causal: bool,
    mask: Option<Mask>,
    /// Index of the first query's probabilities in the dropout site, and the step to the next query's.
    site: (u32, u32),
}

/// `columns[c·W + j] = rows[j][c]`, zero for `j` past the last row.
#[inline(always)]
fn transpose<const W: usize>(
    columns: &mut Vec<f32>,
    rows: Rows<'_>,
    n: usize,
    from: usize,
    width: usize,
) {
    columns.clear();
    columns.resize(width * W, 0.0);
    for j in 0..n {
        for (c, &x) in rows.get(j, from, width).iter().enumerate() {
            columns[c * W + j] = x;
        }
    }
}

/// `out[j] = Σ_c x[c]·columns[c][j]`.
#[inline(always)]
fn products<const W: usize>(x: &[f32], columns: &[f32]) -> [f32; W] {
    let mut out = [0f32; W];
    for (&x, column) in x.iter().zip(columns.chunks_exact(W)) {
        for (o, &c) in out.iter_mut().zip(column) {
            *o += x * c;
        }
    }
    out
}

impl Head<'_> {
    /// How many keys query `i` sees.
    #[inline(always)]
    fn seen(&self, i: usize) -> usize {
        if self.causal { i + 1 } else { self.lengths.1 }
    }

    #[inline(always)]
    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// Probabilities of query `i` over the keys; zero past those it sees.
    #[inline(always)]
    fn probabilities<const W: usize>(&self, i: usize, k_columns: &[f32]) -> [f32; W] {
        let mut p = products::<W>(self.q.get(i, self.from, self.width), k_columns);
        let seen = self.seen(i);
        let highest = p[..seen].iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scale = self.scale();
        for (j, p) in p.iter_mut().enumerate() {
            *p = if j < seen {
                exp((*p - highest) * scale)
            } else {
                0.0
            };
        }
        let inverse = 1.0 / sum(&p);
        p.iter_mut().for_each(|p| *p *= inverse);
        p
    }

    /// Dropout factors of query `i`'s probabilities.
    #[inline(always)]
    fn factors<const W: usize>(&self, i: usize) -> [f32; W] {
        let Some(mask) = self.mask else {
            return [1.0; W];
        };
        let first = self
            .site
            .0
            .wrapping_add((i as u32).wrapping_mul(self.site.1));
        std::array::from_fn(|j| mask.factor(first.wrapping_add(j as u32)))
    }

    #[inline(always)]
    fn forward<const W: usize>(&self, out: &mut RowsMut<'_>, scratch: &mut Scratch) {
        transpose::<W>(
            &mut scratch.k,
            self.k,
            self.lengths.1,
            self.from,
            self.width,
        );
        for i in 0..self.lengths.0 {
            let mut p = self.probabilities::<W>(i, &scratch.k);
            for (p, f) in p.iter_mut().zip(self.factors::<W>(i)) {
                *p *= f;
            }
            let out = out.get(i, self.from, self.width);
            out.fill(0.0);
            for (j, &p) in p[..self.seen(i)].iter().enumerate() {
                add_scaled(out, p, self.v.get(j, self.from, self.width));
            }
        }
    }

    /// With `P = p∘f` (dropout factors `f`): `dv = Pᵀg`, `dp = (g·vᵀ)∘f`,
    /// `ds = p∘(dp - Σ p∘dp)/√d_h`, `dq = ds·k`, `dk = dsᵀq`.
    #[inline(always)]
    fn backward<const W: usize>(
        &self,
        g: Rows<'_>,
        dq: &mut RowsMut<'_>,
        dk: &mut RowsMut<'_>,
        dv: &mut RowsMut<'_>,
        scratch: &mut Scratch,
    ) {
        let (from, width) = (self.from, self.width);
        transpose::<W>(&mut scratch.k, self.k, self.lengths.1, from, width);
        transpose::<W>(&mut scratch.v, self.v, self.lengths.1, from, width);
        let sums = &mut scratch.sums;
        sums.clear();
        sums.resize(2 * W * width, 0.0);
        let (k_sums, v_sums) = sums.split_at_mut(W * width);
        for i in 0..self.lengths.0 {
            let (g, q) = (g.get(i, from, width), self.q.get(i, from, width));
            let p = self.probabilities::<W>(i, &scratch.k);
            let f = self.factors::<W>(i);
            let mut dp = products::<W>(g, &scratch.v);
            let mut mean = 0.0;
            for j in 0..W {
                dp[j] *= f[j];
                mean += p[j] * dp[j];
            }
            let scale = self.scale();
            let dq = dq.get(i, from, width);
            dq.fill(0.0);
            for j in 0..self.seen(i) {
                let ds = p[j] * (dp[j] - mean) * scale;
                add_scaled(dq, ds, self.k.get(j, from, width));
                add_scaled(&mut k_sums[j * width..(j + 1) * width], ds, q);
                add_scaled(&mut v_sums[j * width..(j + 1) * width], p[j] * f[j], g);
            }
        }
        for j in 0..self.lengths.1 {
            dk.get(j, from, width)
                .copy_from_slice(&k_sums[j * width..(j + 1) * width]);
            dv.get(j, from, width)
                .copy_from_slice(&v_sums[j * width..(j + 1) * width]);
        }
    }
}

/// Per-task scratch: transposed keys and values, and sums of key and value gradients.
#[derive(Default)]
struct Scratch {
    k: Vec<f32>,
    v: Vec<f32>,
    sums: Vec<f32>,
}

/// Calls `$head.$method::<W>(…)` with the narrowest `W` that holds `$keys` keys.
macro_rules! with_width {
    ($keys:expr, $head:ident . $method:ident ($($arg:expr),*)) => {
        dispatch(#[inline(always)] || match $keys {
            0..=8 => $head.$method::<8>($($arg),*),
            9..=16 => $head.$method::<16>($($arg),*),
            17..=32 => $head.$method::<32>($($arg),*),
            33..=64 => $head.$method::<64>($($arg),*),
            _ => $head.$method::<MAX_KEYS>($($arg),*),
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
        Ok(())
    }

    fn head<'a>(
        &self,
        sequence: usize,
        head: usize,
        width: usize,
        q: Rows<'a>,
        k: Rows<'a>,
        v: Rows<'a>,
    ) -> Head<'a> {
        let rows = self.queries.range(sequence);
        Head {
            q,
            k,
            v,
            lengths: (rows.len(), self.keys.range(sequence).len()),
            from: head * width,
            width,
            causal: self.causal,
            mask: self.mask,
            site: (self.site(rows.start, head), self.site(1, 0)),
        }
    }

    /// Index of the first probability of (query row, head) in the dropout site.
    pub(crate) fn site(&self, row: usize, head: usize) -> u32 {
        ((row * self.heads + head) * MAX_KEYS) as u32
    }

    /// Output rows `[queries, d]` for whole packed matrices.
    fn forward(&self, q: Rows<'_>, k: Rows<'_>, v: Rows<'_>, d: usize) -> Vec<f32> {
        let width = d / self.heads;
        let mut out = uninit(self.queries.rows() * d);
        split(&mut out, &self.queries, d)
            .into_par_iter()
            .enumerate()
            .with_min_len(MIN_SEQUENCES)
            .for_each_init(Scratch::default, |scratch, (s, out)| {
                let mut out = RowsMut {
                    data: out,
                    stride: d,
                    column: 0,
                };
                let keys = self.keys.range(s).len();
                if keys == 0 {
                    out.data.fill(0.0);
                    return;
                }
                let (q, k, v) = (
                    self.of_queries(q, s),
                    self.of_keys(k, s),
                    self.of_keys(v, s),
                );
                for h in 0..self.heads {
                    let head = self.head(s, h, width, q, k, v);
                    with_width!(keys, head.forward(&mut out, scratch));
                }
            });
        out
    }

    fn of_queries<'a>(&self, rows: Rows<'a>, sequence: usize) -> Rows<'a> {
        Rows {
            data: &rows.data[self.queries.range(sequence).start * rows.stride..],
            ..rows
        }
    }

    fn of_keys<'a>(&self, rows: Rows<'a>, sequence: usize) -> Rows<'a> {
        Rows {
            data: &rows.data[self.keys.range(sequence).start * rows.stride..],
            ..rows
        }
    }
}

/// Self-attention over `qkv: [n, 3·d]`, queries, keys and values side by side.
pub(crate) struct SelfAttentionOp(pub(crate) Attention);

/// The three column blocks of a packed projection.
fn thirds(data: &[f32], d: usize) -> [Rows<'_>; 3] {
    [0, d, 2 * d].map(|column| Rows {
        data,
        stride: 3 * d,
        column,
    })
}

impl CustomOp1 for SelfAttentionOp {
    fn name(&self) -> &'static str {
        "fused-self-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, width) = layout.shape().dims2()?;
        let d = width / 3;
        let [q, k, v] = thirds(slice(qkv, layout)?, d);
        Ok((CpuStorage::F32(self.0.forward(q, k, v, d)), (n, d).into()))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (n, width) = qkv.dims2()?;
        let d = width / 3;
        let op = &self.0;
        with_slice(qkv, |qkv| {
            with_slice(grad, |g| {
                let [q, k, v] = thirds(qkv, d);
                let g = Rows {
                    data: g,
                    stride: d,
                    column: 0,
                };
                let mut dqkv = uninit(n * 3 * d);
                split(&mut dqkv, &op.queries, 3 * d)
                    .into_par_iter()
                    .enumerate()
                    .with_min_len(MIN_SEQUENCES)
                    .for_each_init(
                        || (Scratch::default(), vec![], vec![], vec![]),
                        |(scratch, dq, dk, dv), (s, out)| {
                            let length = op.keys.range(s).len();
                            for part in [&mut *dq, &mut *dk, &mut *dv] {
                                part.resize(length * d, 0.0);
                            }
                            let (q, k, v, g) = (
                                op.of_queries(q, s),
                                op.of_keys(k, s),
                                op.of_keys(v, s),
                                op.of_queries(g, s),
                            );
                            {
                                let mut dq = RowsMut {
                                    data: dq,
                                    stride: d,
                                    column: 0,
                                };
                                let mut dk = RowsMut {
                                    data: dk,
                                    stride: d,
                                    column: 0,
                                };
                                let mut dv = RowsMut {
                                    data: dv,
                                    stride: d,
                                    column: 0,
                                };
                                for h in 0..op.heads {
                                    let head = op.head(s, h, d / op.heads, q, k, v);
                                    with_width!(
                                        length,
                                        head.backward(g, &mut dq, &mut dk, &mut dv, scratch)
                                    );
                                }
                            }
                            for (i, row) in out.chunks_exact_mut(3 * d).enumerate() {
                                for (part, column) in
                                    [&*dq, &*dk, &*dv].into_iter().zip([0, d, 2 * d])
                                {
                                    row[column..column + d]
                                        .copy_from_slice(&part[i * d..(i + 1) * d]);
                                }
                            }
                        },
                    );
                Ok(Some(tensor(dqkv, &[n, 3 * d])?))
            })
        })
    }
}

/// Attention of `q: [nq, d]` over `kv: [nk, 2·d]`, keys and values side by side.
pub(crate) struct CrossAttentionOp(pub(crate) Attention);

fn halves(data: &[f32], d: usize) -> [Rows<'_>; 2] {
    [0, d].map(|column| Rows {
        data,
        stride: 2 * d,
        column,
    })
}

impl CustomOp2 for CrossAttentionOp {
    fn name(&self) -> &'static str {
        "fused-cross-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        kv: &CpuStorage,
        kvl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, d) = ql.shape().dims2()?;
        let q = Rows {
            data: slice(q, ql)?,
            stride: d,
            column: 0,
        };
        let [k, v] = halves(slice(kv, kvl)?, d);
        Ok((CpuStorage::F32(self.0.forward(q, k, v, d)), (n, d).into()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        kv: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((nq, d), (nk, _)) = (q.dims2()?, kv.dims2()?);
        let op = &self.0;
        with_slice(q, |q| {
            with_slice(kv, |kv| {
                with_slice(grad, |g| {
                    let q = Rows {
                        data: q,
                        stride: d,
                        column: 0,
                    };
                    let g = Rows {
                        data: g,
                        stride: d,
                        column: 0,
                    };
                    let [k, v] = halves(kv, d);
                    let (mut dq, mut dkv) = (uninit(nq * d), uninit(nk * 2 * d));
                    split(&mut dq, &op.queries, d)
                        .into_par_iter()
                        .zip(split(&mut dkv, &op.keys, 2 * d))
                        .enumerate()
                        .with_min_len(MIN_SEQUENCES)
                        .for_each_init(
                            || (Scratch::default(), vec![], vec![]),
                            |(scratch, dk, dv), (s, (dq, dkv))| {
                                let keys = op.keys.range(s).len();
                                if keys == 0 {
                                    dq.fill(0.0);
                                    return;
                                }
                                dk.resize(keys * d, 0.0);
                                dv.resize(keys * d, 0.0);
                                let (q, k, v, g) = (
                                    op.of_queries(q, s),
                                    op.of_keys(k, s),
                                    op.of_keys(v, s),
                                    op.of_queries(g, s),
                                );
                                {
                                    let mut dq = RowsMut {
                                        data: dq,
                                        stride: d,
                                        column: 0,
                                    };
                                    let mut dk = RowsMut {
                                        data: dk,
                                        stride: d,
                                        column: 0,
                                    };
                                    let mut dv = RowsMut {
                                        data: dv,
                                        stride: d,
                                        column: 0,
                                    };
                                    for h in 0..op.heads {
                                        let head = op.head(s, h, d / op.heads, q, k, v);
                                        with_width!(
                                            keys,
                                            head.backward(g, &mut dq, &mut dk, &mut dv, scratch)
                                        );
                                    }
                                }
                                for (j, row) in dkv.chunks_exact_mut(2 * d).enumerate() {
                                    row[..d].copy_from_slice(&dk[j * d..(j + 1) * d]);
                                    row[d..].copy_from_slice(&dv[j * d..(j + 1) * d]);
                                }
                            },
                        );
                    Ok((
                        Some(tensor(dq, &[nq, d])?),
                        Some(tensor(dkv, &[nk, 2 * d])?),
                    ))
                })
            })
        })
    }
}
