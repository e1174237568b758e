//! Exact nearest neighbours by cosine.

use rayon::prelude::*;

use crate::matmul::rows_by_rows;
use crate::{CodesError, Result, Vectors};

/// Queries answered together: with a chunk of candidates their cosines take half a megabyte.
const QUERIES: usize = 32;
/// Candidates of one product.
const CANDIDATES: usize = 4096;
/// How far apart a product's cosines of equal vectors may be, and more: sums of other shapes have other orders.
const ROUNDING: f32 = 1e-5;

/// A vector near a query.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Near {
    /// Its row.
    pub row: u32,
    /// Cosine of the two; 0 where one has no length.
    pub cosine: f32,
}

/// Cosine of two vectors of one width, by sums in `f64`; 0 where one has no length.
#[must_use]
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let (mut dot, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a), f64::from(b));
        dot += a * b;
        of_a += a * a;
        of_b += b * b;
    }
    let lengths = f64::sqrt(of_a * of_b);
    if lengths > 0.0 {
        (dot / lengths) as f32
    } else {
        0.0
    }
}

/// The `count` vectors nearest to each of `queries` by [`cosine`] (of equal ones the lowest row), nearest first: exact, all
/// of them where there are fewer. What a query finds does not depend on the others.
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
    if count == 0 {
        return vec![Vec::new(); queries.len()];
    }
    let rows: Vec<u32> = (0..vectors.rows() as u32).collect();
    let unit = unit_rows(vectors, &rows);
    queries
        .par_chunks(QUERIES)
        .flat_map_iter(|queries| {
            let unit_queries = unit_rows(asked, queries);
            let mut cosines = Vec::new();
            let mut best: Vec<Vec<Near>> = vec![Vec::with_capacity(count + 1); queries.len()];
            for (chunk, candidates) in unit.chunks(CANDIDATES * dim).enumerate() {
                let width = candidates.len() / dim;
                cosines.resize(queries.len() * width, 0.0);
                rows_by_rows(1.0, &unit_queries, candidates, dim, &mut cosines);
                let rows = cosines.chunks_exact(width);
                for ((&query, best), row) in queries.iter().zip(&mut best).zip(rows) {
                    for (row, &cosine) in ((chunk * CANDIDATES) as u32..).zip(row) {
                        if !others || row != query {
                            offer(best, count, Near { row, cosine });
                        }
                    }
                }
            }
            for (&query, best) in queries.iter().zip(&mut best) {
                settle(best, count, asked.row(query as usize), vectors);
            }
            best
        })
        .collect()
}

/// Keeps the `count` highest and what rounding may have put below them, highest first.
fn offer(best: &mut Vec<Near>, count: usize, candidate: Near) {
    let limit = |best: &[Near]| {
        let last = best.get(count - 1);
        last.map_or(f32::NEG_INFINITY, |near| near.cosine - ROUNDING)
    };
    if candidate.cosine < limit(best) {
        return;
    }
    let place = best.partition_point(|kept| kept.cosine >= candidate.cosine);
    best.insert(place, candidate);
    let limit = limit(best);
    let kept = best.partition_point(|kept| kept.cosine >= limit);
    best.truncate(kept);
}

/// Puts what was kept for a query in the order of the exact cosines, and keeps `count`.
fn settle(best: &mut Vec<Near>, count: usize, query: &[f32], vectors: Vectors<'_>) {
    for near in best.iter_mut() {
        near.cosine = cosine(query, vectors.row(near.row as usize));
    }
    best.sort_unstable_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.row.cmp(&b.row)));
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

    #[test]
    fn equal_vectors_come_by_row_in_any_chunk_and_company() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let (n, dim) = (CANDIDATES + 4, 64);
        let mut random = |_| rng.random::<f32>() - 0.5;
        let mut data: Vec<f32> = (0..n * dim).map(&mut random).collect();
        let mut asked: Vec<f32> = (0..QUERIES * dim).map(&mut random).collect();
        data.copy_within(5 * dim..6 * dim, CANDIDATES * dim);
        data.copy_within(5 * dim..6 * dim, (n - 1) * dim);
        for query in asked.chunks_exact_mut(dim) {
            for (x, near) in query.iter_mut().zip(&data[5 * dim..]) {
                *x = 0.3 * *x + near;
            }
        }
        let vectors = Vectors::new(&data, dim).unwrap();
        let find = |asked: &[f32], count| {
            nearest_by_cosine(vectors, Vectors::new(asked, dim).unwrap(), count).unwrap()
        };
        for count in 0..6 {
            let together = find(&asked, count);
            for (query, found) in asked.chunks_exact(dim).zip(&together) {
                assert_eq!(found.len(), count);
                let twins = [5, CANDIDATES as u32, n as u32 - 1];
                assert!(found.iter().zip(twins).all(|(near, row)| near.row == row));
                assert_eq!(&find(query, count)[0], found, "alone or among others");
            }
        }
    }
}
