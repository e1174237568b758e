//! Loops the compiler turns into vector code, and the run-time choice of the instruction set.
//!
//! Sums run over sixteen fixed lanes, so their order, and with it the result, is the same on every CPU.

const LANES: usize = 16;

/// Runs `f` compiled for the widest vectors this CPU has (AVX-512, AVX2 or the baseline).
///
/// Give it `#[inline(always)] || …`, with plain loops inside: what is not inlined is compiled once, for the baseline. So is the
/// shim by which the compiler calls a closure that borrows as `FnOnce`, as `pulp` calls closures; hence `FnMut` and
/// `NullaryFnOnce`. (Both seen in profiles.)
#[inline(always)]
pub(crate) fn dispatch<R>(mut f: impl FnMut() -> R) -> R {
    dispatch_lanes(
        #[inline(always)]
        move |_| f(),
    )
}

/// [`dispatch`] for loops that end in one number, which [`Lanes`] has.
#[inline(always)]
pub(crate) fn dispatch_lanes<R>(f: impl FnMut(Lanes) -> R) -> R {
    struct Run<F>(F, Lanes);
    impl<R, F: FnMut(Lanes) -> R> pulp::NullaryFnOnce for Run<F> {
        type Output = R;

        #[inline(always)]
        fn call(mut self) -> R {
            (self.0)(self.1)
        }
    }
    #[cfg(target_arch = "x86_64")]
    match pulp::Arch::new() {
        pulp::Arch::V4(v4) => return v4.vectorize(Run(f, Lanes(Some(*v4)))),
        pulp::Arch::V3(v3) => return v3.vectorize(Run(f, Lanes(Some(v3)))),
        _ => {}
    }
    pulp::Arch::new().dispatch(Run(f, Lanes::default()))
}

/// Sums over sixteen lanes, of the instruction set that a loop was dispatched to.
///
/// On x86-64 with AVX2 by its instructions' names, since the compiler, which goes by the end of a sum, where two lanes are added,
/// makes vectors of two of all that leads there. The order of the sums is that of the plain loops.
#[derive(Clone, Copy, Default)]
pub(crate) struct Lanes(#[cfg(target_arch = "x86_64")] Option<pulp::x86::V3>);

/// The lanes by `f` to one, halved four times.
#[inline(always)]
fn halved(lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| f(lanes[i], lanes[i + 8]));
    let four: [f32; 4] = std::array::from_fn(|i| f(eight[i], eight[i + 4]));
    f(f(four[0], four[2]), f(four[1], four[3]))
}

/// As the instruction has it: `f32::max` has more to do, for what is not a number.
#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// What is left of `x·y` behind the last whole sixteen.
#[inline(always)]
fn dot_rest(x: &[f32], y: &[f32]) -> f32 {
    let whole = x.len() - x.len() % LANES;
    let terms = x[whole..].iter().zip(&y[whole..x.len()]);
    terms.map(|(a, b)| a * b).sum()
}

impl Lanes {
    /// `Σ x`.
    #[inline(always)]
    pub(crate) fn sum(self, x: &[f32]) -> f32 {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let rest: f32 = rest.iter().sum();
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = self.0 {
            return x86::sum(v3, chunks) + rest;
        }
        let mut lanes = [0f32; LANES];
        for chunk in chunks {
            for (lane, &v) in lanes.iter_mut().zip(chunk) {
                *lane += v;
            }
        }
        halved(lanes, |a, b| a + b) + rest
    }

    /// `Σ x·y`.
    #[inline(always)]
    pub(crate) fn dot(self, x: &[f32], y: &[f32]) -> f32 {
        let y = &y[..x.len()];
        let (xs, ys) = (x.as_chunks::<LANES>().0, y.as_chunks::<LANES>().0);
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = self.0 {
            return x86::dot(v3, xs, ys) + dot_rest(x, y);
        }
        let mut lanes = [0f32; LANES];
        for (a, b) in xs.iter().zip(ys) {
            for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
                *lane += a * b;
            }
        }
        halved(lanes, |a, b| a + b) + dot_rest(x, y)
    }

    /// [`Lanes::dot`] of `x` with each of `y`, which share the reading of `x` and the adding of lanes. The same bits.
    #[inline(always)]
    pub(crate) fn dots(self, x: &[f32], y: [&[f32]; 4]) -> [f32; 4] {
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = self.0 {
            let xs = x.as_chunks::<LANES>().0;
            let dots = x86::dots(v3, xs, y.map(|y| y[..x.len()].as_chunks::<LANES>().0));
            return std::array::from_fn(|i| dots[i] + dot_rest(x, y[i]));
        }
        y.map(|y| self.dot(x, y))
    }

    /// The largest element; `-∞` if there is none.
    #[inline(always)]
    pub(crate) fn max(self, x: &[f32]) -> f32 {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let rest = rest.iter().copied().fold(f32::NEG_INFINITY, greater);
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = self.0 {
            return greater(rest, x86::max(v3, chunks));
        }
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for chunk in chunks {
            for (lane, &v) in lanes.iter_mut().zip(chunk) {
                *lane = greater(*lane, v);
            }
        }
        greater(rest, halved(lanes, greater))
    }
}

