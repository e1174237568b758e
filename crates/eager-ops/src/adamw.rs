//! AdamW (Loshchilov & Hutter, 2019) in one pass over each parameter, with global-norm clipping.
//!
//! Takes the gradients of several graphs (the shards of a batch) and sums them itself, in their order,
//! so that a step is the same however many threads computed them. On devices other than the CPU the
//! same update runs as tensor operations.

use std::collections::HashMap;
use std::sync::Mutex;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::storage::{is_cpu_f32, tensor, with_slice};
use crate::vector::{add_scaled, dispatch, dot};

/// Elements one task updates; fixed, so that the norm's summation order is too.
const CHUNK: usize = 16 * 1024;

/// Hyperparameters of [`AdamW`]; the learning rate is given at each step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, applied to parameters of two or more dimensions (not to biases and norms).
    pub weight_decay: f64,
    /// Divide by the largest second moment seen instead of the current one (Reddi et al., 2018).
    pub amsgrad: bool,
    /// Scale the gradient down to this global norm; 0 leaves it alone.
    pub clip_norm: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            amsgrad: false,
            clip_norm: 0.0,
        }
    }
}

/// Names of a parameter's moments in a saved state, in the order of [`Moments`].
const MOMENTS: [&str; 3] = ["m", "v", "v_max"];

/// First moment, second moment and (amsgrad only) its running maximum.
enum Moments {
    Cpu(Vec<Vec<f32>>),
    Device(Vec<Tensor>),
}

struct Parameter {
    name: String,
    var: Var,
    moments: Moments,
    /// The summed gradient, kept from step to step.
    grad: Vec<f32>,
}

/// The optimiser: parameters, their moments, and the number of updates made.
pub struct AdamW {
    config: AdamWConfig,
    parameters: Vec<Parameter>,
    updates: u64,
}

