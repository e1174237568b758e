//! Lloyd's algorithm with distances by blocked matrix products: assign every point to its nearest centre, move every
//! centre to the mean of its points, until nothing changes.
//!
//! The scores ‖c‖² − 2x·c of all pairs are kept (`[n, k]`, k/dim of the vectors' memory), and only the columns of
//! centres that moved are computed again: the result is the full product's, late iterations cost little. Ties go to the
//! lowest cluster. An empty cluster gets the point farthest from its centre. Where a point is far nearer to its centre than
//! to the origin, scores have lost too many digits to choose by: direct distances do.

use rayon::prelude::*;

use crate::config::CodesConfig;
use crate::matmul::rows_by_rows;
use crate::points::{BLOCK, CANCELLED, Points, squared_distance, squared_lengths};

/// Share of ‖x‖² by which rounding may set two scores apart: several times what products of a thousand numbers stray by.
const ROUNDING: f32 = 1e-5;

/// What a run of Lloyd's algorithm ends with. Every centre is the mean of its points.
pub(crate) struct Partition {
    /// Cluster of each point, `[n]`.
    pub(crate) assignment: Vec<u32>,
    /// Centres, seen from the points' origin, `[k, dim]`.
    pub(crate) centres: Vec<f32>,
    /// Assignments made.
    pub(crate) iterations: usize,
    /// Whether the last assignment changed nothing.
    pub(crate) converged: bool,
}

/// Runs from `centres` (`[k, dim]`, from the points' origin) within the limits of `config`.
pub(crate) fn lloyd(points: &Points, mut centres: Vec<f32>, config: &CodesConfig) -> Partition {
    let (n, dim) = (points.len(), points.dim());
    let k = centres.len() / dim;
    let mut scores = vec![0.0; n * k];
    let mut moved: Vec<u32> = (0..k as u32).collect();
    let mut assignment = vec![u32::MAX; n]; // no cluster yet
    let mut next = vec![0; n];
    for iteration in 1..=config.max_iterations {
        assign(points, &centres, &moved, &mut scores, &mut next);
        fill_empty(points, &centres, &mut next);
        if next == assignment {
            return Partition {
                assignment,
                centres,
                iterations: iteration,
                converged: true,
            };
        }
        let changed = changed(&assignment, &next, k);
        std::mem::swap(&mut assignment, &mut next);
        let shift;
        (moved, shift) = update(points, &assignment, &changed, &mut centres);
        if shift * shift < config.tolerance {
            return Partition {
                assignment,
                centres,
                iterations: iteration,
                converged: false,
            };
        }
    }
    Partition {
        assignment,
        centres,
        iterations: config.max_iterations,
        converged: false,
    }
}

/// Computes the score columns of the `moved` centres, and every point's best column.
fn assign(points: &Points, centres: &[f32], moved: &[u32], scores: &mut [f32], next: &mut [u32]) {
    let dim = points.dim();
    let k = centres.len() / dim;
    let all = moved.len() == k;
    let gathered: Vec<f32>; // [moved, dim]
    let columns = if all {
        centres
    } else {
        gathered = moved
            .iter()
            .flat_map(|&c| &centres[c as usize * dim..(c as usize + 1) * dim])
            .copied()
            .collect();
        &gathered
    };
    let lengths = squared_lengths(columns, dim);
    scores
        .par_chunks_mut(BLOCK * k)
        .zip(next.par_chunks_mut(BLOCK))
        .enumerate()
        .for_each_init(Vec::new, |products, (block, (scores, next))| {
            products.resize(next.len() * moved.len(), 0.0);
            if !moved.is_empty() {
                rows_by_rows(-2.0, points.block(block), columns, dim, products);
                let rows = products.chunks_exact(moved.len());
                for (row, products) in scores.chunks_exact_mut(k).zip(rows) {
                    if all {
                        for ((score, product), length) in row.iter_mut().zip(products).zip(&lengths)
                        {
                            *score = product + length;
                        }
                    } else {
                        for ((&c, product), length) in moved.iter().zip(products).zip(&lengths) {
                            row[c as usize] = product + length;
                        }
                    }
                }
            }
            let rows = (block * BLOCK..).zip(scores.chunks_exact(k));
            for (best, (i, row)) in next.iter_mut().zip(rows) {
                *best = lowest(row);
                let (score, squared) = (row[*best as usize], points.squared_length(i));
                if score + squared < CANCELLED * squared {
                    let limit = score + ROUNDING * squared;
                    *best = nearest(points.row(i), centres, row, limit);
                }
            }
        });
}

