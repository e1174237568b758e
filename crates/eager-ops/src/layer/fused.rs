//! The whole layer as one graph node on the CPU.
//!
//! Sequences are independent, so the layer runs tile by tile, some sequences at a time. What the backward pass reads is kept a
//! tile; the sums before a norm, the norms' outputs and GELU's are computed again. Sums over rows run in the order of tiles,
//! whatever the number of threads.

use std::ops::Range;
use std::sync::{Arc, Mutex};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::parts::{Affine, CrossParts, Parts};
use super::{LayerInput, LayerShape, Queries};
use crate::attention::{Attention, Scratch};
#[cfg(feature = "cuda")]
use crate::cuda::{self, At, Gpu, layer as on_gpu};
use crate::dropout::{Dropout, Mask};
use crate::leaves::{Leaves, Slot};
use crate::matmul::{Matrix, matmul};
use crate::storage::{keep, slice, take, tensor, uninit, with_slice};
use crate::vector::{add_scaled, dispatch, dispatch_lanes};
use crate::{gelu, layer_norm};

/// Rows of a tile, of whichever of its matrices has most; a longer sequence is a tile of its own. Tiles that fit the
/// second-level cache (192 rows) were slower: the products pack their weights anew for every tile. A shard of the usual batch
/// is one. Tests have several.
const TILE_ROWS: usize = if cfg!(test) { 64 } else { 1024 };

/// A layer over given sequences.
pub(super) struct LayerOp {
    shape: LayerShape,
    wanted: Option<Arc<[u32]>>,
    attention: Attention,
    cross: Option<Attention>,
    /// Of the three sublayers' outputs.
    masks: [Option<Mask>; 3],
    /// What the forward pass kept for the backward pass, a tile each.
    kept: Mutex<Option<Vec<Kept>>>,
    /// The same on a GPU.
    #[cfg(feature = "cuda")]
    kept_on_gpu: Mutex<Option<on_gpu::Kept>>,
    /// Whether there will be a backward pass.
    keep: bool,
    /// Where it leaves the gradient of the parameters; without, that is candle's.
    slot: Option<Slot>,
}

/// A tile: ranges of sequences, of rows of `x`, of wanted rows and of rows of the memory.
struct Tile {
    sequences: Range<usize>,
    rows: Range<usize>,
    queries: Range<usize>,
    memory: Range<usize>,
}

/// What the backward pass reads of one tile.
struct Kept {
    q: Vec<f32>,
    kv: Vec<f32>,
    mixed: Vec<f32>,
    attention_norm: Normalised,
    cross: Option<KeptCross>,
    /// The feed-forward's first product, without its bias.
    inner: Vec<f32>,
    norm: Normalised,
}

struct KeptCross {
    q: Vec<f32>,
    kv: Vec<f32>,
    mixed: Vec<f32>,
    norm: Normalised,
}

/// Rows of mean 0 and variance 1, and the reciprocal standard deviations that made them so.
struct Normalised {
    rows: Vec<f32>,
    rstd: Vec<f32>,
}

/// Where the backward pass writes.
struct Gradients {
    x: Vec<f32>,
    memory: Vec<f32>,
    packed: Vec<f32>,
}

/// `x·wᵀ` for `n` rows.
fn product(x: &[f32], n: usize, w: &[f32], inner: usize, outer: usize) -> Vec<f32> {
    let mut y = uninit(n * outer);
    matmul(
        &mut y,
        Matrix::new(x, n, inner),
        Matrix::new(w, outer, inner).t(),
        false,
    );
    y
}

/// `x·wᵀ + b` for `n` rows.
fn linear(x: &[f32], n: usize, p: Affine<&[f32]>, inner: usize, outer: usize) -> Vec<f32> {
    let mut y = uninit(n * outer);
    y.chunks_exact_mut(outer)
        .for_each(|row| row.copy_from_slice(p.b));
    matmul(
        &mut y,
        Matrix::new(x, n, inner),
        Matrix::new(p.w, outer, inner).t(),
        true,
    );
    y
}

