//! The inner loops of a transformer's forward pass on the CPU, over plain f32 slices.
//!
//! Each is written over blocks of [`LANES`] values and run through `pulp`'s dispatch, which compiles
//! it for AVX2 and AVX-512 and picks at run time. They keep to the calling thread: candle's own
//! elementwise operations share one barrier among all threads, which serialises parallel encoders.

/// Values handled together: one AVX-512 register.
const LANES: usize = 16;

/// What [`pair`] computes of two values.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pair {
    /// x + y
    Add,
    /// max(x + y, 0)
    AddRelu,
    /// gelu(x + y), exact form: z/2 · (1 + erf(z/√2))
    AddGelu,
    /// gelu(x + y), tanh form
    AddGeluTanh,
    /// gelu(x) · y, tanh form (the gated feed-forward of T5 1.1)
    GeluTanhMul,
}

/// `f(x, y)` elementwise; `y` is as long as `x`, or repeats along it.
pub(crate) fn pair(f: Pair, x: &[f32], y: &[f32]) -> Vec<f32> {
    match f {
        Pair::Add => zip(x, y, |x, y| x + y),
        Pair::AddRelu => zip(x, y, |x, y| (x + y).max(0.0)),
        Pair::AddGelu => zip(x, y, |x, y| gelu(x + y)),
        Pair::AddGeluTanh => zip(x, y, |x, y| gelu_tanh(x + y)),
        Pair::GeluTanhMul => zip(x, y, |x, y| gelu_tanh(x) * y),
    }
}

/// Runs `f`, an `#[inline(always)]` closure, compiled for the widest vectors there are. Not by `pulp`'s own call of closures:
/// the shim that calls one as `FnOnce` is not inlined, and so compiled for the baseline. As in `eager-ops`, which this crate
/// does without.
#[inline(always)]
fn dispatch(f: impl FnMut()) {
    struct Run<F>(F);
    impl<F: FnMut()> pulp::WithSimd for Run<F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(mut self, _: S) {
            (self.0)();
        }
    }
    pulp::Arch::new().dispatch(Run(f));
}

#[inline(always)]
fn zip(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    dispatch(
        #[inline(always)]
        || {
            for (out, x) in out.chunks_mut(y.len()).zip(x.chunks(y.len())) {
                for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
                    *out = f(x, y);
                }
            }
        },
    );
    out
}

/// Rows of `x` scaled to unit variance (and zero mean where there is a `bias`), then by `weight`, then
/// shifted by `bias`: layer norm with a bias, T5's RMS norm without.
pub(crate) fn norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32) -> Vec<f32> {
    let width = weight.len();
    let mut out = vec![0.0; x.len()];
    dispatch(
        #[inline(always)]
        || {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let n = width as f32;
                let mean = if bias.is_some() {
                    sum(x, |x| x) / n
                } else {
                    0.0
                };
                let scale = 1.0 / (sum(x, |x| (x - mean) * (x - mean)) / n + eps).sqrt();
                for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
                    *out = (x - mean) * scale * w;
                }
                if let Some(bias) = bias {
                    for (out, &b) in out.iter_mut().zip(bias) {
                        *out += b;
                    }
                }
            }
        },
    );
    out
}

/// The shape of a self-attention over texts of one length.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Heads {
    pub count: usize,
    pub width: usize,
    /// Tokens of every text.
    pub length: usize,
    /// Factor of the scores: 1/√width for BERT, 1 for T5.
    pub scale: f32,
}

/// softmax(scale · q kᵀ + bias) v for every text and head. `qkv` [texts · length, 3 · count · width]
/// holds queries, keys and values side by side; `bias` is [count, length, length];
/// out: [texts · length, count · width].
pub(crate) fn attention(heads: Heads, qkv: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let Heads {
        count,
        width,
        length,
        ..
    } = heads;
    let mut out = vec![0.0; qkv.len() / 3];
    let mut scratch = Scratch::new(heads);
    dispatch(
        #[inline(always)]
        || {
            let row = count * width;
            let texts = out
                .chunks_exact_mut(length * row)
                .zip(qkv.chunks_exact(3 * length * row));
            for (out, qkv) in texts {
                for head in 0..count {
                    let bias = bias.map(|b| &b[head * length * length..][..length * length]);
                    scratch.attend(heads, head, qkv, bias, out);
                }
            }
        },
    );
    out
}

/// One head's keys (transposed), values and scores, each padded to whole blocks.
struct Scratch {
    keys: Vec<[f32; LANES]>,   // [width, key blocks]
    values: Vec<[f32; LANES]>, // [length, value blocks]
    scores: Vec<[f32; LANES]>, // [key blocks]
}

