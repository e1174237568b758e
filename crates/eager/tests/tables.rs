//! `eager tables` on `demo` with tiny models: runs what is missing, takes the stages that are the same, makes the same table
//! again from what it kept.

use std::path::Path;
use std::process::Command;

const PLAN: &str = r#"
title = "Tiny"
datasets = ["demo"]
metrics = ["recall@10", "ndcg@10"]
seeds = 1

[[rows]]
title = "Popularity"
run = "tiny"
list = "popularity"
baseline = true
SETTINGS

[[rows]]
title = "whole"
run = "tiny"
SETTINGS

[[rows]]
title = "by the sum"
run = "tiny-sum"
reuse = "tiny"
SUM
"#;

const SETTINGS: &str = r#"set = ["text.encoder=lsa", "behaviour.training.max_epochs=1", "behaviour.training.valid_users=50",
    "behaviour.training.batch_size=512", "codes.behaviour.branching=32", "model.d_model=16", "model.heads=2",
    "model.feed_forward=32", "model.decoder_layers=1", "training.max_epochs=1", "training.valid_users=100",
    "eval.infer.beams=20", "eval.bootstrap.resamples=50", "eval.exact_users=0"#;

fn tables(root: &Path, extra: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eager"));
    command.arg("tables").arg(root.join("tiny.toml"));
    command.arg("--out").arg(root.join("runs"));
    command.arg("--results").arg(root.join("results"));
    let output = command.args(extra).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), log)
}

#[test]
fn what_is_missing_is_run_once_and_the_table_stands_without_the_runs() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let plan = PLAN
        .replace("SETTINGS", &format!("{SETTINGS}\"]"))
        .replace("SUM", &format!("{SETTINGS}\", \"eval.infer.ranking=sum\"]"));
    std::fs::write(root.join("tiny.toml"), &plan).unwrap();
    let read = |name: &str| std::fs::read_to_string(root.join("results").join(name)).unwrap();

    let (_, log) = tables(root, &["--collect"]);
    assert!(read("tiny.md").contains("No run is there yet"), "{log}");

    let (done, log) = tables(root, &[]);
    assert!(done, "{log}");
    assert!(log.contains("model: taken from another run"), "{log}");
    let (table, json) = (read("tiny.md"), read("tiny.json"));
    for part in [
        "| whole | 0.",
        "| by the sum | 0.",
        "less Popularity",
        "`eager pipeline demo --set text.encoder=lsa",
        "--seed 1 --run tiny-sum-1`",
        "1,994 users; text encoder: lsa.",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let rows = json[0]["rows"].as_array().unwrap();
    let metrics = std::fs::read_to_string(root.join("runs/demo/tiny-1/eval/metrics.json")).unwrap();
    let metrics: serde_json::Value = serde_json::from_str(&metrics).unwrap();
    assert_eq!(
        rows[1]["figures"]["recall@10"]["mean"],
        metrics["recall@10"]
    );
    let popular = &metrics["baselines"]["popularity"]["ndcg@10"];
    assert_eq!(&rows[0]["figures"]["ndcg@10"]["seeds"]["1"], popular);
    let difference = rows[1]["difference"]["ndcg@10"]["difference"]
        .as_f64()
        .unwrap();
    let expected = metrics["ndcg@10"].as_f64().unwrap() - popular.as_f64().unwrap();
    assert!((difference - expected).abs() < 1e-12);

    std::fs::remove_dir_all(root.join("runs")).unwrap();
    for extra in [&["--collect"][..], &[]] {
        let (done, log) = tables(root, extra);
        assert!(done && !log.contains("training"), "{log}");
        assert_eq!(read("tiny.md"), table);
    }

    // A run of that name made otherwise is not shown as this one.
    std::fs::write(
        root.join("tiny.toml"),
        plan.replace("ranking=sum", "beams=21"),
    )
    .unwrap();
    let (done, log) = tables(root, &["--collect"]);
    assert!(!done && log.contains("was made by"), "{log}");
}
