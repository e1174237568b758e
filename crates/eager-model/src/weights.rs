//! A model's named parameters: drawn from a seed, or loaded.
//!
//! A draw depends on (seed, name) alone, so adding a layer or reordering construction changes no other
//! parameter. (candle's own CPU generator cannot be seeded.)

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use candle_core::{Device, Result, Shape, Tensor, Var};
use eager_ops::{Layer, LayerShape, Trainable};
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

/// One variable: a parameter, or all those of a layer end to end.
#[derive(Debug)]
struct Held {
    var: Var,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    name: String,
    shape: Shape,
    start: usize,
}

impl Part {
    fn range(&self) -> Range<usize> {
        self.start..self.start + self.shape.elem_count()
    }
}

/// Parameters by name, in the order of their names; all f32.
#[derive(Debug)]
pub struct Weights {
    held: BTreeMap<String, Held>,
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
            held: BTreeMap::new(),
            device: device.clone(),
            source: Source::Seed(seed),
            frozen: false,
        }
    }

    /// Parameters taken from `saved` as they are asked for.
    pub fn saved(saved: HashMap<String, Tensor>, device: &Device) -> Self {
        Self {
            held: BTreeMap::new(),
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
        let value = self.value(name, &shape, init)?;
        let part = Part {
            name: name.to_owned(),
            shape,
            start: 0,
        };
        self.hold(name, &value, vec![part])
    }

    /// A transformer layer, whose parameters are `<name>.<part>` by their own names and one variable: matrices from
    /// `matrices`, biases 0, a norm's scale 1.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn layer(&mut self, name: &str, shape: LayerShape, matrices: Init) -> Result<Layer> {
        let (mut values, mut parts) = (vec![], vec![]);
        for part in shape.parts() {
            let init = match part.shape.len() {
                1 if part.name.ends_with("bias") => Init::Zeros,
                1 => Init::Ones,
                _ => matrices,
            };
            let part = Part {
                name: format!("{name}.{}", part.name),
                shape: part.shape.into(),
                start: part.start,
            };
            values.push(self.value(&part.name, &part.shape, init)?.flatten_all()?);
            parts.push(part);
        }
        let packed = self.hold(name, &Tensor::cat(&values, 0)?, parts)?;
        Layer::new(shape, packed)
    }

    fn value(&mut self, name: &str, shape: &Shape, init: Init) -> Result<Tensor> {
        match &mut self.source {
            Source::Seed(seed) => draw(*seed, name, shape, init, &self.device),
            Source::Saved(saved) => match saved.remove(name) {
                None => candle_core::bail!(
                    "the saved weights have no {name:?}; they belong to a model of another configuration"
                ),
                Some(tensor) if tensor.shape() != shape => candle_core::bail!(
                    "the saved weights' {name:?} has shape {:?}, the configuration asks for {shape:?}",
                    tensor.shape()
                ),
                Some(tensor) => tensor.to_device(&self.device),
            },
        }
    }

    fn hold(&mut self, name: &str, value: &Tensor, parts: Vec<Part>) -> Result<Tensor> {
        if self.held.contains_key(name) {
            candle_core::bail!("parameter {name:?} is made twice")
        }
        let var = Var::from_tensor(value)?;
        let tensor = if self.frozen {
            var.as_detached_tensor()
        } else {
            var.as_tensor().clone()
        };
        self.held.insert(name.to_owned(), Held { var, parts });
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
        Ok(Parameters(self.held))
    }
}

/// The parameters of a finished model.
#[derive(Debug)]
pub struct Parameters(BTreeMap<String, Held>);

impl Parameters {
    /// The variables, for an optimiser.
    #[must_use]
    pub fn trainable(&self) -> Vec<Trainable> {
        let of = |(name, held): (&String, &Held)| Trainable {
            name: name.clone(),
            var: held.var.clone(),
            // Matrices, not biases and norms.
            decayed: (held.parts.iter())
                .filter(|part| part.shape.rank() >= 2)
                .map(Part::range)
                .collect(),
        };
        self.0.iter().map(of).collect()
    }

    /// Each parameter's name, the variable that holds it, and its elements in that.
    #[must_use]
    pub fn parts(&self) -> Vec<(String, Var, Range<usize>)> {
        let of = |held: &'_ Held| {
            let var = held.var.clone();
            let parts = held.parts.iter();
            parts
                .map(|part| (part.name.clone(), var.clone(), part.range()))
                .collect::<Vec<_>>()
        };
        self.0.values().flat_map(of).collect()
    }

    /// Names and values, to save. They share memory with the model: save them before the next update.
    #[must_use]
    pub fn tensors(&self) -> HashMap<String, Tensor> {
        let mut tensors = HashMap::new();
        for held in self.0.values() {
            let all = held.var.as_detached_tensor();
            for part in &held.parts {
                let own = match held.parts.len() {
                    1 => all.clone(),
                    _ => (all.narrow(0, part.start, part.shape.elem_count()))
                        .and_then(|own| own.reshape(&part.shape))
                        .expect("a part lies inside its variable"),
                };
                tensors.insert(part.name.clone(), own);
            }
        }
        tensors
    }

    /// Overwrites every value.
    ///
    /// # Errors
    /// When a parameter is missing from `values` or has another shape.
    pub fn set(&self, values: &HashMap<String, Tensor>) -> Result<()> {
        for held in self.0.values() {
            let mut own = vec![];
            for part in &held.parts {
                let Some(value) = values.get(&part.name) else {
                    candle_core::bail!("no value for parameter {:?}", part.name)
                };
                if value.shape() != &part.shape {
                    candle_core::bail!(
                        "parameter {:?} has shape {:?}, its value {:?}",
                        part.name,
                        part.shape,
                        value.shape()
                    )
                }
                own.push(value.to_device(held.var.device())?.flatten_all()?);
            }
            let value = Tensor::cat(&own, 0)?.reshape(held.var.shape())?;
            held.var.set(&value)?;
        }
        Ok(())
    }

    /// Overwrites one that is a variable of its own.
    ///
    /// # Errors
    /// When there is no such parameter, or `value` has another shape.
    pub fn set_one(&self, name: &str, value: &Tensor) -> Result<()> {
        let Some(held) = self.0.get(name) else {
            candle_core::bail!("there is no parameter {name:?} of its own")
        };
        held.var.set(&value.to_device(held.var.device())?)
    }

    /// Number of scalars.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.values().map(|held| held.var.elem_count()).sum()
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