/// The index of the lowest score; of equal ones the first.
fn lowest(scores: &[f32]) -> u32 {
    const LANES: usize = 16;
    let less = |a: f32, b: f32| if b < a { b } else { a };
    let mut lanes = [f32::INFINITY; LANES];
    let chunks = scores.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &score) in lanes.iter_mut().zip(chunk) {
            *lane = less(*lane, score);
        }
    }
    let lowest = lanes
        .iter()
        .chain(rest)
        .fold(f32::INFINITY, |a, &b| less(a, b));
    scores.iter().position(|&s| s == lowest).unwrap_or(0) as u32
}

/// The centre at the least direct distance, of those whose score is at most `limit`; of equal ones the first.
fn nearest(point: &[f32], centres: &[f32], scores: &[f32], limit: f32) -> u32 {
    (0u32..)
        .zip(centres.chunks_exact(point.len()).zip(scores))
        .filter(|&(_, (_, &score))| score <= limit)
        .map(|(c, (centre, _))| (squared_distance(point, centre), c))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(0, |(_, c)| c)
}

/// Gives every empty cluster, in order, the point farthest from its own centre (of equal ones the first) that is not
/// alone in its cluster. Points on their centre are not moved: a cluster stays empty where there are fewer distinct
/// points than clusters.
fn fill_empty(points: &Points, centres: &[f32], assignment: &mut [u32]) {
    let mut counts = vec![0usize; centres.len() / points.dim()];
    for &cluster in assignment.iter() {
        counts[cluster as usize] += 1;
    }
    if !counts.contains(&0) {
        return;
    }
    let distances = points.own_distances(centres, assignment);
    let mut order: Vec<usize> = (0..points.len()).filter(|&i| distances[i] > 0.0).collect();
    order.sort_by(|&a, &b| distances[b].total_cmp(&distances[a]));
    let mut farthest = order.into_iter();
    for cluster in 0..counts.len() {
        if counts[cluster] > 0 {
            continue;
        }
        let Some(point) = farthest.find(|&i| counts[assignment[i] as usize] > 1) else {
            return;
        };
        counts[assignment[point] as usize] -= 1;
        counts[cluster] = 1;
        assignment[point] = cluster as u32;
    }
}

/// The clusters that lost or gained a point, ascending.
fn changed(before: &[u32], after: &[u32], k: usize) -> Vec<u32> {
    let mut touched = vec![false; k];
    for (&from, &to) in before.iter().zip(after) {
        if from != to {
            touched[to as usize] = true;
            if let Some(lost) = touched.get_mut(from as usize) {
                *lost = true;
            }
        }
    }
    (0..k as u32).filter(|&c| touched[c as usize]).collect()
}

/// Moves the centres of `changed` clusters to the mean of their points; an empty one stays. Returns those that moved
/// and the sum of the distances they moved.
fn update(
    points: &Points,
    assignment: &[u32],
    changed: &[u32],
    centres: &mut [f32],
) -> (Vec<u32>, f64) {
    let dim = points.dim();
    let (offsets, members) = members(assignment, centres.len() / dim);
    let means: Vec<Option<Vec<f32>>> = changed
        .par_iter()
        .map(|&c| {
            let own = &members[offsets[c as usize]..offsets[c as usize + 1]];
            (!own.is_empty()).then(|| points.mean(own))
        })
        .collect();
    let (mut moved, mut shift) = (Vec::new(), 0.0);
    for (&c, mean) in changed.iter().zip(&means) {
        let centre = &mut centres[c as usize * dim..(c as usize + 1) * dim];
        if let Some(mean) = mean
            && mean != centre
        {
            shift += squared_distance(mean, centre).sqrt();
            centre.copy_from_slice(mean);
            moved.push(c);
        }
    }
    (moved, shift)
}