impl AdamW {
    /// Moments start at zero. `parameters` are named for [`AdamW::state`].
    ///
    /// # Errors
    /// When a moment cannot be allocated on the parameter's device.
    pub fn new(parameters: Vec<(String, Var)>, config: AdamWConfig) -> Result<Self> {
        let count = if config.amsgrad { 3 } else { 2 };
        let parameters = parameters
            .into_iter()
            .map(|(name, var)| {
                let moments = if is_cpu_f32(&var) {
                    Moments::Cpu(vec![vec![0.0; var.elem_count()]; count])
                } else {
                    Moments::Device(
                        (0..count)
                            .map(|_| var.zeros_like())
                            .collect::<Result<_>>()?,
                    )
                };
                Ok(Parameter {
                    name,
                    var,
                    moments,
                    grad: vec![],
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            config,
            parameters,
            updates: 0,
        })
    }

    /// Updates made so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// One update by the sum of `grads`; returns the gradient's global norm before clipping.
    /// A parameter that no store holds a gradient for is left as it is.
    ///
    /// # Errors
    /// When the norm is not finite: the parameters are then untouched.
    pub fn step(&mut self, grads: &[GradStore], learning_rate: f64) -> Result<f64> {
        let present: Vec<(usize, Option<Tensor>)> = self
            .parameters
            .iter_mut()
            .enumerate()
            .filter_map(|(i, p)| {
                p.sum_gradients(grads)
                    .transpose()
                    .map(|g| g.map(|g| (i, g)))
            })
            .collect::<Result<_>>()?;
        let mut squares = 0f64;
        for (i, grad) in &present {
            squares += match grad {
                None => squared_norm(&self.parameters[*i].grad),
                Some(g) => f64::from(
                    g.sqr()?
                        .sum_all()?
                        .to_dtype(candle_core::DType::F32)?
                        .to_scalar::<f32>()?,
                ),
            };
        }
        let norm = squares.sqrt();
        if !norm.is_finite() {
            candle_core::bail!(
                "the gradient's norm is {norm}; lower the learning rate or look at the inputs"
            )
        }
        self.updates += 1;
        let c = &self.config;
        let clip = if c.clip_norm > 0.0 && norm > c.clip_norm {
            c.clip_norm / norm
        } else {
            1.0
        };
        let t = self.updates as f64;
        for (i, grad) in present {
            let p = &mut self.parameters[i];
            let update = Update {
                clip,
                beta1: c.beta1,
                beta2: c.beta2,
                step_size: learning_rate / (1.0 - c.beta1.powf(t)),
                v_scale: 1.0 / (1.0 - c.beta2.powf(t)).sqrt(),
                eps: c.eps,
                keep: if p.var.rank() >= 2 {
                    1.0 - learning_rate * c.weight_decay
                } else {
                    1.0
                },
            };
            match (&mut p.moments, grad) {
                (Moments::Cpu(moments), _) => p.var.inplace_op1(&UpdateOp {
                    update,
                    grad: &p.grad,
                    moments: Mutex::new(moments),
                })?,
                (Moments::Device(moments), Some(grad)) => {
                    update.on_device(&p.var, &grad, moments)?
                }
                (Moments::Device(_), None) => unreachable!("device gradients are tensors"),
            }
        }
        Ok(norm)
    }

    /// The moments by `<m|v|v_max>.<parameter>`, for a checkpoint. [`AdamW::updates`] belongs beside it.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = HashMap::new();
        for p in &self.parameters {
            let moments: Vec<Tensor> = match &p.moments {
                Moments::Cpu(m) => m
                    .iter()
                    .map(|m| tensor(m.clone(), p.var.dims()))
                    .collect::<Result<_>>()?,
                Moments::Device(m) => m.clone(),
            };
            for (kind, moment) in MOMENTS.iter().zip(moments) {
                state.insert(format!("{kind}.{}", p.name), moment);
            }
        }
        Ok(state)
    }

    /// Continues from a state saved after `updates` updates.
    ///
    /// # Errors
    /// When a moment is missing or has another shape.
    pub fn load_state(&mut self, updates: u64, state: &HashMap<String, Tensor>) -> Result<()> {
        for p in &mut self.parameters {
            let count = match &p.moments {
                Moments::Cpu(m) => m.len(),
                Moments::Device(m) => m.len(),
            };
            for (i, kind) in MOMENTS.iter().enumerate().take(count) {
                let key = format!("{kind}.{}", p.name);
                let Some(saved) = state.get(&key) else {
                    candle_core::bail!(
                        "the optimiser's state has no {key:?}; it belongs to another model"
                    )
                };
                if saved.shape() != p.var.shape() {
                    candle_core::bail!(
                        "{key:?} has shape {:?}, its parameter {:?}",
                        saved.shape(),
                        p.var.shape()
                    )
                }
                match &mut p.moments {
                    Moments::Cpu(m) => m[i] = saved.flatten_all()?.to_vec1()?,
                    Moments::Device(m) => m[i] = saved.to_device(p.var.device())?,
                }
            }
        }
        self.updates = updates;
        Ok(())
    }
}

impl Parameter {
    /// Sums this parameter's gradients over the stores: into `self.grad` on the CPU (inner `None`), as a
    /// tensor elsewhere. `None` when no store has one.
    fn sum_gradients(&mut self, stores: &[GradStore]) -> Result<Option<Option<Tensor>>> {
        let mut grads = stores.iter().filter_map(|s| s.get(&self.var));
        let Some(first) = grads.next() else {
            return Ok(None);
        };
        if let Moments::Device(_) = self.moments {
            return grads
                .try_fold(first.clone(), |sum, g| sum + g)
                .map(|g| Some(Some(g)));
        }
        with_slice(first, |g| {
            self.grad.clear();
            self.grad.extend_from_slice(g);
            Ok(())
        })?;
        for grad in grads {
            with_slice(grad, |g| {
                self.grad
                    .par_chunks_mut(CHUNK)
                    .zip(g.par_chunks(CHUNK))
                    .for_each(|(sum, g)| {
                        dispatch(
                            #[inline(always)]
                            || add_scaled(sum, 1.0, g),
                        );
                    });
                Ok(())
            })?;
        }
        Ok(Some(None))
    }
}

fn squared_norm(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x
        .par_chunks(CHUNK)
        .map(|x| {
            f64::from(dispatch(
                #[inline(always)]
                || dot(x, x),
            ))
        })
        .collect();
    parts.iter().sum()
}

/// `m ← β₁m + (1-β₁)g`, `v ← β₂v + (1-β₂)g²`, `p ← keep·p - step_size·m / (√v·v_scale + ε)`.
#[derive(Clone, Copy)]
struct Update {
    clip: f64,
    beta1: f64,
    beta2: f64,
    step_size: f64,
    v_scale: f64,
    eps: f64,
    keep: f64,
}

impl Update {
    fn on_device(self, var: &Var, grad: &Tensor, moments: &mut [Tensor]) -> Result<()> {
        let g = (grad * self.clip)?;
        moments[0] = ((&moments[0] * self.beta1)? + (&g * (1.0 - self.beta1))?)?.detach();
        moments[1] = ((&moments[1] * self.beta2)? + (g.sqr()? * (1.0 - self.beta2))?)?.detach();
        if moments.len() == 3 {
            moments[2] = moments[2].maximum(&moments[1])?.detach();
        }
        let v = &moments[moments.len() - 1];
        let direction = (&moments[0] / ((v.sqrt()? * self.v_scale)? + self.eps)?)?;
        var.set(&((var.as_detached_tensor() * self.keep)? - (direction * self.step_size)?)?)
    }

