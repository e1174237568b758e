//! A bundle that the crate's tests ask.

use candle_core::Device;
use eager_bundle::{Bundle, Item, Manifest, TextSource};
use eager_codes::{CodeTrie, CodesConfig, ItemCodes, ItemVectors};
use eager_infer::{InferConfig, Recommender};
use eager_model::{Catalogue, Eager, EagerConfig, PerStream, Stream, Weights};
use eager_ops::Ops;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Items of the bundle.
pub const ITEMS: usize = 90;

/// A bundle of a random model, drawn from a fixed seed.
pub fn bundle() -> Bundle {
    let codes = CodesConfig {
        branching: 5,
        ..CodesConfig::default()
    };
    let model = EagerConfig {
        d_model: 16,
        heads: 2,
        feed_forward: 32,
        decoder_layers: 2,
        init: 0.3,
        ..EagerConfig::default()
    };
    bundle_of(&codes, &model)
}

/// The same with codes and a model of another form.
pub fn bundle_of(config: &CodesConfig, model: &EagerConfig) -> Bundle {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let vectors = PerStream::from_fn(|stream| {
        let dim = if stream == Stream::Behaviour { 6 } else { 10 };
        ItemVectors {
            dim,
            data: (0..ITEMS * dim)
                .map(|_| rng.random_range(-1.0..1.0))
                .collect(),
        }
    });
    let codes = PerStream::try_from_fn(|stream| {
        ItemCodes::build(vectors[stream].checked().unwrap(), config, 3)
    });
    let codes: PerStream<ItemCodes> = codes.unwrap();
    let tries = PerStream::try_from_fn(|stream| CodeTrie::new(&codes[stream])).unwrap();
    let catalogue = Catalogue {
        tries: PerStream::from_fn(|stream| &tries[stream]),
        dims: PerStream::from_fn(|stream| vectors[stream].dim),
    };
    let model = Eager::new(model, &catalogue, Weights::random(11, &Device::Cpu)).unwrap();
    let recommender = Recommender::new(model, codes, Ops::default()).unwrap();
    let item = |number: usize| Item {
        title: Some(format!("Item number {number}")),
        categories: vec!["all".to_owned(), format!("c{}", number % 9)],
        ..Item::new(format!("i{number}"))
    };
    let manifest = Manifest {
        format: 0,
        name: "random".to_owned(),
        dataset: "none".to_owned(),
        revision: 1,
        parent: None,
        version: "0".to_owned(),
        seed: 7,
        items: 0,
        branching: Some(PerStream::from_fn(|_| config.branching)),
        text: TextSource::default(),
        infer: InferConfig {
            beams: 12,
            top_k: 10,
            ..InferConfig::default()
        },
        metrics: [("recall@10".to_owned(), 0.125)].into(),
        files: [].into(),
    };
    let items = (0..ITEMS).map(item).collect();
    Bundle::new(manifest, recommender, items, vectors).unwrap()
}