/// `dx = g·w`, or `dx += g·w`.
fn product_backward(dx: &mut [f32], g: &[f32], n: usize, w: &[f32], inner: usize, add: bool) {
    let outer = w.len() / inner;
    matmul(
        dx,
        Matrix::new(g, n, outer),
        Matrix::new(w, outer, inner),
        add,
    );
}

/// `dw = gᵀ·x`, or `dw += gᵀ·x`, and `db += Σ g`.
fn affine_backward(p: &mut Affine<&mut [f32]>, g: &[f32], x: &[f32], n: usize, add: bool) {
    matrix_backward(p.w, g, x, n, add);
    add_rows(p.b, g);
}

/// `dw = gᵀ·x` for `n` rows, or `dw += gᵀ·x`.
fn matrix_backward(dw: &mut [f32], g: &[f32], x: &[f32], n: usize, add: bool) {
    if n == 0 {
        if !add {
            dw.fill(0.0);
        }
        return;
    }
    let (outer, inner) = (g.len() / n, x.len() / n);
    matmul(
        dw,
        Matrix::new(g, n, outer).t(),
        Matrix::new(x, n, inner),
        add,
    );
}

/// `sums += Σ rows`: of a matrix of as many columns, or of one row, which may be empty.
fn add_rows(sums: &mut [f32], rows: &[f32]) {
    dispatch(
        #[inline(always)]
        || {
            rows.chunks_exact(sums.len().max(1))
                .for_each(|row| add_scaled(sums, 1.0, row))
        },
    );
}

/// `x̂∘w + b`: a norm's output, again.
fn scaled(norm: &Normalised, p: Affine<&[f32]>) -> Vec<f32> {
    let mut y = uninit(norm.rows.len());
    dispatch(
        #[inline(always)]
        || {
            let rows = norm.rows.chunks_exact(p.w.len());
            for (y, x) in y.chunks_exact_mut(p.w.len()).zip(rows) {
                for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(p.w).zip(p.b) {
                    *y = x * w + b;
                }
            }
        },
    );
    y
}

/// `LN(residual + dropout(out + bias))`. `first` is the number of the first element in the dropout site.
fn add_norm(
    mut out: Vec<f32>,
    bias: &[f32],
    residual: &[f32],
    (mask, first): (Option<Mask>, usize),
    p: Affine<&[f32]>,
    eps: f32,
    y: &mut [f32],
) -> Normalised {
    let d = bias.len();
    let mut rstd = uninit(out.len() / d);
    dispatch_lanes(
        #[inline(always)]
        |lanes| {
            let rows = out.chunks_exact_mut(d).zip(residual.chunks_exact(d));
            let rows = rows.zip(y.chunks_exact_mut(d)).zip(&mut rstd).enumerate();
            for (row, (((x, residual), y), rstd)) in rows {
                match mask {
                    None => {
                        for ((x, &b), &r) in x.iter_mut().zip(bias).zip(residual) {
                            *x += b + r;
                        }
                    }
                    Some(mask) => {
                        let first = (first + row * d) as u32;
                        let values = x.iter_mut().zip(bias).zip(residual);
                        for (i, ((x, &b), &r)) in values.enumerate() {
                            *x = r + mask.factor(first.wrapping_add(i as u32)) * (*x + b);
                        }
                    }
                }
                *rstd = layer_norm::normalise(lanes, x, eps);
                for (((&x, y), &w), &b) in x.iter().zip(y).zip(p.w).zip(p.b) {
                    *y = x * w + b;
                }
            }
        },
    );
    Normalised { rows: out, rstd }
}

