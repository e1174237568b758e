//! DIN against the formulas of its paper, written out without the identities that save the work.

use std::collections::HashMap;

use candle_core::{D, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::Parameters;

fn config() -> DinConfig {
    DinConfig {
        width: 6,
        init_std: 0.5,
        unit: vec![5, 4],
        windows: vec![3, 2, 1, 1],
        top: vec![7, 5],
        dropout: 0.0,
        norm_eps: 1e-3,
        dice_eps: 1e-3,
        ..Default::default()
    }
}

const ITEMS: usize = 20;

/// A DIN with nothing at its start value: biases, norms and alphas are moved too.
fn model(config: &DinConfig, seed: u64) -> (Din, Parameters) {
    let mut weights = Weights::random(seed, &Device::Cpu);
    let din = Din::new(config, ITEMS, &mut weights).unwrap();
    let parameters = weights.finish().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let moved = parameters
        .tensors()
        .into_iter()
        .collect::<std::collections::BTreeMap<_, _>>()
        .into_iter()
        .map(|(name, t)| {
            let noise: Vec<f32> = (0..t.elem_count())
                .map(|_| rng.random_range(-0.3..0.3))
                .collect();
            let noise = Tensor::from_vec(noise, t.shape(), &Device::Cpu).unwrap();
            (name, (t + noise).unwrap())
        })
        .collect();
    parameters.set(&moved).unwrap();
    (din, parameters)
}

struct Example {
    history: Vec<u32>,
    items: Vec<u32>,
}

/// Histories from one item to all the windows hold.
fn examples(seed: u64) -> Vec<Example> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |n| (0..n).map(|_| rng.random_range(0..ITEMS as u32)).collect();
    [(1, 3), (7, 4), (4, 1), (2, 5)]
        .map(|(history, items)| Example {
            history: draw(history),
            items: draw(items),
        })
        .into()
}

fn forward(ops: Ops, din: &Din, examples: &[Example]) -> (Tensor, DinStatistics) {
    let history: Vec<u32> = examples.iter().flat_map(|e| e.history.clone()).collect();
    let items: Vec<u32> = examples.iter().flat_map(|e| e.items.clone()).collect();
    let lengths = |f: fn(&Example) -> usize| {
        Segments::from_lengths(&examples.iter().map(f).collect::<Vec<_>>())
    };
    let batch = DinBatch {
        history: &history,
        positions: &lengths(|e| e.history.len()),
        items: &items,
        candidates: &lengths(|e| e.items.len()),
    };
    din.forward(ops, &batch, &Dropout::off()).unwrap()
}

/// Batch normalisation and Dice by their formulas; `known` are saved statistics.
fn activation(
    p: &HashMap<String, Tensor>,
    known: Option<&HashMap<String, Tensor>>,
    name: &str,
    norm: bool,
    x: &Tensor,
) -> Tensor {
    let normalised = |x: &Tensor, name: &str| {
        let (mean, var) = match known {
            Some(k) => (
                k[&format!("statistics.{name}.mean")].clone(),
                k[&format!("statistics.{name}.var")].clone(),
            ),
            None => {
                let mean = x.mean(0).unwrap();
                let centred = x.broadcast_sub(&mean).unwrap();
                (mean, centred.sqr().unwrap().mean(0).unwrap())
            }
        };
        let centred = x.broadcast_sub(&mean).unwrap();
        centred
            .broadcast_div(&(var + 1e-3).unwrap().sqrt().unwrap())
            .unwrap()
    };
    let mut x = x.clone();
    if norm {
        x = normalised(&x, &format!("{name}.norm"))
            .broadcast_mul(&p[&format!("{name}.norm.weight")])
            .unwrap()
            .broadcast_add(&p[&format!("{name}.norm.bias")])
            .unwrap();
    }
    let gate = candle_nn::ops::sigmoid(&normalised(&x, name)).unwrap();
    let alpha = &p[&format!("{name}.alpha")];
    let rest = (1.0 - &gate).unwrap().broadcast_mul(alpha).unwrap();
    (x * (gate + rest).unwrap()).unwrap()
}

fn linear(x: &Tensor, w: &Tensor, b: &Tensor) -> Tensor {
    x.matmul(&w.t().unwrap()).unwrap().broadcast_add(b).unwrap()
}

