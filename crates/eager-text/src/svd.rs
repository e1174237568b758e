//! The leading part of a sparse matrix's singular value decomposition, by a randomised range finder with subspace
//! iteration (Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.1), in f64.
//!
//! A ≈ Q Qᵀ A with Q an orthonormal basis of A (Aᵀ A)^q Ω, Ω random: then the decomposition of the small Qᵀ A. Bases are
//! made orthonormal by their Gram matrix's Cholesky factor, twice where it must be exact. Every sum has an order that
//! does not depend on the number of threads, so neither do the results.

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::Result;

/// Columns of the basis beyond those that are asked for.
const OVERSAMPLING: usize = 32;
/// Applications of A Aᵀ: the spectrum of a TF-IDF matrix is flat, and each sharpens it.
const ITERATIONS: usize = 4;
/// A column is in the span of those before it where this part of its square is left.
const DEPENDENT: f64 = 1e-12;
/// An eigenvalue of Aᵀ A is zero below this part of the largest.
const NEGLIGIBLE: f64 = 1e-10;

/// A sparse matrix, by rows.
pub(crate) struct Sparse {
    columns: usize,
    starts: Vec<usize>,
    entries: Vec<(u32, f32)>,
}

impl Sparse {
    /// A matrix of these rows, each of (column, value) with columns below `columns`.
    pub fn new(columns: usize, rows: impl Iterator<Item = Vec<(u32, f32)>>) -> Self {
        let (mut starts, mut entries) = (vec![0], Vec::new());
        for row in rows {
            entries.extend(row);
            starts.push(entries.len());
        }
        Self {
            columns,
            starts,
            entries,
        }
    }

    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    fn row(&self, row: usize) -> &[(u32, f32)] {
        &self.entries[self.starts[row]..self.starts[row + 1]]
    }

    fn transposed(&self) -> Self {
        let mut starts = vec![0; self.columns + 1];
        for &(column, _) in &self.entries {
            starts[column as usize + 1] += 1;
        }
        for column in 0..self.columns {
            starts[column + 1] += starts[column];
        }
        let mut next = starts.clone();
        let mut entries = vec![(0, 0.0); self.entries.len()];
        for row in 0..self.rows() {
            for &(column, value) in self.row(row) {
                let place = &mut next[column as usize];
                entries[*place] = (row as u32, value);
                *place += 1;
            }
        }
        Self {
            columns: self.rows(),
            starts,
            entries,
        }
    }

    /// The product with `dense` [columns, width]: [rows, width], f64.
    fn times(&self, dense: &Tensor) -> Result<Tensor> {
        let width = dense.dim(1)?;
        let dense = dense.flatten_all()?.to_vec1::<f64>()?;
        let mut out = vec![0f64; self.rows() * width];
        out.par_chunks_exact_mut(width)
            .enumerate()
            .for_each(|(row, out)| {
                for &(column, value) in self.row(row) {
                    let dense = &dense[column as usize * width..][..width];
                    for (out, &x) in out.iter_mut().zip(dense) {
                        *out += f64::from(value) * x;
                    }
                }
            });
        Ok(Tensor::from_vec(out, (self.rows(), width), &Device::Cpu)?)
    }
}

/// The leading singular values and right singular vectors of a matrix.
pub(crate) struct Truncated {
    /// Largest first, none of them zero.
    pub values: Vec<f64>,
    /// [columns, values.len()], orthonormal columns, each with its largest entry positive.
    pub right: Vec<f64>,
}

/// The `rank` leading singular values and right vectors of `a`, or as many as are not zero.
///
/// # Errors
/// When a product fails.
pub(crate) fn truncated(a: &Sparse, rank: usize, seed: u64) -> Result<Truncated> {
    let width = (rank + OVERSAMPLING).min(a.rows()).min(a.columns);
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let start: Vec<f64> = (0..a.columns * width)
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    let start = Tensor::from_vec(start, (a.columns, width), &Device::Cpu)?;
    let transposed = a.transposed();

    let mut basis = orthonormal(&a.times(&start)?)?; // [rows, width]
    for _ in 0..ITERATIONS {
        let right = orthonormal(&transposed.times(&basis)?)?; // [columns, width]
        basis = orthonormal(&a.times(&right)?)?;
    }
    let basis = orthonormal(&basis)?;
    let small = transposed.times(&basis)?; // [columns, width]: Aᵀ Q
    let gram = small.t()?.matmul(&small)?.flatten_all()?.to_vec1::<f64>()?;
    let (values, vectors) = eigen(gram, width);

    let most = values.first().copied().unwrap_or(0.0);
    let kept = values
        .iter()
        .take(rank)
        .take_while(|&&value| value > NEGLIGIBLE * most)
        .count();
    let values: Vec<f64> = values[..kept].iter().map(|value| value.sqrt()).collect();
    // V = Aᵀ Q U / σ
    let mix: Vec<f64> = vectors
        .chunks_exact(width)
        .zip(&values)
        .flat_map(|(vector, value)| vector.iter().map(move |x| x / value))
        .collect();
    let mix = Tensor::from_vec(mix, (kept, width), &Device::Cpu)?;
    let right = small.matmul(&mix.t()?)?; // [columns, kept]
    let mut right = right.flatten_all()?.to_vec1::<f64>()?;
    fix_signs(&mut right, kept);
    Ok(Truncated { values, right })
}

