//! Row-major matrix products through the `gemm` crate, without a graph.
//!
//! A row of `x·wᵀ`, of three columns or more, has the same bits whatever stands in the other rows and however many there
//! are, which is what makes a user's scores the same alone and in a batch. `gemm` sums an element's products one after the
//! other, but for few rows it takes other ways round; such products are made here, in the order of the large ones: by
//! [`few_rows`] on a CPU with AVX2, else with rows of zeros below. Long sums it cuts into blocks, whose length hangs on the
//! number of rows and on the caches; they are cut here before it sees them, and each block's sum is added to the element.

use std::ops::Range;

use gemm::Parallelism;

/// A row-major matrix or its transpose, seen through strides.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows × cols`, row after row.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert!(
            data.len() >= rows * cols,
            "matrix {rows}x{cols} over {} elements",
            data.len()
        );
        Self {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// `rows × cols` of a matrix whose rows are `stride` long, from its first element on.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        let all = rows.saturating_sub(1) * stride + cols;
        assert!(
            cols <= stride && (rows == 0 || data.len() >= all),
            "matrix {rows}x{cols} with rows of {stride} over {} elements",
            data.len()
        );
        Self {
            data,
            rows,
            cols,
            row_stride: stride,
            col_stride: 1,
        }
    }

    /// The same memory read as its transpose.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Some of its columns. There must be a row.
    fn columns(self, columns: Range<usize>) -> Self {
        Self {
            data: &self.data[columns.start * self.col_stride..],
            cols: columns.len(),
            ..self
        }
    }
}

/// Products that `gemm` sums in one go on every processor, if there are no more.
const LONGEST_SUM: usize = 512;

/// Elements of a product up to which `gemm` sums the products of two operands that lie along the sum in lanes.
const SUMMED_IN_LANES: usize = 16 * 16;

/// `out = a·b`, or `out += a·b` with `accumulate`; `out` is row-major `[a.rows, b.cols]`.
pub(crate) fn matmul(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, accumulate: bool) {
    assert_eq!(a.cols, b.rows, "inner dimensions");
    let along_the_sum = a.col_stride == 1 && b.row_stride == 1;
    if !along_the_sum || a.rows == 0 || b.cols == 0 {
        return product(out, a, b, accumulate);
    }
    // Even blocks, as `gemm` cuts: one of a product or two would be summed in another way.
    let blocks = a.cols.div_ceil(LONGEST_SUM).max(1);
    let length = a.cols.div_ceil(blocks).max(1);
    for first in (0..a.cols.max(1)).step_by(length) {
        let block = first..a.cols.min(first + length);
        let (a, b) = (a.columns(block.clone()), b.t().columns(block).t());
        along_the_rows(out, a, b, accumulate || first > 0);
    }
}

/// [`matmul`] of rows that lie along the sum, of at most [`LONGEST_SUM`] products.
fn along_the_rows(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, accumulate: bool) {
    // Fewest rows that are summed as those of a large product.
    let rows = (SUMMED_IN_LANES / b.cols + 1).max(2);
    if a.rows >= rows {
        return product(out, a, b, accumulate);
    }
    // Of a single column `gemm` sums the products in lanes, of however many rows.
    #[cfg(target_arch = "x86_64")]
    if b.cols > 1
        && let Some(v3) = pulp::x86::V3::try_new()
    {
        return v3.vectorize(
            #[inline(always)]
            || few_rows::product(v3, out, a, b, accumulate),
        );
    }
    let elements = a.rows * b.cols;
    let mut padded = vec![0.0; rows * a.cols];
    for (i, row) in padded
        .chunks_exact_mut(a.cols.max(1))
        .take(a.rows)
        .enumerate()
    {
        row.copy_from_slice(&a.data[i * a.row_stride..][..a.cols]);
    }
    let mut more = vec![0.0; rows * b.cols];
    more[..elements].copy_from_slice(&out[..elements]);
    product(&mut more, Matrix::new(&padded, rows, a.cols), b, accumulate);
    out[..elements].copy_from_slice(&more[..elements]);
}

/// `a·b` of few rows, both operands lying along the sum: each element's products are added one after the other, a rounding
/// each, as by `gemm`'s AVX2 and AVX-512 kernels for large products. `gemm` packs all of `b` for that; here it is read once, in
/// tiles that are transposed in registers.
#[cfg(target_arch = "x86_64")]
mod few_rows {
    use std::arch::x86_64::__m256;

    use pulp::cast;
    use pulp::x86::V3;

    use super::Matrix;

    /// Floats of a register, so rows and columns of a tile.
    const LANES: usize = 8;
    /// Tiles side by side, so that their sums do not wait for each other.
    const TILES: usize = 2;

    #[inline(always)]
    pub(super) fn product(v3: V3, out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, accumulate: bool) {
        let column = |j: usize| &b.data[j.min(b.cols - 1) * b.col_stride..][..a.cols];
        for (i, out) in out.chunks_exact_mut(b.cols).take(a.rows).enumerate() {
            let x = &a.data[i * a.row_stride..][..a.cols];
            for (block, out) in out.chunks_mut(TILES * LANES).enumerate() {
                let first = block * TILES * LANES;
                let mut sums = [cast::<_, __m256>([0f32; LANES]); TILES];
                for at in (0..a.cols).step_by(LANES) {
                    let x = part(x, at);
                    for (tile, sums) in sums.iter_mut().enumerate() {
                        let first = first + tile * LANES;
                        let rows = std::array::from_fn(|c| cast(part(column(first + c), at)));
                        for (x, w) in x.into_iter().zip(transposed(v3, rows)) {
                            *sums = v3.fma._mm256_fmadd_ps(v3.avx._mm256_set1_ps(x), w, *sums);
                        }
                    }
                }
                let sums = sums.map(cast::<_, [f32; LANES]>);
                for (out, sum) in out.iter_mut().zip(sums.as_flattened()) {
                    *out = if accumulate { *out + sum } else { *sum };
                }
            }
        }
    }

