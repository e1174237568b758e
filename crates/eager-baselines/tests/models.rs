//! The models against their formulas, written out in f64 with loops; their gradients against central differences of that;
//! what a state may depend on.

mod common;

use std::f64::consts::TAU;

use candle_core::Device;
use common::{D, HEADS, Matrix, Plain, add, attention, check_gradients, pack, pass};
use eager_baselines::{Bsarec, BsarecConfig, NextItem, Sasrec, SasrecConfig, softmax_loss};
use eager_model::Weights;
use eager_ops::{Dropout, Ops};

const ITEMS: usize = 11;
const INNER: usize = 12;
const WINDOW: usize = 6;

/// Items (`None` for padding) at positions 0 and on.
fn embed(p: &Plain, items: &[Option<u32>]) -> Matrix {
    let (table, positions) = (p.matrix("items"), p.matrix("embedding.positions"));
    let zeros = vec![0.0; D];
    let rows = items.iter().zip(&positions).map(|(item, position)| {
        let item = item.map_or(&zeros, |item| &table[item as usize]);
        item.iter().zip(position).map(|(a, b)| a + b).collect()
    });
    p.norm("embedding.norm", &rows.collect())
}

/// States of one history at every item.
fn plain_sasrec(p: &Plain, history: &[u32], layers: usize) -> Matrix {
    let items: Vec<Option<u32>> = history.iter().copied().map(Some).collect();
    let mut x = embed(p, &items);
    for layer in 0..layers {
        let name = |part: &str| format!("layers.{layer}.{part}");
        x = p.self_attention(&name("self"), &x, |i| (0..=i).collect());
        let parts = (name("inner"), name("outer"), name("norm"));
        x = p.feed_forward((&parts.0, &parts.1, &parts.2), &x);
    }
    x
}

/// The state of one history at its last position.
fn plain_bsarec(p: &Plain, history: &[u32], config: &BsarecConfig) -> Vec<f64> {
    let first = WINDOW - history.len();
    let mut items = vec![None; first];
    items.extend(history.iter().copied().map(Some));
    let mut x = embed(p, &items);
    for layer in 0..config.layers {
        let name = |part: &str| format!("layers.{layer}.{part}");
        let beta = p.vector(&name("beta"));
        let low = low_pass(&x, config.filter().frequencies());
        let filtered = (0..WINDOW).map(|t| {
            let of = |c: usize| low[t][c] + beta[c].powi(2) * (x[t][c] - low[t][c]);
            (0..D).map(of).collect()
        });
        let filtered = p.norm(&name("filter_norm"), &add(&x, &filtered.collect()));
        let (q, kv) = (p.linear(&name("q"), &x), p.linear(&name("kv"), &x));
        let part = |n: usize| -> Matrix { kv.iter().map(|r| r[n * D..][..D].to_vec()).collect() };
        let mixed = attention(&q, &part(0), &part(1), |i| (first..=i).collect());
        let mixed = add(&x, &p.linear(&name("attended"), &mixed));
        let mixed = p.norm(&name("attention_norm"), &mixed);
        let mix = |(f, a): (&Vec<f64>, &Vec<f64>)| {
            let both = f.iter().zip(a);
            both.map(|(f, a)| config.alpha * f + (1.0 - config.alpha) * a)
                .collect()
        };
        x = filtered.iter().zip(&mixed).map(mix).collect();
        let parts = (name("inner"), name("outer"), name("norm"));
        x = p.feed_forward((&parts.0, &parts.1, &parts.2), &x);
    }
    x.swap_remove(WINDOW - 1)
}

/// The lowest frequencies of every column, by the discrete Fourier transform and back.
fn low_pass(x: &Matrix, frequencies: usize) -> Matrix {
    let n = x.len();
    let angle = |k: usize, t: usize| TAU * (k * t) as f64 / n as f64;
    let mut low = vec![vec![0.0; D]; n];
    for c in 0..D {
        for k in (0..n).filter(|&k| k.min(n - k) < frequencies) {
            let re: f64 = (0..n).map(|t| x[t][c] * angle(k, t).cos()).sum();
            let im: f64 = (0..n).map(|t| -x[t][c] * angle(k, t).sin()).sum();
            for (s, low) in low.iter_mut().enumerate() {
                low[c] += (re * angle(k, s).cos() - im * angle(k, s).sin()) / n as f64;
            }
        }
    }
    low
}

/// `Σ log Σ_j exp(s·t_j) - s·t_target`, its mean.
fn plain_loss(p: &Plain, states: &[(Vec<f64>, u32)]) -> f64 {
    let items = p.matrix("items");
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let term = |(state, target): &(Vec<f64>, u32)| {
        let sum: f64 = items.iter().map(|item| dot(state, item).exp()).sum();
        sum.ln() - dot(state, &items[*target as usize])
    };
    states.iter().map(term).sum::<f64>() / states.len() as f64
}

fn sasrec_config() -> SasrecConfig {
    SasrecConfig {
        d_model: D,
        heads: HEADS,
        layers: 2,
        feed_forward: INNER,
        window: WINDOW,
        init: 0.4,
        ..SasrecConfig::default()
    }
}

fn bsarec_config() -> BsarecConfig {
    BsarecConfig {
        d_model: D,
        heads: HEADS,
        layers: 2,
        feed_forward: INNER,
        window: WINDOW,
        init: 0.4,
        cutoff: 3,
        ..BsarecConfig::default()
    }
}

