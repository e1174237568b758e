//! What several models are made of, by their formulas, in f64 with loops.

use std::collections::HashMap;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use eager_model::{EPS, Histories, Parameters};
use eager_ops::{Dropout, Ops, Pass};

pub const D: usize = 8;
pub const HEADS: usize = 2;

pub type Matrix = Vec<Vec<f64>>;

/// Parameters by name, in f64.
#[derive(Clone)]
pub struct Plain(pub HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Plain {
    pub fn of(parameters: &Parameters) -> Self {
        let tensors = parameters.tensors().into_iter();
        let floats = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        Self(
            tensors
                .map(|(name, t)| {
                    let values = floats(&t).into_iter().map(f64::from).collect();
                    (name, (t.dims().to_vec(), values))
                })
                .collect(),
        )
    }

    pub fn matrix(&self, name: &str) -> Matrix {
        let (shape, values) = &self.0[name];
        values.chunks(shape[1]).map(<[f64]>::to_vec).collect()
    }

    pub fn vector(&self, name: &str) -> &[f64] {
        &self.0[name].1
    }

    /// `x·wᵀ + b`.
    pub fn linear(&self, name: &str, x: &Matrix) -> Matrix {
        let w = self.matrix(&format!("{name}.weight"));
        let b = self.vector(&format!("{name}.bias"));
        let row = |x: &Vec<f64>| {
            let out = w.iter().zip(b);
            out.map(|(w, b)| b + w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>())
                .collect()
        };
        x.iter().map(row).collect()
    }

    pub fn norm(&self, name: &str, x: &Matrix) -> Matrix {
        let (w, b) = (
            self.vector(&format!("{name}.weight")),
            self.vector(&format!("{name}.bias")),
        );
        let row = |x: &Vec<f64>| {
            let n = x.len() as f64;
            let mean = x.iter().sum::<f64>() / n;
            let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let scaled = x.iter().zip(w).zip(b);
            scaled
                .map(|((x, w), b)| (x - mean) / (var + EPS).sqrt() * w + b)
                .collect()
        };
        x.iter().map(row).collect()
    }

    /// The sublayer `name` over `x`: position i sees the positions `sees(i)`.
    pub fn self_attention(
        &self,
        name: &str,
        x: &Matrix,
        sees: impl Fn(usize) -> Vec<usize>,
    ) -> Matrix {
        let qkv = self.linear(&format!("{name}.qkv"), x);
        let part = |n: usize| -> Matrix { qkv.iter().map(|r| r[n * D..][..D].to_vec()).collect() };
        let mixed = attention(&part(0), &part(1), &part(2), sees);
        let sum = add(x, &self.linear(&format!("{name}.attended"), &mixed));
        self.norm(&format!("{name}.norm"), &sum)
    }

    pub fn feed_forward(&self, (inner, outer, norm): (&str, &str, &str), x: &Matrix) -> Matrix {
        let mut inner = self.linear(inner, x);
        inner.iter_mut().flatten().for_each(|x| *x = gelu(*x));
        self.norm(norm, &add(x, &self.linear(outer, &inner)))
    }
}

pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

pub fn add(a: &Matrix, b: &Matrix) -> Matrix {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a + b).collect();
    a.iter().zip(b).map(row).collect()
}

/// Query i over the keys `sees(i)`; zeros where there is none.
pub fn attention(q: &Matrix, k: &Matrix, v: &Matrix, sees: impl Fn(usize) -> Vec<usize>) -> Matrix {
    let width = D / HEADS;
    let row = |(i, q): (usize, &Vec<f64>)| {
        let mut out = vec![0.0; D];
        for head in 0..HEADS {
            let columns = head * width..(head + 1) * width;
            let score = |j: usize| {
                let products = columns.clone().map(|c| q[c] * k[j][c]);
                (products.sum::<f64>() / (width as f64).sqrt()).exp()
            };
            let total: f64 = sees(i).into_iter().map(score).sum();
            for j in sees(i) {
                let p = score(j) / total;
                columns.clone().for_each(|c| out[c] += p * v[j][c]);
            }
        }
        out
    };
    q.iter().enumerate().map(row).collect()
}

pub fn pack(histories: &[&[u32]]) -> Histories {
    let mut offsets = vec![0];
    for history in histories {
        offsets.push(offsets[offsets.len() - 1] + history.len() as u32);
    }
    Histories::new(&histories.concat(), &offsets).unwrap()
}

pub fn pass(ops: Ops, dropout: &Dropout) -> Pass<'_> {
    Pass {
        ops,
        dropout,
        leaves: None,
    }
}

/// A few elements of every gradient against central differences of the formula.
pub fn check_gradients(
    parameters: &Parameters,
    grads: &GradStore,
    plain: &Plain,
    loss: impl Fn(&Plain) -> f64,
) {
    for (name, var, range) in parameters.parts() {
        let grad = grads.get(&var).unwrap().flatten_all().unwrap();
        let grad = &grad.to_vec1::<f32>().unwrap()[range];
        for element in (0..grad.len()).step_by(grad.len().div_ceil(5)) {
            let at = |h: f64| {
                let mut moved = plain.clone();
                moved.0.get_mut(&name).unwrap().1[element] += h;
                loss(&moved)
            };
            let want = (at(1e-5) - at(-1e-5)) / 2e-5;
            let got = f64::from(grad[element]);
            assert!(
                (got - want).abs() < 2e-5 + 1e-4 * want.abs(),
                "{name}[{element}]: {got}, not {want}"
            );
        }
    }
}
