//! AdamW (Loshchilov & Hutter, 2019) in one pass over each parameter, with global-norm clipping.
//!
//! Takes the gradients of several graphs (the shards of a batch) and sums them itself, in their order,
//! so that a step is the same however many threads computed them. On devices other than the CPU the
//! same update runs as tensor operations.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

#[cfg(feature = "cuda")]
use crate::cuda;
use crate::leaves::{Gradients, RowGradients};
use crate::storage::{is_cpu_f32, tensor, with_slice, with_slices};
use crate::vector::{add_scaled, dispatch, dispatch_lanes};

/// Elements one task updates; fixed, so that the norm's summation order is too.
pub(crate) const CHUNK: usize = 16 * 1024;

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

impl AdamWConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// Names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let below_one = |x: f64| (0.0..1.0).contains(&x);
        let not_negative = |x: f64| x >= 0.0 && x.is_finite();
        for (field, value, fits, expected) in [
            (
                "beta1",
                self.beta1,
                below_one(self.beta1),
                "0 or more, below 1",
            ),
            (
                "beta2",
                self.beta2,
                below_one(self.beta2),
                "0 or more, below 1",
            ),
            (
                "eps",
                self.eps,
                self.eps > 0.0 && self.eps.is_finite(),
                "a number above 0",
            ),
            (
                "weight_decay",
                self.weight_decay,
                not_negative(self.weight_decay),
                "0 or more",
            ),
            (
                "clip_norm",
                self.clip_norm,
                not_negative(self.clip_norm),
                "0, for none, or more",
            ),
        ] {
            if !fits {
                candle_core::bail!("optimiser: `{field}` is {value}; use {expected}")
            }
        }
        Ok(())
    }
}

/// Names of a parameter's moments in a saved state, in the order of [`Moments`].
const MOMENTS: [&str; 3] = ["m", "v", "v_max"];

/// First moment, second moment and (amsgrad only) its running maximum.
enum Moments {
    Cpu(Vec<Vec<f32>>),
    Device(Vec<Tensor>),
}

/// A variable that is trained.
#[derive(Clone, Debug)]
pub struct Trainable {
    /// Its name in a saved state.
    pub name: String,
    /// The variable.
    pub var: Var,
    /// Which of its elements, in row-major order, weight decay applies to: ascending and disjoint.
    pub decayed: Vec<Range<usize>>,
}

impl Trainable {
    /// A variable that is decayed as a whole if it has two or more dimensions.
    pub fn new(name: impl Into<String>, var: Var) -> Self {
        let whole = (var.rank() >= 2).then(|| 0..var.elem_count());
        Self {
            name: name.into(),
            decayed: whole.into_iter().collect(),
            var,
        }
    }

    /// All elements in order, cut where decay begins or ends, with whether they are decayed.
    fn spans(&self) -> Vec<(Range<usize>, bool)> {
        let (mut spans, mut at) = (vec![], 0);
        for range in &self.decayed {
            spans.extend([(at..range.start, false), (range.clone(), true)]);
            at = range.end;
        }
        spans.push((at..self.var.elem_count(), false));
        spans.retain(|(range, _)| !range.is_empty());
        spans
    }
}

#[cfg(feature = "cuda")]
impl Trainable {
    fn decayed_on_gpu(&self) -> Result<Option<cuda::Buffer<u8>>> {
        let spans = self.spans();
        if !cuda::is_cuda_f32(&self.var) || spans.len() < 2 {
            return Ok(None);
        }
        let marks = spans
            .into_iter()
            .flat_map(|(range, decayed)| range.map(move |_| u8::from(decayed)));
        let marks: Vec<u8> = marks.collect();
        cuda::with([self.var.as_tensor()], |gpu, _| gpu.upload(&marks)).map(Some)
    }
}

struct Parameter {
    trainable: Trainable,
    moments: Moments,
    grad: Summed,
    /// On a GPU, which elements are decayed, where that is neither all nor none.
    #[cfg(feature = "cuda")]
    decayed: Option<cuda::Buffer<u8>>,
}