fn models() -> [Box<dyn NextItem>; 2] {
    let weights = || Weights::random(7, &Device::Cpu);
    [
        Box::new(Sasrec::new(&sasrec_config(), ITEMS, weights()).unwrap()),
        Box::new(Bsarec::new(&bsarec_config(), ITEMS, weights()).unwrap()),
    ]
}

const HISTORIES: [&[u32]; 4] = [&[3], &[0, 1, 2], &[10, 9, 8, 7, 6, 5], &[4, 4, 1, 4]];

/// The training pass's states by the formula, each with a target.
fn plain_states(p: &Plain, model: &dyn NextItem) -> Vec<(Vec<f64>, u32)> {
    let histories = HISTORIES.iter();
    let states: Matrix = if model.every_position() {
        histories.flat_map(|h| plain_sasrec(p, h, 2)).collect()
    } else {
        histories
            .map(|h| plain_bsarec(p, h, &bsarec_config()))
            .collect()
    };
    let targets = (0..).map(|i| (i * 5 + 2) % ITEMS as u32);
    states.into_iter().zip(targets).collect()
}

#[test]
fn states_are_those_of_the_formulas() {
    for model in models() {
        let plain = Plain::of(model.parameters());
        let want = plain_states(&plain, model.as_ref());
        for ops in [Ops::Fused, Ops::Plain] {
            let off = Dropout::off();
            let states = model.states(pass(ops, &off), &pack(&HISTORIES)).unwrap();
            let got = states.to_vec2::<f32>().unwrap();
            assert_eq!(got.len(), want.len());
            for (i, (got, (want, _))) in got.iter().zip(&want).enumerate() {
                for (got, want) in got.iter().zip(want) {
                    let got = f64::from(*got);
                    assert!((got - want).abs() < 2e-5, "state {i}: {got}, not {want}");
                }
            }
        }
    }
}

#[test]
fn gradients_are_those_of_the_formulas() {
    for model in models() {
        let plain = Plain::of(model.parameters());
        let targets: Vec<u32> = plain_states(&plain, model.as_ref())
            .into_iter()
            .map(|(_, target)| target)
            .collect();
        let off = Dropout::off();
        let states = model
            .states(pass(Ops::Fused, &off), &pack(&HISTORIES))
            .unwrap();
        let loss = softmax_loss(Ops::Fused, &states, model.items(), &targets, None).unwrap();
        let want = plain_loss(&plain, &plain_states(&plain, model.as_ref()));
        let got = f64::from(loss.to_scalar::<f32>().unwrap());
        assert!((got - want).abs() < 1e-5, "loss {got}, not {want}");
        let grads = loss.backward().unwrap();
        let loss_of = |p: &Plain| plain_loss(p, &plain_states(p, model.as_ref()));
        check_gradients(model.parameters(), &grads, &plain, loss_of);
    }
}

#[test]
fn the_last_state_is_that_of_the_training_pass() {
    let off = Dropout::off();
    for model in models() {
        let histories = pack(&HISTORIES);
        let all = model.states(pass(Ops::Fused, &off), &histories).unwrap();
        let last = model.last(pass(Ops::Fused, &off), &histories).unwrap();
        assert_eq!(last.dims(), [HISTORIES.len(), D]);
        let (all, last) = (
            all.to_vec2::<f32>().unwrap(),
            last.to_vec2::<f32>().unwrap(),
        );
        for (i, range) in histories.rows().iter().enumerate() {
            let row = if model.every_position() {
                range.end - 1
            } else {
                i
            };
            let pairs = all[row].iter().zip(&last[i]);
            pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-5));
        }
    }
}

#[test]
fn sasrec_does_not_see_what_comes_later() {
    let model = Sasrec::new(&sasrec_config(), ITEMS, Weights::random(7, &Device::Cpu)).unwrap();
    let dropped = || Dropout::new(0.5, 3, 9);
    let states = |history: &[u32], dropout: &Dropout| {
        let states = model
            .states(pass(Ops::Fused, dropout), &pack(&[history]))
            .unwrap();
        states.to_vec2::<f32>().unwrap()
    };
    let (a, b) = ([1, 2, 3, 4, 5, 6], [1, 2, 3, 9, 9, 0]);
    for dropout in [Dropout::off, dropped] {
        let (a, b) = (states(&a, &dropout()), states(&b, &dropout()));
        assert_eq!(a[..3], b[..3]);
        assert_ne!(a[3], b[3]);
    }
    // Nor does the history's length matter to what is before.
    let short = states(&a[..3], &Dropout::off());
    for (short, long) in short
        .iter()
        .flatten()
        .zip(states(&a, &Dropout::off()).iter().flatten())
    {
        assert!((short - long).abs() < 1e-6);
    }
}

#[test]
fn histories_that_cannot_be_read_are_named() {
    let off = Dropout::off();
    for model in models() {
        let refused = |histories: &[&[u32]]| {
            let result = model.states(pass(Ops::Fused, &off), &pack(histories));
            result.unwrap_err().to_string()
        };
        assert!(refused(&[&[1], &[0; WINDOW + 1]]).contains("history 1 has 7 items; 1 to 6"));
        assert!(refused(&[&[]]).contains("history 0 has 0 items"));
        assert!(refused(&[&[11]]).contains("item 11 of a history is not among 11 items"));
    }
}
