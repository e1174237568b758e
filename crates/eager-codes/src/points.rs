//! The vectors of one clustering, copied together and moved so that their mean is the origin: squared distances are then
//! computed as ‖x‖² − 2x·c + ‖c‖² without losing the digits that a far origin would cost.
//!
//! Work is cut into blocks of a fixed number of rows, and sums are taken in a fixed order in `f64`, so that no result
//! depends on the number of threads.

use rayon::prelude::*;

use crate::Vectors;
use crate::matmul::rows_by_rows;

/// Rows of a block: with 256 centres of 768 numbers, scores and centres of a block stay in a core's second-level cache.
pub(crate) const BLOCK: usize = 256;

/// Below this share of ‖x‖² + ‖c‖² the expanded squared distance has lost too many digits and is computed directly; so
/// equal points are exactly 0 apart.
pub(crate) const CANCELLED: f32 = 1e-4;

/// Vectors less their mean, with their squared lengths.
pub(crate) struct Points {
    data: Vec<f32>,
    dim: usize,
    mean: Vec<f64>,
    squared: Vec<f32>,
}

impl Points {
    /// Copies the given rows, in that order; a row may come more than once.
    pub(crate) fn gather(vectors: Vectors<'_>, rows: &[u32]) -> Self {
        let dim = vectors.dim();
        let sums: Vec<Vec<f64>> = rows
            .par_chunks(BLOCK)
            .map(|rows| sum(dim, rows.iter().map(|&row| vectors.row(row as usize))))
            .collect();
        let mut mean = vec![0.0; dim];
        for block in &sums {
            for (total, part) in mean.iter_mut().zip(block) {
                *total += part;
            }
        }
        for total in &mut mean {
            *total /= rows.len() as f64;
        }
        let mut data = vec![0.0; rows.len() * dim];
        data.par_chunks_mut(BLOCK * dim)
            .zip(rows.par_chunks(BLOCK))
            .for_each(|(block, rows)| {
                for (point, &row) in block.chunks_exact_mut(dim).zip(rows) {
                    for ((to, &from), mean) in
                        point.iter_mut().zip(vectors.row(row as usize)).zip(&mean)
                    {
                        *to = (f64::from(from) - mean) as f32;
                    }
                }
            });
        let squared = squared_lengths(&data, dim);
        Self {
            data,
            dim,
            mean,
            squared,
        }
    }

    /// Number of points.
    pub(crate) fn len(&self) -> usize {
        self.squared.len()
    }

    /// Width of a point.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// All points, `[n, dim]`.
    #[cfg(any(test, feature = "kmeans"))]
    pub(crate) fn data(&self) -> &[f32] {
        &self.data
    }

    /// Point `i`, `[dim]`.
    pub(crate) fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// ‖x‖² of point `i`.
    pub(crate) fn squared_length(&self, i: usize) -> f32 {
        self.squared[i]
    }

    /// Points `rows` one after another, `[rows, dim]`.
    pub(crate) fn rows(&self, rows: &[u32]) -> Vec<f32> {
        rows.iter()
            .flat_map(|&row| self.row(row as usize))
            .copied()
            .collect()
    }

    /// The points of block `block`, `[up to BLOCK, dim]`.
    pub(crate) fn block(&self, block: usize) -> &[f32] {
        let start = block * BLOCK * self.dim;
        let end = (start + BLOCK * self.dim).min(self.data.len());
        &self.data[start..end]
    }

    /// The mean of the points `members`, summed in their order in `f64`, `[dim]`. `members` is not empty.
    pub(crate) fn mean(&self, members: &[u32]) -> Vec<f32> {
        let total = sum(
            self.dim,
            members.iter().map(|&member| self.row(member as usize)),
        );
        total
            .iter()
            .map(|x| (x / members.len() as f64) as f32)
            .collect()
    }

    /// Squared distances of all points to `centres` (`[m, dim]`), `[n, m]`; of equal rows exactly 0.
    pub(crate) fn squared_distances(&self, centres: &[f32]) -> Vec<f32> {
        let (dim, m) = (self.dim, centres.len() / self.dim);
        let lengths = squared_lengths(centres, dim);
        let mut distances = vec![0.0; self.len() * m];
        distances
            .par_chunks_mut(BLOCK * m)
            .enumerate()
            .for_each(|(block, distances)| {
                rows_by_rows(-2.0, self.block(block), centres, dim, distances);
                for (i, row) in distances.chunks_exact_mut(m).enumerate() {
                    let i = block * BLOCK + i;
                    for (j, distance) in row.iter_mut().enumerate() {
                        let scale = self.squared[i] + lengths[j];
                        *distance += scale;
                        if *distance < CANCELLED * scale {
                            let centre = &centres[j * dim..(j + 1) * dim];
                            *distance = squared_distance(self.row(i), centre) as f32;
                        }
                    }
                }
            });
        distances
    }