impl Scratch {
    fn new(heads: Heads) -> Self {
        let key_blocks = heads.length.div_ceil(LANES);
        let value_blocks = heads.width.div_ceil(LANES);
        Self {
            keys: vec![[0.0; LANES]; heads.width * key_blocks],
            values: vec![[0.0; LANES]; heads.length * value_blocks],
            scores: vec![[0.0; LANES]; key_blocks],
        }
    }

    /// One head of one text: `qkv` [length, 3 · count · width] to its columns of `out`.
    #[inline(always)]
    fn attend(
        &mut self,
        heads: Heads,
        head: usize,
        qkv: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let Heads {
            count,
            width,
            length,
            scale,
        } = heads;
        let row = count * width;
        let key_blocks = length.div_ceil(LANES);
        let value_blocks = width.div_ceil(LANES);
        for (j, token) in qkv.chunks_exact(3 * row).enumerate() {
            let key = &token[row + head * width..][..width];
            for (c, &k) in key.iter().enumerate() {
                self.keys[c * key_blocks + j / LANES][j % LANES] = k;
            }
            let value = &token[2 * row + head * width..][..width];
            let blocks = &mut self.values[j * value_blocks..][..value_blocks];
            for (block, value) in blocks.iter_mut().zip(value.chunks(LANES)) {
                block[..value.len()].copy_from_slice(value);
            }
        }
        for (i, token) in qkv.chunks_exact(3 * row).enumerate() {
            let query = &token[head * width..][..width];
            for (b, scores) in self.scores.iter_mut().enumerate() {
                let mut sums = [0.0; LANES];
                for (c, &q) in query.iter().enumerate() {
                    add_scaled(&mut sums, q, &self.keys[c * key_blocks + b]);
                }
                *scores = sums.map(|s| s * scale);
            }
            let scores = &mut self.scores.as_flattened_mut()[..];
            if let Some(bias) = bias {
                for (score, bias) in scores.iter_mut().zip(&bias[i * length..][..length]) {
                    *score += bias;
                }
            }
            scores[length..].fill(f32::NEG_INFINITY);
            let total = softmax_numerators(&mut self.scores);
            let weights = self.scores.as_flattened();
            let out = &mut out[i * row + head * width..][..width];
            for (b, out) in out.chunks_mut(LANES).enumerate() {
                let mut sums = [0.0; LANES];
                for (j, &weight) in weights[..length].iter().enumerate() {
                    add_scaled(&mut sums, weight, &self.values[j * value_blocks + b]);
                }
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = sum / total;
                }
            }
        }
    }
}

/// `sums += a · x`.
#[inline(always)]
fn add_scaled(sums: &mut [f32; LANES], a: f32, x: &[f32; LANES]) {
    for (sum, &x) in sums.iter_mut().zip(x) {
        *sum += a * x;
    }
}

/// Replaces scores by `exp(score - max)` and returns their sum.
#[inline(always)]
fn softmax_numerators(scores: &mut [[f32; LANES]]) -> f32 {
    let mut max = [f32::NEG_INFINITY; LANES];
    for block in scores.iter() {
        for (max, &score) in max.iter_mut().zip(block) {
            *max = if score > *max { score } else { *max };
        }
    }
    let max = max.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut total = [0.0; LANES];
    for block in scores.iter_mut() {
        for (total, score) in total.iter_mut().zip(block) {
            *score = exp(*score - max);
            *total += *score;
        }
    }
    total.into_iter().sum()
}

/// Σ f(x), in [`LANES`] partial sums.
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let blocks = x.chunks_exact(LANES);
    let rest: f32 = blocks.remainder().iter().map(|&x| f(x)).sum();
    for block in blocks {
        for (sum, &x) in sums.iter_mut().zip(block) {
            *sum += f(x);
        }
    }
    sums.into_iter().sum::<f32>() + rest
}

/// eˣ to about 1e-7 relative: 2ⁿ · eʳ with n = round(x / ln 2) and eʳ by its Taylor polynomial of
/// degree 6 on |r| ≤ ln 2 / 2. Below -87 it is 0 (the smallest normal number is e^-87.3).
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding and subtracting it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4; // 355/512, exact
    const LN2_LOW: f32 = -2.121_944_4e-4; // ln 2 - LN2_HIGH
    let clamped = x.clamp(-87.0, 88.0);
    let n = clamped * std::f32::consts::LOG2_E + ROUND - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.0 / 120.0 + r * (1.0 / 720.0);
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * p))));
    let power = f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x < -87.0 { 0.0 } else { p * power }
}

/// erf(x) to 2e-7 absolute (Abramowitz and Stegun 1964, 7.1.26).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = t
        * (0.254_829_6
            + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    (1.0 - p * exp(-a * a)).copysign(x)
}

