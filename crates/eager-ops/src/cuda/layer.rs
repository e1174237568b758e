//! The whole layer as one graph node on the GPU: a few dozen launches forward and backward, and no graph of their own.

use candle_core::{Result, Tensor};

use super::attention::{Sequences, Strided};
use super::{At, Buffer, Gpu, Matrix};
use crate::attention::Attention;
use crate::dropout::Mask;
use crate::layer::{Affine, LayerShape, Parts};

/// What a pass over a layer is given.
pub(crate) struct Pass<'a> {
    pub(crate) shape: &'a LayerShape,
    pub(crate) wanted: Option<&'a [u32]>,
    pub(crate) attention: &'a Attention,
    pub(crate) cross: Option<&'a Attention>,
    pub(crate) masks: [Option<Mask>; 3],
    pub(crate) x: At,
    /// [`At::NONE`] without cross-attention.
    pub(crate) memory: At,
    pub(crate) packed: At,
}

/// What the forward pass leaves for the backward pass.
pub(crate) struct Kept {
    /// The wanted rows of the input, where they are not all: their numbers and themselves.
    own: Option<(Buffer<u32>, Buffer)>,
    attention: Attended,
    cross: Option<Attended>,
    /// The feed-forward's first product without its bias, and GELU of both.
    inner: At,
    active: At,
    norm: Normalised,
    _memory: [Buffer; 3],
}

/// An attention with the norm behind it.
struct Attended {
    sequences: Sequences,
    q: Strided,
    kv: Strided,
    mixed: At,
    norm: Normalised,
    /// The norm's output.
    out: At,
}

/// As in the kernels.
#[derive(Clone, Copy)]
struct Normalised {
    normal: At,
    rstd: At,
}

/// Gradients of a layer's inputs and parameters.
pub(crate) struct Gradients {
    pub(crate) x: Tensor,
    pub(crate) memory: Option<Tensor>,
    pub(crate) packed: Tensor,
}

