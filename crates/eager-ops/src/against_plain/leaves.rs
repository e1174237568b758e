//! Gradients past the graph are those of the graph.

use candle_core::{Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{SMALL, close, random, values};
use crate::{
    AdamW, AdamWConfig, Dropout, Gradients, Layer, LayerInput, LayerShape, Leaves, Ops, Pass,
    RowRanges, Segments, Trainable,
};

/// Tables whose rows are leaves are trained as those that are gathered from: over steps that read other rows each, some
/// twice, and one that has a dense gradient too.
#[test]
fn rows_as_leaves_train_the_table_bit_for_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let start = random(&mut rng, &[50, 6]);
    let config = AdamWConfig {
        weight_decay: 0.1,
        clip_norm: 0.7,
        ..Default::default()
    };
    let make = || {
        let var = Var::from_tensor(&start.copy().unwrap()).unwrap();
        let trainable = vec![Trainable::new("table", var.clone())];
        (var, AdamW::new(trainable, config.clone()).unwrap())
    };
    let (mut whole, mut own) = (make(), make());
    for step in 0..6 {
        let shards: Vec<(Vec<u32>, Tensor)> = (0..2)
            .map(|_| {
                let ids = (0..9).map(|_| rng.random_range(0..50)).collect();
                (ids, random(&mut rng, &[9, 6]))
            })
            .collect();
        let loss = |rows: Tensor, factors: &Tensor, table: &Tensor| {
            let loss = (rows.sqr().unwrap() * factors).unwrap().sum_all().unwrap();
            if step == 3 {
                (loss + table.sum_all().unwrap()).unwrap()
            } else {
                loss
            }
        };
        let dense: Vec<Gradients> = shards
            .iter()
            .map(|(ids, factors)| {
                let table = whole.0.as_tensor();
                let rows = Ops::Fused.gather(table, ids).unwrap();
                loss(rows, factors, table).backward().unwrap().into()
            })
            .collect();
        let sparse: Vec<Gradients> = shards
            .iter()
            .map(|(ids, factors)| {
                let (leaves, table) = (Leaves::default(), own.0.as_tensor());
                let rows = leaves.rows(Ops::Fused, table, ids).unwrap();
                let store = loss(rows, factors, table).backward().unwrap();
                assert_eq!(store.get(table).is_some(), step == 3);
                leaves.gradients(store).unwrap()
            })
            .collect();
        let norms = (
            whole.1.step(&dense, 0.01).unwrap(),
            own.1.step(&sparse, 0.01).unwrap(),
        );
        if step != 3 {
            assert_eq!(norms.0, norms.1, "step {step}");
        }
        // Where a dense gradient is added, the order of the sum differs.
        close("table", &own.0, &whole.0, if step < 3 { 0.0 } else { 1e-6 });
    }
}

/// A step that is refused leaves no gradient behind, which the next one would add to.
#[test]
fn a_refused_step_leaves_no_rows_behind() {
    let mut rng = ChaCha8Rng::seed_from_u64(15);
    let start = random(&mut rng, &[20, 4]);
    let train = |refused: bool| {
        let var = Var::from_tensor(&start.copy().unwrap()).unwrap();
        let trainable = vec![Trainable::new("table", var.clone())];
        let mut optimiser = AdamW::new(trainable, AdamWConfig::default()).unwrap();
        let gradients = |ids: &[u32], factor: f64| {
            let leaves = Leaves::default();
            let rows = leaves.rows(Ops::Fused, &var, ids).unwrap();
            let loss = (rows.sqr().unwrap() * factor).unwrap().sum_all().unwrap();
            leaves.gradients(loss.backward().unwrap()).unwrap()
        };
        if refused {
            let shards = [gradients(&[3, 5], 1.0), gradients(&[9], f64::INFINITY)];
            assert!(optimiser.step(&shards, 0.01).is_err());
        }
        let norm = optimiser.step(&[gradients(&[5, 7], 1.0)], 0.01).unwrap();
        (norm, values(&var))
    };
    assert_eq!(train(true), train(false));
}