    #[inline(always)]
    fn on_chunk(
        self,
        p: &mut [f32],
        g: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        v_max: Option<&mut [f32]>,
    ) {
        let (clip, b1, b2) = (self.clip as f32, self.beta1 as f32, self.beta2 as f32);
        let (step, v_scale, eps, keep) = (
            self.step_size as f32,
            self.v_scale as f32,
            self.eps as f32,
            self.keep as f32,
        );
        for ((m, v), &g) in m.iter_mut().zip(v.iter_mut()).zip(g) {
            let g = g * clip;
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
        }
        let v: &[f32] = match v_max {
            Some(highest) => {
                for (h, &v) in highest.iter_mut().zip(v.iter()) {
                    *h = if v > *h { v } else { *h };
                }
                highest
            }
            None => v,
        };
        for ((p, &m), &v) in p.iter_mut().zip(m.iter()).zip(v) {
            *p = *p * keep - step * m / (v.sqrt() * v_scale + eps);
        }
    }
}

struct UpdateOp<'a> {
    update: Update,
    grad: &'a [f32],
    moments: Mutex<&'a mut Vec<Vec<f32>>>,
}

impl InplaceOp1 for UpdateOp<'_> {
    fn name(&self) -> &'static str {
        "fused-adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(data), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            candle_core::bail!("fused AdamW: contiguous f32 parameters only")
        };
        let Ok(mut moments) = self.moments.lock() else {
            candle_core::bail!("fused AdamW: an earlier update panicked")
        };
        let (m, rest) = moments.split_at_mut(1);
        let (v, v_max) = rest.split_at_mut(1);
        let chunks = data[start..end]
            .par_chunks_mut(CHUNK)
            .zip(self.grad.par_chunks(CHUNK))
            .zip(m[0].par_chunks_mut(CHUNK))
            .zip(v[0].par_chunks_mut(CHUNK));
        match v_max.first_mut() {
            Some(v_max) => {
                chunks
                    .zip(v_max.par_chunks_mut(CHUNK))
                    .for_each(|((((p, g), m), v), h)| {
                        dispatch(
                            #[inline(always)]
                            || self.update.on_chunk(p, g, m, v, Some(h)),
                        );
                    })
            }
            None => chunks.for_each(|(((p, g), m), v)| {
                dispatch(
                    #[inline(always)]
                    || self.update.on_chunk(p, g, m, v, None),
                )
            }),
        }
        Ok(())
    }
}
