//! What all networks of the model are made of: layers, linear maps, and the embedding every sequence begins with.

use candle_core::{Result, Tensor};
use eager_ops::{Layer, LayerShape, Ops, Pass};

use crate::{Init, Weights};

/// Added to the variance of a layer norm: PyTorch's default, since the paper names none (official code: `docs/paper.md`).
pub const EPS: f64 = 1e-5;

/// `x·wᵀ + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    w: Tensor,
    b: Tensor,
}

impl Linear {
    /// The parameters `<name>.weight` `[outputs, inputs]`, normal with deviation `init`, and `<name>.bias`, 0.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn new(
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

    /// `x` `[rows, inputs]`; `[rows, outputs]` out.
    ///
    /// # Errors
    /// When the width is not that of the inputs.
    pub fn forward(&self, ops: Ops, x: &Tensor) -> Result<Tensor> {
        ops.linear(x, &self.w, &self.b)
    }
}

/// Layer norm with scale and shift.
#[derive(Clone, Debug)]
pub struct Norm {
    w: Tensor,
    b: Tensor,
}

impl Norm {
    /// The parameters `<name>.weight` `[d]`, 1, and `<name>.bias`, 0.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn new(weights: &mut Weights, name: &str, d: usize) -> Result<Self> {
        Ok(Self {
            w: weights.get(&format!("{name}.weight"), d, Init::Ones)?,
            b: weights.get(&format!("{name}.bias"), d, Init::Zeros)?,
        })
    }

    /// `x` `[rows, d]`; the same shape out.
    ///
    /// # Errors
    /// When the width is not `d`.
    pub fn forward(&self, ops: Ops, x: &Tensor) -> Result<Tensor> {
        ops.layer_norm(x, &self.w, &self.b, EPS)
    }
}

/// `n` layers of one shape, `<name>.0` and on; matrices normal with deviation `init`.
///
/// # Errors
/// As [`Weights::layer`].
pub fn layers(
    weights: &mut Weights,
    name: &str,
    shape: LayerShape,
    n: usize,
    init: f64,
) -> Result<Vec<Layer>> {
    let layer = |i| weights.layer(&format!("{name}.{i}"), shape, Init::Normal(init));
    (0..n).map(layer).collect()
}

/// Rows of a table, plus a learnt vector for each row's position, normalised, with dropout: how every sequence begins.
#[derive(Clone, Debug)]
pub struct Embedding {
    positions: Tensor,
    norm: Norm,
}

impl Embedding {
    /// The parameters `<name>.positions` `[positions, d]`, normal with deviation `init`, and the norm `<name>.norm`.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn new(
        weights: &mut Weights,
        name: &str,
        (positions, d): (usize, usize),
        init: f64,
    ) -> Result<Self> {
        Ok(Self {
            positions: weights.get(
                &format!("{name}.positions"),
                (positions, d),
                Init::Normal(init),
            )?,
            norm: Norm::new(weights, &format!("{name}.norm"), d)?,
        })
    }

    /// Embedded tokens `[rows, d]` and their `positions` `[rows]`; `[rows, d]` out.
    ///
    /// # Errors
    /// When there is no such position, or the width is not `d`.
    pub fn forward(&self, pass: Pass<'_>, tokens: &Tensor, positions: &[u32]) -> Result<Tensor> {
        let ops = pass.ops;
        let x = (tokens + ops.gather(&self.positions, positions)?)?;
        ops.dropout(&self.norm.forward(ops, &x)?, pass.dropout)
    }
}
