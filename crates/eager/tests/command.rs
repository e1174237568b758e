//! The `eager` command from outside: what goes where, exit codes, what is left in the run's folder.

use std::path::Path;
use std::process::{Command, Output};

fn eager(out: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eager"))
        .args(args)
        .arg("--out")
        .arg(out)
        .env_remove("EAGER_DATA_DIR")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_stage_is_done_once_and_results_stand_alone_on_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let first = eager(folder.path(), &["data", "demo"]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    let stage = folder.path().join("demo/paper/data");
    assert_eq!(text(&first.stdout).trim(), stage.display().to_string());
    assert!(text(&first.stderr).contains("interactions       18,101      18,101"));
    assert!(folder.path().join("demo/paper/config.toml").is_file());

    let again = eager(
        folder.path(),
        &["pipeline", "demo", "--until", "data", "--json"],
    );
    assert!(text(&again.stderr).contains("data: up to date"));
    let record: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(record["stage"], "data");
    assert_eq!(
        record["versions"]["candle"]
            .as_str()
            .unwrap()
            .split('.')
            .count(),
        3
    );

    let saved = folder.path().join("demo/paper/config.toml");
    let args = [
        "data",
        "demo",
        "-q",
        "--run",
        "again",
        "--config",
        saved.to_str().unwrap(),
    ];
    let quiet = eager(folder.path(), &args);
    assert_eq!(quiet.status.code(), Some(0), "{}", text(&quiet.stderr));
    assert_eq!(text(&quiet.stderr), "");
}

#[test]
fn wrong_usage_is_2_and_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (args, words) in [
        (&["data", "amazon-beuty"][..], "amazon-beauty"),
        (
            &["data", "demo", "--set", "text.encodr=lsa"],
            "did you mean `text.encoder`?",
        ),
        (
            &["data", "demo", "--set", "prepare.user_core=0"],
            "`user_core` is 0",
        ),
        (&["data", "demo", "--config", "none.toml"], "none.toml"),
        (&["data", "demo", "--run", "../up"], "--run ../up"),
        (
            &["data", "demo", "--seed", "9223372036854775808"],
            "not in 0..=9223372036854775807",
        ),
        (
            &["data", "demo", "--set", "seed=9223372036854775808"],
            "the number is too large",
        ),
        (&["data", "demo", "--until", "x"], "--until"),
        (
            &["pipeline", "demo", "--until", "x"],
            "possible values: data, behaviour",
        ),
    ] {
        let output = eager(folder.path(), args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.starts_with("error: ") && said.contains(words),
            "{said}"
        );
        assert!(output.stdout.is_empty());
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn failure_is_1() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("mine.toml");
    let source = "[[source]]\nformat = \"benchmark\"\n";
    let source = format!(
        "name = \"mine\"\ntitle = \"Mine\"\n{source}sequences = {{ name = \"s.txt\" }}\nitems = {{ name = \"i.jsonl\" }}\n"
    );
    std::fs::write(&manifest, source).unwrap();
    let output = eager(
        &folder.path().join("out"),
        &["data", manifest.to_str().unwrap()],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("error: "),
        "{}",
        text(&output.stderr)
    );
    assert!(text(&output.stderr).contains("s.txt"));
}

#[test]
fn what_cannot_be_is_said_before_anything_is_made() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("runs");
    for (args, said) in [
        (
            &["pipeline", "demo", "--text-encoder", "nosuch"][..],
            "`nosuch` is no text encoder",
        ),
        (
            &["pipeline", "demo", "--reuse", "nosuch"],
            "--reuse nosuch: is no folder",
        ),
        (
            &["pipeline", "demo", "--set", "eval.infer.top_k=10"],
            "`top_k` is 10; use 20",
        ),
    ] {
        let refused = eager(&folder, args);
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        assert!(
            text(&refused.stderr).contains(said),
            "{}",
            text(&refused.stderr)
        );
        assert!(!folder.exists(), "{args:?}");
    }
    let lists = root.path().join("lists.json");
    let refused = eager(&lists, &["recommend", "nowhere", "--all-users"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains(".jsonl, .csv or .parquet"));
}

/// What is there, and a device that this build does not have, are said before the model is looked for.
#[test]
fn what_is_in_the_way_is_wrong_usage() {
    let root = tempfile::tempdir().unwrap();
    let refused = |args: &[&str], words: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_eager"))
            .args(args)
            .current_dir(root.path())
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    };
    std::fs::create_dir(root.path().join("there")).unwrap();
    std::fs::create_dir(root.path().join("folder.csv")).unwrap();
    std::fs::write(root.path().join("there.csv"), "").unwrap();
    let there = "there: is there already; give another folder";
    refused(&["export", "nowhere", "there"], there);
    let add = ["catalog", "add", "nowhere", "new.jsonl", "--out"];
    refused(&[&add[..], &["there"]].concat(), there);
    let remove = ["catalog", "remove", "nowhere", "--item", "i1", "--out"];
    refused(&[&remove[..], &["there"]].concat(), there);
    let recommend = ["recommend", "nowhere", "--users", "users.csv", "--out"];
    refused(
        &[&recommend[..], &["there.csv"]].concat(),
        "there.csv: is there already; give another name, or --force",
    );
    for force in [&[][..], &["--force"]] {
        refused(
            &[&recommend[..], &["folder.csv"], force].concat(),
            "folder.csv: is a folder",
        );
    }
    if cfg!(not(feature = "metal")) {
        let metal = ["--device", "metal"];
        refused(&[&add[..], &["new"], &metal].concat(), "no metal device");
        let lists = [&recommend[..], &["lists.csv"], &metal].concat();
        refused(&lists, "no metal device");
        refused(
            &[&["pipeline", "demo", "--text-encoder", "lsa"], &metal[..]].concat(),
            "no metal device",
        );
    }
}

/// A full disk behind standard output is an error, and no panic.
#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_eager"))
        .arg("man")
        .arg(root.path())
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1));
    let said = text(&run.stderr);
    assert!(said.contains("standard output: cannot write"), "{said}");
}
