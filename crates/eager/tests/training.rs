//! The generator's training loop: the same run is the same bytes, however many workers, stopped and gone on with or not.

mod ring;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use eager::train::generator::{
    Event, Outcome, Setting, TrainingConfig, Validation, train_generator,
};
use eager::train::objective::Items;
use eager::train::schedule::InverseSqrt;
use eager::train::shards::Shards;
use eager_codes::{CodeTrie, CodesConfig, ItemCodes, Vectors};
use eager_data::Windows;
use eager_losses::{LossConfig, Metric};
use eager_model::{Catalogue, Eager, EagerConfig, FilterConfig, PerStream, Stream, Weights};
use eager_ops::{AdamWConfig, Ops};
use ring::{ITEMS, split};

/// Vectors that lie on the ring, and codes of them.
fn items() -> Items {
    let vectors = PerStream::from_fn(|stream| {
        let width = if stream == Stream::Behaviour { 4 } else { 6 };
        let component = |item: u32, c: usize| {
            let angle = f64::from(item) / f64::from(ITEMS) * std::f64::consts::TAU;
            ((c as f64 + 1.0) * angle + stream as u8 as f64).sin() as f32
        };
        let data: Vec<f32> = (0..ITEMS)
            .flat_map(|i| (0..width).map(move |c| component(i, c)))
            .collect();
        (data, width)
    });
    let config = CodesConfig {
        branching: 8,
        ..CodesConfig::default()
    };
    Items {
        tries: PerStream::from_fn(|s| {
            let (data, width) = &vectors[s];
            let checked = Vectors::new(data, *width).unwrap();
            CodeTrie::new(&ItemCodes::build(checked, &config, 1).unwrap()).unwrap()
        }),
        vectors: PerStream::from_fn(|s| {
            let (data, width) = &vectors[s];
            Tensor::from_slice(data, (ITEMS as usize, *width), &Device::Cpu).unwrap()
        }),
    }
}

/// What a run left, and what it logged.
struct Trained {
    weights: BTreeMap<String, Vec<f32>>,
    /// Updates that were made before.
    started: u64,
    /// By update.
    losses: Vec<(u64, f64)>,
    /// By update.
    validations: Vec<(u64, f64)>,
    /// Or the error.
    outcome: Result<Outcome, String>,
}

/// Where the plug is pulled: when this is logged.
#[derive(Clone, Copy)]
enum Stop {
    Update(u64),
    /// Of this epoch.
    Validation(u64),
}

fn train(folder: &Path, workers: usize, ops: Ops, stop: Option<Stop>) -> Trained {
    train_epochs(6, folder, workers, ops, stop)
}

fn train_epochs(
    epochs: u64,
    folder: &Path,
    workers: usize,
    ops: Ops,
    stop: Option<Stop>,
) -> Trained {
    let (split, items) = (split(), items());
    let windows = Windows::new(&split, 8);
    let config = EagerConfig {
        d_model: 16,
        heads: 2,
        feed_forward: 32,
        decoder_layers: 1,
        window: 8,
        filter: FilterConfig {
            alpha: 0.5,
            cutoff: 3,
        },
        ..EagerConfig::default()
    };
    let training = TrainingConfig {
        batch_size: 50,
        max_epochs: epochs,
        patience: 0,
        log_every: 3,
        checkpoint_seconds: 0, // after every update
        schedule: InverseSqrt {
            rate: 5e-3,
            warmup: 10,
            ..InverseSqrt::default()
        },
        average: 0.9,
        ..TrainingConfig::default()
    };
    let mut losses = LossConfig::default();
    losses.contrastive.metric = Metric::InfoNce; // draws too
    losses.contrastive.negatives = 16;
    let catalogue = Catalogue {
        tries: PerStream::from_fn(|s| &items.tries[s]),
        dims: PerStream::from_fn(|s| items.vectors[s].dim(1).unwrap()),
    };
    let model = Eager::new(&config, &catalogue, Weights::random(5, &Device::Cpu)).unwrap();
    let shards = Shards::with_workers(workers).unwrap();
    let setting = Setting {
        windows: &windows,
        items: &items,
        training: &training,
        losses: &losses,
        ops,
        seed: 5,
        device: &Device::Cpu,
        shards: &shards,
    };
    // A validation that any change of the weights changes.
    let mut validate = |model: &Eager| {
        let sum: f32 = model
            .tokens(Stream::Semantic)
            .sqr()?
            .sum_all()?
            .to_scalar()?;
        Ok(Validation {
            recall_10: 0.5,
            ndcg_10: f64::from(sum),
        })
    };
    let (mut started, mut losses, mut validations) = (0, vec![], vec![]);
    let outcome = train_generator(&model, &setting, folder, &mut validate, &mut |event| {
        let stopped = match (event, stop) {
            (Event::Updates { update, .. }, Some(Stop::Update(at))) => update >= at,
            (Event::Validated { epoch, .. }, Some(Stop::Validation(at))) => epoch >= at,
            _ => false,
        };
        match event {
            Event::Started { update, .. } => started = update,
            Event::Updates { update, parts, .. } => losses.push((update, parts.total)),
            Event::Validated { update, found, .. } => validations.push((update, found.ndcg_10)),
        }
        anyhow::ensure!(!stopped, "pulled the plug");
        Ok(())
    });
    let weights = model.parameters().tensors().into_iter();
    Trained {
        weights: weights
            .map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1().unwrap()))
            .collect(),
        started,
        losses,
        validations,
        outcome: outcome.map_err(|error| format!("{error:#}")),
    }
}