/// The textbook network: every pair's `[q, b, q - b, q∘b]` and every candidate's window sums are written out.
fn textbook(
    config: &DinConfig,
    p: &HashMap<String, Tensor>,
    known: Option<&HashMap<String, Tensor>>,
    examples: &[Example],
) -> Tensor {
    let row = |item: u32| p["items"].get(item as usize).unwrap();
    let (mut pairs, mut places) = (vec![], vec![]);
    let mut candidates = vec![];
    let longest: usize = config.windows.iter().sum();
    for e in examples {
        for &item in &e.items {
            for (i, &b) in e.history.iter().enumerate() {
                let (q, b) = (row(item), row(b));
                let input = [&q, &b, &(&q - &b).unwrap(), &(&q * &b).unwrap()];
                pairs.push(Tensor::cat(&input, 0).unwrap());
                // The window whose span holds this position, counted from the oldest.
                let position = longest - e.history.len() + i;
                let ends = config.windows.iter().scan(0, |end, w| {
                    *end += w;
                    Some(*end)
                });
                let window = ends.take_while(|&end| end <= position).count();
                places.push((candidates.len(), window, b));
            }
            candidates.push(row(item));
        }
    }
    let first: Vec<&Tensor> = ["q", "b", "d", "p"]
        .iter()
        .map(|n| &p[&format!("unit.0.{n}")])
        .collect();
    let h = linear(
        &Tensor::stack(&pairs, 0).unwrap(),
        &Tensor::cat(&first, 1).unwrap(),
        &p["unit.0.bias"],
    );
    let h = activation(p, known, "unit.0", false, &h);
    let h = linear(&h, &p["unit.1.weight"], &p["unit.1.bias"]);
    let h = activation(p, known, "unit.1", false, &h);
    let a = linear(&h, &p["unit.out.weight"], &p["unit.out.bias"]); // [pairs, 1]
    let inputs: Vec<Tensor> = (0..candidates.len())
        .map(|c| {
            let mut parts = vec![candidates[c].clone()];
            for w in 0..config.windows.len() {
                let mut sum = candidates[c].zeros_like().unwrap();
                for (i, (candidate, window, b)) in places.iter().enumerate() {
                    if (*candidate, *window) == (c, w) {
                        let weighted = b.broadcast_mul(&a.get(i).unwrap()).unwrap();
                        sum = (sum + weighted).unwrap();
                    }
                }
                parts.push(sum);
            }
            Tensor::cat(&parts, 0).unwrap()
        })
        .collect();
    let mut first = vec![p["top.0.candidate"].clone()];
    first.extend((0..config.windows.len()).map(|w| p[&format!("top.0.window.{w}")].clone()));
    let x = linear(
        &Tensor::stack(&inputs, 0).unwrap(),
        &Tensor::cat(&first, 1).unwrap(),
        &p["top.0.bias"],
    );
    let x = activation(p, known, "top.0", config.batch_norm, &x);
    let x = linear(&x, &p["top.1.weight"], &p["top.1.bias"]);
    let x = activation(p, known, "top.1", config.batch_norm, &x);
    let y = linear(&x, &p["top.out.weight"], &p["top.out.bias"]);
    y.squeeze(D::Minus1).unwrap()
}

fn close(name: &str, got: &Tensor, want: &Tensor) {
    assert_eq!(got.dims(), want.dims(), "{name}");
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let want = flat(want);
    let scale = want.iter().fold(0f32, |m, x| m.max(x.abs())).max(1e-2);
    for (a, b) in flat(got).into_iter().zip(want) {
        assert!((a - b).abs() <= 3e-4 * scale, "{name}: {a}, not {b}");
    }
}

#[test]
fn training_follows_the_textbook_in_scores_and_gradients() {
    for batch_norm in [true, false] {
        let config = DinConfig {
            batch_norm,
            ..config()
        };
        let (din, parameters) = model(&config, 1);
        let examples = examples(2);
        let variables: HashMap<String, Tensor> = parameters
            .parts()
            .into_iter()
            .map(|(n, v, _)| (n, v.as_tensor().clone()))
            .collect();
        let want = textbook(&config, &variables, None, &examples);
        let factors: Vec<f32> = (0..want.elem_count()).map(|i| (i as f32).sin()).collect();
        let factors = Tensor::from_vec(factors, want.shape(), &Device::Cpu).unwrap();
        let gradients = |y: &Tensor| {
            let loss = (y * &factors).unwrap().sum_all().unwrap();
            loss.backward().unwrap()
        };
        let want_gradients = gradients(&want);
        for ops in [Ops::Fused, Ops::Plain] {
            let (got, _) = forward(ops, &din, &examples);
            close("scores", &got, &want);
            let got_gradients = gradients(&got);
            for (name, var, _) in parameters.parts() {
                let got = got_gradients.get(&var).unwrap_or_else(|| panic!("{name}"));
                close(&name, got, want_gradients.get(&var).unwrap());
            }
        }
    }
}

