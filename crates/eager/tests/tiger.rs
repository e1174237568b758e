//! TIGER: trained on a ring, killed on the way and gone on with; by the command on `demo`, above popularity, read by reports,
//! with stages taken from another run.

mod recorded;
mod ring;

use std::path::Path;
use std::process::Command;

use candle_core::Device;
use eager::train::epochs::{Event, Outcome};
use eager::train::shards::Shards;
use eager::train::tiger::{BeamSearch, TigerSetting, TigerTraining, train_tiger};
use eager_baselines::{Tiger, TigerConfig};
use eager_codes::{SemanticIdConfig, SemanticIds, Vectors};
use eager_infer::metrics::Metrics;
use eager_model::Weights;
use eager_ops::Ops;
use ring::{ITEMS, split};

/// Items on a circle, so that neighbours have like ids.
fn ids() -> SemanticIds {
    let at = |item: u32| (item as f32 / ITEMS as f32 * std::f32::consts::TAU).sin_cos();
    let vectors: Vec<f32> = (0..ITEMS)
        .flat_map(|item| [at(item).0, at(item).1])
        .collect();
    let config = SemanticIdConfig {
        levels: 2,
        branching: 6,
        ..SemanticIdConfig::default()
    };
    SemanticIds::build(Vectors::new(&vectors, 2).unwrap(), &config, 1).unwrap()
}

fn tiger() -> Tiger {
    let config = TigerConfig {
        d_model: 16,
        heads: 2,
        feed_forward: 32,
        encoder_layers: 1,
        decoder_layers: 1,
        window: 6,
        ..TigerConfig::default()
    };
    Tiger::new(&config, &ids(), Weights::random(5, &Device::Cpu)).unwrap()
}

fn training() -> TigerTraining {
    let mut training = TigerTraining {
        batch_size: 64,
        max_epochs: 15,
        patience: 0,
        valid_users: 40,
        valid_beams: 12,
        log_every: 3,
        checkpoint_seconds: 0, // after every update
        ..TigerTraining::default()
    };
    training.schedule.rate = 1e-2;
    training.schedule.warmup = 20;
    training
}

/// Weights by name, logged losses, outcome.
type Trained = (Vec<(String, Vec<f32>)>, Vec<(u64, f64)>, Option<Outcome>);

fn train(model: &Tiger, folder: &Path, (workers, ops): (usize, Ops), stop: Option<u64>) -> Trained {
    let setting = TigerSetting {
        split: &split(),
        training: &training(),
        ops,
        seed: 5,
        device: &Device::Cpu,
        shards: &Shards::with_workers(workers).unwrap(),
    };
    let mut seen = vec![];
    let outcome = train_tiger(model, &setting, folder, &mut |event| {
        if let Event::Updates { update, parts, .. } = event {
            seen.push((update, parts));
            anyhow::ensure!(stop.is_none_or(|stop| update < stop), "pulled the plug");
        }
        Ok(())
    });
    let tensors = model.parameters().tensors().into_iter();
    let mut weights: Vec<(String, Vec<f32>)> = tensors
        .map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1().unwrap()))
        .collect();
    weights.sort_by(|a, b| a.0.cmp(&b.0));
    (weights, seen, outcome.ok())
}

#[test]
fn a_run_is_the_same_bytes_on_any_number_of_workers_and_when_resumed() {
    let folder = || tempfile::tempdir().unwrap();
    let fused = |folder: &Path, workers, stop| train(&tiger(), folder, (workers, Ops::Fused), stop);
    let whole = fused(folder().path(), 2, None);
    assert!(whole.2.is_some());
    let (first, last) = (whole.1[0].1, whole.1[whole.1.len() - 1].1);
    assert!(last < 0.7 * first, "the loss fell from {first} to {last}");
    assert!(fused(folder().path(), 1, None) == whole, "one worker");

    let cut = folder();
    for stop in [9, 21] {
        assert!(fused(cut.path(), 2, Some(stop)).2.is_none());
    }
    let resumed = fused(cut.path(), 2, None);
    assert!(resumed.0 == whole.0 && resumed.2 == whole.2, "resumed");
    let tail = whole.1.len() - resumed.1.len();
    assert!(tail > 5 && resumed.1 == whole.1[tail..]);

    let plain = train(&tiger(), folder().path(), (2, Ops::Plain), None);
    for ((update, a), (_, b)) in whole.1.iter().zip(&plain.1) {
        assert!((a - b).abs() < 2e-3 * b, "{update}: {a} against {b}");
    }
}

