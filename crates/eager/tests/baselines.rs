//! Baselines by the command, on `demo`: above popularity, killed on the way and gone on with, read by tables and reports.

mod recorded;
mod ring;

use std::path::Path;
use std::process::Command;

use candle_core::Device;
use eager::baseline::{BaselinesConfig, Kind};
use eager::train::epochs::{Event, Outcome};
use eager::train::next_item::{NextItemSetting, evaluate, train_next_item};
use eager::train::shards::Shards;
use eager_baselines::SoftmaxLoss;
use eager_codes::ItemVectors;
use eager_infer::metrics::Metrics;
use eager_model::Weights;
use eager_ops::Ops;
use ring::split;

fn config() -> BaselinesConfig {
    let mut config = BaselinesConfig::default();
    config.sasrec.model.d_model = 16;
    config.sasrec.model.feed_forward = 32;
    config.sasrec.model.dropout = 0.2;
    config.sasrec.model.window = 8;
    config.sasrec.loss.negatives = 16;
    config.sasrec.training.batch_size = 16;
    config.sasrec.training.rate = 5e-3;
    config.sasrec.training.max_epochs = 12;
    config.sasrec.training.patience = 0;
    config.sasrec.training.log_every = 3;
    config.sasrec.training.checkpoint_seconds = 0; // after every update
    config.bsarec.model.d_model = 16;
    config.bsarec.model.feed_forward = 32;
    config.bsarec.model.dropout = 0.2;
    config.bsarec.model.window = 8;
    config.bsarec.training = config.sasrec.training.clone();
    config.bsarec.training.batch_size = 64;
    config
}

/// Weights by name, logged losses, outcome.
type Trained = (Vec<(String, Vec<f32>)>, Vec<(u64, f64)>, Option<Outcome>);

fn train(
    folder: &Path,
    (kind, config): (Kind, &BaselinesConfig),
    (workers, ops): (usize, Ops),
    stop: Option<u64>,
) -> Trained {
    let split = split();
    let weights = Weights::random(5, &Device::Cpu);
    let model = config.model(kind, split.n_items(), weights).unwrap();
    let (loss, training) = config.learning(kind);
    let setting = NextItemSetting {
        split: &split,
        loss,
        training,
        ops,
        seed: 5,
        device: &Device::Cpu,
        shards: &Shards::with_workers(workers).unwrap(),
    };
    let mut seen = vec![];
    let outcome = train_next_item(model.as_ref(), &setting, folder, &mut |event| {
        if let Event::Updates { update, parts, .. } = event {
            seen.push((update, parts));
            anyhow::ensure!(stop.is_none_or(|stop| update < stop), "pulled the plug");
        }
        Ok(())
    });
    let mut weights: Vec<(String, Vec<f32>)> = model
        .parameters()
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1().unwrap()))
        .collect();
    weights.sort_by(|a, b| a.0.cmp(&b.0));
    (weights, seen, outcome.ok())
}

#[test]
fn a_run_is_the_same_bytes_on_any_number_of_workers_and_when_resumed() {
    let mut sampled = config();
    sampled.sasrec.loss.softmax = SoftmaxLoss::Sampled; // draws too
    for (kind, config) in [
        (Kind::Sasrec, config()),
        (Kind::Sasrec, sampled),
        (Kind::Bsarec, config()),
    ] {
        let folder = || tempfile::tempdir().unwrap();
        let of = (kind, &config);
        let whole = train(folder().path(), of, (2, Ops::Fused), None);
        assert!(whole.2.is_some());
        let (first, last) = (whole.1[0].1, whole.1[whole.1.len() - 1].1);
        assert!(last < 0.9 * first, "the loss fell from {first} to {last}");
        let one = train(folder().path(), of, (1, Ops::Fused), None);
        assert!(one == whole, "one worker");

        let cut = folder();
        for stop in [9, 21] {
            let stopped = train(cut.path(), of, (2, Ops::Fused), Some(stop));
            assert!(stopped.2.is_none());
        }
        let resumed = train(cut.path(), of, (2, Ops::Fused), None);
        assert!(resumed.0 == whole.0 && resumed.2 == whole.2, "resumed");
        let tail = whole.1.len() - resumed.1.len();
        assert!(tail > 5 && resumed.1 == whole.1[tail..]);
    }
}

