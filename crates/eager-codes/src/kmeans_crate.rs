//! The `kmeans` crate as a backend: Lloyd's algorithm from the same start, kept as a peer to compare with.
//!
//! That crate panics on NaN, on no points and on more clusters than points. The first two cannot come here
//! ([`Vectors`](crate::Vectors) refuses them), the third is checked, and anything else it may panic on becomes an error.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kmeans::{AbortStrategy, EuclideanDistance, KMeans, KMeansConfig, KMeansState};

use crate::config::CodesConfig;
use crate::lloyd::{Partition, members};
use crate::points::Points;
use crate::{CodesError, Result};

/// `f32` lanes of the crate's vectors.
const LANES: usize = 16;

/// Runs from `centres` (`[k, dim]`, from the points' origin) for at most `config.max_iterations`, or until the inertia
/// falls by no more than `config.tolerance`.
pub(crate) fn lloyd(points: &Points, centres: Vec<f32>, config: &CodesConfig) -> Result<Partition> {
    let (n, dim) = (points.len(), points.dim());
    let clusters = centres.len() / dim;
    let failed = |message: String| CodesError::Backend {
        items: n,
        clusters,
        message,
    };
    if clusters > n {
        return Err(failed("more clusters than vectors".to_owned()));
    }
    let iterations = Cell::new(0);
    let count = |_: &KMeansState<f32>, iteration: usize, _: f32| iterations.set(iteration);
    let settings = KMeansConfig::build()
        .iteration_done(&count)
        .abort_strategy(AbortStrategy::NoImprovement {
            threshold: config.tolerance as f32,
        })
        .build();
    let state = catch_unwind(AssertUnwindSafe(|| {
        let crate_points: KMeans<f32, LANES, _> =
            KMeans::new(points.data(), n, dim, EuclideanDistance);
        crate_points.kmeans_lloyd(
            clusters,
            config.max_iterations,
            KMeans::init_precomputed(centres),
            &settings,
        )
    }))
    .map_err(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned()));
        failed(message.unwrap_or_else(|| "it panicked".to_owned()))
    })?;
    let assignment: Vec<u32> = state.assignments.iter().map(|&c| c as u32).collect();
    let mut centres: Vec<f32> = state.centroids.iter().flatten().copied().collect();
    // Its centres are summed in f32; ours are exact means of the same clusters.
    let (offsets, members) = members(&assignment, clusters);
    for (c, centre) in centres.chunks_exact_mut(dim).enumerate() {
        let own = &members[offsets[c]..offsets[c + 1]];
        if !own.is_empty() {
            centre.copy_from_slice(&points.mean(own));
        }
    }
    Ok(Partition {
        assignment,
        centres,
        iterations: iterations.get(),
        converged: config.tolerance == 0.0 && iterations.get() < config.max_iterations,
    })
}
