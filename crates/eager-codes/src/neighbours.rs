//! Exact nearest neighbours by cosine.

use std::cmp::Ordering;

use rayon::prelude::*;

use crate::matmul::rows_by_rows;
use crate::{CodesError, Result, Vectors};

/// Queries answered together: with a chunk of candidates their cosines take half a megabyte.
const QUERIES: usize = 32;
/// Candidates of one product.
const CANDIDATES: usize = 4096;

/// A vector near a query.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Near {
    /// Its row.
    pub row: u32,
    /// Cosine of the two; 0 where one has no length.
    pub cosine: f32,
}

/// The `count` vectors nearest to each of `queries` by cosine (of equal ones the lowest row), nearest first: exact, all of
/// them where there are fewer.
///
/// # Errors
/// When queries and vectors are not of one width.
pub fn nearest_by_cosine(
    vectors: Vectors<'_>,
    queries: Vectors<'_>,
    count: usize,
) -> Result<Vec<Vec<Near>>> {
    if queries.dim() != vectors.dim() {
        return Err(CodesError::Shape(format!(
            "queries of width {}, vectors of width {}",
            queries.dim(),
            vectors.dim()
        )));
    }
    let rows: Vec<u32> = (0..queries.rows() as u32).collect();
    Ok(nearest(vectors, queries, &rows, count, false))
}

/// The rows nearest to those of the same table at `queries`, without the query itself.
pub(crate) fn nearest_others(vectors: Vectors<'_>, queries: &[u32], count: usize) -> Vec<Vec<u32>> {
    nearest(vectors, vectors, queries, count, true)
        .into_iter()
        .map(|near| near.into_iter().map(|near| near.row).collect())
        .collect()
}

/// Rows `queries` of `asked` among `vectors`; with `others` without the same row.
fn nearest(
    vectors: Vectors<'_>,
    asked: Vectors<'_>,
    queries: &[u32],
    count: usize,
    others: bool,
) -> Vec<Vec<Near>> {
    let (dim, count) = (vectors.dim(), count.min(vectors.rows()));
    let rows: Vec<u32> = (0..vectors.rows() as u32).collect();
    let unit = unit_rows(vectors, &rows);
    queries
        .par_chunks(QUERIES)
        .flat_map_iter(|queries| {
            let asked = unit_rows(asked, queries);
            let mut cosines = Vec::new();
            let mut best: Vec<Vec<Near>> = vec![Vec::with_capacity(count + 1); queries.len()];
            for (chunk, candidates) in unit.chunks(CANDIDATES * dim).enumerate() {
                let width = candidates.len() / dim;
                cosines.resize(queries.len() * width, 0.0);
                rows_by_rows(1.0, &asked, candidates, dim, &mut cosines);
                let rows = cosines.chunks_exact(width);
                for ((&query, best), row) in queries.iter().zip(&mut best).zip(rows) {
                    for (row, &cosine) in ((chunk * CANDIDATES) as u32..).zip(row) {
                        if !others || row != query {
                            offer(best, count, Near { row, cosine });
                        }
                    }
                }
            }
            best
        })
        .collect()
}

/// Keeps the `count` highest, highest first; candidates come in ascending order of their rows.
fn offer(best: &mut Vec<Near>, count: usize, candidate: Near) {
    let full = best.len() == count;
    if full
        && best
            .last()
            .is_none_or(|worst| candidate.cosine <= worst.cosine)
    {
        return;
    }
    let before = |kept: &Near| kept.cosine.total_cmp(&candidate.cosine) != Ordering::Less;
    let place = best.partition_point(before);
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
        for (&query, found) in queries.iter().zip(nearest_others(vectors, &queries, 7)) {
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
        // A table of its own: the same rows, each nearest to itself.
        let asked: Vec<f32> = queries
            .iter()
            .flat_map(|&q| vectors.row(q as usize))
            .copied()
            .collect();
        let found = nearest_by_cosine(vectors, Vectors::new(&asked, dim).unwrap(), 8).unwrap();
        let others = nearest_others(vectors, &queries, 7);
        for ((&query, found), others) in queries.iter().zip(found).zip(others).skip(1) {
            assert_eq!(found[0].row, query);
            let rows: Vec<u32> = found[1..].iter().map(|near| near.row).collect();
            assert_eq!(rows, others);
        }
        assert!(nearest_by_cosine(vectors, Vectors::new(&asked, 1).unwrap(), 8).is_err());
    }
}