/// Gradients past the graph are those of the graph, bit for bit: of layers with and without memory, of one that is used twice, of
/// one that something else reads too, and of rows of a table that are gathered, some twice, and scored against, more than once.
#[test]
fn gradients_past_the_graph_have_the_same_bits() {
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    let cross = LayerShape {
        cross: true,
        ..SMALL
    };
    let mut var = |shape: &[usize]| Var::from_tensor(&random(&mut rng, shape)).unwrap();
    let vars = [
        var(&[SMALL.size()]),
        var(&[cross.size()]),
        var(&[40, 8]),
        var(&[30, 8]),
    ];
    let rows = Segments::from_lengths(&[0, 70, 1, 60, 19]);
    let draw =
        |n: u32, below: u32| -> Vec<u32> { (0..n).map(|i| (i * i + 3 * i) % below).collect() };
    let ranges = |first: usize| {
        let range = [0..7, 7..26, 7..26];
        let ranges: Vec<_> = (0..150).map(|i| range[(i + first) % 3].clone()).collect();
        let targets = ranges.iter().map(|r| r.end - 1).collect();
        RowRanges::new(ranges, targets).unwrap()
    };
    let gradients = |leaves: Option<Leaves>| {
        let dropout = Dropout::new(0.2, 1, 2);
        let pass = Pass {
            ops: Ops::Fused,
            dropout: &dropout,
            leaves: leaves.as_ref(),
        };
        let layer = |i: usize, x: &Tensor, memory: Option<&Tensor>| {
            let shape = if memory.is_some() { cross } else { SMALL };
            let input = LayerInput {
                rows: &rows,
                wanted: None,
                causal: true,
                memory: memory.map(|memory| (memory, &rows)),
            };
            let layer = Layer::new(shape, vars[i].as_tensor().clone()).unwrap();
            layer.forward(pass, x, input).unwrap()
        };
        // Rows of a table, all of them, and of that some.
        let part = pass.rows(&vars[2], &draw(150, 40)).unwrap();
        let all = pass.rows(&vars[3], &(0..30).collect::<Vec<_>>()).unwrap();
        let more = pass.gather(&all, &draw(150, 30)).unwrap();
        let once = layer(0, &(part + more).unwrap(), None);
        let twice = layer(0, &once, None);
        let crossed = layer(1, &once, Some(&twice));
        let score = |hidden: &Tensor, first| {
            let loss = pass.tree_cross_entropy(hidden, &all, &ranges(first));
            loss.unwrap()
        };
        let read = (vars[1].as_tensor() * 0.3).unwrap().sum_all().unwrap();
        let sum = [score(&crossed, 0), score(&twice, 1), read];
        let sum = sum.into_iter().reduce(|a, b| (a + b).unwrap()).unwrap();
        let store = sum.backward().unwrap();
        if leaves.is_some() {
            // What candle was told of, and what not.
            let known = vars.each_ref().map(|var| store.get(var).is_some());
            assert_eq!(known, [false, true, false, false]);
        }
        let gradients = match leaves {
            None => Gradients::from(store),
            Some(leaves) => leaves.gradients(store).unwrap(),
        };
        let bits = |var| values(&gradients.get(var).unwrap().unwrap());
        vars.each_ref().map(bits)
    };
    let (whole, leaves) = (gradients(None), gradients(Some(Leaves::default())));
    for (i, (whole, leaves)) in whole.iter().zip(&leaves).enumerate() {
        assert!(whole.iter().any(|x| *x != 0.0), "variable {i}");
        if i == 1 {
            // Read by an operation of candle's too, whose gradient is added last.
            let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-5 * a.abs().max(1.0);
            assert!(whole.iter().zip(leaves).all(close), "variable {i}");
        } else {
            assert_eq!(whole, leaves, "variable {i}");
        }
    }
}
