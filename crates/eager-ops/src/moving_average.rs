//! A moving average of parameters during training (Polyak & Juditsky, 1992, with a decay): where single steps jump about a
//! minimum, their mean is closer to it.

use std::collections::HashMap;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var};
use rayon::prelude::*;

use crate::adamw::{CHUNK, Trainable};
use crate::storage::{is_cpu_f32, slice};
use crate::vector::dispatch;

/// What a parameter's average is called in a saved state, before its name.
const AVERAGE: &str = "average.";

/// Parameters and their average.
#[derive(Debug)]
pub struct MovingAverage {
    decay: f64,
    parameters: Vec<(Trainable, Var)>,
}

impl MovingAverage {
    /// An average that starts as the parameters are, and of which `decay` is kept at every update.
    ///
    /// # Errors
    /// When memory cannot be had.
    pub fn new(parameters: Vec<Trainable>, decay: f64) -> Result<Self> {
        let parameters = parameters.into_iter().map(|parameter| {
            let average = Var::from_tensor(&parameter.var.as_detached_tensor().copy()?)?;
            Ok((parameter, average))
        });
        Ok(Self {
            decay,
            parameters: parameters.collect::<Result<_>>()?,
        })
    }

    /// Takes in the parameters as update `t`, the first of which is 1, left them: `a ← a + (1 - b)·(p - a)`,
    /// `b = min(decay, (1 + t) / (10 + t))`, so that the start is soon forgotten.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn update(&self, t: u64) -> Result<()> {
        let t = t as f64;
        let share = 1.0 - self.decay.min((1.0 + t) / (10.0 + t));
        for (parameter, average) in &self.parameters {
            let now = parameter.var.as_detached_tensor();
            if is_cpu_f32(&now) {
                average.inplace_op2(&now, &AverageOp(share as f32))?;
            } else {
                let step = ((&now - average.as_detached_tensor())? * share)?;
                average.set(&(average.as_detached_tensor() + step)?)?;
            }
        }
        Ok(())
    }

    /// Puts the averages in the parameters' place, and the other way round the next time.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn exchange(&self) -> Result<()> {
        for (parameter, average) in &self.parameters {
            let now = parameter.var.as_detached_tensor().copy()?;
            parameter.var.set(&average.as_detached_tensor())?;
            average.set(&now)?;
        }
        Ok(())
    }

    /// The averages by `average.<parameter>`, for a checkpoint. They share memory with this one.
    #[must_use]
    pub fn state(&self) -> HashMap<String, Tensor> {
        let of = |(parameter, average): &(Trainable, Var)| {
            let name = format!("{AVERAGE}{}", parameter.name);
            (name, average.as_detached_tensor())
        };
        self.parameters.iter().map(of).collect()
    }

    /// Goes on from a saved [`state`](Self::state).
    ///
    /// # Errors
    /// When it lacks a parameter, or has one of another shape.
    pub fn load_state(&self, state: &HashMap<String, Tensor>) -> Result<()> {
        for (parameter, average) in &self.parameters {
            let name = format!("{AVERAGE}{}", parameter.name);
            let Some(saved) = state.get(&name) else {
                candle_core::bail!("the saved state has no {name:?}")
            };
            average.set(saved)?;
        }
        Ok(())
    }
}

/// `a ← a + share·(p - a)`.
struct AverageOp(f32);

impl InplaceOp2 for AverageOp {
    fn name(&self) -> &'static str {
        "moving-average"
    }

    fn cpu_fwd(
        &self,
        average: &mut CpuStorage,
        al: &Layout,
        now: &CpuStorage,
        nl: &Layout,
    ) -> Result<()> {
        let (CpuStorage::F32(average), Some((start, end))) = (average, al.contiguous_offsets())
        else {
            candle_core::bail!("moving average: a contiguous f32 variable is wanted")
        };
        let average = &mut average[start..end];
        let now = slice(now, nl)?;
        let chunks = average.par_chunks_mut(CHUNK).zip(now.par_chunks(CHUNK));
        chunks.for_each(|(average, now)| {
            dispatch(
                #[inline(always)]
                || {
                    for (a, &p) in average.iter_mut().zip(now) {
                        *a += self.0 * (p - *a);
                    }
                },
            );
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn parameter(name: &str, values: &[f64], dtype: DType) -> Trainable {
        let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
        Trainable::new(
            name,
            Var::from_tensor(&tensor.to_dtype(dtype).unwrap()).unwrap(),
        )
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        tensor.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn averages_are_those_of_the_formula_in_either_form_and_go_on_from_a_state() {
        // f64 takes the way of other devices.
        for dtype in [DType::F32, DType::F64] {
            let parameters = [
                parameter("a", &[1.0, -2.0, 0.5], dtype),
                parameter("b", &[4.0], dtype),
            ];
            let mut average = MovingAverage::new(parameters.to_vec(), 0.5).unwrap();
            let mut want = [vec![1.0, -2.0, 0.5], vec![4.0]];
            for t in 1..=12u64 {
                if t == 6 {
                    let state: HashMap<String, Tensor> = (average.state().into_iter())
                        .map(|(name, tensor)| (name, tensor.copy().unwrap()))
                        .collect();
                    average = MovingAverage::new(parameters.to_vec(), 0.5).unwrap();
                    average.load_state(&state).unwrap();
                }
                let keep = f64::min(0.5, (1 + t) as f64 / (10 + t) as f64);
                for (parameter, want) in parameters.iter().zip(&mut want) {
                    let moved = (parameter.var.as_tensor() + 0.1 * t as f64).unwrap();
                    parameter.var.set(&moved.detach()).unwrap();
                    for (w, p) in want.iter_mut().zip(values(&moved)) {
                        *w = keep * *w + (1.0 - keep) * p;
                    }
                }
                average.update(t).unwrap();
            }
            let trained: Vec<_> = parameters.iter().map(|p| values(&p.var)).collect();
            average.exchange().unwrap();
            for (parameter, want) in parameters.iter().zip(&want) {
                for (a, b) in values(&parameter.var).iter().zip(want) {
                    assert!((a - b).abs() < 1e-6, "{a}, not {b}");
                }
            }
            average.exchange().unwrap();
            let after: Vec<_> = parameters.iter().map(|p| values(&p.var)).collect();
            assert_eq!(after, trained);
        }
    }

    #[test]
    fn a_state_of_other_parameters_is_refused() {
        let average = MovingAverage::new(vec![parameter("a", &[1.0], DType::F32)], 0.9).unwrap();
        let message = average.load_state(&HashMap::new()).unwrap_err().to_string();
        assert!(message.contains("average.a"), "{message}");
    }
}
