//! The whole pipeline by the command, on `demo` with a tiny model: from nothing to the table, and killed on the way.

#![cfg(unix)]

mod recorded;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use eager_codes::ItemVectors;

fn eager(out: &Path, extra: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eager"));
    command.args(["pipeline", "demo", "--text-encoder", "lsa", "--out"]);
    command.arg(out).env_remove("EAGER_DATA_DIR");
    let sets = [
        "behaviour.training.max_epochs=1",
        "behaviour.training.valid_users=50",
        "behaviour.training.batch_size=512",
        "codes.behaviour.branching=32",
        "model.d_model=16",
        "model.heads=2",
        "model.feed_forward=32",
        "model.decoder_layers=1",
        "training.batch_size=256",
        "training.max_epochs=3",
        "training.valid_users=100",
        "training.checkpoint_seconds=0",
        "eval.infer.beams=20",
        "eval.bootstrap.resamples=50",
        "eval.exact_users=50",
    ];
    for set in sets {
        command.args(["--set", set]);
    }
    command.args(extra);
    command
}

fn run(out: &Path, extra: &[&str]) -> (String, String) {
    let output = eager(out, extra).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn killed_in_training_it_goes_on_to_the_same_bytes_and_the_same_table() {
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (table, _) = run(whole.path(), &[]);
    for row in ["recall@10", "ndcg@20", "text encoder lsa", "popularity"] {
        assert!(table.contains(row), "{table}");
    }

    let mut child = eager(cut.path(), &[])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let checkpoint = cut
        .path()
        .join("demo/paper/model/checkpoints/last.safetensors");
    let start = Instant::now();
    while !checkpoint.exists() {
        assert!(start.elapsed() < Duration::from_secs(300), "no checkpoint");
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(300));
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    let model = |root: &Path| root.join("demo/paper/model/model.safetensors");
    assert!(!model(cut.path()).exists(), "it was killed before the end");

    // Another pace of checkpoints is not another model.
    let pace = ["--set", "training.checkpoint_seconds=30"];
    let (resumed, log) = run(cut.path(), &pace);
    assert!(
        log.contains("behaviour: up to date") && log.contains("going on from"),
        "{log}"
    );
    assert_eq!(resumed, table);
    for file in [
        "model/model.safetensors",
        "model/metrics.jsonl",
        "eval/metrics.json",
        "eval/ranks.csv",
    ] {
        let read = |root: &Path| std::fs::read(root.join("demo/paper").join(file)).unwrap();
        assert!(read(whole.path()) == read(cut.path()), "{file} differs");
    }

    recorded::all_files(&whole.path().join("demo/paper"));
    recommends(&whole.path().join("demo/paper"));
    exports(&whole.path().join("demo/paper"));

    // Another ranking rule: only the test is made again.
    let (json, log) = run(cut.path(), &["--set", "eval.infer.ranking=sum", "--json"]);
    assert!(
        log.contains("model: up to date") && !log.contains("eval: up to date"),
        "{log}"
    );
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["users"], 1994);
    assert_eq!(report["protocol"]["ranking"], "sum");
    for stream in ["behaviour", "semantic", "merged"] {
        assert!(report["streams"][stream]["recall@10"].is_number());
    }
    assert_eq!(report["streams"]["merged"]["ndcg@20"], report["ndcg@20"]);
}