/// The gradient of what was normalised in the place of `g`, and that of the dropped sublayer's output, `mask∘` the former,
/// whose sum over rows is that of the sublayer's bias.
fn add_norm_backward(
    g: &mut [f32],
    norm: &Normalised,
    w: &[f32],
    dp: &mut Affine<&mut [f32]>,
    (mask, first): (Option<Mask>, usize),
    dbias: &mut [f32],
) -> Vec<f32> {
    let d = w.len();
    let mut dropped = uninit(g.len());
    dispatch_lanes(
        #[inline(always)]
        |lanes| {
            let rows = g.chunks_exact_mut(d).zip(norm.rows.chunks_exact(d));
            let rows = rows.zip(dropped.chunks_exact_mut(d)).zip(&norm.rstd);
            for (row, (((g, x), dropped), &rstd)) in rows.enumerate() {
                layer_norm::backward(lanes, g, x, rstd, w, (&mut *dp.w, &mut *dp.b));
                match mask {
                    None => dropped.copy_from_slice(g),
                    Some(mask) => {
                        let first = (first + row * d) as u32;
                        for (i, (dropped, &g)) in dropped.iter_mut().zip(&*g).enumerate() {
                            *dropped = mask.factor(first.wrapping_add(i as u32)) * g;
                        }
                    }
                }
                add_scaled(dbias, 1.0, dropped);
            }
        },
    );
    dropped
}

impl LayerOp {
    /// Takes the masks of `dropout` in the order in which the plain form does.
    pub(super) fn new(
        shape: &LayerShape,
        input: &LayerInput<'_>,
        queries: Queries,
        dropout: &Dropout,
    ) -> Self {
        let attention = queries.attention(input.rows, shape.heads, dropout);
        let first = dropout.next_mask();
        let (cross, second) = match input.memory {
            None => (None, None),
            Some((_, memory_rows)) => {
                let cross = Attention {
                    queries: queries.rows,
                    keys: memory_rows.clone(),
                    heads: shape.heads,
                    seen: None,
                    mask: dropout.next_mask(),
                };
                (Some(cross), dropout.next_mask())
            }
        };
        Self {
            shape: *shape,
            wanted: input.wanted.map(Arc::from),
            attention,
            cross,
            masks: [first, second, dropout.next_mask()],
            kept: Mutex::new(None),
            #[cfg(feature = "cuda")]
            kept_on_gpu: Mutex::new(None),
            keep: false,
            slot: None,
        }
    }

