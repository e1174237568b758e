//! What a GPU does beside what [`super::check`] compares: see there for single operations.

use candle_core::{DType, Device, Tensor, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{close, devices, random, values};
use crate::{
    AdamW, AdamWConfig, Dropout, Gradients, Layer, LayerInput, LayerShape, Leaves, Ops, Pass,
    RowRanges, Segments, Trainable,
};

const SHAPE: LayerShape = LayerShape {
    d_model: 16,
    heads: 2,
    feed_forward: 24,
    cross: false,
    eps: 1e-5,
};

/// A small model, some steps: rows of a table as leaves, a layer whose parameters are decayed in part, dropout, both losses.
fn train(device: &Device) -> (Vec<f64>, Vec<Tensor>) {
    let mut rng = ChaCha8Rng::seed_from_u64(31);
    let mut var = |shape: &[usize]| {
        let start = (random(&mut rng, shape) * 0.3).unwrap();
        Var::from_tensor(&start.to_device(device).unwrap()).unwrap()
    };
    let (table, packed) = (var(&[40, 16]), var(&[SHAPE.size()]));
    let parts = SHAPE.parts();
    let matrices = parts.iter().filter(|part| part.shape.len() == 2);
    let decayed =
        matrices.map(|part| part.start..part.start + part.shape.iter().product::<usize>());
    let mut layer = Trainable::new("layer", packed.clone());
    layer.decayed = decayed.collect();
    // A key's bias has no gradient but noise, which a smaller epsilon would make steps of.
    let config = AdamWConfig {
        weight_decay: 0.1,
        clip_norm: 0.5,
        eps: 1e-3,
        ..AdamWConfig::default()
    };
    let trainable = vec![Trainable::new("table", table.clone()), layer];
    let mut optimiser = AdamW::new(trainable, config).unwrap();
    let rows = Segments::from_lengths(&[3, 1, 4]);
    let mut norms = vec![];
    for step in 0..8 {
        let leaves = Leaves::default();
        let ids: Vec<u32> = (0..8).map(|i| (i * 5 + step) % 40).collect();
        let x = leaves.rows(Ops::Fused, &table, &ids).unwrap();
        let dropout = Dropout::new(0.2, 5, u64::from(step));
        let input = LayerInput {
            rows: &rows,
            wanted: None,
            causal: true,
            memory: None,
        };
        let layer = Layer::new(SHAPE, packed.as_tensor().clone()).unwrap();
        let pass = Pass {
            ops: Ops::Fused,
            dropout: &dropout,
            leaves: Some(&leaves),
        };
        let y = layer.forward(pass, &x, input).unwrap();
        let ranges = RowRanges::new(
            vec![0..10, 10..20, 0..10, 20..40, 0..10, 20..40, 10..20, 0..10],
            vec![3, 12, 9, 39, 0, 20, 19, 4],
        );
        let tree = Ops::Fused
            .tree_cross_entropy(&y, &table, &ranges.unwrap())
            .unwrap();
        let whole = Ops::Fused
            .cross_entropy(&y, &table, &[1, 2, 3, 4, 5, 39, 0, 1])
            .unwrap();
        let grads = (tree + whole).unwrap().backward().unwrap();
        let grads: Gradients = leaves.gradients(grads).unwrap();
        norms.push(optimiser.step(&[grads], 0.01).unwrap());
    }
    (
        norms,
        vec![table.as_detached_tensor(), packed.as_detached_tensor()],
    )
}

#[test]
fn trains_as_the_cpu_does_and_repeats_bit_for_bit() {
    let devices = devices();
    let [cpu, gpu] = &devices[..] else {
        return;
    };
    let (want, got, again) = (train(cpu), train(gpu), train(gpu));
    for (step, (a, b)) in got.0.iter().zip(&want.0).enumerate() {
        assert!((a - b).abs() < 1e-4 * b, "step {step}: norm {a}, not {b}");
    }
    for ((got, want), again) in got.1.iter().zip(&want.1).zip(&again.1) {
        close("parameters", got, want, 1e-4);
        assert_eq!(values(got), values(again));
    }
}

/// What decoding asks for, of beams of several histories.
#[test]
fn decodes_as_the_cpu_does() {
    let devices = devices();
    let [cpu, gpu] = &devices[..] else {
        return;
    };
    let mut rng = ChaCha8Rng::seed_from_u64(32);
    let (n, d, heads) = (37, 24, 3);
    let queries = random(&mut rng, &[n, d]);
    let past = [5, 37, 11].map(|len| random(&mut rng, &[len, 2 * d]));
    let rows: Vec<Vec<u32>> = [5u32, 37, 11]
        .iter()
        .map(|len| (0..n as u32).map(|i| i * 7 % len).collect())
        .collect();
    let (hidden, table) = (random(&mut rng, &[6, d]), random(&mut rng, &[300, d]));
    let ranges = [0..1, 1..280, 280..300, 1..280, 0..300, 0..1];
    let run = |device: &Device| {
        let there = |x: &Tensor| x.to_device(device).unwrap();
        let past: Vec<Tensor> = past.iter().map(there).collect();
        let mixed = Ops::Fused.prefix_attention(&there(&queries), &past, &rows, heads);
        let scores = Ops::Fused.tree_scores(&there(&hidden), &there(&table), &ranges);
        (mixed.unwrap(), scores.unwrap())
    };
    let (want, got) = (run(cpu), run(gpu));
    close("prefix attention", &got.0, &want.0, 1e-5);
    for i in 0..ranges.len() {
        let [got, want] = [&got.1, &want.1].map(|scores| scores.row(i));
        assert_eq!(got.len(), want.len());
        for (a, b) in got.iter().zip(want) {
            assert!((a - b).abs() < 1e-4, "row {i}: {a}, not {b}");
        }
    }
}

/// Tensors may be made on one thread and read on another: one stream orders all.
#[test]
fn threads_share_a_stream() {
    let devices = devices();
    let [_, gpu] = &devices[..] else {
        return;
    };
    let one = Tensor::ones((256, 256), DType::F32, gpu).unwrap();
    for _ in 0..50 {
        let made = std::thread::scope(|scope| {
            let make = || {
                one.matmul(&one)
                    .and_then(|x| x.matmul(&one))
                    .and_then(|x| x * 2.0)
            };
            scope.spawn(make).join().unwrap().unwrap()
        });
        let sum = made.sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(sum, 2.0 * 256.0 * 256.0 * 256.0 * 256.0);
    }
}
