//! Small random bundles, and a stand-in for the hub, for the tests of several crates. Not published.

pub mod hub;

use candle_core::Device;
use eager_bundle::{Bundle, Item, Manifest, TextSource};
use eager_codes::{CodeTrie, CodesConfig, ItemCodes, ItemVectors};
use eager_infer::{InferConfig, Ranking, Recommender};
use eager_model::{Catalogue, Eager, EagerConfig, PerStream, Stream, Weights};
use eager_ops::Ops;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// A bundle named `random` of a model that was never trained. Items are `i0`, `i1`, …, titled `Item number 0`, …; item `n`
/// is of the categories `all` and `c` with `n % 9`.
///
/// # Panics
/// With fewer than two items.
#[must_use]
pub fn bundle(items: usize, seed: u64) -> Bundle {
    bundle_of(items, seed, &small_codes(), &small_model())
}

/// The same with a direct head.
///
/// # Panics
/// With fewer than two items.
#[must_use]
pub fn bundle_with_direct_head(items: usize, seed: u64) -> Bundle {
    let model = EagerConfig {
        direct_head: true,
        ..small_model()
    };
    bundle_of(items, seed, &small_codes(), &model)
}

/// The same, ranked by the sum of all log-probabilities, which is the log-probability of nothing.
///
/// # Panics
/// With fewer than two items.
#[must_use]
pub fn bundle_ranked_by_sum(items: usize, seed: u64) -> Bundle {
    let model = EagerConfig {
        direct_head: true,
        ..small_model()
    };
    let infer = InferConfig {
        ranking: Ranking::Sum,
        ..small_infer()
    };
    bundle_searched(items, seed, &small_codes(), &model, infer)
}

/// As [`bundle`], with titles that are shown wrongly where somebody does not think of them: item 1 has none, that of item 2
/// reads like HTML, that of item 3 is a word of 2,000 letters.
///
/// # Panics
/// With fewer than four items.
#[must_use]
pub fn bundle_with_odd_titles(items: usize, seed: u64) -> Bundle {
    let mut table: Vec<Item> = (0..items).map(item).collect();
    table[1].title = None;
    table[2].title = Some("Nail <b>&amp; polish</b>".to_owned());
    table[3].title = Some("w".repeat(2000));
    let infer = small_infer();
    bundle_with_table(table, seed, &small_codes(), &small_model(), infer)
}

fn item(number: usize) -> Item {
    Item {
        title: Some(format!("Item number {number}")),
        categories: vec!["all".to_owned(), format!("c{}", number % 9)],
        ..Item::new(format!("i{number}"))
    }
}

fn small_infer() -> InferConfig {
    InferConfig {
        beams: 12,
        top_k: 10,
        ..InferConfig::default()
    }
}

fn small_codes() -> CodesConfig {
    CodesConfig {
        branching: 5,
        ..CodesConfig::default()
    }
}

fn small_model() -> EagerConfig {
    EagerConfig {
        d_model: 16,
        heads: 2,
        feed_forward: 32,
        decoder_layers: 2,
        init: 0.3,
        ..EagerConfig::default()
    }
}

/// The same with codes and a model of another form.
///
/// # Panics
/// With fewer than two items, or where the forms are not valid.
#[must_use]
pub fn bundle_of(items: usize, seed: u64, config: &CodesConfig, model: &EagerConfig) -> Bundle {
    bundle_searched(items, seed, config, model, small_infer())
}

/// The same with lists made as `infer` says.
///
/// # Panics
/// As [`bundle_of`].
#[must_use]
pub fn bundle_searched(
    items: usize,
    seed: u64,
    config: &CodesConfig,
    model: &EagerConfig,
    infer: InferConfig,
) -> Bundle {
    let table = (0..items).map(item).collect();
    bundle_with_table(table, seed, config, model, infer)
}

fn bundle_with_table(
    table: Vec<Item>,
    seed: u64,
    config: &CodesConfig,
    model: &EagerConfig,
    infer: InferConfig,
) -> Bundle {
    let items = table.len();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let vectors = PerStream::from_fn(|stream| {
        let dim = if stream == Stream::Behaviour { 6 } else { 10 };
        ItemVectors {
            dim,
            data: (0..items * dim)
                .map(|_| rng.random_range(-1.0..1.0))
                .collect(),
        }
    });
    let codes = PerStream::try_from_fn(|stream| {
        ItemCodes::build(vectors[stream].checked().unwrap(), config, seed)
    });
    let codes: PerStream<ItemCodes> = codes.unwrap();
    let tries = PerStream::try_from_fn(|stream| CodeTrie::new(&codes[stream])).unwrap();
    let catalogue = Catalogue {
        tries: PerStream::from_fn(|stream| &tries[stream]),
        dims: PerStream::from_fn(|stream| vectors[stream].dim),
    };
    let model = Eager::new(model, &catalogue, Weights::random(seed, &Device::Cpu)).unwrap();
    let recommender = Recommender::new(model, codes, Ops::default()).unwrap();
    let manifest = Manifest {
        format: 0,
        name: "random".to_owned(),
        dataset: "none".to_owned(),
        revision: 1,
        parent: None,
        version: "0".to_owned(),
        seed,
        items: 0,
        branching: Some(PerStream::from_fn(|_| config.branching)),
        text: TextSource::default(),
        infer,
        metrics: [("recall@10".to_owned(), 0.125)].into(),
        evaluation: None,
        files: [].into(),
    };
    Bundle::new(manifest, recommender, table, vectors).unwrap()
}
