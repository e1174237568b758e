//! A transformer layer, post-norm as in BERT: `x ← LN(x + sublayer(x))` for self-attention, cross-attention where there is
//! something to cross-attend, and a feed-forward with GELU in its tanh form. Rows are packed: `[rows, d]`, no padding.
//!
//! A layer's parameters are one tensor, so that the fused form takes all of them as one operand of one graph node and
//! gives back their gradient in one buffer; the named parts are views of it.

mod fused;
mod parts;

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::attention::Attention;
use crate::storage::has_kernels;
use crate::{Dropout, Ops, Pass, Segments};

pub use parts::LayerShape;
pub(crate) use parts::{Affine, Parts};

use fused::LayerOp;

/// Which sequences a layer runs over, and what of them is wanted.
#[derive(Clone, Copy, Debug)]
pub struct LayerInput<'a> {
    /// The sequences of `x`.
    pub rows: &'a Segments,
    /// Rows of `x`, ascending, whose outputs are wanted: the others are keys and values only. All without.
    pub wanted: Option<&'a [u32]>,
    /// A position sees itself and those before it.
    pub causal: bool,
    /// What the sequences cross-attend, `[memory rows, d]`, and its sequences: one for each of `rows`.
    pub memory: Option<(&'a Tensor, &'a Segments)>,
}

/// Keys and values that a position attends to: `[rows, 2·d]`, keys in the first half of a row.
#[derive(Clone, Copy, Debug)]
pub struct Attended<'a> {
    /// Keys and values.
    pub kv: &'a Tensor,
    /// Their sequences.
    pub rows: &'a Segments,
}

/// One layer's parameters.
#[derive(Clone, Debug)]
pub struct Layer {
    shape: LayerShape,
    /// All of them, end to end.
    packed: Tensor,
    /// Views of `packed`.
    parts: Parts<Tensor>,
    /// The query rows of the parts' joint projection, and those of keys and values.
    q: Affine<Tensor>,
    kv: Affine<Tensor>,
}

impl Layer {
    /// A layer of the parameters `packed`, laid out as [`LayerShape::parts`] says.
    ///
    /// # Errors
    /// When their number is not the shape's.
    pub fn new(shape: LayerShape, packed: Tensor) -> Result<Self> {
        let mut views = vec![];
        for part in shape.parts() {
            let n = part.shape.iter().product();
            let view = packed.narrow(0, part.start, n)?;
            views.push(view.reshape(part.shape.as_slice())?);
        }
        let mut views = views.into_iter();
        let parts = Parts::new(&shape, |_, _| views.next().expect("a view a part"));
        let d = shape.d_model;
        let rows = |from, n| -> Result<Affine<Tensor>> {
            Ok(Affine {
                w: parts.qkv.w.narrow(0, from, n)?,
                b: parts.qkv.b.narrow(0, from, n)?,
            })
        };
        Ok(Self {
            shape,
            q: rows(0, d)?,
            kv: rows(d, 2 * d)?,
            parts,
            packed,
        })
    }

    /// The layer's output for the wanted rows of `x` `[rows, d]`: `[wanted, d]`.
    ///
    /// # Errors
    /// When shapes do not fit, a sequence is longer than [`crate::MAX_KEYS`], or the layer cross-attends and there is no
    /// memory, or the reverse.
    pub fn forward(&self, pass: Pass<'_>, x: &Tensor, input: LayerInput<'_>) -> Result<Tensor> {
        let Pass { ops, dropout, .. } = pass;
        if self.shape.cross != input.memory.is_some() {
            candle_core::bail!(
                "a layer {} cross-attention, {} memory",
                if self.shape.cross { "with" } else { "without" },
                if input.memory.is_some() {
                    "but a"
                } else {
                    "but no"
                }
            )
        }
        let queries = Queries::new(&input)?;
        if ops == Ops::Fused && has_kernels(x) {
            let op = LayerOp::new(&self.shape, &input, queries, dropout);
            let memory = input.memory.map(|(memory, _)| memory);
            return op.apply(x, memory, &self.packed, pass.leaves);
        }
        let own = match input.wanted {
            None => x.clone(),
            Some(wanted) => ops.gather(x, wanted)?,
        };
        let mixed = ops.attention(
            &self.q.linear(ops, &own)?,
            &queries.rows,
            Attended {
                kv: &self.kv.linear(ops, x)?,
                rows: input.rows,
            },
            queries.seen.as_deref(),
            self.shape.heads,
            dropout,
        )?;
        let memory_kv = match input.memory {
            None => None,
            Some((memory, rows)) => Some((self.memory_kv(ops, memory)?, rows)),
        };
        let memory = memory_kv.as_ref().map(|(kv, rows)| Attended { kv, rows });
        self.after_attention(ops, &own, &mixed, &queries.rows, memory, dropout)
    }

