//! Data that several of the crate's tests cluster.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `n` points around `parts` corners of a cube, row-major `[n, dim]`; item `i` belongs to part `i % parts`.
pub fn mixture(n: usize, dim: usize, parts: usize, spread: f32, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let centres: Vec<f32> = (0..parts * dim).map(|_| rng.random()).collect();
    (0..n * dim)
        .map(|at| {
            let part = at / dim % parts;
            centres[part * dim + at % dim] + spread * (rng.random::<f32>() - 0.5)
        })
        .collect()
}