/// x/2 · (1 + erf(x/√2)).
#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), as x · σ(2·…).
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const SCALE: f32 = 1.595_769; // 2 √(2/π)
    x / (1.0 + exp(-SCALE * (x + 0.044_715 * x * x * x)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.random_range(-3.0..3.0)).collect()
    }

    #[track_caller]
    fn assert_close(a: &[f32], b: &[f64], tolerance: f64) {
        assert_eq!(a.len(), b.len());
        for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
            assert!((a as f64 - b).abs() <= tolerance, "{i}: {a} is not {b}");
        }
    }

    #[test]
    fn exponential_and_error_function_equal_double_precision() {
        for i in -9000..=880 {
            let x = i as f32 / 10.0;
            let expected = (x as f64).exp();
            let error = (exp(x) as f64 - expected).abs();
            // Below -87 it is cut to 0: exp(-87) is 1.7e-38.
            assert!(error <= 3e-7 * expected + 1.7e-38, "exp({x})");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan() && gelu(f32::NAN).is_nan());
        // Known values of erf.
        let table = [
            (0.0, 0.0),
            (0.5, 0.520_499_877_8),
            (1.0, 0.842_700_792_9),
            (2.0, 0.995_322_265),
        ];
        for (x, expected) in table {
            assert!((erf(x) as f64 - expected).abs() < 3e-7, "erf({x})");
            assert!((erf(-x) as f64 + expected).abs() < 3e-7, "erf(-{x})");
        }
    }

    #[test]
    fn pairs_equal_their_formulas() {
        let (x, y) = (random(7 * 37, 1), random(37, 2));
        let tanh = |z: f64| {
            0.5 * z
                * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (z + 0.044715 * z.powi(3))).tanh())
        };
        let check = |f: Pair, formula: &dyn Fn(f64, f64) -> f64| {
            let expected: Vec<f64> = x
                .iter()
                .enumerate()
                .map(|(i, &x)| formula(x as f64, y[i % 37] as f64))
                .collect();
            assert_close(&pair(f, &x, &y), &expected, 2e-6);
        };
        check(Pair::Add, &|x, y| x + y);
        check(Pair::AddRelu, &|x, y| (x + y).max(0.0));
        check(Pair::AddGeluTanh, &|x, y| tanh(x + y));
        check(Pair::GeluTanhMul, &|x, y| tanh(x) * y);
        check(Pair::AddGelu, &|x, y| {
            let z = x + y; // candle's gelu_erf, whose erf is a rational approximation in f64
            let z = candle_core::Tensor::new(&[z], &candle_core::Device::Cpu).unwrap();
            z.gelu_erf().unwrap().to_vec1::<f64>().unwrap()[0]
        });
    }

    #[test]
    fn norms_equal_their_formulas() {
        let (x, w, b) = (random(5 * 37, 3), random(37, 4), random(37, 5));
        for bias in [Some(&b[..]), None] {
            let mut expected = Vec::new();
            for row in x.chunks(37) {
                let row: Vec<f64> = row.iter().map(|&x| x as f64).collect();
                let mean = if bias.is_some() {
                    row.iter().sum::<f64>() / 37.0
                } else {
                    0.0
                };
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 37.0;
                for (i, x) in row.iter().enumerate() {
                    let shift = bias.map_or(0.0, |b| b[i] as f64);
                    expected.push((x - mean) / (variance + 1e-6).sqrt() * w[i] as f64 + shift);
                }
            }
            assert_close(&norm(&x, &w, bias, 1e-6), &expected, 1e-5);
        }
    }

    #[test]
    fn attention_equals_its_formula() {
        for (texts, length, count, width) in
            [(2, 1, 1, 8), (3, 5, 2, 12), (1, 16, 3, 32), (2, 21, 2, 20)]
        {
            let row = count * width;
            let qkv = random(texts * length * 3 * row, 6);
            let bias = random(count * length * length, 7);
            let heads = Heads {
                count,
                width,
                length,
                scale: 0.3,
            };
            for bias in [Some(&bias[..]), None] {
                let mut expected = vec![0f64; texts * length * row];
                let at = |text: usize, token: usize, part: usize, head: usize, c: usize| {
                    qkv[((text * length + token) * 3 + part) * row + head * width + c] as f64
                };
                for text in 0..texts {
                    for head in 0..count {
                        for i in 0..length {
                            let score = |j: usize| {
                                let dot: f64 = (0..width)
                                    .map(|c| at(text, i, 0, head, c) * at(text, j, 1, head, c))
                                    .sum();
                                let shift = bias
                                    .map_or(0.0, |b| b[(head * length + i) * length + j] as f64);
                                (0.3f32 as f64 * dot + shift).exp()
                            };
                            let weights: Vec<f64> = (0..length).map(score).collect();
                            let total: f64 = weights.iter().sum();
                            for c in 0..width {
                                expected[(text * length + i) * row + head * width + c] = (0
                                    ..length)
                                    .map(|j| weights[j] / total * at(text, j, 2, head, c))
                                    .sum();
                            }
                        }
                    }
                }
                assert_close(&attention(heads, &qkv, bias), &expected, 2e-5);
            }
        }
    }
}
