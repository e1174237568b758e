//! What next-item models over whole catalogues and padded sequences are made of.

use std::f64::consts::TAU;

use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{check, close, random, values};
use crate::{LowPass, Ops, Segments};

#[test]
fn cross_entropy_over_a_whole_table() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    // Less than a block of rows, a whole one, several with a rest.
    for (n, items, d) in [(1, 1, 1), (8, 5, 3), (27, 61, 16)] {
        let targets: Vec<u32> = (0..n).map(|_| rng.random_range(0..items as u32)).collect();
        let inputs = [random(&mut rng, &[n, d]), random(&mut rng, &[items, d])];
        check("cross_entropy", &mut rng, &inputs, |ops, x| {
            ops.cross_entropy(&x[0], &x[1], &targets)
        });
    }
}

/// `-(h·t_y) + log Σ_j exp(h·t_j)` term by term.
#[test]
fn cross_entropy_is_its_formula() {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    let (hidden, table) = (random(&mut rng, &[9, 4]), random(&mut rng, &[7, 4]));
    let targets = [0, 6, 3, 3, 1, 2, 5, 4, 0];
    let (h, t) = (values(&hidden), values(&table));
    let score = |i: usize, j: usize| (0..4).map(|c| h[i * 4 + c] * t[j * 4 + c]).sum::<f64>();
    let term = |(i, &y): (usize, &u32)| {
        let sum: f64 = (0..7).map(|j| score(i, j).exp()).sum();
        sum.ln() - score(i, y as usize)
    };
    let want = targets.iter().enumerate().map(term).sum::<f64>() / 9.0;
    for ops in [Ops::Fused, Ops::Plain] {
        let got = values(&ops.cross_entropy(&hidden, &table, &targets).unwrap())[0];
        assert!((got - want).abs() < 1e-5, "{got}, not {want}");
    }
}

