//! One flat k-means: a start, then Lloyd's algorithm by the chosen backend. The tree variants are made of it; it can be
//! used alone.

use rand_chacha::ChaCha8Rng;

use crate::config::{Backend, CodesConfig, Variant};
use crate::lloyd::{Partition, lloyd};
use crate::points::Points;
use crate::seed::NodeSeed;
use crate::start::plus_plus;
use crate::{CodesError, Result, Vectors};

/// Vectors in clusters around their means.
#[derive(Clone, Debug, PartialEq)]
pub struct Clustering {
    /// Cluster of each vector, `[n]`.
    pub assignment: Vec<u32>,
    /// Centres, each the mean of its cluster, `[k, dim]`. One that has no vector stands where it was last.
    pub centres: Vec<f32>,
    /// Sum over vectors of the squared distance to the own centre.
    pub inertia: f64,
    /// Lloyd iterations made.
    pub iterations: usize,
    /// Whether it ended because the last iteration changed no assignment (`kmeans` backend: because the inertia did not
    /// fall any more), not because of a limit.
    pub converged: bool,
}

impl Clustering {
    /// Clusters into `k` from a k-means++ start; into fewer where there are fewer distinct vectors. Of `config` the
    /// backend, `max_iterations` and `tolerance` count. The same seed gives the same clusters on any number of threads.
    ///
    /// # Errors
    /// When `k` is 0 or above the number of vectors, `config` is not valid or asks for the balanced variant, or the
    /// `kmeans` backend fails.
    pub fn fit(vectors: Vectors<'_>, k: usize, config: &CodesConfig, seed: u64) -> Result<Self> {
        check(vectors, k, config)?;
        let points = gather(vectors);
        let partition = partition(&points, k, config, &mut NodeSeed(seed).rng())?;
        Ok(Self::new(&points, partition))
    }

    /// Clusters from given centres, `[k, dim]`, otherwise as [`fit`](Self::fit).
    ///
    /// # Errors
    /// As [`fit`](Self::fit), or when `start` is no valid set of vectors of the same width.
    pub fn from_start(vectors: Vectors<'_>, start: &[f32], config: &CodesConfig) -> Result<Self> {
        let start_rows = Vectors::of_any_scale(start, vectors.dim())?.rows();
        check(vectors, start_rows, config)?;
        let points = gather(vectors);
        let partition = run(&points, points.moved_here(start), config)?;
        Ok(Self::new(&points, partition))
    }

    fn new(points: &Points, partition: Partition) -> Self {
        let distances = points.own_distances(&partition.centres, &partition.assignment);
        Self {
            centres: points.moved_back(&partition.centres),
            inertia: distances.iter().sum(),
            assignment: partition.assignment,
            iterations: partition.iterations,
            converged: partition.converged,
        }
    }
}

/// Clusters points into `k ≤ n` (fewer where there are fewer distinct points) from a k-means++ start.
pub(crate) fn partition(
    points: &Points,
    k: usize,
    config: &CodesConfig,
    rng: &mut ChaCha8Rng,
) -> Result<Partition> {
    let start = plus_plus(points, k, rng);
    run(points, points.rows(&start), config)
}

fn run(points: &Points, start: Vec<f32>, config: &CodesConfig) -> Result<Partition> {
    match config.backend {
        Backend::Blocked => Ok(lloyd(points, start, config)),
        #[cfg(any(test, feature = "kmeans"))]
        Backend::Kmeans => crate::kmeans_crate::lloyd(points, start, config),
        #[cfg(not(any(test, feature = "kmeans")))]
        Backend::Kmeans => Err(CodesError::Config(crate::config::NO_KMEANS.to_owned())),
    }
}

fn check(vectors: Vectors<'_>, k: usize, config: &CodesConfig) -> Result<()> {
    config.validate()?;
    if config.variant == Variant::Balanced {
        return Err(CodesError::Config(
            "one clustering is plain; the balanced variant makes whole trees (`ItemCodes::build`)"
                .to_owned(),
        ));
    }
    if k == 0 || k > vectors.rows() {
        return Err(CodesError::Config(format!(
            "{k} clusters of {} vectors; expected 1 to {}",
            vectors.rows(),
            vectors.rows()
        )));
    }
    Ok(())
}

/// All vectors as points.
pub(crate) fn gather(vectors: Vectors<'_>) -> Points {
    let rows: Vec<u32> = (0..vectors.rows() as u32).collect();
    Points::gather(vectors, &rows)
}