/// Points by cluster, ascending within each: cluster `c` has `members[offsets[c]..offsets[c + 1]]`.
pub(crate) fn members(assignment: &[u32], k: usize) -> (Vec<usize>, Vec<u32>) {
    let mut offsets = vec![0; k + 1];
    for &cluster in assignment {
        offsets[cluster as usize + 1] += 1;
    }
    for c in 0..k {
        offsets[c + 1] += offsets[c];
    }
    let mut slots = offsets.clone();
    let mut members = vec![0; assignment.len()];
    for (point, &cluster) in assignment.iter().enumerate() {
        members[slots[cluster as usize]] = point as u32;
        slots[cluster as usize] += 1;
    }
    (offsets, members)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{Backend, Clustering, Vectors};

    /// Lloyd's algorithm as a textbook has it, in `f64`, one distance after another, with the same rule for empty
    /// clusters. Returns assignment and inertia.
    fn textbook(vectors: Vectors<'_>, start: &[f32], max_iterations: usize) -> (Vec<u32>, f64) {
        let (n, dim) = (vectors.rows(), vectors.dim());
        let row = |i: usize| -> Vec<f64> { vectors.row(i).iter().map(|&x| f64::from(x)).collect() };
        let distance =
            |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum() };
        let mut centres: Vec<Vec<f64>> = start
            .chunks(dim)
            .map(|c| c.iter().map(|&x| f64::from(x)).collect())
            .collect();
        let mut before = vec![usize::MAX; n];
        for _ in 0..max_iterations {
            let mut now = Vec::new();
            for i in 0..n {
                let mut best = 0;
                for c in 1..centres.len() {
                    if distance(&row(i), &centres[c]) < distance(&row(i), &centres[best]) {
                        best = c;
                    }
                }
                now.push(best);
            }
            let owned = now.clone();
            for c in 0..centres.len() {
                if now.contains(&c) {
                    continue;
                }
                let mut far: Option<(f64, usize)> = None;
                for i in 0..n {
                    let d = distance(&row(i), &centres[owned[i]]);
                    let alone = now.iter().filter(|&&x| x == now[i]).count() == 1;
                    if now[i] == owned[i] && !alone && d > far.map_or(0.0, |f| f.0) {
                        far = Some((d, i));
                    }
                }
                if let Some((_, i)) = far {
                    now[i] = c;
                }
            }
            if now == before {
                break;
            }
            for (c, centre) in centres.iter_mut().enumerate() {
                let own: Vec<usize> = (0..n).filter(|&i| now[i] == c).collect();
                if !own.is_empty() {
                    *centre = (0..dim)
                        .map(|d| own.iter().map(|&i| row(i)[d]).sum::<f64>() / own.len() as f64)
                        .collect();
                }
            }
            before = now;
        }
        let inertia = (0..n).map(|i| distance(&row(i), &centres[before[i]])).sum();
        (before.iter().map(|&c| c as u32).collect(), inertia)
    }

    fn uniform(n: usize, dim: usize, offset: f32, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n * dim).map(|_| offset + rng.random::<f32>()).collect()
    }

    #[test]
    fn the_same_start_ends_where_the_textbook_ends() {
        let config = CodesConfig::default();
        for (n, dim, k, offset) in [
            (700, 5, 23, 0.0),
            (300, 2, 40, 50.0),
            (90, 33, 4, -3.0),
            (40, 3, 40, 0.0),
        ] {
            let data = uniform(n, dim, offset, n as u64);
            let vectors = Vectors::new(&data, dim).unwrap();
            let found = Clustering::from_start(vectors, &data[..k * dim], &config).unwrap();
            let (assignment, inertia) = textbook(vectors, &data[..k * dim], 100);
            assert_eq!(found.assignment, assignment);
            assert!((found.inertia - inertia).abs() <= 1e-5 * inertia + 1e-9);
            assert!(found.converged);
            for (c, centre) in found.centres.chunks_exact(dim).enumerate() {
                let own: Vec<usize> = (0..n).filter(|&i| assignment[i] == c as u32).collect();
                let mean: Vec<f32> = (0..dim)
                    .map(|d| {
                        let sum: f64 = own.iter().map(|&i| f64::from(data[i * dim + d])).sum();
                        (sum / own.len() as f64) as f32
                    })
                    .collect();
                assert!(squared_distance(centre, &mean) < 1e-9);
            }
        }
    }

    #[test]
    fn groups_far_apart_end_where_the_textbook_ends() {
        let (n, dim, k) = (2000, 2, 16);
        let mut data = uniform(n, dim, -0.5, 3);
        for (i, point) in data.chunks_exact_mut(dim).enumerate() {
            point.iter_mut().for_each(|x| *x *= 4.0);
            point[0] += if i % 2 == 0 { 3e3 } else { -3e3 };
        }
        let vectors = Vectors::new(&data, dim).unwrap();
        let start = &data[..k * dim];
        let found = Clustering::from_start(vectors, start, &CodesConfig::default()).unwrap();
        let (assignment, inertia) = textbook(vectors, start, 100);
        assert!(found.converged);
        assert_eq!(found.assignment, assignment);
        assert!((found.inertia - inertia).abs() < 1e-5 * inertia);
    }

    #[test]
    fn clusters_that_start_empty_are_filled_as_the_textbook_does() {
        let (n, dim, k) = (200, 3, 12);
        let data = uniform(n, dim, 0.0, 11);
        let vectors = Vectors::new(&data, dim).unwrap();
        let far: Vec<f32> = (0..k * dim)
            .map(|i| if i < dim { 0.5 } else { 99.0 })
            .collect();
        let found = Clustering::from_start(vectors, &far, &CodesConfig::default()).unwrap();
        let (assignment, inertia) = textbook(vectors, &far, 100);
        assert_eq!(found.assignment, assignment);
        assert!((found.inertia - inertia).abs() < 1e-5 * inertia);
        assert!((0..k as u32).all(|c| found.assignment.contains(&c)));
    }

    #[test]
    fn more_clusters_than_distinct_points_leave_some_empty() {
        let data = [1.0, 1.0, 1.0, 2.0, 2.0, 5.0];
        let vectors = Vectors::new(&data, 1).unwrap();
        let found = Clustering::fit(vectors, 5, &CodesConfig::default(), 3).unwrap();
        assert_eq!(found.inertia, 0.0);
        assert_eq!(found.centres.len(), 3);
        let given = Clustering::from_start(vectors, &[1.0; 5], &CodesConfig::default()).unwrap();
        assert_eq!(given.inertia, 0.0);
        assert_eq!(given.assignment[0], given.assignment[2]);
    }

    #[test]
    fn the_kmeans_crate_finds_nothing_better_from_the_same_start() {
        for (n, dim, k) in [(2000, 24, 50), (500, 7, 9), (64, 100, 16)] {
            let data = uniform(n, dim, 0.0, 77 + n as u64);
            let vectors = Vectors::new(&data, dim).unwrap();
            let ours = CodesConfig::default();
            let theirs = CodesConfig {
                backend: Backend::Kmeans,
                ..ours.clone()
            };
            for seed in 0..3 {
                let a = Clustering::fit(vectors, k, &ours, seed).unwrap();
                let b = Clustering::fit(vectors, k, &theirs, seed).unwrap();
                assert!(
                    a.inertia <= b.inertia * (1.0 + 1e-4),
                    "{} against {}",
                    a.inertia,
                    b.inertia
                );
            }
        }
    }

    #[test]
    fn limits_end_it_early() {
        let data = uniform(500, 4, 0.0, 2);
        let vectors = Vectors::new(&data, 4).unwrap();
        let run = |max_iterations, tolerance| {
            let config = CodesConfig {
                max_iterations,
                tolerance,
                ..CodesConfig::default()
            };
            Clustering::fit(vectors, 20, &config, 1).unwrap()
        };
        let whole = run(100, 0.0);
        assert!(whole.converged && whole.iterations > 3);
        let two = run(2, 0.0);
        assert_eq!((two.iterations, two.converged), (2, false));
        assert!(two.inertia > whole.inertia);
        let loose = run(100, 0.5);
        assert!(!loose.converged && loose.iterations < whole.iterations);
    }
}