    /// The lanes from `at` on, zeros past the end.
    #[inline(always)]
    fn part(x: &[f32], at: usize) -> [f32; LANES] {
        match x[at..].first_chunk() {
            Some(whole) => *whole,
            None => std::array::from_fn(|i| x.get(at + i).copied().unwrap_or(0.0)),
        }
    }

    #[inline(always)]
    fn transposed(v3: V3, [a, b, c, d, e, f, g, h]: [__m256; LANES]) -> [__m256; LANES] {
        let avx = v3.avx;
        let four = |a, b, c, d| {
            let (ab, cd) = (avx._mm256_unpacklo_ps(a, b), avx._mm256_unpacklo_ps(c, d));
            let (ab_high, cd_high) = (avx._mm256_unpackhi_ps(a, b), avx._mm256_unpackhi_ps(c, d));
            [
                avx._mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
                avx._mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
                avx._mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
                avx._mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
            ]
        };
        let (left, right) = (four(a, b, c, d), four(e, f, g, h));
        std::array::from_fn(|row| {
            let (left, right) = (left[row % 4], right[row % 4]);
            if row < 4 {
                avx._mm256_permute2f128_ps::<0x20>(left, right)
            } else {
                avx._mm256_permute2f128_ps::<0x31>(left, right)
            }
        })
    }
}

fn product(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, accumulate: bool) {
    assert!(
        out.len() >= a.rows * b.cols,
        "product {}x{} over {} elements",
        a.rows,
        b.cols,
        out.len()
    );
    if a.cols == 0 {
        if !accumulate {
            out[..a.rows * b.cols].fill(0.0);
        }
        return;
    }
    let threads = rayon::current_num_threads();
    let parallelism = if threads > 1 {
        Parallelism::Rayon(threads)
    } else {
        Parallelism::None
    };
    // SAFETY: the assertion above bounds every access to `out`. Element (i, j) of an operand lies at
    // `i·row_stride + j·col_stride`, inside its data by the assertions of `Matrix::new` and
    // `Matrix::strided`, and so for some of its columns; `matmul` asserts that the inner dimensions are
    // the same. `out` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out.as_mut_ptr(),
            1,
            b.cols as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_same_bits_among_any_number_of_rows() {
        for (k, n) in [
            (128, 384),
            (128, 128),
            (512, 128),
            (128, 47),
            (96, 96),
            (16, 16),
            (33, 5),
            (7, 1),
            (128, 1),
            (128, 2),
            (128, 3),
            (130, 9),
            (64, 201),
            // Longer than one sum, evenly and unevenly.
            (1024, 47),
            (1100, 47),
            (1100, 128),
            (1100, 1),
        ] {
            let w: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.37).cos()).collect();
            let x: Vec<f32> = (0..300 * k).map(|i| (i as f32 * 0.71).sin()).collect();
            let start: Vec<f32> = (0..300 * n).map(|i| (i as f32 * 0.13).sin()).collect();
            let product = |first: usize, rows: usize| {
                let mut out = start[first * n..][..rows * n].to_vec();
                let x = Matrix::new(&x[first * k..], rows, k);
                matmul(&mut out, x, Matrix::new(&w, n, k).t(), true);
                out
            };
            let whole = product(0, 300);
            for rows in [1, 2, 3, 4, 5, 17, 64, 65, 100, 257] {
                for first in [0, 7, 300 - rows] {
                    let rows = rows.min(300 - first);
                    let part = product(first, rows);
                    assert_eq!(
                        part,
                        whole[first * n..][..rows * n],
                        "{rows} rows, k {k}, n {n}"
                    );
                }
            }
        }
    }

    #[test]
    fn products_of_transposes_match_the_triple_loop() {
        let (m, k, n) = (5, 7, 3);
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32).sin()).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i as f32).cos()).collect();
        let at: Vec<f32> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
        let bt: Vec<f32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
        let mut want = vec![1.0; m * n];
        for i in 0..m {
            for j in 0..n {
                want[i * n + j] += (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f32>();
            }
        }
        let views = [
            (Matrix::new(&a, m, k), Matrix::new(&b, k, n)),
            (Matrix::new(&at, k, m).t(), Matrix::new(&b, k, n)),
            (Matrix::new(&a, m, k), Matrix::new(&bt, n, k).t()),
        ];
        for (a, b) in views {
            let mut out = vec![1.0; m * n];
            matmul(&mut out, a, b, true);
            assert!(out.iter().zip(&want).all(|(x, y)| (x - y).abs() < 1e-5));
        }
        let mut out = vec![f32::NAN; 4];
        matmul(
            &mut out,
            Matrix::new(&[], 2, 0),
            Matrix::new(&[], 0, 2),
            false,
        );
        assert_eq!(out, [0.0; 4]);
    }
}