/// On the ring the target is one of the next two items, so a model that has learnt it finds nearly all in the first ten.
#[test]
fn what_was_learnt_is_found_and_what_is_masked_is_not() {
    let (model, split) = (tiger(), split());
    let folder = tempfile::tempdir().unwrap();
    let (.., outcome) = train(&model, folder.path(), (2, Ops::Fused), None);
    assert!(outcome.unwrap().best.recall_10 > 0.8);
    let test = |user| split.test(user).unwrap();
    let ids = |user| test(user).history.iter().map(|i| i.0).collect();
    let histories: Vec<Vec<u32>> = (0..60).map(ids).collect();
    let histories: Vec<&[u32]> = histories.iter().map(Vec::as_slice).collect();
    let targets: Vec<u32> = (0..60).map(|user| test(user).target.0).collect();
    let ranks = |targets: &[u32], beams, mask_history, workers| {
        let search = BeamSearch {
            model: &model,
            ops: Ops::Fused,
            beams,
            mask_history,
        };
        let shards = Shards::with_workers(workers).unwrap();
        search
            .ranks(&shards, &histories, targets, &mut |_| ())
            .unwrap()
    };
    let found = ranks(&targets, 20, false, 2);
    let figures = Metrics::new(&found, &[10]).unwrap();
    assert!(figures.at(10).unwrap().recall > 0.8);
    assert_eq!(found, ranks(&targets, 20, false, 1));
    // With a beam for every item each target has a rank, unless it is masked.
    let newest: Vec<u32> = histories.iter().map(|h| h[h.len() - 1]).collect();
    assert!(
        ranks(&newest, ITEMS as usize, true, 2)
            .iter()
            .all(Option::is_none)
    );
    let kept = ranks(&newest, ITEMS as usize, false, 2);
    assert!(kept.iter().all(Option::is_some));
    let masked = ranks(&targets, ITEMS as usize, true, 2);
    let all = ranks(&targets, ITEMS as usize, false, 2);
    let nearer = masked
        .iter()
        .zip(&all)
        .filter(|(m, a)| m.is_some() && m < a);
    assert!(
        nearer.count() > 0,
        "what stood before some target is taken out"
    );
}

fn eager(args: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eager"));
    let output = command
        .args(args)
        .env_remove("EAGER_DATA_DIR")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn on_demo_above_popularity_with_a_report_and_stages_of_other_runs() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().to_str().unwrap();
    let run = |name: &str| root.path().join("demo").join(name);
    let tiger = |name: &str, more: &[&str]| {
        let sets = [
            "codes.branching=16",
            "model.d_model=32",
            "model.heads=2",
            "model.feed_forward=64",
            "model.encoder_layers=1",
            "model.decoder_layers=1",
            "training.schedule.warmup=50",
            "training.schedule.rate=5e-3",
            "training.max_epochs=5",
            "training.valid_users=100",
            "beams=20",
        ];
        let sets = sets.map(|set| format!("baselines.tiger.{set}"));
        let places = ["--run", name, "--out", out];
        let args = "baseline tiger demo --text-encoder lsa --seed 1 --json --set eval.bootstrap.resamples=50";
        let mut args: Vec<&str> = args.split(' ').chain(places).collect();
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        args.extend_from_slice(more);
        eager(&args)
    };
    let (done, json, log) = tiger("tiger", &[]);
    assert!(done, "{log}");
    assert!(
        log.contains("semantic ids: ") && log.contains("distinct prefixes"),
        "{log}"
    );
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let ndcg = |of: &serde_json::Value| of["ndcg@10"].as_f64().unwrap();
    let popularity = &report["baselines"]["popularity"];
    assert!(ndcg(&report) > 1.2 * ndcg(popularity), "{json}");
    assert_eq!(report["protocol"]["model"], "tiger");
    assert_eq!(report["protocol"]["beams"], 20);
    assert_eq!(report["text_encoder"], "lsa");
    recorded::all_files(&run("tiger"));
    let ranks = std::fs::read_to_string(run("tiger").join("eval/ranks.csv")).unwrap();
    assert!(ranks.starts_with("user,target,merged,popularity\n"));
    let page = std::fs::read_to_string(run("tiger").join("report.html")).unwrap();
    assert!(page.contains("tiger on demo") && page.contains("Recall by popularity"));

    let (done, _, log) = tiger("tiger", &[]);
    let stages = ["data", "text", "codes", "model", "eval"];
    let done = done
        && stages
            .iter()
            .all(|s| log.contains(&format!("{s}: up to date")));
    assert!(done, "{log}");

    let first = run("tiger");
    let mask = "eval.infer.mask_history=true";
    let (done, json, log) = tiger(
        "masked",
        &["--set", mask, "--reuse", first.to_str().unwrap()],
    );
    let taken = |stage: &&str| log.contains(&format!("{stage}: taken from another run"));
    assert!(done && stages[..4].iter().all(taken), "{log}");
    let masked: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(masked["protocol"]["mask_history"], true);
}

#[test]
fn settings_that_are_none_are_named() {
    let refused = |set| {
        let (done, _, log) = eager(&["baseline", "tiger", "demo", "--set", set]);
        assert!(!done);
        log
    };
    let log = refused("baselines.tiger.beams=10");
    assert!(log.contains("`beams` is 10; use 20"), "{log}");
    let log = refused("baselines.tiger.codes.level=2");
    assert!(
        log.contains("did you mean `baselines.tiger.codes.levels`?"),
        "{log}"
    );
    let log = refused("baselines.tiger.model.window=65");
    assert!(log.contains("expected 1 to 64 items of 4 tokens"), "{log}");
    let log = refused("baselines.tiger.training.valid_beams=0");
    assert!(log.contains("`valid_beams` is 0"), "{log}");
}