#[test]
fn fused_and_plain_operations_train_alike() {
    for kind in [Kind::Sasrec, Kind::Bsarec] {
        let config = config();
        let folder = || tempfile::tempdir().unwrap();
        let fused = train(folder().path(), (kind, &config), (2, Ops::Fused), None);
        let plain = train(folder().path(), (kind, &config), (2, Ops::Plain), None);
        assert_eq!(fused.1.len(), plain.1.len());
        for ((update, a), (_, b)) in fused.1.iter().zip(&plain.1) {
            assert!((a - b).abs() < 1e-3 * b, "{update}: {a} against {b}");
        }
    }
}

/// On the ring the target is one of the next two items, so a model that has learnt it finds nearly all in the first ten.
#[test]
fn what_was_learnt_is_found_and_what_is_masked_is_not() {
    let (split, config) = (split(), config());
    let folder = tempfile::tempdir().unwrap();
    let of = (Kind::Sasrec, &config);
    let (weights, _, outcome) = train(folder.path(), of, (2, Ops::Fused), None);
    assert!(outcome.unwrap().best.recall_10 > 0.8);
    let fresh = config
        .model(
            Kind::Sasrec,
            split.n_items(),
            Weights::random(1, &Device::Cpu),
        )
        .unwrap();
    let named = fresh.parameters().tensors();
    let values = weights.into_iter().map(|(name, data)| {
        let tensor = candle_core::Tensor::from_vec(data, named[&name].shape(), &Device::Cpu);
        (name, tensor.unwrap())
    });
    fresh.parameters().set(&values.collect()).unwrap();
    let histories: Vec<Vec<u32>> = (0..60)
        .map(|u| split.test(u).unwrap().history.iter().map(|i| i.0).collect())
        .collect();
    let histories: Vec<&[u32]> = histories.iter().map(Vec::as_slice).collect();
    let targets: Vec<u32> = (0..60).map(|u| split.test(u).unwrap().target.0).collect();
    let shards = Shards::new(&Device::Cpu).unwrap();
    let ranks = |targets: &[u32], mask| {
        let (model, ops) = (fresh.as_ref(), Ops::Fused);
        evaluate(model, ops, &shards, &histories, targets, mask, &mut |_| ()).unwrap()
    };
    let figures = Metrics::new(&ranks(&targets, false), &[10]).unwrap();
    assert!(figures.at(10).unwrap().recall > 0.8);
    let newest: Vec<u32> = histories.iter().map(|h| h[h.len() - 1]).collect();
    assert!(ranks(&newest, true).iter().all(Option::is_none));
    assert!(ranks(&newest, false).iter().all(Option::is_some));
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
fn on_demo_above_popularity_with_a_report_and_a_record_for_tables() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("runs");
    let out = out.to_str().unwrap();
    let args = [
        "baseline",
        "sasrec",
        "demo",
        "--seed",
        "1",
        "--run",
        "sasrec-1",
        "--set",
        "baselines.sasrec.model.d_model=32",
        "--set",
        "baselines.sasrec.model.dropout=0.2",
        "--set",
        "baselines.sasrec.training.max_epochs=4",
        "--set",
        "eval.bootstrap.resamples=50",
        "--out",
        out,
    ];
    let (done, json, log) = eager(&[&args[..], &["--json"]].concat());
    assert!(done, "{log}");
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let ndcg = |of: &serde_json::Value| of["ndcg@10"].as_f64().unwrap();
    let popularity = &report["baselines"]["popularity"];
    assert!(ndcg(&report) > 1.5 * ndcg(popularity), "{json}");
    assert_eq!(report["protocol"]["model"], "sasrec");

    let run = root.path().join("runs/demo/sasrec-1");
    recorded::all_files(&run);
    let ranks = std::fs::read_to_string(run.join("eval/ranks.csv")).unwrap();
    assert!(ranks.starts_with("user,target,merged,popularity\n"));
    let vectors = ItemVectors::load(&run.join("model/vectors.safetensors")).unwrap();
    assert_eq!(vectors.dim, 32);
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("sasrec on demo") && page.contains("Recall by popularity"));
    assert!(!page.contains("behaviour alone"));

    let (done, table, log) = eager(&args);
    assert!(done && log.contains("model: up to date") && log.contains("eval: up to date"));
    assert!(table.contains("recall@10") && table.contains("popularity"));

    let plan = root.path().join("tiny.toml");
    let text = "title = 'x'\ndatasets = ['demo']\nmetrics = ['recall@10']\nseeds = 1\n\
        [[rows]]\ntitle = 'Popularity'\nrun = 'sasrec'\ncommand = ['baseline', 'sasrec']\nSET\nlist = 'popularity'\n\
        baseline = true\n\
        [[rows]]\ntitle = 'SASRec'\nrun = 'sasrec'\ncommand = ['baseline', 'sasrec']\nSET\n";
    let set = "set = ['baselines.sasrec.model.d_model=32', 'baselines.sasrec.model.dropout=0.2', \
        'baselines.sasrec.training.max_epochs=4', 'eval.bootstrap.resamples=50']";
    std::fs::write(&plan, text.replace("SET", set)).unwrap();
    let results = root.path().join("results");
    let (done, _, log) = eager(&[
        "tables",
        plan.to_str().unwrap(),
        "--out",
        out,
        "--results",
        results.to_str().unwrap(),
        "--text-encoder",
        "lsa",
    ]);
    assert!(done && log.contains("model: up to date"), "{log}");
    let table = std::fs::read_to_string(results.join("tiny.md")).unwrap();
    assert!(table.contains("SASRec"), "{table}");
}