/// Lists of a trained run: for one history, for a file, the same; and what is refused.
fn recommends(run: &Path) {
    let recommend = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eager"));
        let output = command
            .arg("recommend")
            .arg(run)
            .args(args)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let items = std::fs::read_to_string(run.join("data/items.jsonl")).unwrap();
    let ids: Vec<String> = items
        .lines()
        .map(|line| {
            let item: serde_json::Value = serde_json::from_str(line).unwrap();
            item["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let history = format!("{},{}", ids[0], ids[1]);
    let (code, one, _) = recommend(&["--history", &history, "--json", "-k", "5"]);
    assert_eq!(code, Some(0));
    let one: serde_json::Value = serde_json::from_str(&one).unwrap();
    let listed = one["items"].as_array().unwrap();
    assert_eq!(listed.len(), 5);
    assert!(
        listed
            .iter()
            .all(|i| ids.contains(&i["id"].as_str().unwrap().to_owned()))
    );
    let (_, table, _) = recommend(&["--history", &history, "-k", "5"]);
    assert_eq!(table.lines().count(), 6);
    assert!(table.contains(listed[4]["id"].as_str().unwrap()), "{table}");

    let users = run.join("users.jsonl");
    let line =
        |user: &str, ids: &[String]| serde_json::json!({"user": user, "history": ids}).to_string();
    let first = line("a", &ids[..2]);
    std::fs::write(&users, format!("{first}\n{}\n", line("b", &ids[5..8]))).unwrap();
    let file = users.to_str().unwrap();
    let (code, lists, _) = recommend(&["--users", file, "-k", "5"]);
    let lists: Vec<serde_json::Value> = lists
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((code, lists.len()), (Some(0), 2));
    assert_eq!(
        (&lists[0]["user"], &lists[0]["items"]),
        (&"a".into(), &one["items"])
    );
    let (_, unseen, _) = recommend(&["--users", file, "-k", "40", "--exclude-seen"]);
    let unseen: serde_json::Value = serde_json::from_str(unseen.lines().next().unwrap()).unwrap();
    assert!(
        unseen["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|i| { !ids[..2].contains(&i["id"].as_str().unwrap().to_owned()) })
    );

    std::fs::write(
        &users,
        format!("{first}\n{}\n", line("b", &["nosuch".into()])),
    )
    .unwrap();
    let (code, out, error) = recommend(&["--users", file]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        error.contains("users.jsonl:2: item \"nosuch\" is not in the catalogue"),
        "{error}"
    );
    assert_eq!(recommend(&[]).0, Some(2));
    let (code, _, error) = recommend(&["--history", "nosuch"]);
    assert!(
        code == Some(1) && error.contains("--history: item"),
        "{error}"
    );
}

/// Exit code, standard output and standard error of the command.
fn said(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eager"));
    let output = command.args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A run's bundle recommends as the run does, says what it is, and is refused when a file of it is altered.
fn exports(run: &Path) {
    let folder = run.parent().unwrap().join("bundle");
    let (run, bundle) = (run.to_str().unwrap(), folder.to_str().unwrap());
    let exported = Command::new(env!("CARGO_BIN_EXE_eager"))
        .args(["export", ".", bundle])
        .current_dir(run)
        .output();
    assert!(exported.unwrap().status.success());
    assert_eq!(said(&["export", run, bundle]).0, Some(2), "it is there");
    let (code, text, _) = said(&["inspect", bundle]);
    assert!(code == Some(0) && text.contains("demo/paper"), "{text}");
    let (_, json, _) = said(&["inspect", bundle, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["metrics"]["recall@10"].is_number() && json["text"]["encoder"] == "lsa");
    let items = std::fs::read_to_string(folder.join("items.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(items.lines().next().unwrap()).unwrap();
    let list = |of: &str| said(&["recommend", of, "--history", first["id"].as_str().unwrap()]).1;
    assert_eq!(list(run), list(bundle));
    assert!(list(run).lines().count() > 5);

    changes(Path::new(run), &folder);

    let codes = folder.join("semantic.safetensors");
    let mut bytes = std::fs::read(&codes).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&codes, bytes).unwrap();
    let (code, _, error) = said(&["recommend", bundle, "--history", "x"]);
    assert!(
        code == Some(1) && error.contains("semantic.safetensors: sha256 is"),
        "{error}"
    );
}

/// Items come to the bundle and go; what cannot be is said and leaves nothing behind.
fn changes(run: &Path, bundle: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let bundle = bundle.to_str().unwrap();
    let (lines, vectors, added, back) = (
        at("new"),
        at("vectors.safetensors"),
        at("added"),
        at("back"),
    );
    let items = "{\"id\": \"x1\", \"title\": \"One\"}\n\n{\"id\": \"x2\"}\n";
    std::fs::write(&lines, items).unwrap();
    let add = ["catalog", "add", bundle, &lines, "--out", &added];
    let (code, _, error) = said(&add);
    assert!(
        code == Some(1) && error.contains("--vectors semantic=FILE"),
        "lsa has no vectors for them: {error}"
    );
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);

    let known = ItemVectors::load(&Path::new(bundle).join("semantic-vectors.safetensors")).unwrap();
    let two = ItemVectors {
        dim: known.dim,
        data: known.data[..2 * known.dim].to_vec(),
    };
    two.save(vectors.as_ref(), None).unwrap();
    let semantic = format!("semantic={vectors}");
    let add = [&add[..], &["--vectors", &semantic]].concat();
    let (code, out, error) = said(&add);
    assert_eq!((code, out.trim()), (Some(0), added.as_str()), "{error}");
    let inspect = |bundle: &str| -> serde_json::Value {
        serde_json::from_str(&said(&["inspect", bundle, "--json"]).1).unwrap()
    };
    let (first, second) = (inspect(bundle), inspect(&added));
    assert_eq!(
        second["items"].as_u64(),
        first["items"].as_u64().map(|n| n + 2)
    );
    assert_eq!(
        (&second["revision"], &second["parent"]),
        (&2.into(), &first["digest"])
    );
    let (code, list, error) = said(&["recommend", &added, "--history", "x1,x2"]);
    assert!(code == Some(0) && list.lines().count() > 5, "{error}");

    let again = at("again");
    let again = [
        "catalog",
        "add",
        &added,
        &lines,
        "--out",
        &again,
        "--vectors",
        &semantic,
    ];
    let (code, _, error) = said(&again);
    let words = ":1: item \"x1\" is in the catalogue already";
    assert!(code == Some(1) && error.contains(words), "{error}");
    let remove = ["catalog", "remove", &added, "--item", "x1", "--out", &back];
    let (code, _, error) = said(&[&remove[..], &["--item", "x2"]].concat());
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(inspect(&back)["files"], first["files"], "as it was");
    let (code, _, error) = said(&[
        "catalog",
        "remove",
        &back,
        "--item",
        "x1",
        "--out",
        &at("no"),
    ]);
    assert!(code == Some(1) && error.contains("\"x1\""), "{error}");

    let run = run.to_str().unwrap();
    let measure = ["catalog", "measure", run, "--hold-out", "0.1", "--json"];
    let (code, json, error) = said(&measure);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(json, said(&measure).1, "the same figures again");
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    // What the tiny model finds is luck; what needs no model is not.
    let part = &found["target_held_out"];
    assert!(found["held_out"] == 99 && part["users"].as_u64().unwrap() > 50);
    let recall = |row: &str, list: &str| part["rows"][row][list]["value"].as_f64().unwrap();
    assert_eq!(recall("popular", "recall@20"), 0.0);
    assert!(recall("nearest", "recall@20") > 0.0);
    for list in ["recall@20", "behaviour recall@10", "semantic recall@20"] {
        assert!((0.0..=1.0).contains(&recall("added", list)));
    }
    let (code, _, error) = said(&["catalog", "measure", run, "--hold-out", "1"]);
    assert!(code == Some(2) && error.contains("--hold-out 1"), "{error}");
}

/// Where the default encoder cannot be had, the ways on are named and nothing takes its place.
#[test]
fn no_encoder_is_taken_silently() {
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_eager"))
        .args([
            "text",
            "demo",
            "--set",
            "behaviour.training.max_epochs=1",
            "--out",
        ])
        .arg(out.path())
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", out.path().join("hub"))
        .env("EAGER_CACHE_DIR", out.path().join("cache"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    for way in [
        "sentence-t5-base",
        "--text-encoder minilm",
        "--text-encoder lsa",
    ] {
        assert!(error.contains(way), "{error}");
    }
    assert!(
        !out.path()
            .join("demo/paper/text/vectors.safetensors")
            .exists()
    );
}
