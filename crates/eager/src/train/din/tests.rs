//! DIN learns what there is to learn, and the loop gives the same bits however it runs.

use anyhow::bail;
use eager_data::{Clock, Dataset, Interactions, Item, ItemId, PrepareConfig};

use rand::Rng;

use super::*;
use crate::train::schedule::WarmupExponential;

/// Users who walk a circle of `n_items`, one step at a time, from anywhere.
fn circle(users: usize, n_items: u32) -> Split {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let histories: Vec<Vec<ItemId>> = (0..users)
        .map(|_| {
            let (start, length) = (rng.random_range(0..n_items), rng.random_range(4..12));
            (0..length).map(|i| ItemId((start + i) % n_items)).collect()
        })
        .collect();
    let interactions =
        Interactions::new(histories.iter().map(Vec::as_slice), n_items as usize).unwrap();
    let dataset = Dataset {
        name: "circle".into(),
        times: vec![0.0; interactions.len()],
        interactions,
        clock: Clock::Absolute,
        items: (0..n_items).map(|i| Item::new(format!("i{i}"))).collect(),
        users: (0..users).map(|u| format!("u{u}")).collect(),
        prepare: PrepareConfig::default(),
        format: "test".into(),
        files: vec![],
    };
    Split::new(&dataset).unwrap()
}

fn small() -> DinConfig {
    DinConfig {
        width: 12,
        unit: vec![16, 8],
        windows: vec![3, 2, 1, 1, 1],
        top: vec![24, 12],
        ..Default::default()
    }
}

fn training() -> DinTraining {
    DinTraining {
        batch_size: 31,
        negatives: 20,
        schedule: WarmupExponential {
            rate: 1e-2,
            warmup: 20,
            half_life: 1e4,
            floor: 1e-6,
        },
        max_epochs: 2,
        valid_users: 100,
        log_every: 7,
        checkpoint_seconds: 0,
        ..Default::default()
    }
}

/// Trains with so many workers; `stop` makes the log fail at that update, which is as good as a kill.
fn train(
    split: &Split,
    training: &DinTraining,
    workers: usize,
    folder: &Path,
    stop: Option<u64>,
) -> Result<DinOutcome> {
    let shards = Shards::with_workers(workers)?;
    let config = small();
    let setting = DinSetting {
        split,
        config: &config,
        training,
        ops: Ops::Fused,
        seed: 5,
        device: &Device::Cpu,
        shards: &shards,
    };
    train_din(&setting, folder, &mut |event| match event {
        Event::Updates { update, .. } if Some(update) == stop => bail!("killed"),
        _ => Ok(()),
    })
}

#[test]
fn learns_the_next_item_of_a_circle() {
    let split = circle(400, 200);
    let folder = tempfile::tempdir().unwrap();
    let training = DinTraining {
        max_epochs: 12,
        valid_users: 0,
        ..training()
    };
    let outcome = train(&split, &training, 2, folder.path(), None).unwrap();
    // Chance is 0.1, and so is popularity: all items are as popular.
    let best = outcome.report.outcome.best;
    assert!(best.recall_20 > 0.6, "{:?}", outcome.report);
    assert_eq!(outcome.report.valid_users, 400);
    let tensors = candle_core::safetensors::load(&outcome.vectors, &Device::Cpu).unwrap();
    assert_eq!(tensors["vectors"].dims(), [200, 12]);
}

#[test]
fn the_same_bits_whatever_the_workers_and_the_kills() {
    let split = circle(120, 50);
    let training = training();
    let read = |folder: &Path| {
        let last = "checkpoints/last.safetensors";
        ["vectors.safetensors", "report.json", last]
            .map(|name| std::fs::read(folder.join(name)).unwrap())
    };
    let whole = tempfile::tempdir().unwrap();
    let want = train(&split, &training, 2, whole.path(), None).unwrap();
    let one = tempfile::tempdir().unwrap();
    train(&split, &training, 1, one.path(), None).unwrap();
    assert!(read(whole.path()) == read(one.path()), "one worker");
    let killed = tempfile::tempdir().unwrap();
    let per_epoch = want.report.outcome.updates / 2;
    for stop in [21, per_epoch / 7 * 7 + 7] {
        let error = train(&split, &training, 2, killed.path(), Some(stop)).unwrap_err();
        assert_eq!(error.to_string(), "killed");
    }
    let resumed = train(&split, &training, 1, killed.path(), None).unwrap();
    assert_eq!(resumed.report, want.report);
    assert!(read(whole.path()) == read(killed.path()), "resumed");
    // Done is done: nothing is trained again.
    let again = train(&split, &training, 2, killed.path(), Some(per_epoch)).unwrap();
    assert_eq!(again.report, want.report);
}

/// Σ over examples of `-(s_t - log(e^s_t + Σ e^(s_j + c)))`, with `c = log((N - 1)/k)` or 0.
#[test]
fn sampled_softmax_follows_its_formula() {
    let scores = [0.3f32, -1.0, 2.0, 0.7, 0.1, -0.4];
    let tensor = Tensor::new(&scores, &Device::Cpu).unwrap();
    for (log_q, c) in [(LogQ::Both, 0.0), (LogQ::Negatives, (100.0f64 / 2.0).ln())] {
        let want: f64 = scores
            .chunks(3)
            .map(|s| {
                let s: Vec<f64> = s.iter().map(|&s| f64::from(s)).collect();
                let sum = s[0].exp() + (s[1] + c).exp() + (s[2] + c).exp();
                sum.ln() - s[0]
            })
            .sum();
        let got = sampled_softmax(&tensor, 3, 101, log_q).unwrap();
        assert!((f64::from(got.to_scalar::<f32>().unwrap()) - want).abs() < 1e-5);
    }
}

#[test]
fn negatives_are_uniform_and_never_the_target() {
    let split = circle(60, 20);
    let (config, shards) = (small(), Shards::new(&Device::Cpu).unwrap());
    let training = DinTraining {
        negatives: 500,
        ..training()
    };
    let setting = DinSetting {
        split: &split,
        config: &config,
        training: &training,
        ops: Ops::Fused,
        seed: 5,
        device: &Device::Cpu,
        shards: &shards,
    };
    let windows = Windows::new(&split, 9);
    let examples: Vec<u32> = (0..40).collect();
    let draw = |update| Negatives::draw(&setting, &windows, &examples, update);
    let drawn = draw(3);
    assert_eq!(drawn.items, draw(3).items);
    assert_ne!(drawn.items, draw(4).items);
    for (candidates, target) in drawn
        .items
        .chunks(501)
        .zip(windows.batch(&examples).targets)
    {
        assert_eq!(candidates[0], target);
        let mut counts = [0; 20];
        candidates[1..]
            .iter()
            .for_each(|&i| counts[i as usize] += 1);
        assert_eq!(counts[target as usize], 0);
        // 500/19 = 26.3 each, standard deviation 5.
        assert!(counts.iter().filter(|&&n| n > 4 && n < 55).count() == 19);
    }
}

#[test]
fn what_cannot_be_trained_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let bad = DinTraining {
        momentum: 0.0,
        ..training()
    };
    let message = |r: Result<DinOutcome>| format!("{:#}", r.unwrap_err());
    let split = circle(30, 20);
    let got = message(train(&split, &bad, 1, folder.path(), None));
    assert!(got.contains("`momentum` is 0"), "{got}");
    // A checkpoint of another shape.
    train(&split, &training(), 1, folder.path(), None).unwrap();
    let got = message(train(&circle(30, 21), &training(), 1, folder.path(), None));
    assert!(
        got.contains("items") && got.contains("last.safetensors"),
        "{got}"
    );
}