/// A basis of the columns of `y` [n, width] whose Gram matrix is the identity, to the rounding of `y`'s condition; a
/// column in the span of those before it becomes 0.
fn orthonormal(y: &Tensor) -> Result<Tensor> {
    let width = y.dim(1)?;
    let gram = y.t()?.matmul(y)?.flatten_all()?.to_vec1::<f64>()?;
    let inverse = inverse_factor(&gram, width);
    let inverse = Tensor::from_vec(inverse, (width, width), &Device::Cpu)?;
    Ok(y.matmul(&inverse)?)
}

/// X, upper triangular, with Xᵀ G X = I but for dependent columns, which are 0: the inverse of G's Cholesky factor.
/// `gram` [n, n].
fn inverse_factor(gram: &[f64], n: usize) -> Vec<f64> {
    // Columns of the factor and of its inverse, one after the other: both loops run along them.
    let (mut factor, mut inverse) = (vec![0f64; n * n], vec![0f64; n * n]);
    for j in 0..n {
        let (before, rest) = factor.split_at_mut(j * n);
        let column = &mut rest[..n];
        for i in 0..j {
            let other = &before[i * n..][..n];
            if other[i] > 0.0 {
                column[i] = (gram[i * n + j] - dot(&other[..i], &column[..i])) / other[i];
            }
        }
        let left = gram[j * n + j] - dot(&column[..j], &column[..j]);
        if left <= DEPENDENT * gram[j * n + j] {
            column.fill(0.0);
            continue;
        }
        column[j] = left.sqrt();
        let (before, rest) = inverse.split_at_mut(j * n);
        let out = &mut rest[..n];
        for k in 0..j {
            for (out, x) in out[..=k].iter_mut().zip(&before[k * n..]) {
                *out -= column[k] * x;
            }
        }
        out[j] = 1.0;
        out[..=j].iter_mut().for_each(|x| *x /= column[j]);
    }
    // To rows.
    (0..n * n).map(|at| inverse[at % n * n + at / n]).collect()
}

/// Eigenvalues, largest first, and eigenvectors, one a row, of a symmetric positive semidefinite matrix [n, n]: its rows
/// are rotated in pairs until they are orthogonal (one-sided Jacobi, Hestenes 1958).
fn eigen(mut rows: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    const SWEEPS: usize = 40;
    let trace: f64 = (0..n).map(|i| rows[i * n + i]).sum();
    for _ in 0..SWEEPS {
        let mut rotated = false;
        for p in 0..n {
            for q in p + 1..n {
                let (head, tail) = rows.split_at_mut(q * n);
                let (a, b) = (&mut head[p * n..][..n], &mut tail[..n]);
                let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
                // Orthogonal already, or rows of rounding errors.
                if ab.abs() <= 1e-15 * (aa * bb).sqrt() || ab.abs() <= 1e-26 * trace * trace {
                    continue;
                }
                rotated = true;
                let ratio = (bb - aa) / (2.0 * ab);
                let tangent = 1f64.copysign(ratio) / (ratio.abs() + (1.0 + ratio * ratio).sqrt());
                let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
                let sine = cosine * tangent;
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
                }
            }
        }
        if !rotated {
            break;
        }
    }
    let lengths: Vec<f64> = rows
        .chunks_exact(n)
        .map(|row| dot(row, row).sqrt())
        .collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| lengths[j].total_cmp(&lengths[i]).then(i.cmp(&j)));
    let unit = |&i: &usize| {
        let scale = if lengths[i] > 0.0 {
            1.0 / lengths[i]
        } else {
            0.0
        };
        rows[i * n..][..n].iter().map(move |x| x * scale)
    };
    let vectors = order.iter().flat_map(unit).collect();
    (order.iter().map(|&i| lengths[i]).collect(), vectors)
}

/// A vector's sign is arbitrary: every column's largest entry is made positive.
fn fix_signs(matrix: &mut [f64], columns: usize) {
    if columns == 0 {
        return;
    }
    let mut largest = vec![0f64; columns];
    for row in matrix.chunks_exact(columns) {
        for (largest, &x) in largest.iter_mut().zip(row) {
            if x.abs() > largest.abs() {
                *largest = x;
            }
        }
    }
    for row in matrix.chunks_exact_mut(columns) {
        for (x, largest) in row.iter_mut().zip(&largest) {
            *x *= 1f64.copysign(*largest);
        }
    }
}

