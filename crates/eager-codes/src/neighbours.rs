//! Exact nearest neighbours by cosine, for the quality report.

use std::cmp::Ordering;

use rayon::prelude::*;

use crate::Vectors;
use crate::matmul::rows_by_rows;

/// Queries answered together: with a chunk of candidates their cosines take half a megabyte.
const QUERIES: usize = 32;
/// Candidates of one product.
const CANDIDATES: usize = 4096;

/// The `count` vectors nearest to each query by cosine (of equal ones the lowest row), nearest first, without the query
/// itself. A zero vector has cosine 0 with all.
pub(crate) fn nearest_by_cosine(
    vectors: Vectors<'_>,
    queries: &[u32],
    count: usize,
) -> Vec<Vec<u32>> {
    let dim = vectors.dim();
    let rows: Vec<u32> = (0..vectors.rows() as u32).collect();
    let unit = unit_rows(vectors, &rows);
    queries
        .par_chunks(QUERIES)
        .flat_map_iter(|queries| {
            let asked = unit_rows(vectors, queries);
            let mut cosines = Vec::new();
            let mut best: Vec<Vec<(f32, u32)>> = vec![Vec::with_capacity(count + 1); queries.len()];
            for (chunk, candidates) in unit.chunks(CANDIDATES * dim).enumerate() {
                let width = candidates.len() / dim;
                cosines.resize(queries.len() * width, 0.0);
                rows_by_rows(1.0, &asked, candidates, dim, &mut cosines);
                let rows = cosines.chunks_exact(width);
                for ((&query, best), row) in queries.iter().zip(&mut best).zip(rows) {
                    for (candidate, &cosine) in ((chunk * CANDIDATES) as u32..).zip(row) {
                        if candidate != query {
                            offer(best, count, (cosine, candidate));
                        }
                    }
                }
            }
            best.into_iter()
                .map(|best| best.into_iter().map(|(_, row)| row).collect())
        })
        .collect()
}

/// Keeps the `count` highest, highest first; candidates come in ascending order of their rows.
fn offer(best: &mut Vec<(f32, u32)>, count: usize, candidate: (f32, u32)) {
    if best.len() == count && best.last().is_none_or(|worst| candidate.0 <= worst.0) {
        return;
    }
    let place = best.partition_point(|kept| kept.0.total_cmp(&candidate.0) != Ordering::Less);
    best.insert(place, candidate);
    best.truncate(count);
}

/// The given rows scaled to length 1, `[rows, dim]`; zero rows stay zero.
fn unit_rows(vectors: Vectors<'_>, rows: &[u32]) -> Vec<f32> {
    let mut unit = Vec::with_capacity(rows.len() * vectors.dim());
    for &row in rows {
        let row = vectors.row(row as usize);
        let squared: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let scale = if squared > 0.0 {
            squared.sqrt().recip()
        } else {
            0.0
        };
        unit.extend(row.iter().map(|&x| (f64::from(x) * scale) as f32));
    }
    unit
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn neighbours_equal_sorting_all_cosines() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let (n, dim) = (5000, 3);
        let mut data: Vec<f32> = (0..n * dim).map(|_| rng.random::<f32>() - 0.5).collect();
        data[..dim].fill(0.0);
        let vectors = Vectors::new(&data, dim).unwrap();
        let queries: Vec<u32> = (0..n as u32).step_by(97).collect();
        let length = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        for (&query, found) in queries.iter().zip(nearest_by_cosine(vectors, &queries, 7)) {
            let a = vectors.row(query as usize);
            let cosine = |row: u32| {
                let b = vectors.row(row as usize);
                let dot: f64 = a
                    .iter()
                    .zip(b)
                    .map(|(&x, &y)| f64::from(x) * f64::from(y))
                    .sum();
                if dot == 0.0 {
                    0.0
                } else {
                    dot / length(a) / length(b)
                }
            };
            let mut all: Vec<f64> = (0..n as u32)
                .filter(|&row| row != query)
                .map(cosine)
                .collect();
            all.sort_by(|x, y| y.total_cmp(x));
            assert_eq!(found.len(), 7);
            assert!(!found.contains(&query));
            for (row, want) in found.into_iter().zip(all) {
                assert!((cosine(row) - want).abs() < 1e-6);
            }
        }
    }
}
