//! Updates of the generator, as [`eager::train::generator::train_generator`] makes them.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};
use eager::train::generator::{Setting, gradients};
use eager::train::shards::Shards;
use eager_data::{Dataset, Split, Windows};
use eager_model::{EagerConfig, PerStream, Weights};
use eager_ops::{AdamW, Ops};
use serde_json::json;

use super::serve;
use crate::workload::{self, DeviceKind, Train};

/// Updates before the first round.
const WARM_UP: usize = 8;

pub fn run(path: &Path) -> Result<()> {
    let (settings, mut tensors) = workload::load::<Train>(path)?;
    let device = settings.device.open()?;
    let split = Split::new(&Dataset::load(&settings.data)?)?;
    let windows = Windows::new(&split, settings.model.window);
    let (mut items, _) = workload::take_items(&mut tensors)?;
    items.vectors = PerStream::try_from_fn(|stream| items.vectors[stream].to_device(&device))?;
    let weights = workload::take_weights(&mut tensors);
    let batches: Vec<Vec<u32>> = workload::take(&mut tensors, "batches/examples")?.to_vec2()?;
    drop(tensors);
    let shards = settings.device.shards(settings.threads)?;
    let setting = Setting {
        windows: &windows,
        items: &items,
        training: &settings.training,
        losses: &settings.losses,
        ops: Ops::Fused,
        seed: settings.seed,
        device: &device,
        shards: &shards,
    };

    let (loss, gradient_norm) = {
        let config = EagerConfig {
            dropout: 0.0,
            ..settings.model.clone()
        };
        let weights = Weights::saved(weights.clone(), &device);
        let model = workload::model(&config, &items, weights)?;
        let trainable = model.parameters().trainable();
        let mut optimiser = AdamW::new(trainable, settings.training.optimiser.clone())?;
        let (grads, parts) = gradients(&model, &setting, &batches[0], 0)?;
        (parts.total, optimiser.step(&grads, 0.0)?)
    };

    let weights = Weights::saved(weights, &device);
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
        device.synchronize()?; // a round's time is of finished work
        Ok(n)
    };
    updates(WARM_UP)?;
    let ready = json!({
        "loss": loss,
        "gradient_norm": gradient_norm,
        "gemm_gflops": gemm_gflops(&shards, &settings, &device)?,
    });
    serve(ready, || updates(settings.steps))
}

/// Rate of single-precision products of 1,024³ on all threads, the best of a few: the machine's peak as this model's
/// products can reach it. On a GPU of 4,096³, which fill it.
fn gemm_gflops(shards: &Shards, settings: &Train, device: &Device) -> Result<f64> {
    const TIMES: usize = 8;
    let n: usize = match settings.device {
        DeviceKind::Cpu => 1024,
        DeviceKind::Cuda => 4096,
    };
    let one = |_| -> Result<f64> {
        let a = Tensor::ones((n, n), DType::F32, device)?;
        device.synchronize()?;
        let begin = Instant::now();
        for _ in 0..TIMES {
            std::hint::black_box(a.matmul(&a)?);
        }
        device.synchronize()?;
        Ok((TIMES * 2 * n * n * n) as f64 / begin.elapsed().as_secs_f64() / 1e9)
    };
    let mut best = 0f64;
    for _ in 0..5 {
        let rates = shards.run(one)?;
        // With one worker the shards follow each other.
        let at_once = shards.count().min(settings.threads) as f64 / shards.count() as f64;
        best = best.max(rates.iter().sum::<f64>() * at_once);
    }
    Ok(best)
}
