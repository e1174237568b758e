//! Loops the compiler turns into vector code, and the run-time choice of the instruction set.
//!
//! Sums run over sixteen fixed lanes, so their order, and with it the result, is the same on every CPU.

const LANES: usize = 16;

/// Runs `f` compiled for the widest vectors this CPU has (AVX-512, AVX2 or the baseline).
///
/// Give it `#[inline(always)] || …`, with plain loops inside: what is not inlined is compiled once, for the baseline. So is the
/// shim by which the compiler calls a closure that borrows as `FnOnce`, as `pulp` calls closures; hence `FnMut` and
/// `WithSimd`. (Both seen in profiles.)
#[inline(always)]
pub(crate) fn dispatch<R>(f: impl FnMut() -> R) -> R {
    struct Run<F>(F);
    impl<R, F: FnMut() -> R> pulp::WithSimd for Run<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Run(f))
}

/// The lanes' sum, halved four times: as vectors, not one after the other.
#[inline(always)]
fn total(lanes: [f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// `Σ x`.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += v;
        }
    }
    total(lanes) + rest
}

/// `Σ x·y`.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest: f32 = xs
        .remainder()
        .iter()
        .zip(ys.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (a, b) in xs.zip(ys) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    total(lanes) + rest
}

/// The largest element; `-∞` if there is none.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks
        .remainder()
        .iter()
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    lanes.into_iter().fold(rest, f32::max)
}

/// `y += a·x`.
#[inline(always)]
pub(crate) fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// Columns of a block of [`each_column`].
const COLUMNS: usize = 8;

/// Every column of one row: `written[a][i] = f(read[..][i]).0[a]` and `sums[b][i] += f(read[..][i]).1[b]`, all of one length.
///
/// Column by column in blocks that are read before they are written. A plain loop over so many slices is made into vectors of
/// several at a time, for rows that are long enough, behind checks that no two slices overlap: a row of 16 columns is done one
/// by one then (`cargo bench -p eager-ops -- dice`).
#[inline(always)]
pub(crate) fn each_column<const A: usize, const B: usize, const N: usize>(
    mut written: [&mut [f32]; A],
    mut sums: [&mut [f32]; B],
    read: [&[f32]; N],
    f: impl Fn([f32; N]) -> ([f32; A], [f32; B]),
) {
    let block = |x: &[f32], start: usize| -> [f32; COLUMNS] {
        let x = &x[start..start + COLUMNS];
        std::array::from_fn(|i| x[i])
    };
    let d = read[0].len();
    let whole = d - d % COLUMNS;
    for start in (0..whole).step_by(COLUMNS) {
        let x: [_; N] = std::array::from_fn(|n| block(read[n], start));
        let mut totals: [_; B] = std::array::from_fn(|b| block(sums[b], start));
        let mut new = [[0.0; COLUMNS]; A];
        for i in 0..COLUMNS {
            let (values, terms) = f(std::array::from_fn(|n| x[n][i]));
            for (new, value) in new.iter_mut().zip(values) {
                new[i] = value;
            }
            for (total, term) in totals.iter_mut().zip(terms) {
                total[i] += term;
            }
        }
        for (written, new) in written.iter_mut().zip(&new) {
            written[start..start + COLUMNS].copy_from_slice(new);
        }
        for (sums, totals) in sums.iter_mut().zip(&totals) {
            sums[start..start + COLUMNS].copy_from_slice(totals);
        }
    }
    for i in whole..d {
        let (values, terms) = f(std::array::from_fn(|n| read[n][i]));
        for (written, value) in written.iter_mut().zip(values) {
            written[i] = value;
        }
        for (sums, term) in sums.iter_mut().zip(terms) {
            sums[i] += term;
        }
    }
}

/// `eˣ` by range reduction and a polynomial of degree 5 (Cephes `expf`); relative error below 2e-7
/// for `x` in `[-87, 88]`, clamped outside.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding and taking away 1.5·2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let y = p * r * r + r + 1.0;
    // `as` saturates, which blocks vectorisation of the whole loop; the clamp above bounds `n`.
    // SAFETY: `n` is an integer in [-126, 127] (a NaN passes the clamp: `max` then maps it to -126).
    let n = unsafe { n.max(-126.0).to_int_unchecked::<i32>() };
    y * f32::from_bits(((n + 127) << 23) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_matches_f64() {
        for i in -86_000..88_000 {
            let x = i as f32 * 1e-3;
            let want = f64::from(x).exp();
            assert!(
                (f64::from(exp(x)) - want).abs() <= 2.5e-7 * want,
                "exp({x})"
            );
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-1e30) < 1e-37 && exp(1e30).is_finite());
    }

    #[test]
    fn every_column_is_done_once() {
        for d in [1, 7, 8, 16, 19] {
            let x: Vec<f32> = (0..d).map(|i| i as f32).collect();
            let (mut twice, mut squares) = (vec![f32::NAN; d], vec![1.0; d]);
            let mut counts = vec![0.0; d];
            each_column(
                [&mut twice],
                [&mut squares, &mut counts],
                [&x, &x],
                #[inline(always)]
                |[x, y]| ([x + y], [x * y, 1.0]),
            );
            for (i, x) in x.iter().enumerate() {
                assert_eq!(
                    (twice[i], squares[i], counts[i]),
                    (2.0 * x, 1.0 + x * x, 1.0)
                );
            }
        }
    }

    #[test]
    fn reductions_match_their_definitions() {
        for n in [0, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            let y: Vec<f32> = (0..n).map(|i| (i as f32 * 0.3).cos()).collect();
            let want_sum: f64 = x.iter().map(|&v| f64::from(v)).sum();
            let want_dot: f64 = x
                .iter()
                .zip(&y)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum();
            assert!((f64::from(sum(&x)) - want_sum).abs() < 1e-5);
            assert!((f64::from(dot(&x, &y)) - want_dot).abs() < 1e-5);
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