    /// Squared distance of every point to the centre it is assigned to, computed directly, `[n]`.
    pub(crate) fn own_distances(&self, centres: &[f32], assignment: &[u32]) -> Vec<f64> {
        let dim = self.dim;
        assignment
            .par_iter()
            .enumerate()
            .with_min_len(BLOCK)
            .map(|(i, &cluster)| {
                let start = cluster as usize * dim;
                squared_distance(self.row(i), &centres[start..start + dim])
            })
            .collect()
    }

    /// Every point less the centre that it is assigned to, `[n, dim]`.
    pub(crate) fn residuals(&self, centres: &[f32], assignment: &[u32]) -> Vec<f32> {
        let centre = |cluster: u32| &centres[cluster as usize * self.dim..][..self.dim];
        let points = self.data.chunks_exact(self.dim).zip(assignment);
        points
            .flat_map(|(point, &cluster)| point.iter().zip(centre(cluster)))
            .map(|(x, c)| x - c)
            .collect()
    }

    /// `centres` (`[m, dim]`) seen from the vectors' own origin.
    pub(crate) fn moved_back(&self, centres: &[f32]) -> Vec<f32> {
        let back = |(x, mean): (&f32, &f64)| (f64::from(*x) + mean) as f32;
        centres
            .chunks_exact(self.dim)
            .flat_map(|centre| centre.iter().zip(&self.mean).map(back))
            .collect()
    }

    /// `centres` (`[m, dim]`) given from the vectors' own origin, seen from the points'.
    pub(crate) fn moved_here(&self, centres: &[f32]) -> Vec<f32> {
        let here = |(x, mean): (&f32, &f64)| (f64::from(*x) - mean) as f32;
        centres
            .chunks_exact(self.dim)
            .flat_map(|centre| centre.iter().zip(&self.mean).map(here))
            .collect()
    }
}

/// Σ (aᵢ − bᵢ)² in `f64`.
pub(crate) fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| {
            let difference = f64::from(a) - f64::from(b);
            difference * difference
        })
        .sum()
}

/// Squared lengths of the rows of `[n, dim]` data, `[n]`.
pub(crate) fn squared_lengths(data: &[f32], dim: usize) -> Vec<f32> {
    data.par_chunks_exact(dim)
        .with_min_len(BLOCK)
        .map(|row| {
            row.iter()
                .map(|&x| f64::from(x) * f64::from(x))
                .sum::<f64>() as f32
        })
        .collect()
}

/// The sum of rows, in their order, `[dim]`.
fn sum<'a>(dim: usize, rows: impl Iterator<Item = &'a [f32]>) -> Vec<f64> {
    let mut total = vec![0.0; dim];
    for row in rows {
        for (total, &x) in total.iter_mut().zip(row) {
            *total += f64::from(x);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn distances_equal_the_direct_sum_even_far_from_the_origin() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (n, dim) = (300, 17);
        let data: Vec<f32> = (0..n * dim).map(|_| 1000.0 + rng.random::<f32>()).collect();
        let vectors = Vectors::new(&data, dim).unwrap();
        let rows: Vec<u32> = (0..n as u32).collect();
        let points = Points::gather(vectors, &rows);
        let distances = points.squared_distances(&points.rows(&[4, 299]));
        for (i, pair) in distances.chunks_exact(2).enumerate() {
            for (&got, j) in pair.iter().zip([4, 299]) {
                let want = squared_distance(vectors.row(i), vectors.row(j));
                assert!((f64::from(got) - want).abs() < 1e-4 * want.max(1e-3));
                assert_eq!(got == 0.0, i == j);
            }
        }
        let back = points.moved_back(&points.rows(&[7]));
        assert!(squared_distance(&back, vectors.row(7)) < 1e-6);
        assert!(squared_distance(&points.moved_here(&back), points.row(7)) < 1e-6);
    }
}
