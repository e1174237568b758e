//! Row-major matrix products through the `gemm` crate, without a graph.
//!
//! A row of `x·wᵀ` has the same bits whatever stands in the other rows and however many there are, which is what makes a
//! user's scores the same alone and in a batch. `gemm` sums an element's products one after the other, but for few rows it
//! takes other ways round; such products are made with rows of zeros below.

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
}

/// Elements of a product up to which `gemm` sums the products of two operands that lie along the sum in lanes.
const SUMMED_IN_LANES: usize = 16 * 16;

/// Fewest rows of `a·b` that are summed as those of a large product.
fn fewest_rows(a: Matrix<'_>, b: Matrix<'_>) -> usize {
    let along_the_sum = a.col_stride == 1 && b.row_stride == 1;
    if along_the_sum && a.rows > 0 && b.cols > 0 {
        (SUMMED_IN_LANES / b.cols + 1).max(2)
    } else {
        0
    }
}

/// `out = a·b`, or `out += a·b` with `accumulate`; `out` is row-major `[a.rows, b.cols]`.
pub(crate) fn matmul(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, accumulate: bool) {
    let rows = fewest_rows(a, b);
    if a.rows >= rows {
        return product(out, a, b, accumulate);
    }
    let (elements, held) = (a.rows * b.cols, a.rows * a.cols);
    let mut padded = vec![0.0; rows * a.cols];
    padded[..held].copy_from_slice(&a.data[..held]);
    let mut more = vec![0.0; rows * b.cols];
    more[..elements].copy_from_slice(&out[..elements]);
    product(&mut more, Matrix::new(&padded, rows, a.cols), b, accumulate);
    out[..elements].copy_from_slice(&more[..elements]);
}

fn product(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, accumulate: bool) {
    assert_eq!(a.cols, b.rows, "inner dimensions");
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
    // SAFETY: `Matrix::new` and the assertion above bound every access: element (i, j) of an operand
    // lies at `i·row_stride + j·col_stride < rows·cols ≤ len`. `out` is borrowed mutably, so it
    // overlaps neither operand.
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
