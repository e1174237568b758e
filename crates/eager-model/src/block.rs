//! One transformer layer, post-norm as in BERT: `x ← LN(x + sublayer(x))` for self-attention, cross-attention
//! (decoders only) and a feed-forward with GELU in its tanh form. Rows are packed: `[rows, d]`, no padding.

use candle_core::{Result, Tensor};
use eager_ops::{Dropout, Ops, Segments};

use crate::{EagerConfig, Init, Weights};

/// Added to the variance of a layer norm.
const EPS: f64 = 1e-5;

/// How a forward pass is computed: which form of the operations, and what is dropped.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// Fused or plain.
    pub ops: Ops,
    /// The pass's dropout; [`Dropout::off`] outside training.
    pub dropout: &'a Dropout,
}

/// `x·wᵀ + b`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    w: Tensor,
    b: Tensor,
}

impl Linear {
    pub(crate) fn new(
        weights: &mut Weights,
        name: &str,
        inputs: usize,
        outputs: usize,
        init: f64,
    ) -> Result<Self> {
        Ok(Self {
            w: weights.get(
                &format!("{name}.weight"),
                (outputs, inputs),
                Init::Normal(init),
            )?,
            b: weights.get(&format!("{name}.bias"), outputs, Init::Zeros)?,
        })
    }

    pub(crate) fn forward(&self, ops: Ops, x: &Tensor) -> Result<Tensor> {
        ops.linear(x, &self.w, &self.b)
    }
}

/// Layer norm with scale and shift.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    w: Tensor,
    b: Tensor,
}

impl Norm {
    pub(crate) fn new(weights: &mut Weights, name: &str, d: usize) -> Result<Self> {
        Ok(Self {
            w: weights.get(&format!("{name}.weight"), d, Init::Ones)?,
            b: weights.get(&format!("{name}.bias"), d, Init::Zeros)?,
        })
    }

    pub(crate) fn forward(&self, ops: Ops, x: &Tensor) -> Result<Tensor> {
        ops.layer_norm(x, &self.w, &self.b, EPS)
    }
}

/// One layer.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    qkv: Linear,
    attended: Linear,
    attention_norm: Norm,
    cross: Option<Cross>,
    inner: Linear,
    outer: Linear,
    norm: Norm,
    heads: usize,
    d: usize,
}

#[derive(Clone, Debug)]
struct Cross {
    q: Linear,
    kv: Linear,
    attended: Linear,
    norm: Norm,
}

/// What a layer cross-attends: keys and values `[rows, 2·d]` of each sequence.
pub(crate) struct Attended<'a> {
    pub(crate) kv: &'a Tensor,
    pub(crate) rows: &'a Segments,
}

impl Block {
    pub(crate) fn new(
        weights: &mut Weights,
        name: &str,
        config: &EagerConfig,
        cross: bool,
    ) -> Result<Self> {
        let (d, init) = (config.d_model, config.init);
        let mut linear = |part: &str, inputs, outputs| {
            Linear::new(weights, &format!("{name}.{part}"), inputs, outputs, init)
        };
        let (qkv, attended) = (
            linear("self.qkv", d, 3 * d)?,
            linear("self.attended", d, d)?,
        );
        let inner = linear("inner", d, config.feed_forward)?;
        let outer = linear("outer", config.feed_forward, d)?;
        let crossing = if cross {
            Some((
                linear("cross.q", d, d)?,
                linear("cross.kv", d, 2 * d)?,
                linear("cross.attended", d, d)?,
            ))
        } else {
            None
        };
        let mut norm = |part: &str| Norm::new(weights, &format!("{name}.{part}"), d);
        Ok(Self {
            qkv,
            attended,
            attention_norm: norm("self.norm")?,
            cross: match crossing {
                Some((q, kv, attended)) => Some(Cross {
                    q,
                    kv,
                    attended,
                    norm: norm("cross.norm")?,
                }),
                None => None,
            },
            inner,
            outer,
            norm: norm("norm")?,
            heads: config.heads,
            d,
        })
    }

