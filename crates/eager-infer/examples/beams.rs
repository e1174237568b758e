//! How many users a second: a random model of the default shape over 12,101 items (Beauty's number) with codes of 256
//! children a node, histories of 4 to 19 items.
//!
//! `cargo run --release -p eager-infer --example beams [users] [threads]`

use std::time::Instant;

use candle_core::Device;
use eager_codes::{CodeTrie, CodesConfig, ItemCodes, Vectors};
use eager_infer::{InferConfig, Ranking, Recommender};
use eager_model::{Catalogue, Eager, EagerConfig, PerStream, Stream, Weights};
use eager_ops::Ops;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

// What the `eager` command uses; the system's allocator gives every large buffer back and gets it again, zeroed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ITEMS: usize = 12_101;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let users: usize = arguments.next().map_or(Ok(2000), |n| n.parse())?;
    let threads: usize = arguments.next().map_or(Ok(2), |n| n.parse())?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let codes = PerStream::try_from_fn(|_| {
        let data: Vec<f32> = (0..ITEMS * 8)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        ItemCodes::build(Vectors::new(&data, 8)?, &CodesConfig::default(), 2024)
    })?;
    let tries = PerStream::try_from_fn(|stream| CodeTrie::new(&codes[stream]))?;
    for stream in Stream::ALL {
        let trie = &tries[stream];
        let nodes: Vec<usize> = (0..=trie.levels()).map(|l| trie.level(l).len()).collect();
        println!("{} trie, nodes by level: {nodes:?}", stream.name());
    }
    let catalogue = Catalogue {
        tries: PerStream::from_fn(|stream| &tries[stream]),
        dims: PerStream {
            behaviour: 128,
            semantic: 768,
        },
    };
    let config = EagerConfig {
        init: 0.1, // a trained model is not even
        ..EagerConfig::default()
    };
    let model = Eager::new(&config, &catalogue, Weights::random(2024, &Device::Cpu))?;
    let recommender = Recommender::new(model, codes, Ops::Fused)?.with_threads(threads)?;

    let histories: Vec<Vec<u32>> = (0..users)
        .map(|_| {
            // 4 to 19, 8 on average
            let length = 4 + (0..15).filter(|_| rng.random_bool(0.27)).count();
            (0..length)
                .map(|_| rng.random_range(0..ITEMS as u32))
                .collect()
        })
        .collect();
    let histories: Vec<&[u32]> = histories.iter().map(Vec::as_slice).collect();
    let beams = InferConfig::default();
    let sum = InferConfig {
        ranking: Ranking::Sum,
        ..beams.clone()
    };
    let exact = InferConfig {
        exact: true,
        ..beams.clone()
    };
    let runs = [
        ("100 beams, confidence", beams, users),
        ("100 beams, sum", sum, users),
        ("exact", exact, users / 10),
    ];
    for (name, config, users) in runs {
        let start = Instant::now();
        recommender.recommend(&histories[..users], 20, &config)?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{name}: {users} users in {seconds:.2} s, {:.0} a second",
            users as f64 / seconds
        );
    }
    Ok(())
}
