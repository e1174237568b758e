//! Random models over random codes.

use candle_core::Device;
use eager_codes::{CodeTrie, CodesConfig, ItemCodes, Variant, Vectors};
use eager_infer::Recommender;
use eager_model::{Catalogue, Eager, EagerConfig, PerStream, Weights};
use eager_ops::Ops;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub fn codes(items: usize, branching: usize, variant: Variant, seed: u64) -> ItemCodes {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f32> = (0..items * 4)
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    let config = CodesConfig {
        branching,
        variant,
        ..CodesConfig::default()
    };
    ItemCodes::build(Vectors::new(&data, 4).unwrap(), &config, seed).unwrap()
}

pub fn config() -> EagerConfig {
    EagerConfig {
        d_model: 16,
        heads: 2,
        feed_forward: 24,
        decoder_layers: 2,
        window: 6,
        init: 0.3, // so that probabilities are far from even
        ..EagerConfig::default()
    }
}

/// 70 items: a plain tree of uneven shape, and a balanced one where some items have several leaves.
pub fn recommender(ops: Ops) -> Recommender {
    recommender_of(&config(), ops)
}

/// The same with a model of another form.
pub fn recommender_of(config: &EagerConfig, ops: Ops) -> Recommender {
    let codes = PerStream {
        behaviour: codes(70, 4, Variant::Plain, 1),
        semantic: codes(70, 5, Variant::Balanced, 2),
    };
    let tries = PerStream::from_fn(|stream| CodeTrie::new(&codes[stream]).unwrap());
    assert!(tries.semantic.n_leaves() > 70 && tries.behaviour.levels() > 3);
    let catalogue = Catalogue {
        tries: PerStream {
            behaviour: &tries.behaviour,
            semantic: &tries.semantic,
        },
        dims: PerStream {
            behaviour: 5,
            semantic: 4,
        },
    };
    let model = Eager::new(config, &catalogue, Weights::random(3, &Device::Cpu)).unwrap();
    Recommender::new(model, codes, ops).unwrap()
}

/// `n` histories of 1 to 9 items; the model reads the newest five.
pub fn histories(n: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| {
            let length = rng.random_range(1..10);
            (0..length).map(|_| rng.random_range(0..70)).collect()
        })
        .collect()
}

pub fn slices(histories: &[Vec<u32>]) -> Vec<&[u32]> {
    histories.iter().map(Vec::as_slice).collect()
}