    pub(super) fn apply(
        mut self,
        x: &Tensor,
        memory: Option<&Tensor>,
        packed: &Tensor,
        leaves: Option<&Leaves>,
    ) -> Result<Tensor> {
        let (n, d) = x.dims2()?;
        if d != self.shape.d_model || packed.dims1()? != self.shape.size() {
            candle_core::bail!(
                "layer: x {:?}, {} parameters for {:?}",
                x.shape(),
                packed.elem_count(),
                self.shape
            )
        }
        self.attention.check(self.attention.queries.rows(), n, d)?;
        let x = x.contiguous()?;
        self.keep = x.track_op() || packed.track_op() || memory.is_some_and(Tensor::track_op);
        self.slot = leaves.and_then(|leaves| leaves.slot(packed));
        let Some((memory, cross)) = memory.zip(self.cross.as_ref()) else {
            return x.apply_op2(packed, self);
        };
        let (rows, width) = memory.dims2()?;
        cross.check(cross.queries.rows(), rows, width)?;
        if width != d {
            candle_core::bail!("layer: x {:?}, memory {:?}", x.shape(), memory.shape())
        }
        x.apply_op3(&memory.contiguous()?, packed, self)
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self, x: At, memory: At, packed: At) -> on_gpu::Pass<'_> {
        on_gpu::Pass {
            shape: &self.shape,
            wanted: self.wanted.as_deref(),
            attention: &self.attention,
            cross: self.cross.as_ref(),
            masks: self.masks,
            x,
            memory,
            packed,
        }
    }

    #[cfg(feature = "cuda")]
    fn forward_on_gpu(
        &self,
        gpu: &Gpu,
        [x, memory, packed]: [At; 3],
    ) -> Result<(CudaStorage, Shape)> {
        let (y, kept) = self.on_gpu(x, memory, packed).forward(gpu)?;
        if self.keep {
            keep(&self.kept_on_gpu, kept)?;
        }
        let rows = self.attention.queries.rows();
        gpu.output(y, (rows, self.shape.d_model))
    }

    #[cfg(feature = "cuda")]
    fn backward_on_gpu(
        &self,
        gpu: &Gpu,
        [x, memory, packed, g]: [At; 4],
    ) -> Result<on_gpu::Gradients> {
        let pass = self.on_gpu(x, memory, packed);
        let kept = match take(&self.kept_on_gpu)? {
            Some(kept) => kept,
            // Whoever differentiates a graph twice waits for a second forward pass here.
            None => pass.forward(gpu)?.1,
        };
        pass.backward(gpu, &kept, g)
    }

    fn tiles(&self) -> Vec<Tile> {
        let (rows, queries) = (&self.attention.keys, &self.attention.queries);
        let memory = self.cross.as_ref().map(|c| &c.keys);
        let start = |of: &crate::Segments, s: usize| {
            if s == of.len() {
                of.rows()
            } else {
                of.range(s).start
            }
        };
        let span = |sequences: Range<usize>| {
            let of = |segments| start(segments, sequences.start)..start(segments, sequences.end);
            Tile {
                rows: of(rows),
                queries: of(queries),
                memory: memory.map_or(0..0, of),
                sequences: sequences.clone(),
            }
        };
        let mut tiles: Vec<Tile> = vec![];
        for s in 0..rows.len() {
            let first = tiles.last().map_or(s, |t| t.sequences.start);
            let grown = span(first..s + 1);
            let rows = grown.rows.len().max(grown.queries.len());
            match tiles.last_mut() {
                Some(last) if rows.max(grown.memory.len()) <= TILE_ROWS => *last = grown,
                _ => tiles.push(span(s..s + 1)),
            }
        }
        tiles
    }

    fn parameters<'a>(&self, mut packed: &'a [f32]) -> Parts<&'a [f32]> {
        Parts::new(&self.shape, |_, shape| {
            let (part, rest) = packed.split_at(shape.iter().product());
            packed = rest;
            part
        })
    }

    /// The wanted rows of a tile's `x`; `None` where all are.
    fn own(&self, tile: &Tile, x: &[f32]) -> Option<Vec<f32>> {
        let (wanted, d) = (self.wanted.as_ref()?, self.shape.d_model);
        let mut own = Vec::with_capacity(tile.queries.len() * d);
        for &row in &wanted[tile.queries.clone()] {
            own.extend_from_slice(&x[(row as usize - tile.rows.start) * d..][..d]);
        }
        Some(own)
    }

    /// Attention of a tile's packed queries.
    fn attend(
        attention: &Attention,
        sequences: Range<usize>,
        (q, kv): (&[f32], &[f32]),
        d: usize,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let mut mixed = uninit(q.len());
        let (mut at, mut key) = (0, 0);
        for s in sequences {
            let to = at + attention.queries.range(s).len() * d;
            let key_to = key + attention.keys.range(s).len() * 2 * d;
            let own = (&q[at..to], &kv[key..key_to]);
            attention.sequence_forward(s, own, d, &mut mixed[at..to], scratch);
            (at, key) = (to, key_to);
        }
        mixed
    }

    /// Gradients of a tile's packed queries, and of its keys and values.
    fn attend_backward(
        attention: &Attention,
        sequences: Range<usize>,
        (q, kv, g): (&[f32], &[f32], &[f32]),
        d: usize,
        scratch: &mut Scratch,
    ) -> (Vec<f32>, Vec<f32>) {
        let (mut dq, mut dkv) = (uninit(q.len()), uninit(kv.len()));
        let (mut at, mut key) = (0, 0);
        for s in sequences {
            let to = at + attention.queries.range(s).len() * d;
            let key_to = key + attention.keys.range(s).len() * 2 * d;
            let own = (&q[at..to], &kv[key..key_to], &g[at..to]);
            let grads = (&mut dq[at..to], &mut dkv[key..key_to]);
            attention.sequence_backward(s, own, d, grads, scratch);
            (at, key) = (to, key_to);
        }
        (dq, dkv)
    }

    fn forward_tile(
        &self,
        tile: &Tile,
        (x, memory): (&[f32], &[f32]),
        p: &Parts<&[f32]>,
        y: &mut [f32],
        scratch: &mut Scratch,
    ) -> Kept {
        let (d, ff, eps) = (
            self.shape.d_model,
            self.shape.feed_forward,
            self.shape.eps as f32,
        );
        let (n, queries) = (tile.rows.len(), tile.queries.len());
        let first = tile.queries.start * d;
        let (p_q, p_kv) = split_qkv(&p.qkv, d);
        let own = self.own(tile, x);
        let own = own.as_deref().unwrap_or(x);
        let q = linear(own, queries, p_q, d, d);
        let kv = linear(x, n, p_kv, d, 2 * d);
        let sequences = || tile.sequences.clone();
        let mixed = Self::attend(&self.attention, sequences(), (&q, &kv), d, scratch);
        let mut x = uninit(queries * d);
        let attention_norm = add_norm(
            product(&mixed, queries, p.attended.w, d, d),
            p.attended.b,
            own,
            (self.masks[0], first),
            p.attention_norm,
            eps,
            &mut x,
        );
        let cross = self.cross.as_ref().zip(p.cross.as_ref());
        let cross = cross.map(|(attention, p)| {
            let q = linear(&x, queries, p.q, d, d);
            let kv = linear(memory, tile.memory.len(), p.kv, d, 2 * d);
            let mixed = Self::attend(attention, sequences(), (&q, &kv), d, scratch);
            let mut next = uninit(queries * d);
            let norm = add_norm(
                product(&mixed, queries, p.attended.w, d, d),
                p.attended.b,
                &x,
                (self.masks[1], first),
                p.norm,
                eps,
                &mut next,
            );
            x = next;
            KeptCross { q, kv, mixed, norm }
        });
        let inner = product(&x, queries, p.inner.w, d, ff);
        let mut active = uninit(queries * ff);
        gelu::forward(&inner, p.inner.b, &mut active);
        let norm = add_norm(
            product(&active, queries, p.outer.w, ff, d),
            p.outer.b,
            &x,
            (self.masks[2], first),
            p.norm,
            eps,
            y,
        );
        Kept {
            q,
            kv,
            mixed,
            attention_norm,
            cross,
            inner,
            norm,
        }
    }

    /// `g` is the gradient of the tile's outputs; it is used up. Matrices' gradients are written, or with `add` added to; those of
    /// vectors are added to.
    fn backward_tile(
        &self,
        tile: &Tile,
        kept: &Kept,
        (x, memory, g): (&[f32], &[f32], &mut [f32]),
        p: &Parts<&[f32]>,
        (dx, dmemory, dp, add): (&mut [f32], &mut [f32], &mut Parts<&mut [f32]>, bool),
        scratch: &mut Scratch,
    ) {
        let (d, ff) = (self.shape.d_model, self.shape.feed_forward);
        let (n, queries) = (tile.rows.len(), tile.queries.len());
        let first = tile.queries.start * d;
        let sequences = || tile.sequences.clone();

        // The feed-forward, whose input is the output of the norm before it.
        let attended = scaled(&kept.attention_norm, p.attention_norm);
        let crossed = kept.cross.as_ref().zip(p.cross.as_ref());
        let crossed = crossed.map(|(kept, p)| scaled(&kept.norm, p.norm));
        let input = crossed.as_deref().unwrap_or(&attended);
        let out = (self.masks[2], first);
        let dout = add_norm_backward(g, &kept.norm, p.norm.w, &mut dp.norm, out, dp.outer.b);
        let mut dinner = uninit(queries * ff);
        product_backward(&mut dinner, &dout, queries, p.outer.w, ff, false);
        let mut active = uninit(queries * ff);
        gelu::backward(&kept.inner, p.inner.b, &mut dinner, &mut active, dp.inner.b);
        matrix_backward(dp.outer.w, &dout, &active, queries, add);
        matrix_backward(dp.inner.w, &dinner, input, queries, add);
        product_backward(g, &dinner, queries, p.inner.w, d, true);

        if let (Some(attention), Some(kept), Some(p), Some(dp)) =
            (&self.cross, &kept.cross, &p.cross, &mut dp.cross)
        {
            let CrossParts {
                q: dp_q,
                kv: dp_kv,
                attended: dp_attended,
                norm: dp_norm,
            } = dp;
            let out = (self.masks[1], first);
            let dout = add_norm_backward(g, &kept.norm, p.norm.w, dp_norm, out, dp_attended.b);
            matrix_backward(dp_attended.w, &dout, &kept.mixed, queries, add);
            let mut dmixed = uninit(queries * d);
            product_backward(&mut dmixed, &dout, queries, p.attended.w, d, false);
            let own = (&*kept.q, &*kept.kv, &*dmixed);
            let (dq, dkv) = Self::attend_backward(attention, sequences(), own, d, scratch);
            affine_backward(dp_q, &dq, &attended, queries, add);
            affine_backward(dp_kv, &dkv, memory, tile.memory.len(), add);
            product_backward(g, &dq, queries, p.q.w, d, true);
            product_backward(dmemory, &dkv, tile.memory.len(), p.kv.w, d, false);
        }

        let (p_q, p_kv) = split_qkv(&p.qkv, d);
        let Parts {
            qkv: dp_qkv,
            attended: dp_attended,
            attention_norm: dp_norm,
            ..
        } = dp;
        let out = (self.masks[0], first);
        let norm = &kept.attention_norm;
        let dout = add_norm_backward(g, norm, p.attention_norm.w, dp_norm, out, dp_attended.b);
        matrix_backward(dp_attended.w, &dout, &kept.mixed, queries, add);
        let mut dmixed = uninit(queries * d);
        product_backward(&mut dmixed, &dout, queries, p.attended.w, d, false);
        let own = (&*kept.q, &*kept.kv, &*dmixed);
        let (dq, dkv) = Self::attend_backward(&self.attention, sequences(), own, d, scratch);
        let own = self.own(tile, x);
        let (dw_q, dw_kv) = dp_qkv.w.split_at_mut(d * d);
        let (db_q, db_kv) = dp_qkv.b.split_at_mut(d);
        matrix_backward(dw_q, &dq, own.as_deref().unwrap_or(x), queries, add);
        matrix_backward(dw_kv, &dkv, x, n, add);
        add_rows(db_q, &dq);
        add_rows(db_kv, &dkv);
        product_backward(g, &dq, queries, p_q.w, d, true);
        product_backward(dx, &dkv, n, p_kv.w, d, false);
        match &self.wanted {
            None => add_rows(dx, g),
            Some(wanted) => {
                for (&row, g) in wanted[tile.queries.clone()].iter().zip(g.chunks_exact(d)) {
                    let at = (row as usize - tile.rows.start) * d;
                    add_rows(&mut dx[at..at + d], g);
                }
            }
        }
    }

    fn forward(&self, x: &[f32], memory: &[f32], packed: &[f32]) -> Result<(CpuStorage, Shape)> {
        let d = self.shape.d_model;
        let p = self.parameters(packed);
        let rows = self.attention.queries.rows();
        let mut y = uninit(rows * d);
        let (mut scratch, mut kept) = (Scratch::default(), vec![]);
        for tile in self.tiles() {
            let of = |rows: &Range<usize>| rows.start * d..rows.end * d;
            let own = (&x[of(&tile.rows)], &memory[of(&tile.memory)]);
            let out = &mut y[of(&tile.queries)];
            let tile = self.forward_tile(&tile, own, &p, out, &mut scratch);
            if self.keep {
                kept.push(tile);
            }
        }
        if self.keep {
            keep(&self.kept, kept)?;
        }
        Ok((CpuStorage::F32(y), (rows, d).into()))
    }

    fn backward(&self, x: &[f32], memory: &[f32], packed: &[f32], g: &[f32]) -> Result<Gradients> {
        let d = self.shape.d_model;
        // Freed tile by tile. Whoever differentiates a graph twice waits for a second forward pass here.
        let mut kept = take(&self.kept)?.unwrap_or_default().into_iter();
        let p = self.parameters(packed);
        let mut grads = Gradients {
            x: uninit(x.len()),
            memory: uninit(memory.len()),
            packed: uninit(packed.len()),
        };
        let tiles = self.tiles();
        let mut rest = grads.packed.as_mut_slice();
        let mut dp = Parts::new(&self.shape, |_, shape| {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(shape.iter().product());
            rest = tail;
            // The first tile writes all of the matrices.
            if shape.len() == 1 || tiles.is_empty() {
                part.fill(0.0);
            }
            part
        });
        let (mut scratch, mut g_tile) = (Scratch::default(), vec![]);
        for (i, tile) in tiles.into_iter().enumerate() {
            let of = |rows: &Range<usize>| rows.start * d..rows.end * d;
            let own = (&x[of(&tile.rows)], &memory[of(&tile.memory)]);
            g_tile.clear();
            g_tile.extend_from_slice(&g[of(&tile.queries)]);
            let kept = kept.next().unwrap_or_else(|| {
                let mut y = uninit(g_tile.len());
                self.forward_tile(&tile, own, &p, &mut y, &mut scratch)
            });
            self.backward_tile(
                &tile,
                &kept,
                (own.0, own.1, &mut g_tile),
                &p,
                (
                    &mut grads.x[of(&tile.rows)],
                    &mut grads.memory[of(&tile.memory)],
                    &mut dp,
                    i > 0,
                ),
                &mut scratch,
            );
        }
        Ok(grads)
    }
}