#[test]
fn a_run_is_the_same_bytes_on_any_number_of_workers_and_when_resumed() {
    let folder = || tempfile::tempdir().unwrap();
    let whole = train(folder().path(), 2, Ops::Fused, None);
    let outcome = whole.outcome.clone().unwrap();
    assert!(!outcome.stopped_early && outcome.epochs == 6);
    let (first, last) = (whole.losses[0].1, whole.losses.last().unwrap().1);
    assert!(last < 0.9 * first, "the loss fell from {first} to {last}");

    let one = train(folder().path(), 1, Ops::Fused, None);
    assert_eq!(one.weights, whole.weights);
    assert_eq!(one.losses, whole.losses);

    // Stopped twice, in the middle of epochs and at the boundary of one, each time after a checkpoint.
    let cut = folder();
    for stop in [9, 21] {
        let stopped = train(cut.path(), 2, Ops::Fused, Some(Stop::Update(stop)));
        assert_eq!(stopped.outcome.unwrap_err(), "pulled the plug");
    }
    let resumed = train(cut.path(), 2, Ops::Fused, None);
    assert_eq!(resumed.outcome, whole.outcome);
    assert_eq!(resumed.weights, whole.weights);
    let tail = whole.losses.len() - resumed.losses.len();
    assert!(tail > 5);
    assert_eq!(
        resumed.losses,
        whole.losses[tail..],
        "the log goes on as it would have"
    );

    // After a validation was logged and before there was a checkpoint of it: it is found and logged again, and a log that is
    // gone on with after the checkpoint's update has it once.
    let cut = folder();
    let stopped = train(cut.path(), 2, Ops::Fused, Some(Stop::Validation(2)));
    assert_eq!(stopped.outcome.unwrap_err(), "pulled the plug");
    let resumed = train(cut.path(), 2, Ops::Fused, None);
    assert_eq!(resumed.weights, whole.weights);
    assert_eq!(resumed.validations, whole.validations[1..]);
    assert_eq!(whole.validations.len(), 6);
    assert!(resumed.started < resumed.validations[0].0);

    // And training that has ended is not begun again.
    let again = train(cut.path(), 2, Ops::Fused, None);
    assert!(again.losses.is_empty());
    assert_eq!(again.weights, whole.weights);
}

#[test]
fn fused_and_plain_operations_train_alike_over_200_updates() {
    let folder = || tempfile::tempdir().unwrap();
    let fused = train_epochs(30, folder().path(), 2, Ops::Fused, None);
    let plain = train_epochs(30, folder().path(), 2, Ops::Plain, None);
    assert_eq!(fused.losses.len(), plain.losses.len());
    assert!(fused.losses.last().unwrap().0 >= 200);
    for ((update, a), (_, b)) in fused.losses.iter().zip(&plain.losses) {
        assert!((a - b).abs() < 1e-5 * b, "update {update}: {a} against {b}");
    }
}

#[test]
fn a_damaged_checkpoint_is_told_and_bad_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let stopped = train(folder.path(), 2, Ops::Fused, Some(Stop::Update(3)));
    assert_eq!(stopped.outcome.unwrap_err(), "pulled the plug");
    let last = folder.path().join("last.safetensors");
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();
    let told = train(folder.path(), 2, Ops::Fused, None);
    let told = told.outcome.unwrap_err();
    assert!(
        told.contains("last.safetensors") && told.contains("delete it"),
        "{told}"
    );
    assert_eq!(
        std::fs::read(&last).unwrap().len(),
        bytes.len() / 2,
        "left as found"
    );
    let config = TrainingConfig {
        batch_size: 0,
        ..TrainingConfig::default()
    };
    assert!(
        config
            .validate()
            .unwrap_err()
            .to_string()
            .contains("`batch_size`")
    );
    let official = TrainingConfig::official();
    assert!(official.validate().is_ok());
    assert!(official.patience == 0 && official.max_epochs >= official.max_updates);
    for change in [
        (|optimiser| optimiser.beta1 = 1.0) as fn(&mut AdamWConfig),
        |optimiser| optimiser.eps = 0.0,
        |optimiser| optimiser.weight_decay = f64::NAN,
    ] {
        let mut config = TrainingConfig::default();
        change(&mut config.optimiser);
        let error = format!("{:#}", config.validate().unwrap_err());
        assert!(error.contains("optimiser: `"), "{error}");
    }
}
