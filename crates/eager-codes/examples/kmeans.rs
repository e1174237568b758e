//! Times one k-means of 12,101 vectors of 768 numbers (Beauty's items at Sentence-T5's width) into 256 clusters, and the
//! whole tree, on a seeded Gaussian mixture of unit vectors with unequal parts.
//!
//! `cargo run --release -p eager-codes --example kmeans [-- items dim k]`; with `--features kmeans` that crate runs too.

use std::time::Instant;

use eager_codes::{Backend, Clustering, CodeTrie, CodesConfig, ItemCodes, Vectors};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Parts of the mixture.
const PARTS: usize = 400;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut sizes = [12_101, 768, 256];
    for (size, arg) in sizes.iter_mut().zip(std::env::args().skip(1)) {
        *size = arg.parse()?;
    }
    let [n, dim, k] = sizes;
    let data = mixture(n, dim, 7);
    let vectors = Vectors::new(&data, dim)?;
    println!(
        "{n} × {dim}, k = {k}, {} threads",
        rayon::current_num_threads()
    );

    let config = CodesConfig::default();
    let once = CodesConfig {
        max_iterations: 1,
        ..config.clone()
    };
    time("k-means++ start and one iteration", || {
        Clustering::fit(vectors, k, &once, 1)
    })?;
    time("k-means++ start to convergence", || {
        Clustering::fit(vectors, k, &config, 1)
    })?;
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let start: Vec<f32> = rand::seq::index::sample(&mut rng, n, k)
        .iter()
        .flat_map(|row| vectors.row(row))
        .copied()
        .collect();
    time("random rows to convergence", || {
        Clustering::from_start(vectors, &start, &config)
    })?;
    if cfg!(feature = "kmeans") {
        let peer = CodesConfig {
            backend: Backend::Kmeans,
            ..config.clone()
        };
        time("the same by the `kmeans` crate", || {
            Clustering::from_start(vectors, &start, &peer)
        })?;
    }
    for config in [config, CodesConfig::official()] {
        let begin = Instant::now();
        let codes = ItemCodes::build(vectors, &config, 1)?;
        let seconds = begin.elapsed().as_secs_f64();
        let trie = CodeTrie::new(&codes)?;
        println!(
            "{:<36} {seconds:7.3} s  {} levels, {} nodes, {} leaves",
            format!("tree, {:?}, k = {}", config.variant, config.branching),
            trie.levels(),
            trie.n_nodes(),
            trie.n_leaves()
        );
    }
    Ok(())
}

/// Best wall time of three runs, and what they found.
fn time(name: &str, run: impl Fn() -> eager_codes::Result<Clustering>) -> eager_codes::Result<()> {
    let mut best = f64::INFINITY;
    let mut found = None;
    for _ in 0..3 {
        let begin = Instant::now();
        found = Some(run()?);
        best = best.min(begin.elapsed().as_secs_f64());
    }
    if let Some(found) = found {
        println!(
            "{name:<36} {best:7.3} s  inertia {:.4}, {} iterations",
            found.inertia, found.iterations
        );
    }
    Ok(())
}

/// `[n, dim]` unit vectors around `PARTS` Gaussian centres; part `p` has a share falling as 1/(p + 1).
fn mixture(n: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let centres: Vec<f32> = (0..PARTS * dim).map(|_| normal(&mut rng)).collect();
    let weights: Vec<f64> = (0..PARTS).map(|p| 1.0 / (p + 1) as f64).collect();
    let total: f64 = weights.iter().sum();
    let mut data = Vec::with_capacity(n * dim);
    for _ in 0..n {
        let mut mark = rng.random::<f64>() * total;
        let part = weights
            .iter()
            .position(|w| {
                mark -= w;
                mark < 0.0
            })
            .unwrap_or(0);
        let row: Vec<f32> = (0..dim)
            .map(|d| centres[part * dim + d] + normal(&mut rng))
            .collect();
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        data.extend(row.iter().map(|x| x / length));
    }
    data
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
}
