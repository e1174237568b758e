//! The sampled softmax against its formula and against what it estimates.

use candle_core::{Device, Tensor};
use eager_baselines::{Draws, LossConfig, Sample, SoftmaxLoss, softmax_loss};
use eager_ops::Ops;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const COUNTS: [u32; 6] = [5, 1, 0, 9, 3, 2];

fn random(rng: &mut ChaCha8Rng, rows: usize) -> Tensor {
    let data: Vec<f32> = (0..rows * 3).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(data, (rows, 3), &Device::Cpu).unwrap()
}

fn config(draws: Draws, negatives: usize) -> LossConfig {
    LossConfig {
        softmax: SoftmaxLoss::Sampled,
        negatives,
        draws,
    }
}

/// With every item drawn very often the loss is that over all items: each stands for its own share.
#[test]
fn a_large_sample_gives_the_loss_over_the_catalogue() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (states, items) = (random(&mut rng, 4), random(&mut rng, COUNTS.len()));
    let targets = [0, 3, 5, 4];
    let value = |sample: Option<&Sample>, items: &Tensor| {
        let loss = softmax_loss(Ops::Fused, &states, items, &targets, sample).unwrap();
        loss.to_scalar::<f32>().unwrap()
    };
    let full = value(None, &items);
    let uniform = Sample::draw(&config(Draws::Uniform, 60_000), &COUNTS, &mut rng);
    let sampled = value(Some(&uniform), &items);
    assert!((sampled - full).abs() < 0.01, "{sampled}, not {full}");

    // By popularity, of the items that are ever drawn.
    let seen = [0u32, 1, 3, 4, 5];
    let table = items
        .index_select(&Tensor::new(&seen, &Device::Cpu).unwrap(), 0)
        .unwrap();
    let places = targets.map(|t| seen.iter().position(|&s| s == t).unwrap() as u32);
    let full = softmax_loss(Ops::Fused, &states, &table, &places, None).unwrap();
    let full = full.to_scalar::<f32>().unwrap();
    let popular = Sample::draw(&config(Draws::Popularity, 60_000), &COUNTS, &mut rng);
    let sampled = value(Some(&popular), &items);
    assert!((sampled - full).abs() < 0.02, "{sampled}, not {full}");
}

#[test]
fn a_draw_depends_on_the_generator_alone() {
    for draws in [Draws::Uniform, Draws::Popularity] {
        let loss = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(9);
            let (states, items) = (random(&mut rng, 2), random(&mut rng, COUNTS.len()));
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let sample = Sample::draw(&config(draws, 8), &COUNTS, &mut rng);
            let loss = softmax_loss(Ops::Fused, &states, &items, &[3, 0], Some(&sample)).unwrap();
            loss.to_scalar::<f32>().unwrap()
        };
        assert_eq!(loss(1), loss(1));
        assert_ne!(loss(1), loss(2));
    }
}

/// A sample of the target alone leaves nothing else in the softmax.
#[test]
fn the_own_target_is_no_negative() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (states, items) = (random(&mut rng, 1), random(&mut rng, 1));
    let sample = Sample::draw(&config(Draws::Uniform, 4), &[1], &mut rng);
    let loss = softmax_loss(Ops::Fused, &states, &items, &[0], Some(&sample)).unwrap();
    assert_eq!(loss.to_scalar::<f32>().unwrap(), 0.0);
}