/// The same loops over registers of eight, two of them the lanes.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m128, __m256};

    use pulp::cast;
    use pulp::x86::V3;

    use super::LANES;

    type Sixteen = [__m256; 2];

    #[inline(always)]
    fn splat(x: f32) -> Sixteen {
        [cast([x; 8]); 2]
    }

    #[inline(always)]
    fn low(v3: V3, x: __m256) -> __m128 {
        v3.avx._mm256_castps256_ps128(x)
    }

    #[inline(always)]
    fn high(v3: V3, x: __m256) -> __m128 {
        v3.avx._mm256_extractf128_ps::<1>(x)
    }

    #[inline(always)]
    fn first(x: __m128) -> f32 {
        cast::<_, [f32; 4]>(x)[0]
    }

    /// Lanes `i`, `i + 4`, `i + 8` and `i + 12` to one.
    #[inline(always)]
    fn four(v3: V3, [a, b]: Sixteen) -> __m128 {
        let eight = v3.avx._mm256_add_ps(a, b);
        v3.sse._mm_add_ps(low(v3, eight), high(v3, eight))
    }

    #[inline(always)]
    fn total(v3: V3, lanes: Sixteen) -> f32 {
        let (sse, four) = (v3.sse, four(v3, lanes));
        let two = sse._mm_add_ps(four, sse._mm_movehl_ps(four, four));
        first(sse._mm_add_ss(two, sse._mm_shuffle_ps::<0b01>(two, two)))
    }

    #[inline(always)]
    pub(super) fn sum(v3: V3, x: &[[f32; LANES]]) -> f32 {
        let mut lanes = splat(0.0);
        for x in x {
            let x: Sixteen = cast(*x);
            lanes = std::array::from_fn(|i| v3.avx._mm256_add_ps(lanes[i], x[i]));
        }
        total(v3, lanes)
    }

    #[inline(always)]
    pub(super) fn max(v3: V3, x: &[[f32; LANES]]) -> f32 {
        let mut lanes = splat(f32::NEG_INFINITY);
        for x in x {
            let x: Sixteen = cast(*x);
            lanes = std::array::from_fn(|i| v3.avx._mm256_max_ps(x[i], lanes[i]));
        }
        let eight = v3.avx._mm256_max_ps(lanes[1], lanes[0]);
        let sse = v3.sse;
        let four = sse._mm_max_ps(high(v3, eight), low(v3, eight));
        let two = sse._mm_max_ps(sse._mm_movehl_ps(four, four), four);
        first(sse._mm_max_ss(sse._mm_shuffle_ps::<0b01>(two, two), two))
    }

    /// `lanes += x·y`, in two roundings as everywhere else.
    #[inline(always)]
    fn add_products(v3: V3, lanes: Sixteen, x: Sixteen, y: &[f32; LANES]) -> Sixteen {
        let y: Sixteen = cast(*y);
        std::array::from_fn(|i| {
            let product = v3.avx._mm256_mul_ps(x[i], y[i]);
            v3.avx._mm256_add_ps(lanes[i], product)
        })
    }

    #[inline(always)]
    pub(super) fn dot(v3: V3, x: &[[f32; LANES]], y: &[[f32; LANES]]) -> f32 {
        let mut lanes = splat(0.0);
        for (x, y) in x.iter().zip(y) {
            lanes = add_products(v3, lanes, cast(*x), y);
        }
        total(v3, lanes)
    }

    #[inline(always)]
    pub(super) fn dots(v3: V3, x: &[[f32; LANES]], y: [&[[f32; LANES]]; 4]) -> [f32; 4] {
        let mut lanes = [splat(0.0); 4];
        for (chunk, x) in x.iter().enumerate() {
            let x: Sixteen = cast(*x);
            for (lanes, y) in lanes.iter_mut().zip(y) {
                *lanes = add_products(v3, *lanes, x, &y[chunk]);
            }
        }
        // Not by `map`, which is not always inlined and then compiled for the baseline.
        let [a, b, c, d] = lanes;
        let (a, b, c, d) = (four(v3, a), four(v3, b), four(v3, c), four(v3, d));
        // Of two sums the lanes 0, 2 and 1, 3 are added at once, then those of all four.
        let sse = v3.sse;
        let two = |a, b| sse._mm_add_ps(sse._mm_unpacklo_ps(a, b), sse._mm_unpackhi_ps(a, b));
        let (ab, cd) = (two(a, b), two(c, d));
        cast(sse._mm_add_ps(sse._mm_movelh_ps(ab, cd), sse._mm_movehl_ps(cd, ab)))
    }
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
    fn reductions_match_their_definitions_and_the_plain_loops() {
        for n in [0, 1, 15, 16, 17, 32, 100, 128] {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            let y: Vec<f32> = (0..n).map(|i| (i as f32 * 0.3).cos()).collect();
            let want_sum: f64 = x.iter().map(|&v| f64::from(v)).sum();
            let want_dot: f64 = x
                .iter()
                .zip(&y)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum();
            let all = |lanes: Lanes| {
                let dots = lanes.dots(&x, [&y, &x, &y, &x]);
                assert_eq!(dots[0], dots[2]);
                assert_eq!(dots[1], dots[3]);
                assert_eq!(dots[..2], [lanes.dot(&x, &y), lanes.dot(&x, &x)]);
                [lanes.sum(&x), lanes.dot(&x, &y), lanes.max(&x)]
            };
            let plain = all(Lanes::default());
            assert!((f64::from(plain[0]) - want_sum).abs() < 1e-5);
            assert!((f64::from(plain[1]) - want_dot).abs() < 1e-5);
            let highest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(plain[2], highest);
            assert_eq!(dispatch_lanes(all), plain);
        }
    }
}