    /// `x` `[rows, d]`, sequences of `rows`; `memory` `[memory rows, d]` with its sequences, for layers that cross-attend.
    pub(crate) fn forward(
        &self,
        pass: Pass<'_>,
        x: &Tensor,
        rows: &Segments,
        causal: bool,
        memory: Option<(&Tensor, &Segments)>,
    ) -> Result<Tensor> {
        let qkv = self.qkv.forward(pass.ops, x)?; // [rows, 3·d]
        let mixed = pass
            .ops
            .self_attention(&qkv, rows, self.heads, causal, pass.dropout)?;
        let x = self.after_attention(pass, x, &mixed)?;
        let kv = memory
            .map(|(memory, rows)| {
                Ok::<_, candle_core::Error>((self.memory_kv(pass, memory)?, rows))
            })
            .transpose()?;
        let attended = kv.as_ref().map(|(kv, rows)| Attended { kv, rows });
        self.after_cross(pass, x, rows, attended)
    }

    /// Keys and values of what this layer cross-attends: `[rows, d]` to `[rows, 2·d]`.
    pub(crate) fn memory_kv(&self, pass: Pass<'_>, memory: &Tensor) -> Result<Tensor> {
        match &self.cross {
            Some(cross) => cross.kv.forward(pass.ops, memory),
            None => candle_core::bail!("this layer has no cross-attention"),
        }
    }

    /// One new position a row: queries `[rows, d]` and the position's own keys and values `[rows, 2·d]`.
    pub(crate) fn step_qkv(&self, pass: Pass<'_>, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let qkv = self.qkv.forward(pass.ops, x)?;
        Ok((
            qkv.narrow(1, 0, self.d)?.contiguous()?,
            qkv.narrow(1, self.d, 2 * self.d)?.contiguous()?,
        ))
    }

    /// The rest of the layer for new positions `x` `[rows, d]`: `queries` over `keys` (each row's own prefix), then
    /// cross-attention of every sequence's rows `rows`, then the feed-forward.
    pub(crate) fn step(
        &self,
        pass: Pass<'_>,
        x: &Tensor,
        queries: &Tensor,
        prefix: Attended<'_>,
        rows: &Segments,
        memory: Attended<'_>,
    ) -> Result<Tensor> {
        let each = Segments::uniform(x.dim(0)?, 1);
        let mixed = pass.ops.cross_attention(
            queries,
            &each,
            prefix.kv,
            prefix.rows,
            self.heads,
            pass.dropout,
        )?;
        let x = self.after_attention(pass, x, &mixed)?;
        self.after_cross(pass, x, rows, Some(memory))
    }

    fn after_attention(&self, pass: Pass<'_>, x: &Tensor, mixed: &Tensor) -> Result<Tensor> {
        let out = self.attended.forward(pass.ops, mixed)?;
        let x = pass.ops.add_dropout(x, &out, pass.dropout)?;
        self.attention_norm.forward(pass.ops, &x)
    }

    fn after_cross(
        &self,
        pass: Pass<'_>,
        mut x: Tensor,
        rows: &Segments,
        memory: Option<Attended<'_>>,
    ) -> Result<Tensor> {
        let ops = pass.ops;
        if let (Some(cross), Some(memory)) = (&self.cross, memory) {
            let q = cross.q.forward(ops, &x)?;
            let mixed =
                ops.cross_attention(&q, rows, memory.kv, memory.rows, self.heads, pass.dropout)?;
            let out = cross.attended.forward(ops, &mixed)?;
            x = cross
                .norm
                .forward(ops, &ops.add_dropout(&x, &out, pass.dropout)?)?;
        }
        let inner = ops.gelu(&self.inner.forward(ops, &x)?)?;
        let out = self.outer.forward(ops, &inner)?;
        self.norm
            .forward(ops, &ops.add_dropout(&x, &out, pass.dropout)?)
    }
}

/// Rows of `table`, plus a learnt vector for each row's position, normalised, with dropout: how every sequence of this
/// model begins.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    positions: Tensor,
    norm: Norm,
}

impl Embedding {
    pub(crate) fn new(
        weights: &mut Weights,
        name: &str,
        config: &EagerConfig,
        positions: usize,
    ) -> Result<Self> {
        Ok(Self {
            positions: weights.get(
                &format!("{name}.positions"),
                (positions, config.d_model),
                Init::Normal(config.init),
            )?,
            norm: Norm::new(weights, &format!("{name}.norm"), config.d_model)?,
        })
    }

    /// `ids` and `positions` `[rows]`; `[rows, d]` out.
    pub(crate) fn forward(
        &self,
        pass: Pass<'_>,
        table: &Tensor,
        ids: &[u32],
        positions: &[u32],
    ) -> Result<Tensor> {
        let ops = pass.ops;
        let x = (ops.gather(table, ids)? + ops.gather(&self.positions, positions)?)?;
        ops.dropout(&self.norm.forward(ops, &x)?, pass.dropout)
    }
}
