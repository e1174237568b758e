//! The small pieces DIN is made of. Each holds its parameters and can be had outside of the graph.

use std::ops::RangeFrom;

use candle_core::{Result, Tensor};
use eager_ops::Ops;

use super::statistics::Norms;
use crate::{Init, Weights};

/// Normal with the variance of PyTorch's linear layers (uniform in ±1/√fan_in).
pub(super) fn plain_scale(fan_in: usize) -> Init {
    Init::Normal(1.0 / (3.0 * fan_in as f64).sqrt())
}

/// Batch normalisation, if asked for, then Dice.
#[derive(Clone, Debug)]
pub(super) struct Activation {
    norm: Option<Norm>,
    /// `[width]`.
    alpha: Tensor,
    eps: f64,
    /// Where its statistics stand in [`Norms`].
    slot: usize,
}

#[derive(Clone, Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
    slot: usize,
}

impl Activation {
    /// `eps` is the batch norm's and Dice's.
    pub(super) fn new(
        name: &str,
        width: usize,
        norm: bool,
        eps: [f64; 2],
        slots: &mut RangeFrom<usize>,
        weights: &mut Weights,
    ) -> Result<Self> {
        let mut slot = || slots.next().unwrap_or_default();
        let norm = if norm {
            Some(Norm {
                weight: weights.get(&format!("{name}.norm.weight"), width, Init::Ones)?,
                bias: weights.get(&format!("{name}.norm.bias"), width, Init::Zeros)?,
                eps: eps[0],
                slot: slot(),
            })
        } else {
            None
        };
        Ok(Self {
            norm,
            alpha: weights.get(&format!("{name}.alpha"), width, Init::Zeros)?,
            eps: eps[1],
            slot: slot(),
        })
    }

    /// `x`: `[n, width]`.
    pub(super) fn forward(&self, ops: Ops, x: &Tensor, norms: &mut Norms<'_>) -> Result<Tensor> {
        let mut x = x.clone();
        if let Some(n) = &self.norm {
            x = norms.apply(n.slot, |known| {
                ops.batch_norm(&x, &n.weight, &n.bias, known, n.eps)
            })?;
        }
        norms.apply(self.slot, |known| {
            ops.dice(&x, &self.alpha, known, self.eps)
        })
    }

    pub(super) fn detached(&self) -> Self {
        Self {
            norm: self.norm.as_ref().map(|n| Norm {
                weight: n.weight.detach(),
                bias: n.bias.detach(),
                ..n.clone()
            }),
            alpha: self.alpha.detach(),
            ..self.clone()
        }
    }
}

/// A linear layer and its activation.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
}

impl Layer {
    pub(super) fn new(
        name: &str,
        inputs: usize,
        activation: Activation,
        weights: &mut Weights,
    ) -> Result<Self> {
        let width = activation.alpha.dims1()?;
        Ok(Self {
            weight: weights.get(&format!("{name}.weight"), (width, inputs), Init::FanIn)?,
            bias: weights.get(&format!("{name}.bias"), width, Init::Zeros)?,
            activation,
        })
    }

    pub(super) fn forward(&self, ops: Ops, x: &Tensor, norms: &mut Norms<'_>) -> Result<Tensor> {
        let x = ops.linear(x, &self.weight, &self.bias)?;
        self.activation.forward(ops, &x, norms)
    }

    pub(super) fn detached(&self) -> Self {
        Self {
            weight: self.weight.detach(),
            bias: self.bias.detach(),
            activation: self.activation.detached(),
        }
    }
}

/// A linear layer to one number.
#[derive(Clone, Debug)]
pub(super) struct Output {
    weight: Tensor,
    bias: Tensor,
}

impl Output {
    pub(super) fn new(name: &str, inputs: usize, weights: &mut Weights) -> Result<Self> {
        Ok(Self {
            weight: weights.get(&format!("{name}.weight"), (1, inputs), Init::FanIn)?,
            bias: weights.get(&format!("{name}.bias"), 1, Init::Zeros)?,
        })
    }

    /// `[n, 1]`.
    pub(super) fn forward(&self, ops: Ops, x: &Tensor) -> Result<Tensor> {
        ops.linear(x, &self.weight, &self.bias)
    }

    pub(super) fn detached(&self) -> Self {
        Self {
            weight: self.weight.detach(),
            bias: self.bias.detach(),
        }
    }
}