/// A parameter's summed gradient, whose memory is kept from step to step.
#[derive(Default)]
struct Summed {
    sum: Vec<f32>,
    /// Elements that are not 0 where only rows have a gradient; without, any may be.
    rows: Option<Vec<Range<usize>>>,
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
    pub fn new(parameters: Vec<Trainable>, config: AdamWConfig) -> Result<Self> {
        let count = if config.amsgrad { 3 } else { 2 };
        let parameters = parameters
            .into_iter()
            .map(|trainable| {
                let var = &trainable.var;
                let moments = if is_cpu_f32(var) {
                    Moments::Cpu(vec![vec![0.0; var.elem_count()]; count])
                } else {
                    Moments::Device(
                        (0..count)
                            .map(|_| var.zeros_like())
                            .collect::<Result<_>>()?,
                    )
                };
                Ok(Parameter {
                    #[cfg(feature = "cuda")]
                    decayed: trainable.decayed_on_gpu()?,
                    trainable,
                    moments,
                    grad: Summed::default(),
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
    /// A parameter that none of them is of is left as it is.
    ///
    /// # Errors
    /// When the norm is not finite: the parameters are then untouched.
    pub fn step(&mut self, grads: &[Gradients], learning_rate: f64) -> Result<f64> {
        // Once inside the pool, instead of once for each of its many small loops.
        rayon::scope(|_| self.update(grads, learning_rate))
    }

    /// What of the parameters with a gradient is on a GPU.
    #[cfg(feature = "cuda")]
    fn on_gpu(&self, present: &[(usize, Option<Tensor>)]) -> Result<Option<cuda::adamw::Step>> {
        let slots = present.iter().filter_map(|(i, grad)| {
            let (p, grad) = (&self.parameters[*i], grad.as_ref()?);
            match &p.moments {
                Moments::Device(moments) if cuda::is_cuda_f32(grad) => Some(cuda::adamw::Slot {
                    var: &p.trainable.var,
                    grad,
                    moments,
                    decayed: p.decayed.as_ref(),
                    all: !p.trainable.decayed.is_empty(),
                }),
                _ => None,
            }
        });
        cuda::adamw::Step::new(&slots.collect::<Vec<_>>())
    }

    fn update(&mut self, grads: &[Gradients], learning_rate: f64) -> Result<f64> {
        let mut squares = 0f64;
        let mut present = vec![];
        for (i, p) in self.parameters.iter_mut().enumerate() {
            let var = &p.trainable.var;
            let own: Vec<&Tensor> = grads.iter().filter_map(|g| g.store.get(var)).collect();
            let rows = grads.iter().flat_map(|g| &g.rows);
            let rows: Vec<&RowGradients> = rows.filter(|rows| rows.table == var.id()).collect();
            if own.is_empty() && rows.is_empty() {
                continue;
            }
            let grad = match p.moments {
                Moments::Cpu(_) => {
                    squares += p.grad.set(&own, &rows, var.elem_count())?;
                    None
                }
                Moments::Device(_) => {
                    let rows = rows.iter().map(|rows| rows.dense(var));
                    let all = own.iter().map(|&own| Ok(own.clone())).chain(rows);
                    let sum = all.reduce(|sum, grad| sum? + grad?).transpose()?;
                    let Some(sum) = sum else { continue };
                    #[cfg(feature = "cuda")]
                    if cuda::is_cuda_f32(&sum) {
                        present.push((i, Some(sum.contiguous()?)));
                        continue;
                    }
                    let norm = sum.sqr()?.sum_all()?.to_dtype(candle_core::DType::F32)?;
                    squares += f64::from(norm.to_scalar::<f32>()?);
                    Some(sum)
                }
            };
            present.push((i, grad));
        }
        #[cfg(feature = "cuda")]
        let on_gpu = self.on_gpu(&present)?;
        #[cfg(feature = "cuda")]
        if let Some(step) = &on_gpu {
            squares += step.squares()?;
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
        let update = Update {
            clip,
            beta1: c.beta1,
            beta2: c.beta2,
            step_size: learning_rate / (1.0 - c.beta1.powf(t)),
            v_scale: 1.0 / (1.0 - c.beta2.powf(t)).sqrt(),
            eps: c.eps,
            keep: 1.0 - learning_rate * c.weight_decay,
        };
        #[cfg(feature = "cuda")]
        if let Some(step) = on_gpu {
            step.apply(update.numbers())?;
        }
        for (i, grad) in present {
            let p = &mut self.parameters[i];
            let spans = p.trainable.spans();
            let var = &p.trainable.var;
            match (&mut p.moments, grad) {
                (Moments::Cpu(moments), _) => var.inplace_op1(&UpdateOp {
                    update,
                    spans,
                    grad: &p.grad.sum,
                    moments: Mutex::new(moments),
                })?,
                #[cfg(feature = "cuda")]
                (Moments::Device(_), Some(grad)) if cuda::is_cuda_f32(&grad) => {}
                (Moments::Device(moments), Some(grad)) => {
                    update.on_device(var, &spans, &grad, moments)?
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
                    .map(|m| tensor(m.clone(), p.trainable.var.dims()))
                    .collect::<Result<_>>()?,
                // A GPU's kernel writes the moments where they are.
                Moments::Device(m) => m.iter().map(Tensor::copy).collect::<Result<_>>()?,
            };
            for (kind, moment) in MOMENTS.iter().zip(moments) {
                state.insert(format!("{kind}.{}", p.trainable.name), moment);
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
                let key = format!("{kind}.{}", p.trainable.name);
                let Some(saved) = state.get(&key) else {
                    candle_core::bail!(
                        "the optimiser's state has no {key:?}; it belongs to another model"
                    )
                };
                if saved.shape() != p.trainable.var.shape() {
                    candle_core::bail!(
                        "{key:?} has shape {:?}, its parameter {:?}",
                        saved.shape(),
                        p.trainable.var.shape()
                    )
                }
                match &mut p.moments {
                    Moments::Cpu(m) => m[i] = saved.flatten_all()?.to_vec1()?,
                    Moments::Device(m) => {
                        m[i] = saved.to_device(p.trainable.var.device())?.copy()?;
                    }
                }
            }
        }
        self.updates = updates;
        Ok(())
    }
}

impl Summed {
    /// The sum of dense gradients and of those of rows, in their order; returns the square of its norm.
    fn set(&mut self, dense: &[&Tensor], rows: &[&RowGradients], n: usize) -> Result<f64> {
        self.forget();
        if rows.is_empty() {
            self.rows = None;
            self.sum.resize(n, 0.0);
            return sum_gradients(dense, &mut self.sum);
        }
        if !dense.is_empty() {
            self.rows = None;
            self.sum.resize(n, 0.0);
            sum_gradients(dense, &mut self.sum)?;
        } else if self.rows.is_none() {
            self.rows = Some(vec![]);
            self.sum.clear();
            self.sum.resize(n, 0.0);
        }
        for own in rows {
            let width = own.grad.dim(1)?;
            with_slice(&own.grad, |grad| {
                for (&id, grad) in own.ids.iter().zip(grad.chunks_exact(width)) {
                    let range = id as usize * width..(id as usize + 1) * width;
                    add_scaled(&mut self.sum[range.clone()], 1.0, grad);
                    if let Some(rows) = &mut self.rows {
                        rows.push(range);
                    }
                }
                Ok(())
            })?;
        }
        Ok(squares(&self.sum))
    }

    /// Zeros again what rows have set, so that a step need not zero everything. It is the next step that does so, since the
    /// one before may have ended with an error.
    fn forget(&mut self) {
        for range in self.rows.iter_mut().flat_map(|rows| rows.drain(..)) {
            self.sum[range].fill(0.0);
        }
    }
}

fn squares(x: &[f32]) -> f64 {
    let squares = x.par_chunks(CHUNK).map(|x| {
        f64::from(dispatch_lanes(
            #[inline(always)]
            |lanes| lanes.dot(x, x),
        ))
    });
    squares.collect::<Vec<_>>().iter().sum()
}

/// Sums gradients into `sum` in their order, in one pass; returns the square of the sum's norm.
fn sum_gradients(grads: &[&Tensor], sum: &mut [f32]) -> Result<f64> {
    let grads = grads
        .iter()
        .map(|g| g.contiguous())
        .collect::<Result<Vec<_>>>()?;
    with_slices(&grads, |grads| Ok(sum_slices(grads, sum)))
}

fn sum_slices(grads: &[&[f32]], sum: &mut [f32]) -> f64 {
    let Some((first, rest)) = grads.split_first() else {
        return 0.0;
    };
    let chunks = sum.par_chunks_mut(CHUNK).enumerate();
    let squares: Vec<f64> = chunks
        .map(|(c, sum)| {
            let own = c * CHUNK..c * CHUNK + sum.len();
            let squares = dispatch_lanes(
                #[inline(always)]
                |lanes| {
                    sum.copy_from_slice(&first[own.clone()]);
                    for grad in rest {
                        add_scaled(sum, 1.0, &grad[own.clone()]);
                    }
                    lanes.dot(sum, sum)
                },
            );
            f64::from(squares)
        })
        .collect();
    squares.iter().sum()
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
    /// The factors of `var`'s elements: `keep` where they are decayed, else 1.
    fn factors(self, var: &Var, spans: &[(Range<usize>, bool)]) -> Result<Tensor> {
        let factors: Vec<f32> = spans
            .iter()
            .flat_map(|(range, decayed)| {
                let factor = if *decayed { self.keep as f32 } else { 1.0 };
                std::iter::repeat_n(factor, range.len())
            })
            .collect();
        Tensor::from_vec(factors, var.shape(), var.device())?.to_dtype(var.dtype())
    }

    fn on_device(
        self,
        var: &Var,
        spans: &[(Range<usize>, bool)],
        grad: &Tensor,
        moments: &mut [Tensor],
    ) -> Result<()> {
        let g = (grad * self.clip)?;
        moments[0] = ((&moments[0] * self.beta1)? + (&g * (1.0 - self.beta1))?)?.detach();
        moments[1] = ((&moments[1] * self.beta2)? + (g.sqr()? * (1.0 - self.beta2))?)?.detach();
        if moments.len() == 3 {
            moments[2] = moments[2].maximum(&moments[1])?.detach();
        }
        let v = &moments[moments.len() - 1];
        let direction = (&moments[0] / ((v.sqrt()? * self.v_scale)? + self.eps)?)?;
        let value = var.as_detached_tensor();
        let kept = match spans {
            [(_, true)] => (value * self.keep)?,
            _ if self.keep == 1.0 || spans.iter().all(|(_, decayed)| !decayed) => value,
            _ => (value * self.factors(var, spans)?)?,
        };
        var.set(&(kept - (direction * self.step_size)?)?)
    }

    #[cfg(feature = "cuda")]
    fn numbers(self) -> [f32; 7] {
        [
            self.clip,
            self.beta1,
            self.beta2,
            self.step_size,
            self.v_scale,
            self.eps,
            self.keep,
        ]
        .map(|x| x as f32)
    }

    #[inline(always)]
    fn on_chunk(
        self,
        p: &mut [f32],
        g: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        v_max: Option<&mut [f32]>,
        decayed: bool,
    ) {
        let (clip, b1, b2) = (self.clip as f32, self.beta1 as f32, self.beta2 as f32);
        let keep = if decayed { self.keep as f32 } else { 1.0 };
        let (step, v_scale, eps) = (self.step_size as f32, self.v_scale as f32, self.eps as f32);
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
    spans: Vec<(Range<usize>, bool)>,
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
        let (p, m, v) = (&mut data[start..end], &mut m[0], &mut v[0]);
        let mut highest = v_max.first_mut();
        for (span, decayed) in self.spans.iter().cloned() {
            let chunks = p[span.clone()]
                .par_chunks_mut(CHUNK)
                .zip(self.grad[span.clone()].par_chunks(CHUNK))
                .zip(m[span.clone()].par_chunks_mut(CHUNK))
                .zip(v[span.clone()].par_chunks_mut(CHUNK));
            match &mut highest {
                Some(highest) => chunks.zip(highest[span].par_chunks_mut(CHUNK)).for_each(
                    |((((p, g), m), v), h)| {
                        dispatch(
                            #[inline(always)]
                            || self.update.on_chunk(p, g, m, v, Some(h), decayed),
                        );
                    },
                ),
                None => chunks.for_each(|(((p, g), m), v)| {
                    dispatch(
                        #[inline(always)]
                        || self.update.on_chunk(p, g, m, v, None, decayed),
                    )
                }),
            }
        }
        Ok(())
    }
}