#[test]
fn a_graph_differentiated_twice_gives_the_same() {
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    let hidden = Var::from_tensor(&random(&mut rng, &[11, 4])).unwrap();
    let table = Var::from_tensor(&random(&mut rng, &[7, 4])).unwrap();
    let targets = [0, 6, 3, 3, 1, 2, 5, 4, 0, 1, 1];
    let loss = Ops::Fused.cross_entropy(&hidden, &table, &targets).unwrap();
    let [first, second] = [(); 2].map(|()| loss.backward().unwrap());
    for var in [&hidden, &table] {
        assert_eq!(
            values(first.get(var).unwrap()),
            values(second.get(var).unwrap())
        );
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(24);
    let (hidden, table) = (random(&mut rng, &[2, 4]), random(&mut rng, &[3, 4]));
    let refused = |targets: &[u32]| {
        let result = Ops::Fused.cross_entropy(&hidden, &table, targets);
        result.unwrap_err().to_string()
    };
    assert!(refused(&[0]).contains("1 targets"));
    assert!(refused(&[0, 3]).contains("target 3 in a table of 3 rows"));
    assert!(LowPass::new(6, 0).is_err() && LowPass::new(6, 5).is_err());
    let low = LowPass::new(3, 1).unwrap();
    let scale = random(&mut rng, &[4]);
    let filtered = |x: &Tensor, lengths: &[usize]| {
        Ops::Fused.frequency_filter(x, &Segments::from_lengths(lengths), &scale, &low)
    };
    assert!(filtered(&hidden, &[2, 0]).is_ok());
    assert!(filtered(&hidden, &[1]).is_err(), "rows of no sequence");
    let long = random(&mut rng, &[4, 4]);
    assert!(filtered(&long, &[4]).is_err(), "longer than the filter");
}

#[test]
fn frequency_filters_of_all_and_of_the_last_position() {
    let mut rng = ChaCha8Rng::seed_from_u64(25);
    let sequences: [(usize, usize, usize, &[usize]); 6] = [
        (1, 1, 1, &[1]),
        (7, 2, 5, &[7, 7, 7]),
        (10, 6, 17, &[3, 0, 10, 1]),
        (12, 3, 8, &[12, 2, 11, 5]),
        (4, 2, 3, &[0, 0]),
        (10, 6, 1, &[3, 0, 10, 1]),
    ];
    for (length, frequencies, d, lengths) in sequences {
        let rows = Segments::from_lengths(lengths);
        let low = LowPass::new(length, frequencies).unwrap();
        for low in [low.last(), low] {
            let inputs = [random(&mut rng, &[rows.rows(), d]), random(&mut rng, &[d])];
            check("frequency_filter", &mut rng, &inputs, |ops, x| {
                ops.frequency_filter(&x[0], &rows, &x[1], &low)
            });
        }
    }
}

/// A short sequence is filtered as the one of the filter's length that has zeros before it.
#[test]
fn short_sequences_are_filled_up_with_zeros() {
    let mut rng = ChaCha8Rng::seed_from_u64(27);
    let (length, short, d) = (9, 4, 3);
    let low = LowPass::new(length, 2).unwrap();
    let (x, scale) = (random(&mut rng, &[short, d]), random(&mut rng, &[d]));
    let none = Tensor::zeros((length - short, d), x.dtype(), x.device()).unwrap();
    let filled = Tensor::cat(&[&none, &x], 0).unwrap();
    for ops in [Ops::Fused, Ops::Plain] {
        let filter = |x: &Tensor, n: usize, low: &LowPass| {
            let rows = Segments::uniform(1, n);
            ops.frequency_filter(x, &rows, &scale, low).unwrap()
        };
        let want = filter(&filled, length, &low);
        let want = want.narrow(0, length - short, short).unwrap();
        close("short", &filter(&x, short, &low), &want, 1e-6);
        let last = want.narrow(0, short - 1, 1).unwrap();
        close("its last", &filter(&x, short, &low.last()), &last, 1e-6);
    }
}

/// The transform, cut, and transformed back, as sums over complex numbers.
#[test]
fn the_low_pass_is_the_cut_spectrum() {
    let mut rng = ChaCha8Rng::seed_from_u64(26);
    for (length, frequencies) in [(7, 3), (8, 5), (8, 2), (50, 3)] {
        let x = random(&mut rng, &[length, 1]).to_dtype(DType::F64).unwrap();
        let signal = values(&x);
        let angle = |k: usize, t: usize| TAU * (k * t) as f64 / length as f64;
        // Bin k of the whole spectrum stays if k or length - k is below the cut-off.
        let kept = (0..length).filter(|&k| k.min(length - k) < frequencies);
        let bins: Vec<(usize, f64, f64)> = kept
            .map(|k| {
                let part = |f: fn(f64) -> f64| {
                    signal
                        .iter()
                        .enumerate()
                        .map(|(t, x)| x * f(angle(k, t)))
                        .sum::<f64>()
                };
                (k, part(f64::cos), -part(f64::sin))
            })
            .collect();
        let back = (0..length).map(|s| {
            let term =
                |&(k, re, im): &(usize, f64, f64)| re * angle(k, s).cos() - im * angle(k, s).sin();
            bins.iter().map(term).sum::<f64>() / length as f64
        });
        let want = Tensor::from_vec(back.collect::<Vec<_>>(), (length, 1), &Device::Cpu).unwrap();
        let low = LowPass::new(length, frequencies).unwrap();
        let none = Tensor::zeros(1, DType::F64, &Device::Cpu).unwrap();
        let rows = Segments::uniform(1, length);
        let got = Ops::Plain.frequency_filter(&x, &rows, &none, &low).unwrap();
        close("low pass", &got, &want, 1e-6);
        let all = LowPass::new(length, length / 2 + 1).unwrap();
        let same = Ops::Plain.frequency_filter(&x, &rows, &none, &all).unwrap();
        close("every frequency", &same, &x, 1e-6);
    }
}