/// The dot product, in 8 partial sums.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0f64; 8];
    let (a_blocks, a_rest) = a.as_chunks::<8>();
    let (b_blocks, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eigenvalues, largest first, and eigenvectors (columns) of a symmetric matrix: the classical two-sided Jacobi
    /// method, one rotation after the other.
    fn reference(mut a: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
        let n = a.len();
        let mut v = vec![vec![0.0; n]; n];
        (0..n).for_each(|i| v[i][i] = 1.0);
        for _ in 0..100 {
            for p in 0..n {
                for q in p + 1..n {
                    if a[p][q].abs() < 1e-300 {
                        continue;
                    }
                    let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                    let t = 1f64.copysign(theta) / (theta.abs() + theta.hypot(1.0));
                    let c = 1.0 / t.hypot(1.0);
                    let s = t * c;
                    for row in a.iter_mut().chain(v.iter_mut()) {
                        (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                    }
                    let (head, tail) = a.split_at_mut(q);
                    for (x, y) in head[p].iter_mut().zip(&mut tail[0]) {
                        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                    }
                }
            }
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| a[j][j].total_cmp(&a[i][i]));
        let values = order.iter().map(|&i| a[i][i]).collect();
        let vectors = v.iter().map(|row| order.iter().map(|&i| row[i]).collect());
        (values, vectors.collect())
    }

    /// A [rows, columns] matrix of which about a third is not zero, its columns falling off.
    fn random(rows: usize, columns: usize, seed: u64) -> (Sparse, Vec<Vec<f64>>) {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut dense = vec![vec![0f64; columns]; rows];
        let mut sparse = Vec::new();
        for row in &mut dense {
            let mut entries = Vec::new();
            for (column, x) in row.iter_mut().enumerate() {
                if rng.random_range(0..3) == 0 {
                    let value = rng.random_range(-1f32..1.0) * 0.93f32.powi(column as i32);
                    *x = f64::from(value);
                    entries.push((column as u32, value));
                }
            }
            sparse.push(entries);
        }
        (Sparse::new(columns, sparse.into_iter()), dense)
    }

    /// A Pᵀ P Aᵀ for P = the first `k` columns of `right`: what the projected rows' dot products are.
    fn gram(dense: &[Vec<f64>], right: impl Fn(usize, usize) -> f64, k: usize) -> Vec<f64> {
        let project = |row: &Vec<f64>| -> Vec<f64> {
            (0..k)
                .map(|c| row.iter().enumerate().map(|(i, x)| x * right(i, c)).sum())
                .collect()
        };
        let rows: Vec<Vec<f64>> = dense.iter().map(project).collect();
        let pairs = rows.iter().flat_map(|a| rows.iter().map(move |b| (a, b)));
        pairs.map(|(a, b)| dot(a, b)).collect()
    }

    fn check(rows: usize, columns: usize, rank: usize) {
        let (sparse, dense) = random(rows, columns, 7);
        let found = truncated(&sparse, rank, 1).unwrap();
        let square = |i: usize, j: usize| dense.iter().map(|row| row[i] * row[j]).sum::<f64>();
        let square = (0..columns).map(|i| (0..columns).map(|j| square(i, j)).collect());
        let (values, vectors) = reference(square.collect());

        let kept = found.values.len();
        assert_eq!(kept, rank.min(rows).min(columns));
        for (found, expected) in found.values.iter().zip(&values) {
            let expected = expected.sqrt();
            assert!(
                (found - expected).abs() < 1e-6 * values[0].sqrt(),
                "{found} is not {expected}"
            );
        }
        let ours = gram(&dense, |i, c| found.right[i * kept + c], kept);
        let theirs = gram(&dense, |i, c| vectors[i][c], kept);
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() < 1e-6 * values[0], "{a} is not {b}");
        }
        for c in 0..kept {
            for d in 0..kept {
                let product: f64 = found.right.chunks(kept).map(|row| row[c] * row[d]).sum();
                let expected = f64::from(c == d);
                assert!((product - expected).abs() < 1e-9, "{c}, {d}: {product}");
            }
        }
    }

    #[test]
    fn values_and_subspace_are_those_of_a_dense_decomposition() {
        check(70, 60, 20); // fewer than the basis holds
        check(70, 60, 60); // all
        check(25, 60, 40); // more than there are
        check(60, 25, 40);
        check(90, 110, 12); // a basis that is smaller than both sides
    }

    #[test]
    fn dependent_columns_and_rows_do_not_count() {
        let row = |a: f32, b: f32| vec![(0, a), (1, b), (2, a)];
        let rows = [
            row(1.0, 2.0),
            row(1.0, 2.0),
            row(3.0, 0.0),
            vec![],
            row(4.0, 2.0),
        ];
        let found = truncated(&Sparse::new(4, rows.into_iter()), 4, 1).unwrap();
        assert_eq!(found.values.len(), 2);
        assert!(found.right.iter().all(|x| x.is_finite()));
        let nothing = truncated(&Sparse::new(3, [vec![], vec![]].into_iter()), 4, 1).unwrap();
        assert!(nothing.values.is_empty());
    }
}