#[test]
fn its_item_embeddings_can_be_the_behaviour_vectors() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().to_str().unwrap();
    let args = |name: &'static str| {
        let sets = [
            "behaviour.model=sasrec",
            "baselines.sasrec.model.d_model=16",
            "baselines.sasrec.training.max_epochs=1",
        ];
        let sets = sets.into_iter().flat_map(|set| ["--set", set]);
        let place = ["behaviour", "demo", "--out", out, "--run", name];
        place.into_iter().chain(sets).collect::<Vec<_>>()
    };
    let (done, _, log) = eager(&args("first"));
    assert!(done, "{log}");
    let vectors = |name: &str| {
        root.path()
            .join(format!("demo/{name}/behaviour/vectors.safetensors"))
    };
    assert_eq!(ItemVectors::load(&vectors("first")).unwrap().dim, 16);
    let first = root.path().join("demo/first");
    recorded::all_files(&first);
    let (done, _, log) =
        eager(&[&args("second")[..], &["--reuse", first.to_str().unwrap()]].concat());
    assert!(
        done && log.contains("behaviour: taken from another run"),
        "{log}"
    );
    assert_eq!(
        std::fs::read(vectors("first")).unwrap(),
        std::fs::read(vectors("second")).unwrap()
    );
}

#[test]
fn settings_that_are_none_are_named() {
    let args = |set| ["baseline", "bsarec", "demo", "--set", set];
    let (done, _, log) = eager(&args("baselines.bsarec.model.alph=1"));
    assert!(
        !done && log.contains("did you mean `baselines.bsarec.model.alpha`?"),
        "{log}"
    );
    let (done, _, log) = eager(&args("baselines.bsarec.model.alpha=2"));
    assert!(
        !done && log.contains("`alpha` is 2, expected 0 to 1"),
        "{log}"
    );
    let (done, _, log) = eager(&args("baselines.sasrec.training.rate=0"));
    assert!(!done && log.contains("`rate` is 0"), "{log}");
}
