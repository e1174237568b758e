//! BSARec's layer (Shin et al., AAAI 2024, "An attentive inductive bias for sequential recommendation beyond the
//! self-attention"): self-attention mixed with a filter over the sequence's spectrum,
//! `α·LN(x + F(x)) + (1 - α)·LN(x + A(x))`, before a feed-forward. `F` keeps low frequencies and scales the others by a
//! learnt `β²` a column.

use candle_core::{Result, Tensor};
use eager_ops::{Attended, LayerShape, LowPass, Pass, Segments};

use crate::layers::{Linear, Norm};
use crate::{Init, Weights};

/// One layer. Its width and heads are its [`LayerShape`]'s, which has no cross-attention.
#[derive(Clone, Debug)]
pub struct FilterLayer {
    heads: usize,
    alpha: f64,
    low_pass: LowPass,
    q: Linear,
    kv: Linear,
    attended: Linear,
    attention_norm: Norm,
    /// β: what high frequencies are scaled by is its square.
    beta: Tensor,
    filter_norm: Norm,
    inner: Linear,
    outer: Linear,
    norm: Norm,
}

/// What a [`FilterLayer`] runs over.
#[derive(Clone, Copy, Debug)]
pub struct FilterInput<'a> {
    /// The sequences that are filtered, as long as the filter's or shorter.
    pub rows: &'a Segments,
    /// Rows that attention sees, all without, and which sequences they are.
    pub keys: (Option<&'a [u32]>, &'a Segments),
    /// How many keys of its sequence each row sees, from the first on; all without.
    pub seen: Option<&'a [u32]>,
}

impl FilterLayer {
    /// The parameters `<name>.<part>`: matrices normal with deviation `init`, biases 0, norms' scales 1, and β standard
    /// normal, as in the authors' code. The rows that `low_pass` has outputs for are the layer's.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn new(
        weights: &mut Weights,
        name: &str,
        shape: LayerShape,
        init: f64,
        (alpha, low_pass): (f64, LowPass),
    ) -> Result<Self> {
        let (d, inner) = (shape.d_model, shape.feed_forward);
        let mut linear =
            |part: &str, from, to| Linear::new(weights, &format!("{name}.{part}"), from, to, init);
        let (q, kv) = (linear("q", d, d)?, linear("kv", d, 2 * d)?);
        let attended = linear("attended", d, d)?;
        let (into, out) = (linear("inner", d, inner)?, linear("outer", inner, d)?);
        let mut norm = |part: &str| Norm::new(weights, &format!("{name}.{part}"), d);
        Ok(Self {
            heads: shape.heads,
            alpha,
            low_pass,
            q,
            kv,
            attended,
            inner: into,
            outer: out,
            attention_norm: norm("attention_norm")?,
            filter_norm: norm("filter_norm")?,
            norm: norm("norm")?,
            beta: weights.get(&format!("{name}.beta"), d, Init::Normal(1.0))?,
        })
    }

    /// `x` `[rows, d]`; `[outputs, d]`, all rows or the last of every sequence.
    ///
    /// # Errors
    /// When shapes do not fit, or a sequence is longer than the filter's.
    pub fn forward(&self, pass: Pass<'_>, x: &Tensor, input: FilterInput<'_>) -> Result<Tensor> {
        let (ops, dropout) = (pass.ops, pass.dropout);
        if let Some(seen) = input.seen.filter(|seen| seen.len() != input.rows.rows()) {
            candle_core::bail!(
                "filter layer: {} rows, {} of which it is said what they see",
                input.rows.rows(),
                seen.len()
            )
        }
        let outputs: Vec<_> = self.low_pass.outputs(input.rows).collect();
        let lengths: Vec<usize> = outputs.iter().map(ExactSizeIterator::len).collect();
        let out_rows = Segments::from_lengths(&lengths);
        let rows = outputs.into_iter().flatten();
        let seen: Option<Vec<u32>> = input
            .seen
            .map(|seen| rows.clone().map(|row| seen[row]).collect());
        let own = if out_rows == *input.rows {
            x.clone()
        } else {
            let rows: Vec<u32> = rows.map(|row| row as u32).collect();
            ops.gather(x, &rows)?
        };
        let filtered = ops.frequency_filter(x, input.rows, &self.beta, &self.low_pass)?;
        let filtered = ops.add_dropout(&own, &filtered, dropout)?;
        let filtered = self.filter_norm.forward(ops, &filtered)?;

        let (places, keys) = input.keys;
        let kv = match places {
            None => self.kv.forward(ops, x)?,
            Some(places) => self.kv.forward(ops, &ops.gather(x, places)?)?,
        }; // [keys, 2·d]
        let attended = Attended {
            kv: &kv,
            rows: keys,
        };
        let q = self.q.forward(ops, &own)?;
        let seen = seen.as_deref();
        let mixed = ops.attention(&q, &out_rows, attended, seen, self.heads, dropout)?;
        let mixed = ops.add_dropout(&own, &self.attended.forward(ops, &mixed)?, dropout)?;
        let mixed = self.attention_norm.forward(ops, &mixed)?;

        let x = ((filtered * self.alpha)? + (mixed * (1.0 - self.alpha))?)?;
        let inner = ops.gelu(&self.inner.forward(ops, &x)?)?;
        let out = ops.add_dropout(&x, &self.outer.forward(ops, &inner)?, dropout)?;
        self.norm.forward(ops, &out)
    }
}