    /// Keys and values of what the layer cross-attends: `[memory rows, d]` to `[memory rows, 2·d]`.
    ///
    /// # Errors
    /// When the layer does not cross-attend, or shapes do not fit.
    pub fn memory_kv(&self, ops: Ops, memory: &Tensor) -> Result<Tensor> {
        match &self.parts.cross {
            Some(cross) => cross.kv.linear(ops, memory),
            None => candle_core::bail!("a layer without cross-attention has no use for a memory"),
        }
    }

    /// Queries `[rows, d]` of new positions `x` `[rows, d]`, and their own keys and values `[rows, 2·d]`.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn step_qkv(&self, ops: Ops, x: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.q.linear(ops, x)?, self.kv.linear(ops, x)?))
    }

    /// The rest of the layer for new positions `x`: `queries` over their own prefixes, whose keys and values are rows of
    /// `past` as [`Ops::prefix_attention`] says, then cross-attention of the sequences `rows` over `memory`, then the
    /// feed-forward. `[rows, d]` out.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn step(
        &self,
        ops: Ops,
        x: &Tensor,
        queries: &Tensor,
        (past, prefix): (&[Tensor], &[Vec<u32>]),
        rows: &Segments,
        memory: Attended<'_>,
    ) -> Result<Tensor> {
        let mixed = ops.prefix_attention(queries, past, prefix, self.shape.heads)?;
        self.after_attention(ops, x, &mixed, rows, Some(memory), &Dropout::off())
    }

    fn after_attention(
        &self,
        ops: Ops,
        x: &Tensor,
        mixed: &Tensor,
        rows: &Segments,
        memory: Option<Attended<'_>>,
        dropout: &Dropout,
    ) -> Result<Tensor> {
        let p = &self.parts;
        let add_norm = |x: &Tensor, out: &Tensor, norm: &Affine<Tensor>| {
            let sum = ops.add_dropout(x, out, dropout)?;
            ops.layer_norm(&sum, &norm.w, &norm.b, self.shape.eps)
        };
        let mut x = add_norm(x, &p.attended.linear(ops, mixed)?, &p.attention_norm)?;
        if let (Some(cross), Some(memory)) = (&p.cross, memory) {
            let q = cross.q.linear(ops, &x)?;
            let mixed = ops.attention(&q, rows, memory, None, self.shape.heads, dropout)?;
            x = add_norm(&x, &cross.attended.linear(ops, &mixed)?, &cross.norm)?;
        }
        let inner = ops.gelu(&p.inner.linear(ops, &x)?)?;
        add_norm(&x, &p.outer.linear(ops, &inner)?, &p.norm)
    }
}

impl Affine<Tensor> {
    fn linear(&self, ops: Ops, x: &Tensor) -> Result<Tensor> {
        ops.linear(x, &self.w, &self.b)
    }
}

/// The wanted rows: how many each sequence has, and what they see of it.
pub(crate) struct Queries {
    rows: Segments,
    seen: Option<Arc<[u32]>>,
}

impl Queries {
    fn new(input: &LayerInput<'_>) -> Result<Self> {
        let Some(wanted) = input.wanted else {
            let seen = input.rows.iter().flat_map(|r| 1..=r.len() as u32);
            return Ok(Self {
                rows: input.rows.clone(),
                seen: input.causal.then(|| seen.collect()),
            });
        };
        let mut left = wanted;
        let (mut lengths, mut seen) = (vec![], vec![]);
        for range in input.rows.iter() {
            let own = left
                .iter()
                .take_while(|&&r| (r as usize) < range.end)
                .count();
            let (mine, rest) = left.split_at(own);
            if mine.first().is_some_and(|&r| (r as usize) < range.start)
                || mine.windows(2).any(|w| w[0] >= w[1])
            {
                candle_core::bail!("the wanted rows of a layer are not ascending")
            }
            seen.extend(mine.iter().map(|&r| r - range.start as u32 + 1));
            lengths.push(own);
            left = rest;
        }
        if let Some(row) = left.first() {
            candle_core::bail!("row {row} is wanted of {}", input.rows.rows())
        }
        Ok(Self {
            rows: Segments::from_lengths(&lengths),
            seen: input.causal.then(|| seen.into()),
        })
    }

    fn attention(&self, keys: &Segments, heads: usize, dropout: &Dropout) -> Attention {
        Attention {
            queries: self.rows.clone(),
            keys: keys.clone(),
            heads,
            seen: self.seen.clone(),
            mask: dropout.next_mask(),
        }
    }
}
