//! Every loss against a plain f64 version written from its formula, and its gradient against finite differences of that.

use candle_core::{DType, Device, Tensor, Var};
use eager_losses::{
    ContrastiveConfig, Levels, Metric, Negatives, contrastive, generation, recognition,
    reconstruction,
};
use eager_ops::{Dropout, Ops, Pass, RowRanges};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 5;
const WIDTH: usize = 7;

fn draw(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-2.0..2.0)).collect()
}

fn tensor(data: &[f64], rows: usize, dtype: DType) -> Tensor {
    Tensor::from_slice(data, (rows, data.len() / rows), &Device::Cpu)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

fn scalar(t: &Tensor) -> f64 {
    t.to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap()
}

/// Holds `loss` (of candle tensors, f64 and f32) against `reference`, in value and in the gradient of every input.
fn check(
    name: &str,
    inputs: &[(Vec<f64>, usize)],
    loss: impl Fn(&[Tensor]) -> Tensor,
    reference: impl Fn(&[Vec<f64>]) -> f64,
) {
    for (dtype, close) in [(DType::F64, 1e-7), (DType::F32, 2e-4)] {
        let vars: Vec<Var> = inputs
            .iter()
            .map(|(data, rows)| Var::from_tensor(&tensor(data, *rows, dtype)).unwrap())
            .collect();
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let out = loss(&tensors);
        let mut data: Vec<Vec<f64>> = inputs.iter().map(|(d, _)| d.clone()).collect();
        let want = reference(&data);
        let found = scalar(&out);
        assert!(
            (found - want).abs() <= close * want.abs().max(1.0),
            "{name} {dtype:?}: {found} against {want}"
        );
        let grads = out.backward().unwrap();
        let mut largest = 0f64;
        for (i, var) in vars.iter().enumerate() {
            let Some(grad) = grads.get(var) else {
                panic!("{name}: input {i} has no gradient")
            };
            let grad: Vec<f64> = grad
                .to_dtype(DType::F64)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            for (j, &found) in grad.iter().enumerate() {
                let (h, x) = (1e-5, data[i][j]);
                data[i][j] = x + h;
                let above = reference(&data);
                data[i][j] = x - h;
                let below = reference(&data);
                data[i][j] = x;
                let want = (above - below) / (2.0 * h);
                largest = largest.max(want.abs());
                assert!(
                    (found - want).abs() <= close.max(1e-6) * want.abs().max(1.0),
                    "{name} {dtype:?}: gradient of input {i}, element {j}: {found} against {want}"
                );
            }
        }
        assert!(largest > 1e-3, "{name}: no gradient to speak of");
    }
}

/// `-log softmax(logits)[target]`.
fn cross_entropy(logits: &[f64], target: usize) -> f64 {
    logits.iter().map(|x| x.exp()).sum::<f64>().ln() - logits[target]
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn metrics_of_the_contrastive_task() {
    let negatives = draw(4 * WIDTH, 3);
    let (items, targets) = ([8u32, 1, 9, 3], [1u32, 2, 3, 4, 1]);
    let inputs = [
        (draw(BATCH * WIDTH, 1), BATCH),
        (draw(BATCH * WIDTH, 2), BATCH),
    ];
    let of = |metric| ContrastiveConfig {
        metric,
        ..ContrastiveConfig::default()
    };
    let mean = |h: fn(f64) -> f64| {
        move |x: &[Vec<f64>]| {
            let terms = x[0].iter().zip(&x[1]).map(|(s, v)| h(s - v));
            terms.sum::<f64>() / (BATCH * WIDTH) as f64
        }
    };
    let run = |metric, reference: &dyn Fn(&[Vec<f64>]) -> f64| {
        check(
            &format!("{metric:?}"),
            &inputs,
            |x| {
                let negatives = Negatives {
                    items: items.to_vec(),
                    vectors: tensor(&negatives, 4, x[0].dtype()),
                };
                contrastive(
                    Ops::Fused,
                    &of(metric),
                    &x[0],
                    &x[1],
                    &targets,
                    Some(&negatives),
                )
                .unwrap()
            },
            reference,
        );
    };
    run(
        Metric::SmoothL1,
        &mean(|x| {
            if x.abs() < 1.0 {
                x * x / 2.0
            } else {
                x.abs() - 0.5
            }
        }),
    );
    run(Metric::L1, &mean(f64::abs));
    run(Metric::L2, &mean(|x| x * x));
    run(Metric::Cosine, &|x| {
        let rows = x[0].chunks(WIDTH).zip(x[1].chunks(WIDTH));
        let terms = rows.map(|(s, v)| 1.0 - dot(s, v) / (dot(s, s) * dot(v, v)).sqrt());
        terms.sum::<f64>() / BATCH as f64
    });
    run(Metric::InfoNce, &|x| {
        let rows = x[0].chunks(WIDTH).zip(x[1].chunks(WIDTH)).zip(targets);
        let terms = rows.map(|((s, v), target)| {
            let others = negatives.chunks(WIDTH).zip(items);
            let others = others.filter(|(_, item)| *item != target);
            let logits: Vec<f64> = std::iter::once(v)
                .chain(others.map(|(n, _)| n))
                .map(|n| dot(s, n) / (dot(s, s) * dot(n, n)).sqrt() / 0.3)
                .collect();
            cross_entropy(&logits, 0)
        });
        terms.sum::<f64>() / BATCH as f64
    });
    // At the kinks the subgradient is 0, as in PyTorch.
    for metric in [Metric::L1, Metric::SmoothL1] {
        let s = Var::from_tensor(&tensor(&[0.5, -1.0], 1, DType::F32)).unwrap();
        let loss = contrastive(
            Ops::Fused,
            &of(metric),
            &s,
            &s.as_tensor().detach(),
            &[0],
            None,
        )
        .unwrap();
        let grad = loss.backward().unwrap().get(&s).unwrap().clone();
        assert_eq!(grad.to_vec2::<f32>().unwrap(), [[0.0, 0.0]], "{metric:?}");
    }
}

/// Two codes of two levels in a tree of nodes 0 (root), 1..4, and below 1: 4..6, below 2: 6..9, below 3: 9.
fn rows() -> RowRanges {
    RowRanges::new(vec![1..4, 6..9, 1..4, 9..10], vec![2, 7, 3, 9]).unwrap()
}

fn logits(hidden: &[f64], tokens: &[f64], row: usize) -> f64 {
    let rows = rows();
    let range = rows.ranges()[row].clone();
    let h = &hidden[row * WIDTH..(row + 1) * WIDTH];
    let logits: Vec<f64> = range
        .clone()
        .map(|t| dot(h, &tokens[t as usize * WIDTH..(t as usize + 1) * WIDTH]))
        .collect();
    cross_entropy(&logits, (rows.targets()[row] - range.start) as usize)
}

fn pass(ops: Ops, dropout: &Dropout) -> Pass<'_> {
    Pass {
        ops,
        dropout,
        leaves: None,
    }
}

#[test]
fn generation_is_the_code_s_log_probability() {
    let inputs = [(draw(4 * WIDTH, 1), 4), (draw(10 * WIDTH, 2), 10)];
    for ops in [Ops::Plain, Ops::Fused] {
        let off = Dropout::off();
        let pass = pass(ops, &off);
        for (reduction, scale) in [(Levels::Sum, 0.5), (Levels::Mean, 0.25)] {
            check(
                &format!("generation {ops:?} {reduction:?}"),
                &inputs,
                |x| generation(pass, &x[0], &x[1], &rows(), 2, reduction).unwrap(),
                |x| scale * (0..4).map(|r| logits(&x[0], &x[1], r)).sum::<f64>(),
            );
        }
    }
}

#[test]
fn reconstruction_counts_masked_tokens_alone() {
    let inputs = [(draw(2 * WIDTH, 1), 2), (draw(10 * WIDTH, 2), 10)];
    let off = Dropout::off();
    let pass = pass(Ops::Fused, &off);
    check(
        "reconstruction",
        &inputs,
        |x| reconstruction(pass, &x[0], &x[1], &rows(), &[1, 2]).unwrap(),
        |x| {
            // The states of rows 1 and 2, in the place of those of all four.
            let hidden: Vec<f64> = [&[0.0; WIDTH], x[0].as_slice()].concat();
            0.5 * (logits(&hidden, &x[1], 1) + logits(&hidden, &x[1], 2))
        },
    );
    let t = |rows| tensor(&draw(rows * WIDTH, 1), rows, DType::F32);
    assert!(reconstruction(pass, &t(1), &t(10), &rows(), &[4]).is_err());
    assert!(reconstruction(pass, &t(2), &t(10), &rows(), &[1]).is_err());
    assert!(reconstruction(pass, &t(4), &t(10), &rows(), &[]).is_err());
}

#[test]
fn recognition_is_binary_cross_entropy() {
    let inputs = [(draw(3, 1), 3), (draw(2, 2), 2)];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    check(
        "recognition",
        &inputs,
        |x| {
            recognition(
                Ops::Fused,
                &x[0].squeeze(1).unwrap(),
                &x[1].squeeze(1).unwrap(),
            )
            .unwrap()
        },
        |x| {
            let own = x[0].iter().map(|&x| -sigmoid(x).ln());
            let other = x[1].iter().map(|&x| -(1.0 - sigmoid(x)).ln());
            own.chain(other).sum::<f64>() / 5.0
        },
    );
    // Far out it is finite and linear.
    let far = Tensor::new(&[-200f32], &Device::Cpu).unwrap();
    let near = Tensor::new(&[-200f32], &Device::Cpu).unwrap();
    let loss = recognition(Ops::Fused, &far, &near)
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    assert!((loss - 100.0).abs() < 1e-3);
}
