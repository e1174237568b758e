//! One clustering by [`eager_codes::Clustering`].

use std::path::Path;

use anyhow::{Result, ensure};
use eager_codes::{Clustering, Vectors};
use serde_json::json;

use super::serve;
use crate::jobs::lloyd;
use crate::workload::{self, Kmeans};

pub fn run(path: &Path) -> Result<()> {
    let (_, mut tensors) = workload::load::<Kmeans>(path)?;
    let points = workload::take(&mut tensors, "points")?;
    let dim = points.dim(1)?;
    let points: Vec<f32> = points.flatten_all()?.to_vec1()?;
    let start = workload::take(&mut tensors, "start")?;
    let start: Vec<f32> = start.flatten_all()?.to_vec1()?;
    let vectors = Vectors::new(&points, dim)?;
    let found = Clustering::from_start(vectors, &start, &lloyd())?;
    serve(json!({ "inertia": found.inertia }), || {
        let again = Clustering::from_start(vectors, &start, &lloyd())?;
        ensure!(again.converged, "k-means did not converge");
        Ok(1)
    })
}