/// The query rows of the joint projection, and those of keys and values.
fn split_qkv<'a>(p: &Affine<&'a [f32]>, d: usize) -> (Affine<&'a [f32]>, Affine<&'a [f32]>) {
    let (q, kv) = p.w.split_at(d * d);
    let (q_bias, kv_bias) = p.b.split_at(d);
    (Affine { w: q, b: q_bias }, Affine { w: kv, b: kv_bias })
}

/// Without cross-attention: `x` and the parameters.
impl CustomOp2 for LayerOp {
    fn name(&self) -> &'static str {
        "fused-layer"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        packed: &CpuStorage,
        pl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(slice(x, xl)?, &[], slice(packed, pl)?)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        packed: &CudaStorage,
        pl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let operands = [cuda::at(x, xl)?, At::NONE, cuda::at(packed, pl)?];
        self.forward_on_gpu(&Gpu::of(x), operands)
    }

    fn bwd(
        &self,
        x: &Tensor,
        packed: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            let grads = cuda::with([x, packed, grad], |gpu, [x, packed, g]| {
                self.backward_on_gpu(gpu, [x, At::NONE, packed, g])
            })?;
            return Ok((Some(grads.x), Some(grads.packed)));
        }
        let grads = with_slice(x, |x| {
            with_slice(packed, |p| {
                with_slice(grad, |g| self.backward(x, &[], p, g))
            })
        })?;
        Ok((
            Some(tensor(grads.x, x.dims())?),
            Slot::take_in(self.slot.as_ref(), grads.packed, packed.dims())?,
        ))
    }
}