impl Pass<'_> {
    fn parts(&self, packed: At) -> Parts<At> {
        let mut next = packed;
        Parts::new(self.shape, |_, shape| {
            let part = next;
            next = next.plus(shape.iter().product());
            part
        })
    }

    /// Rows of the input, of the wanted ones, of the memory.
    fn sizes(&self) -> (usize, usize, usize) {
        (
            self.attention.keys.rows(),
            self.attention.queries.rows(),
            self.cross.map_or(0, |c| c.keys.rows()),
        )
    }

    /// `LN(residual + dropout(out + bias))` of the wanted rows, in `y`; `added` are bias, residual and mask.
    fn add_norm(
        &self,
        gpu: &Gpu,
        y: At,
        out: At,
        added: (At, At, Option<Mask>),
        p: Affine<At>,
        rstd: At,
    ) -> Result<Normalised> {
        let size = (self.attention.queries.rows(), self.shape.d_model);
        let (bias, residual, mask) = added;
        let from = (out, bias, residual, mask);
        gpu.add_norm(
            (y, out, rstd),
            from,
            (p.w, p.b),
            self.shape.eps as f32,
            size,
        )?;
        Ok(Normalised { normal: out, rstd })
    }

    /// The gradient of what was normalised, in `dx`, and that of the dropped sublayer's output, in `dropped`.
    fn add_norm_backward(
        &self,
        gpu: &Gpu,
        (dx, dropped): (At, At),
        g: At,
        norm: Normalised,
        (w, mask): (At, Option<Mask>),
        (dp, dbias): (Affine<At>, At),
    ) -> Result<()> {
        let size = (self.attention.queries.rows(), self.shape.d_model);
        let Normalised { normal, rstd } = norm;
        gpu.add_norm_backward((dx, dropped), g, (normal, rstd, w, mask), size)?;
        gpu.norm_column_sums((dp.w, dp.b, dbias), (g, normal, dropped), size)
    }

    /// The output `[wanted, d]`, and what the backward pass reads.
    pub(crate) fn forward(&self, gpu: &Gpu) -> Result<(Buffer, Kept)> {
        let (d, ff) = (self.shape.d_model, self.shape.feed_forward);
        let (n, queries, memory) = self.sizes();
        let p = self.parts(self.packed);
        let qkv = (p.qkv.w, p.qkv.b);
        let own = match self.wanted {
            None => None,
            Some(wanted) => {
                let ids = gpu.upload(wanted)?;
                let rows = gpu.uninit(queries * d)?;
                gpu.gather(rows.at(), self.x, &ids, queries, d)?;
                Some((ids, rows))
            }
        };
        // Queries of the wanted rows and keys and values of all, in one product where these are the same.
        let (joint, q_rows) = match own {
            None => (3 * n * d, 0),
            Some(_) => (2 * n * d, queries * d),
        };
        let (slab, [kv, q, mixed, out, rstd, x]) = gpu.slab([
            joint,
            q_rows,
            queries * d,
            queries * d,
            queries,
            queries * d,
        ])?;
        let (q, kv, residual) = match &own {
            None => {
                gpu.linear(kv, self.x, n, qkv, d, 3 * d)?;
                let stride = 3 * d;
                let at = |at| Strided { at, stride };
                (at(kv), at(kv.plus(d)), self.x)
            }
            Some((_, own)) => {
                gpu.linear(q, own.at(), queries, qkv, d, d)?;
                let kv_part = (qkv.0.plus(d * d), qkv.1.plus(d));
                gpu.linear(kv, self.x, n, kv_part, d, 2 * d)?;
                let at = |at, stride| Strided { at, stride };
                (at(q, d), at(kv, 2 * d), own.at())
            }
        };
        let sequences = Sequences::new(gpu, self.attention, d)?;
        sequences.forward(gpu, mixed, q, kv)?;
        gpu.product(out, mixed, queries, p.attended.w, d, d)?;
        let bias = (p.attended.b, residual, self.masks[0]);
        let norm = self.add_norm(gpu, x, out, bias, p.attention_norm, rstd)?;
        let attention = Attended {
            sequences,
            q,
            kv,
            mixed,
            norm,
            out: x,
        };

        let crossing = self.cross.zip(p.cross.as_ref());
        let wide = if crossing.is_some() { queries * d } else { 0 };
        let (cross_slab, [kv, q, mixed, out, rstd, next]) =
            gpu.slab([2 * memory * d, wide, wide, wide, queries, wide])?;
        let cross = match crossing {
            None => None,
            Some((cross, p)) => {
                gpu.linear(q, x, queries, (p.q.w, p.q.b), d, d)?;
                gpu.linear(kv, self.memory, memory, (p.kv.w, p.kv.b), d, 2 * d)?;
                let q = Strided { at: q, stride: d };
                let kv = Strided {
                    at: kv,
                    stride: 2 * d,
                };
                let sequences = Sequences::new(gpu, cross, d)?;
                sequences.forward(gpu, mixed, q, kv)?;
                gpu.product(out, mixed, queries, p.attended.w, d, d)?;
                let bias = (p.attended.b, x, self.masks[1]);
                let norm = self.add_norm(gpu, next, out, bias, p.norm, rstd)?;
                Some(Attended {
                    sequences,
                    q,
                    kv,
                    mixed,
                    norm,
                    out: next,
                })
            }
        };

        let x = cross.as_ref().map_or(attention.out, |c| c.out);
        let (forward_slab, [inner, active, out, rstd]) =
            gpu.slab([queries * ff, queries * ff, queries * d, queries])?;
        gpu.product(inner, x, queries, p.inner.w, d, ff)?;
        gpu.gelu(active, inner, p.inner.b, queries * ff, ff)?;
        gpu.product(out, active, queries, p.outer.w, ff, d)?;
        let y = gpu.uninit(queries * d)?;
        let bias = (p.outer.b, x, self.masks[2]);
        let norm = self.add_norm(gpu, y.at(), out, bias, p.norm, rstd)?;
        let kept = Kept {
            own,
            attention,
            cross,
            inner,
            active,
            norm,
            _memory: [slab, cross_slab, forward_slab],
        };
        Ok((y, kept))
    }

    /// The gradients, of the output's gradient `g`.
    pub(crate) fn backward(&self, gpu: &Gpu, kept: &Kept, g: At) -> Result<Gradients> {
        let (d, ff) = (self.shape.d_model, self.shape.feed_forward);
        let (n, queries, memory) = self.sizes();
        let p = self.parts(self.packed);
        let packed = gpu.uninit(self.shape.size())?;
        let dp = self.parts(packed.at());
        let rows = |at| Matrix::new(at, queries, d);
        let (_slab, [mut gx, mut next, dropped, dmixed, dinner]) = gpu.slab([
            queries * d,
            queries * d,
            queries * d,
            queries * d,
            queries * ff,
        ])?;

        let attended = &kept.attention;
        let input = kept.cross.as_ref().map_or(attended.out, |c| c.out);
        self.add_norm_backward(
            gpu,
            (gx, dropped),
            g,
            kept.norm,
            (p.norm.w, self.masks[2]),
            (dp.norm, dp.outer.b),
        )?;
        let wide = |at| Matrix::new(at, queries, ff);
        gpu.matmul(dinner, rows(dropped), Matrix::new(p.outer.w, d, ff), false)?;
        gpu.matmul(dp.outer.w, rows(dropped).t(), wide(kept.active), false)?;
        gpu.gelu_backward(dinner, dinner, kept.inner, p.inner.b, queries * ff, ff)?;
        gpu.column_sums(dp.inner.b, dinner, queries, ff)?;
        gpu.matmul(dp.inner.w, wide(dinner).t(), rows(input), false)?;
        gpu.matmul(gx, wide(dinner), Matrix::new(p.inner.w, ff, d), true)?;

        // The product behind an attention: its weights' gradient, and `dmixed`.
        let attended_backward = |dw, dropped, mixed, w| {
            gpu.matmul(dw, rows(dropped).t(), rows(mixed), false)?;
            gpu.matmul(dmixed, rows(dropped), Matrix::new(w, d, d), false)
        };
        let mut dmemory = None;
        if let (Some(kept), Some(p), Some(dp)) = (&kept.cross, &p.cross, &dp.cross) {
            self.add_norm_backward(
                gpu,
                (next, dropped),
                gx,
                kept.norm,
                (p.norm.w, self.masks[1]),
                (dp.norm, dp.attended.b),
            )?;
            std::mem::swap(&mut gx, &mut next);
            attended_backward(dp.attended.w, dropped, kept.mixed, p.attended.w)?;
            let out = gpu.uninit(memory * d)?;
            let (_slab, [dq, dkv]) = gpu.slab([queries * d, memory * 2 * d])?;
            (kept.sequences).backward(gpu, (kept.q, kept.kv), dmixed, (dq, dkv))?;
            let pairs = Matrix::new(dkv, memory, 2 * d);
            gpu.matmul(dp.q.w, rows(dq).t(), rows(attended.out), false)?;
            gpu.column_sums(dp.q.b, dq, queries, d)?;
            gpu.matmul(
                dp.kv.w,
                pairs.t(),
                Matrix::new(self.memory, memory, d),
                false,
            )?;
            gpu.column_sums(dp.kv.b, dkv, memory, 2 * d)?;
            gpu.matmul(gx, rows(dq), Matrix::new(p.q.w, d, d), true)?;
            gpu.matmul(out.at(), pairs, Matrix::new(p.kv.w, 2 * d, d), false)?;
            dmemory = Some(gpu.tensor(out, &[memory, d]));
        }

        let dx = gpu.uninit(n * d)?;
        // Where every row is wanted, their gradient is the input's.
        if kept.own.is_none() {
            next = dx.at();
        }
        self.add_norm_backward(
            gpu,
            (next, dropped),
            gx,
            attended.norm,
            (p.attention_norm.w, self.masks[0]),
            (dp.attention_norm, dp.attended.b),
        )?;
        let gx = next;
        attended_backward(dp.attended.w, dropped, attended.mixed, p.attended.w)?;
        let x = Matrix::new(self.x, n, d);
        let (w, dw, db) = (p.qkv.w, dp.qkv.w, dp.qkv.b);
        match &kept.own {
            None => {
                let (_slab, [dqkv]) = gpu.slab([n * 3 * d])?;
                let grads = (dqkv, dqkv.plus(d));
                (attended.sequences).backward(gpu, (attended.q, attended.kv), dmixed, grads)?;
                let all = Matrix::new(dqkv, n, 3 * d);
                gpu.matmul(dw, all.t(), x, false)?;
                gpu.column_sums(db, dqkv, n, 3 * d)?;
                gpu.matmul(gx, all, Matrix::new(w, 3 * d, d), true)?;
            }
            Some((wanted, own)) => {
                let (_slab, [dq, dkv]) = gpu.slab([queries * d, n * 2 * d])?;
                let grads = (dq, dkv);
                (attended.sequences).backward(gpu, (attended.q, attended.kv), dmixed, grads)?;
                let pairs = Matrix::new(dkv, n, 2 * d);
                gpu.matmul(dw, rows(dq).t(), rows(own.at()), false)?;
                gpu.column_sums(db, dq, queries, d)?;
                gpu.matmul(dw.plus(d * d), pairs.t(), x, false)?;
                gpu.column_sums(db.plus(d), dkv, n, 2 * d)?;
                gpu.matmul(gx, rows(dq), Matrix::new(w, d, d), true)?;
                let kv = Matrix::new(w.plus(d * d), 2 * d, d);
                gpu.matmul(dx.at(), pairs, kv, false)?;
                gpu.add_at(dx.at(), gx, wanted, queries, d)?;
            }
        }
        Ok(Gradients {
            x: gpu.tensor(dx, &[n, d]),
            memory: dmemory,
            packed: gpu.tensor(packed, &[self.shape.size()]),
        })
    }
}
