//! DIN's operations against their plain forms; see the parent module.

use super::*;
use crate::{ColumnStatistics, Pairs};

fn statistics(rng: &mut ChaCha8Rng, d: usize) -> ColumnStatistics {
    ColumnStatistics {
        mean: random(rng, &[d]),
        var: (random(rng, &[d]) + 1.6).unwrap(),
    }
}

#[test]
fn batch_norm_and_dice_with_the_batchs_statistics_and_with_known_ones() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    for (n, d) in [(2, 1), (5, 16), (3, 33), (700, 7)] {
        let known = statistics(&mut rng, d);
        let x = (random(&mut rng, &[n, d]) * 2.0).unwrap();
        let inputs = [x, random(&mut rng, &[d]), random(&mut rng, &[d])];
        for known in [None, Some(&known)] {
            check("batch_norm", &mut rng, &inputs, |ops, x| {
                Ok(ops.batch_norm(&x[0], &x[1], &x[2], known, 1e-3)?.0)
            });
            check("dice", &mut rng, &inputs[..2], |ops, x| {
                Ok(ops.dice(&x[0], &x[1], known, 1e-3)?.0)
            });
        }
        // The statistics that come back are those of the definition, or those that were given.
        let x = &inputs[0];
        let (x64, alpha64) = (
            x.to_dtype(DType::F64).unwrap(),
            inputs[1].to_dtype(DType::F64).unwrap(),
        );
        let (_, want) = Ops::Plain.dice(&x64, &alpha64, None, 1e-3).unwrap();
        let columns = x.t().unwrap().to_vec2::<f32>().unwrap();
        for ops in [Ops::Fused, Ops::Plain] {
            let (_, got) = ops.dice(x, &inputs[1], None, 1e-3).unwrap();
            close("mean", &got.mean, &want.mean, 1e-5);
            close("var", &got.var, &want.var, 1e-5);
            let (_, given) = ops.dice(x, &inputs[1], Some(&known), 1e-3).unwrap();
            close("given", &given.var, &known.var, 0.0);
        }
        for (column, var) in columns.iter().zip(values(&want.var)) {
            let mean = column.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
            let squares = column.iter().map(|&v| (f64::from(v) - mean).powi(2));
            assert!((squares.sum::<f64>() / n as f64 - var).abs() < 1e-9);
        }
    }
}

/// One row's statistics are itself: it is normalised to 0 and Dice halves the gate.
#[test]
fn one_row_is_its_own_mean() {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    let (x, alpha) = (random(&mut rng, &[1, 9]), random(&mut rng, &[9]));
    let want = (
        (&x * &alpha.affine(0.5, 0.5).unwrap().unsqueeze(0).unwrap()).unwrap(),
        &x,
    );
    for ops in [Ops::Fused, Ops::Plain] {
        let (y, s) = ops.dice(&x, &alpha, None, 1e-8).unwrap();
        close("dice", &y, &want.0, 1e-6);
        close("mean", &s.mean.unsqueeze(0).unwrap(), want.1, 1e-6);
        close("var", &s.var, &s.var.zeros_like().unwrap(), 1e-12);
    }
}

#[test]
fn a_large_mean_costs_the_statistics_no_precision() {
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    let x = (random(&mut rng, &[3000, 5]) + 300.0).unwrap();
    let alpha = random(&mut rng, &[5]);
    let exact = Ops::Plain.dice(
        &x.to_dtype(DType::F64).unwrap(),
        &alpha.to_dtype(DType::F64).unwrap(),
        None,
        1e-8,
    );
    let (_, want) = exact.unwrap();
    let (_, got) = Ops::Fused.dice(&x, &alpha, None, 1e-8).unwrap();
    close("mean", &got.mean, &want.mean, 1e-6);
    close("var", &got.var, &want.var, 1e-4);
}

/// Candidates and positions of ragged sequences: empty ones of either kind, single ones, and one whose pairs are
/// more than a kernel holds at a time.
fn ragged(rng: &mut ChaCha8Rng) -> Pairs {
    let mut candidates: Vec<usize> = (0..6).map(|_| rng.random_range(0..=7)).collect();
    let mut positions: Vec<usize> = (0..6).map(|_| rng.random_range(0..=5)).collect();
    candidates.extend([0, 1, 3, 1, 61]);
    positions.extend([4, 1, 0, 3, 19]);
    Pairs::new(
        &Segments::from_lengths(&candidates),
        &Segments::from_lengths(&positions),
    )
    .unwrap()
}

#[test]
fn pair_linear_and_weighted_sum_over_ragged_sequences() {
    let mut rng = ChaCha8Rng::seed_from_u64(24);
    for (d, h) in [(1, 1), (12, 5), (33, 16)] {
        let pairs = ragged(&mut rng);
        let (rows, positions) = (pairs.candidates().rows(), pairs.positions().rows());
        let inputs = [
            random(&mut rng, &[rows, d + h]),
            random(&mut rng, &[positions, d + h]),
            random(&mut rng, &[h, d]),
        ];
        check("pair_linear", &mut rng, &inputs, |ops, x| {
            ops.pair_linear(&x[0], &x[1], &x[2], &pairs)
        });
        for shape in [vec![pairs.len()], vec![pairs.len(), 1]] {
            let inputs = [random(&mut rng, &shape), random(&mut rng, &[positions, d])];
            check("weighted_sum", &mut rng, &inputs, |ops, x| {
                ops.weighted_sum(&x[0], &x[1], &pairs)
            });
        }
    }
}

#[test]
fn nothing_to_pair_is_no_fault() {
    let mut rng = ChaCha8Rng::seed_from_u64(25);
    let pairs = Pairs::new(&Segments::from_lengths(&[3]), &Segments::from_lengths(&[0])).unwrap();
    let (left, right) = (random(&mut rng, &[3, 7]), random(&mut rng, &[0, 7]));
    for ops in [Ops::Fused, Ops::Plain] {
        let w = random(&mut rng, &[2, 5]);
        let y = ops.pair_linear(&left, &right, &w, &pairs).unwrap();
        assert_eq!(y.dims(), [0, 2]);
        let sum = ops.weighted_sum(&y.narrow(1, 0, 1).unwrap(), &right, &pairs);
        assert_eq!(values(&sum.unwrap()), vec![0.0; 21]);
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let mut rng = ChaCha8Rng::seed_from_u64(26);
    let pairs = Pairs::new(&Segments::uniform(2, 2), &Segments::uniform(2, 3)).unwrap();
    let mut r = |shape: &[usize]| random(&mut rng, shape);
    for ops in [Ops::Fused, Ops::Plain] {
        assert!(ops.dice(&r(&[3, 4]), &r(&[5]), None, 1e-8).is_err());
        assert!(ops.dice(&r(&[0, 4]), &r(&[4]), None, 1e-8).is_err());
        assert!(
            ops.batch_norm(&r(&[3, 4]), &r(&[4]), &r(&[3]), None, 1e-5)
                .is_err()
        );
        assert!(
            ops.pair_linear(&r(&[4, 7]), &r(&[6, 7]), &r(&[3, 5]), &pairs)
                .is_err()
        );
        assert!(
            ops.pair_linear(&r(&[5, 7]), &r(&[6, 7]), &r(&[2, 5]), &pairs)
                .is_err()
        );
        assert!(ops.weighted_sum(&r(&[11]), &r(&[6, 2]), &pairs).is_err());
        assert!(ops.weighted_sum(&r(&[12]), &r(&[7, 2]), &pairs).is_err());
    }
}