/// With cross-attention: `x`, the memory and the parameters.
impl CustomOp3 for LayerOp {
    fn name(&self) -> &'static str {
        "fused-cross-layer"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        memory: &CpuStorage,
        ml: &Layout,
        packed: &CpuStorage,
        pl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(slice(x, xl)?, slice(memory, ml)?, slice(packed, pl)?)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        memory: &CudaStorage,
        ml: &Layout,
        packed: &CudaStorage,
        pl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let operands = [
            cuda::at(x, xl)?,
            cuda::at(memory, ml)?,
            cuda::at(packed, pl)?,
        ];
        self.forward_on_gpu(&Gpu::of(x), operands)
    }

    fn bwd(
        &self,
        x: &Tensor,
        memory: &Tensor,
        packed: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if grad.device().is_cuda() {
            let grads = cuda::with([x, memory, packed, grad], |gpu, operands| {
                self.backward_on_gpu(gpu, operands)
            })?;
            return Ok((Some(grads.x), grads.memory, Some(grads.packed)));
        }
        let grads = with_slice(x, |x| {
            with_slice(memory, |m| {
                with_slice(packed, |p| with_slice(grad, |g| self.backward(x, m, p, g)))
            })
        })?;
        Ok((
            Some(tensor(grads.x, x.dims())?),
            Some(tensor(grads.memory, memory.dims())?),
            Slot::take_in(self.slot.as_ref(), grads.packed, packed.dims())?,
        ))
    }
}
