//! Updates of the generator, as [`eager::train::generator::train_generator`] makes them.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};
use eager::train::generator::{Setting, gradients};
use eager::train::shards::{SHARDS, Shards};
use eager_data::{Dataset, Split, Windows};
use eager_model::{EagerConfig, Weights};
use eager_ops::{AdamW, Ops};
use serde_json::json;

use super::serve;
use crate::workload::{self, Train};

/// Updates before the first round.
const WARM_UP: usize = 8;

pub fn run(path: &Path) -> Result<()> {
    let (settings, mut tensors) = workload::load::<Train>(path)?;
    let split = Split::new(&Dataset::load(&settings.data)?)?;
    let windows = Windows::new(&split, settings.model.window);
    let (items, _) = workload::take_items(&mut tensors)?;
    let weights = workload::take_weights(&mut tensors);
    let batches: Vec<Vec<u32>> = workload::take(&mut tensors, "batches/examples")?.to_vec2()?;
    drop(tensors);
    let shards = Shards::with_workers(settings.threads)?;
    let setting = Setting {
        windows: &windows,
        items: &items,
        training: &settings.training,
        losses: &settings.losses,
        ops: Ops::Fused,
        seed: settings.seed,
        device: &Device::Cpu,
        shards: &shards,
    };

    let (loss, gradient_norm) = {
        let config = EagerConfig {
            dropout: 0.0,
            ..settings.model.clone()
        };
        let weights = Weights::saved(weights.clone(), &Device::Cpu);
        let model = workload::model(&config, &items, weights)?;
        let trainable = model.parameters().trainable();
        let mut optimiser = AdamW::new(trainable, settings.training.optimiser.clone())?;
        let (grads, parts) = gradients(&model, &setting, &batches[0], 0)?;
        (parts.total, optimiser.step(&grads, 0.0)?)
    };

    let weights = Weights::saved(weights, &Device::Cpu);
    let model = workload::model(&settings.model, &items, weights)?;
    let trainable = model.parameters().trainable();
    let mut optimiser = AdamW::new(trainable, settings.training.optimiser.clone())?;
    let mut update = 0;
    let mut updates = |n: usize| -> Result<usize> {
        for _ in 0..n {
            let examples = &batches[update as usize % batches.len()];
            let rate = settings.training.schedule.at(update + 1);
            let (grads, parts) = gradients(&model, &setting, examples, update)?;
            optimiser
                .step(&grads, rate)
                .with_context(|| format!("the loss was {}", parts.total))?;
            update += 1;
        }
        Ok(n)
    };
    updates(WARM_UP)?;
    let ready = json!({
        "loss": loss,
        "gradient_norm": gradient_norm,
        "gemm_gflops": gemm_gflops(&shards, settings.threads)?,
    });
    serve(ready, || updates(settings.steps))
}

/// Rate of single-precision products of 1,024³ on all threads, the best of a few: the machine's peak as this model's
/// products can reach it.
fn gemm_gflops(shards: &Shards, threads: usize) -> Result<f64> {
    const N: usize = 1024;
    const TIMES: usize = 8;
    let one = |_| -> Result<f64> {
        let a = Tensor::ones((N, N), DType::F32, &Device::Cpu)?;
        let begin = Instant::now();
        for _ in 0..TIMES {
            std::hint::black_box(a.matmul(&a)?);
        }
        Ok((TIMES * 2 * N * N * N) as f64 / begin.elapsed().as_secs_f64() / 1e9)
    };
    let mut best = 0f64;
    for _ in 0..5 {
        let rates = shards.run(one)?;
        // With one worker the shards follow each other.
        let at_once = SHARDS.min(threads) as f64 / SHARDS as f64;
        best = best.max(rates.iter().sum::<f64>() * at_once);
    }
    Ok(best)
}
