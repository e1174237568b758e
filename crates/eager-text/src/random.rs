//! Random weights and tokens for the tests that compare with candle's models.

use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use rand::{Rng, SeedableRng};

/// A builder that makes the variables a model asks for, and what gives all of them values in (-scale, scale).
pub(crate) fn weights() -> (VarBuilder<'static>, impl FnOnce(f32)) {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let fill = move |scale: f32| {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let data = map.data().lock().unwrap();
        let mut names: Vec<&String> = data.keys().collect();
        names.sort();
        for name in names {
            let shape = data[name].shape().clone();
            let values = (0..shape.elem_count()).map(|_| rng.random_range(-scale..scale));
            let values = Tensor::from_vec(values.collect::<Vec<f32>>(), shape, &Device::Cpu);
            data[name].set(&values.unwrap()).unwrap();
        }
    };
    (vb, fill)
}

/// [batch * length] token ids.
pub(crate) fn ids(batch: usize, length: usize, vocabulary: u32) -> Vec<u32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
    (0..batch * length)
        .map(|_| rng.random_range(0..vocabulary))
        .collect()
}

#[track_caller]
pub(crate) fn assert_close(a: &Tensor, b: &Tensor, tolerance: f32) {
    assert_eq!(a.dims(), b.dims());
    let difference = (a - b).unwrap().abs().unwrap().max_all().unwrap();
    let difference = difference.to_scalar::<f32>().unwrap();
    assert!(difference <= tolerance, "they differ by {difference}");
}