#[test]
fn the_scorer_follows_the_textbook_with_running_statistics() {
    let config = config();
    let (din, parameters) = model(&config, 3);
    // Two items of one row, for equal scores.
    let twins: Vec<u32> = (0..ITEMS as u32)
        .map(|i| if i == 17 { 4 } else { i })
        .collect();
    let twins = Ops::Plain.gather(&parameters.tensors()["items"], &twins);
    parameters.set_one("items", &twins.unwrap()).unwrap();
    let examples = examples(4);
    let mut running = DinStatistics::new(&config, &Device::Cpu).unwrap();
    let (_, seen) = forward(Ops::Fused, &din, &examples);
    running.update(&seen, 0.3).unwrap();
    let statistics = running.tensors(&config);
    // Of nobody nothing but the candidate's own part remains.
    let histories = examples.into_iter().map(|e| e.history).chain([vec![]]);
    let every: Vec<Example> = histories
        .map(|history| Example {
            history,
            items: (0..ITEMS as u32).collect(),
        })
        .collect();
    let want = textbook(&config, &parameters.tensors(), Some(&statistics), &every);
    let want = want.reshape((every.len(), ITEMS)).unwrap();
    for ops in [Ops::Fused, Ops::Plain] {
        let scorer = DinScorer::new(ops, &din, &running).unwrap();
        for (i, Example { history, items }) in every.iter().enumerate() {
            let got = scorer.score(history).unwrap();
            let scores = Tensor::new(&got[..], &Device::Cpu).unwrap();
            close("scores", &scores, &want.get(i).unwrap());
            let score = |item: u32| got[item as usize];
            let mut list = items.clone();
            list.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
            for (place, &item) in list.iter().enumerate() {
                assert_eq!(scorer.rank(history, item).unwrap(), place);
            }
        }
        assert!(
            scorer
                .score(&[0; 8])
                .unwrap_err()
                .to_string()
                .contains("hold 7")
        );
        assert!(scorer.score(&[99]).is_err());
        assert!(scorer.rank(&[1], 99).is_err());
    }
}

#[test]
fn running_statistics_move_and_come_back() {
    let config = config();
    let (din, _) = model(&config, 5);
    let mut running = DinStatistics::new(&config, &Device::Cpu).unwrap();
    let (_, seen) = forward(Ops::Fused, &din, &examples(6));
    running.update(&seen, 0.1).unwrap();
    let mean = |s: &DinStatistics| {
        s.tensors(&config)["statistics.top.1.norm.mean"]
            .to_vec1::<f32>()
            .unwrap()
    };
    for (got, batch) in mean(&running).into_iter().zip(mean(&seen)) {
        assert!((got - 0.1 * batch).abs() < 1e-6);
    }
    let mut saved = running.tensors(&config);
    assert_eq!(saved.len(), 2 * (2 + 4));
    saved.insert("items".into(), din.items().clone());
    let back = DinStatistics::take(&config, &mut saved, &Device::Cpu).unwrap();
    assert_eq!((mean(&back), saved.len()), (mean(&running), 1));
    let message = DinStatistics::take(&config, &mut saved, &Device::Cpu).unwrap_err();
    assert!(message.to_string().contains("another configuration"));
    let other = DinConfig {
        batch_norm: false,
        ..config
    };
    let fewer = DinStatistics::new(&other, &Device::Cpu).unwrap();
    let message = running.update(&fewer, 0.1).unwrap_err();
    assert!(message.to_string().contains("another model"), "{message}");
}

#[test]
fn a_short_history_fills_the_newest_windows() {
    let rows = DinConfig::default()
        .rows_by_window(&Segments::from_lengths(&[3, 0, 19, 7]))
        .unwrap();
    let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
    assert_eq!(lengths, [5, 4, 2, 3, 2, 2, 2, 3, 3, 3]);
    assert_eq!(
        (&rows[9][..], &rows[3][..]),
        (&[2, 21, 28][..], &[14, 15, 22][..])
    );
    assert_eq!(rows[0], [3, 4, 5, 6, 7]);
}

#[test]
fn a_bad_configuration_is_told() {
    let bad = DinConfig {
        unit: vec![64, 0],
        ..Default::default()
    };
    let message = bad.validate().unwrap_err().to_string();
    assert!(message.contains("`unit` is [64, 0]"), "{message}");
    let all = DinConfig {
        dropout: 0.999_999_99,
        ..Default::default()
    };
    let message = all.validate().unwrap_err().to_string();
    assert!(message.contains("`dropout` is 0.99999999"), "{message}");
    assert!(DinConfig::default().validate().is_ok());
    assert!(serde_json::from_str::<DinConfig>(r#"{"widht": 3}"#).is_err());
}
