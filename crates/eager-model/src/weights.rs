//! A model's named parameters: drawn from a seed, or loaded.
//!
//! A draw depends on (seed, name) alone, so adding a layer or reordering construction changes no other
//! parameter. (candle's own CPU generator cannot be seeded.)

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Result, Shape, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How a parameter starts when it is not loaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element 0: biases.
    Zeros,
    /// Every element 1: scales of norms.
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform in ±1/√fan_in, fan_in the size of the last dimension: PyTorch's linear layers.
    FanIn,
}

/// Parameters by name, in the order of their names; all f32.
#[derive(Debug)]
pub struct Weights {
    vars: BTreeMap<String, Var>,
    device: Device,
    source: Source,
    frozen: bool,
}

#[derive(Debug)]
enum Source {
    Seed(u64),
    Saved(HashMap<String, Tensor>),
}

impl Weights {
    /// Parameters drawn from `seed` as they are asked for.
    pub fn random(seed: u64, device: &Device) -> Self {
        Self {
            vars: BTreeMap::new(),
            device: device.clone(),
            source: Source::Seed(seed),
            frozen: false,
        }
    }

    /// Parameters taken from `saved` as they are asked for.
    pub fn saved(saved: HashMap<String, Tensor>, device: &Device) -> Self {
        Self {
            vars: BTreeMap::new(),
            device: device.clone(),
            source: Source::Saved(saved),
            frozen: false,
        }
    }

    /// The same for a model that is not trained: its passes record no graph, and free what they computed at once.
    #[must_use]
    pub fn frozen(self) -> Self {
        Self {
            frozen: true,
            ..self
        }
    }

    /// The parameter `name`; one name is one parameter, asked for once.
    ///
    /// # Errors
    /// When it was asked for before, or the saved weights have none of that name and shape.
    pub fn get(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        let shape = shape.into();
        if self.vars.contains_key(name) {
            candle_core::bail!("parameter {name:?} is made twice")
        }
        let value = match &mut self.source {
            Source::Seed(seed) => draw(*seed, name, &shape, init, &self.device)?,
            Source::Saved(saved) => match saved.remove(name) {
                None => candle_core::bail!(
                    "the saved weights have no {name:?}; they belong to a model of another configuration"
                ),
                Some(tensor) if tensor.shape() != &shape => candle_core::bail!(
                    "the saved weights' {name:?} has shape {:?}, the configuration asks for {shape:?}",
                    tensor.shape()
                ),
                Some(tensor) => tensor.to_device(&self.device)?,
            },
        };
        let var = Var::from_tensor(&value)?;
        let tensor = if self.frozen {
            var.as_detached_tensor()
        } else {
            var.as_tensor().clone()
        };
        self.vars.insert(name.to_owned(), var);
        Ok(tensor)
    }

    /// Says that no more parameters will be asked for.
    ///
    /// # Errors
    /// When the saved weights hold some that nobody asked for.
    pub fn finish(self) -> Result<Parameters> {
        if let Source::Saved(rest) = &self.source
            && let Some(name) = rest.keys().min()
        {
            candle_core::bail!(
                "the saved weights have {} parameters too many, {name:?} among them; \
                 they belong to a model of another configuration",
                rest.len()
            )
        }
        Ok(Parameters(self.vars))
    }
}

/// The parameters of a finished model.
#[derive(Debug)]
pub struct Parameters(BTreeMap<String, Var>);

impl Parameters {
    /// Names and variables, for an optimiser.
    #[must_use]
    pub fn named(&self) -> Vec<(String, Var)> {
        self.0.iter().map(|(n, v)| (n.clone(), v.clone())).collect()
    }

    /// Names and values, to save. They share memory with the model: save them before the next update.
    #[must_use]
    pub fn tensors(&self) -> HashMap<String, Tensor> {
        self.0
            .iter()
            .map(|(n, v)| (n.clone(), v.as_detached_tensor()))
            .collect()
    }

    /// Overwrites every value.
    ///
    /// # Errors
    /// When a parameter is missing from `values` or has another shape.
    pub fn set(&self, values: &HashMap<String, Tensor>) -> Result<()> {
        for (name, var) in &self.0 {
            let Some(value) = values.get(name) else {
                candle_core::bail!("no value for parameter {name:?}")
            };
            var.set(&value.to_device(var.device())?)?;
        }
        Ok(())
    }

    /// Number of scalars.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.values().map(|v| v.elem_count()).sum()
    }
}

fn draw(seed: u64, name: &str, shape: &Shape, init: Init, device: &Device) -> Result<Tensor> {
    let n = shape.elem_count();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(fnv1a(name));
    let data: Vec<f32> = match init {
        Init::Zeros => vec![0.0; n],
        Init::Ones => vec![1.0; n],
        Init::Normal(std) => (0..n).map(|_| (std * normal(&mut rng)) as f32).collect(),
        Init::FanIn => {
            let bound = 1.0 / (shape.dims().last().copied().unwrap_or(1).max(1) as f32).sqrt();
            (0..n).map(|_| rng.random_range(-bound..=bound)).collect()
        }
    };
    Tensor::from_vec(data, shape, device)
}

/// Box–Muller, one of the pair.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// FNV-1a, 64 bits: a name's stream number.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_seed_and_name_alone() {
        let make = |seed, names: &[&str]| {
            let mut w = Weights::random(seed, &Device::Cpu);
            for n in names {
                w.get(n, (40, 50), Init::Normal(0.5)).unwrap();
            }
            let t = w.finish().unwrap().tensors();
            t["a"].flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let a = make(1, &["a", "b"]);
        assert_eq!(a, make(1, &["b", "a"]));
        assert_ne!(a, make(2, &["a"]));
        let mean = a.iter().sum::<f32>() / 2000.0;
        let var = a.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 2000.0;
        assert!(mean.abs() < 0.05 && (var.sqrt() - 0.5).abs() < 0.03);
    }

    #[test]
    fn saved_weights_must_fit() {
        let saved = |names: &[&str]| {
            names
                .iter()
                .map(|n| {
                    (
                        (*n).to_owned(),
                        Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap(),
                    )
                })
                .collect::<HashMap<_, _>>()
        };
        let mut w = Weights::saved(saved(&["a"]), &Device::Cpu);
        assert!(w.get("a", (2, 3), Init::Ones).is_ok());
        let message = w.get("b", (2, 3), Init::Ones).unwrap_err().to_string();
        assert!(message.contains("no \"b\""), "{message}");
        let mut w = Weights::saved(saved(&["a", "rest"]), &Device::Cpu);
        assert!(w.get("a", (3, 2), Init::Ones).is_err());
        assert!(w.finish().unwrap_err().to_string().contains("rest"));
    }
}
