//! Recommendations by [`eager_infer::Recommender`].

use std::path::Path;

use anyhow::Result;
use candle_core::Device;
use eager_infer::Recommender;
use eager_model::Weights;
use eager_ops::Ops;
use serde_json::json;

use super::serve;
use crate::workload::{self, Search};

pub fn run(path: &Path) -> Result<()> {
    let (settings, mut tensors) = workload::load::<Search>(path)?;
    let (items, codes) = workload::take_items(&mut tensors)?;
    let weights = Weights::saved(workload::take_weights(&mut tensors), &Device::Cpu).frozen();
    let model = workload::model(&settings.model, &items, weights)?;
    let recommender = Recommender::new(model, codes, Ops::Fused)?.with_threads(settings.threads)?;
    let known = workload::take_ids(&mut tensors, "histories/items")?;
    let offsets = workload::take_ids(&mut tensors, "histories/offsets")?;
    let histories: Vec<&[u32]> = offsets
        .windows(2)
        .map(|history| &known[history[0] as usize..history[1] as usize])
        .collect();

    let checked = &histories[..settings.checked];
    let lists = recommender.recommend(checked, settings.top, &settings.infer)?;
    let lists: Vec<Vec<u32>> = lists
        .iter()
        .map(|list| list.iter().map(|ranked| ranked.item).collect())
        .collect();
    serve(json!({ "lists": lists }), || {
        recommender.recommend(&histories, settings.top, &settings.infer)?;
        Ok(histories.len())
    })
}
