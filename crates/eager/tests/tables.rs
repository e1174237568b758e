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

[[rows]]
title = "semantic alone"
group = "by itself"
run = "tiny"
list = "semantic"
baseline = true
SETTINGS

[[rows]]
title = "<b>ties</b> & SASRec"
run = "tiny-ties"
command = ["baseline", "sasrec"]
set = ["baselines.sasrec.training.max_epochs=1", "eval.bootstrap.resamples=50", "prepare.ties.shuffle.seed=1"]

[[rows]]
title = "SASRec, time split"
run = "tiny-split"
command = ["baseline", "sasrec"]
set = ["baselines.sasrec.training.max_epochs=1", "eval.bootstrap.resamples=50", "prepare.split.global-time.quantile=0.9"]

[[rows]]
title = "Popularity, time split"
run = "tiny-split"
command = ["baseline", "sasrec"]
set = ["baselines.sasrec.training.max_epochs=1", "eval.bootstrap.resamples=50", "prepare.split.global-time.quantile=0.9"]
list = "popularity"
baseline = true
"#;

const SETTINGS: &str = r#"set = ["text.encoder=lsa", "behaviour.training.max_epochs=1", "behaviour.training.valid_users=50",
    "behaviour.training.batch_size=512", "codes.behaviour.branching=32", "model.d_model=16", "model.heads=2",
    "model.feed_forward=32", "model.decoder_layers=1", "training.max_epochs=1", "training.valid_users=100",
    "eval.infer.beams=20", "eval.bootstrap.resamples=50", "eval.exact_users=0"#;

/// `eager tables` on a file in `root`, whose runs and results are there too.
fn command(root: &Path, table: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eager"));
    command.arg("tables").arg(root.join(table));
    command.arg("--out").arg(root.join("runs"));
    command.arg("--results").arg(root.join("results"));
    command
}

fn tables(root: &Path, extra: &[&str]) -> (bool, String) {
    let output = command(root, "tiny.toml").args(extra).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), log)
}

/// What the page says must be what the JSON says, and nothing is to be fetched for it.
fn holds(page: &str, json: &serde_json::Value) {
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    for outside in [
        "http:", "https:", " src=", "url(", "@import", "<script", "<link",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    let has = |text: String| assert!(page.contains(&text), "{text}");
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let escaped = |value: &serde_json::Value| {
        let text = value.as_str().unwrap();
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    for section in json.as_array().unwrap() {
        let heading = match section["group"].as_str() {
            Some(group) => format!("demo, {group}"),
            None => "demo".to_owned(),
        };
        let id = heading.replace([',', ' '], "-");
        has(format!("<section id=\"{id}\""));
        has(format!("href=\"#{id}\">{heading}</a>"));
        for row in section["rows"].as_array().unwrap() {
            has(format!("<th scope=\"row\">{}</th>", escaped(&row["title"])));
            for metric in ["recall@10", "ndcg@10"] {
                has(format!("<th scope=\"col\">{metric}</th>"));
                let figure = &row["figures"][metric];
                has(format!("{:.4}", number(&figure["mean"])));
                for (seed, figure) in figure["seeds"].as_object().unwrap() {
                    has(format!("{}, seed {seed}</th>", escaped(&row["title"])));
                    has(format!("<td>{:.4}</td>", number(figure)));
                }
                if let Some(d) = row["difference"].as_object().map(|all| &all[metric]) {
                    let [d, low, high] = ["difference", "low", "high"].map(|name| number(&d[name]));
                    let interval = format!("<small>({low:+.4} – {high:+.4})</small>");
                    let sure = low > 0.0 || high < 0.0;
                    has(if sure {
                        format!("<strong>{d:+.4}</strong> {interval}")
                    } else {
                        format!("{d:+.4} {interval}")
                    });
                }
            }
            if let Some(overlap) = row["overlap"].as_object() {
                for share in ["of_best", "both", "alone", "best_alone"] {
                    has(format!("{:.1} %", 100.0 * number(&overlap[share])));
                }
            }
            for run in row["runs"].as_array().unwrap() {
                has(format!("<code>{}</code>", escaped(&run["command"])));
                has(format!("<code>{}</code>", escaped(&run["digest"])));
            }
        }
    }
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

    // A row that cannot be is named before any is run.
    for (right, wrong, told) in [
        ("model.d_model=16", "model.d_mode=16", "d_mode"),
        ("list = \"semantic\"", "list = \"direct\"", "direct_head"),
    ] {
        std::fs::write(root.join("tiny.toml"), plan.replace(right, wrong)).unwrap();
        let (done, log) = tables(root, &[]);
        assert!(!done && log.contains(told), "{log}");
        assert!(!root.join("runs").exists(), "{log}");
    }
    std::fs::write(root.join("tiny.toml"), &plan).unwrap();

    // So is a dataset that is none or is there already, or a run.
    for wrong in [
        ["--datasets", "demo,deno"],
        ["--datasets", "demo,demo"],
        ["--runs", "tiny-sun"],
    ] {
        let output = command(root, "tiny.toml").args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!root.join("runs").exists(), "{output:?}");
    }

    let (_, log) = tables(root, &["--collect"]);
    assert!(read("tiny.md").contains("No run is there yet"), "{log}");

    // A name with a dot is a name of its own.
    std::fs::copy(root.join("tiny.toml"), root.join("tiny.2.toml")).unwrap();
    let asked = ["--datasets", "demo", "--seeds", "2"];
    let collected = command(root, "tiny.2.toml")
        .args(asked)
        .arg("--collect")
        .status();
    assert!(collected.unwrap().success());
    let file = root.join("tiny.2.toml");
    let itself = format!("eager tables {} {}", file.display(), asked.join(" "));
    for form in ["md", "html"] {
        let page = read(&format!("tiny.2.{form}"));
        assert!(page.contains(&itself), "{page}");
    }

    // One run of them, with a baseline that the others could be compared with if they were there.
    let (done, log) = tables(root, &["--runs", "tiny-split"]);
    assert!(done, "{log}");
    let table = read("tiny.md");
    assert!(
        table.contains("| whole | – | – | 0 |") && table.contains("less Popularity, time split")
    );
    assert!(read("tiny.html").contains("<th scope=\"row\">whole</th><td>–</td>"));

    // What another run is made for is kept too, and not made again.
    let (done, log) = tables(root, &["--runs", "tiny-sum", "--text-encoder", "minilm"]);
    assert!(done, "{log}");
    assert!(log.contains("model: taken from another run"), "{log}");
    let kept = || std::fs::read(root.join("results/runs/demo/tiny-1.json")).unwrap();
    let before = kept();
    let (done, log) = tables(root, &["--text-encoder", "minilm"]);
    assert!(
        done && log.contains("demo/tiny-1: there") && log.contains("--run tiny-ties-1"),
        "{log}"
    );
    assert_eq!(kept(), before);
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
    let read_json = |path: &Path| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let metrics = read_json(&root.join("runs/demo/tiny-1/eval/metrics.json"));
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

    // A group is compared with itself alone.
    let alone = &json[1];
    assert_eq!(alone["group"], "by itself");
    assert_eq!(alone["rows"].as_array().unwrap().len(), 1);
    assert!(alone["rows"][0]["difference"].is_null());
    assert!(table.contains("## demo, by itself"), "{table}");
    assert!(rows.iter().all(|row| row["title"] != "semantic alone"));

    // Whose histories are ordered otherwise has other targets: no user is compared with itself.
    assert_eq!(rows[3]["other_targets"], true);
    assert!(rows[3]["difference"].is_null() && rows[3]["overlap"].is_null());
    assert!(rows[3]["figures"]["recall@10"]["mean"].as_f64().unwrap() > 0.0);
    // Under the time split the baseline is that of its own users.
    let split = read_json(&root.join("runs/demo/tiny-split-1/eval/metrics.json"));
    assert_eq!(split["protocol"]["split"]["global-time"]["quantile"], 0.9);
    assert_eq!(metrics["protocol"]["split"], "leave-one-out");
    assert_eq!(rows[4]["users"], split["users"]);
    assert!(split["users"].as_u64().unwrap() < 1994 && split["users"].as_u64().unwrap() > 0);
    assert!(root.join("runs/demo/tiny-split-1/report.html").exists());
    assert!(table.contains("| seeds | users |") && table.contains(" | 1 | 1,994 |"));
    assert!(
        table.contains(&format!(" | 1 | {} |", split["users"])),
        "{table}"
    );
    assert_eq!(rows[4]["against"], "Popularity, time split");
    assert_eq!(rows[2]["against"], "Popularity");
    let ours = split["recall@10"].as_f64().unwrap();
    let popular = split["baselines"]["popularity"]["recall@10"]
        .as_f64()
        .unwrap();
    let found = rows[4]["difference"]["recall@10"]["difference"]
        .as_f64()
        .unwrap();
    assert!((found - (ours - popular)).abs() < 1e-12);
    let told =
        "no baseline is of the same users and targets: &lt;b>ties&lt;/b> & SASRec (1,994 users).";
    assert!(table.contains(told), "{table}");
    let page = read("tiny.html");
    holds(&page, &json);
    assert!(page.contains("&lt;b&gt;ties&lt;/b&gt; &amp; SASRec (1,994 users)."));
    // Hits in common with the best row, from the ranks that the runs left.
    let ranks = |run: &str, list: usize| -> Vec<bool> {
        let path = root.join(format!("runs/demo/{run}/eval/ranks.csv"));
        let text = std::fs::read_to_string(path).unwrap();
        let rank = |line: &str| line.split(',').nth(list).unwrap().parse::<u32>().ok();
        let hits = text
            .lines()
            .skip(1)
            .map(|line| rank(line).is_some_and(|rank| rank <= 10));
        hits.collect()
    };
    // user, target, merged, behaviour, semantic, popularity
    let lists =
        [("tiny-1", 5), ("tiny-1", 2), ("tiny-sum-1", 2)].map(|(run, list)| ranks(run, list));
    let best = json[0]["best"].as_str().unwrap();
    let best = rows.iter().position(|row| row["title"] == best).unwrap();
    for (row, hits) in lists.iter().enumerate().filter(|(row, _)| *row != best) {
        let both = hits
            .iter()
            .zip(&lists[best])
            .filter(|(a, b)| **a && **b)
            .count();
        let all = lists[best].iter().filter(|hit| **hit).count();
        let share = rows[row]["overlap"]["of_best"].as_f64().unwrap();
        assert_eq!(share, both as f64 / all as f64);
    }

    std::fs::remove_dir_all(root.join("runs")).unwrap();
    for extra in [&["--collect"][..], &[]] {
        let (done, log) = tables(root, extra);
        assert!(done && !log.contains("training"), "{log}");
        assert_eq!(read("tiny.md"), table);
        assert_eq!(read("tiny.html"), page);
    }

    // A run of that name made otherwise is not shown as this one.
    std::fs::write(
        root.join("tiny.toml"),
        plan.replace("ranking=sum", "beams=21"),
    )
    .unwrap();
    let record = root.join("results/runs/demo/tiny-sum-1.json");
    let before = std::fs::read(&record).unwrap();
    for extra in [&["--collect"][..], &[]] {
        let (done, log) = tables(root, extra);
        assert!(!done && log.contains("was made by"), "{log}");
    }
    assert_eq!(std::fs::read(&record).unwrap(), before);
    assert!(!root.join("runs").exists());

    // Nor is a run of one text encoder shown as one of another.
    std::fs::write(root.join("tiny.toml"), &plan).unwrap();
    let other = std::fs::read_to_string(&record).unwrap();
    let other = other
        .replace("\"seed\": 1", "\"seed\": 2")
        .replace("--seed 1 --run tiny-sum-1", "--seed 2 --run tiny-sum-2");
    let other = other.replace("\"text_encoder\": \"lsa\"", "\"text_encoder\": \"minilm\"");
    std::fs::write(root.join("results/runs/demo/tiny-sum-2.json"), other).unwrap();
    let (done, log) = tables(root, &["--collect", "--seeds", "2"]);
    assert!(
        !done && log.contains("tiny-sum-2.json: its text encoder is minilm"),
        "{log}"
    );
}

/// Such as one that was recorded before the dataset's files were changed.
#[test]
fn seeds_of_other_data_are_in_no_mean_together() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let plan = "title = 'x'\ndatasets = ['demo']\nmetrics = ['ndcg@10']\nseeds = 2\n\
        [[rows]]\ntitle = 'a'\nrun = 'a'\n";
    std::fs::write(root.join("tiny.toml"), plan).unwrap();
    let records = root.join("results/runs/demo");
    std::fs::create_dir_all(&records).unwrap();
    let record = |seed: u64, targets: &str| {
        let record = serde_json::json!({
            "dataset": "demo",
            "run": "a",
            "seed": seed,
            "command": format!("eager pipeline demo --seed {seed} --run a-{seed}"),
            "digest": "d",
            "text_encoder": "lsa",
            "users": 1994,
            "targets": targets,
            "lists": { "merged": { "recall@10": 0.5, "ndcg@10": 0.25 } },
            "versions": { "eager": "0", "candle": "0", "rustc": "0", "target": "t" },
            "device": "cpu",
            "seconds": {},
        });
        std::fs::write(records.join(format!("a-{seed}.json")), record.to_string()).unwrap();
    };
    record(1, "new");
    for (targets, refused) in [("new", false), ("old", true)] {
        record(2, targets);
        let (_, log) = tables(root, &["--collect"]);
        let words = "a-2.json: its users and their targets are not those of seed 1";
        assert_eq!(log.contains(words), refused, "{log}");
    }
}

/// As a build does with its program while a long table is made.
#[cfg(target_os = "linux")]
#[test]
fn runs_are_of_the_program_that_was_started_whatever_became_of_its_file() {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let root = root.path();
    let plan = "title = 'x'\ndatasets = ['demo']\nmetrics = ['ndcg@10']\nseeds = 1\n\
        [[rows]]\ntitle = 'a'\nrun = 'a'\n";
    std::fs::write(root.join("tiny.toml"), plan).unwrap();
    let program = root.join("eager");
    std::fs::hard_link(env!("CARGO_BIN_EXE_eager"), &program).unwrap();
    let mut tables = Command::new(&program);
    tables.arg("tables").arg(root.join("tiny.toml"));
    tables.arg("--out").arg(root.join("runs"));
    tables.arg("--results").arg(root.join("results"));
    // What the run itself refuses, at once.
    tables.args(["--text-encoder", "nosuch"]);
    // Without them it would start itself anew first, by its file.
    tables.envs(eager::cli::RUNTIME);
    let tables = tables.stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::fs::remove_file(&program).unwrap();
    let output = tables.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        log.contains("`nosuch`") && log.contains("--run a-1` failed (exit status: 2)"),
        "{log}"
    );
}

/// Otherwise the run would go on with nobody to read it, and the same command given again would meet it there.
#[cfg(target_os = "linux")]
#[test]
fn sigterm_ends_the_run_too() {
    use std::os::unix::process::ExitStatusExt;
    use std::time::{Duration, Instant};

    let root = tempfile::tempdir().unwrap();
    let plan = PLAN
        .replace("SETTINGS", &format!("{SETTINGS}\"]"))
        .replace("SUM", &format!("{SETTINGS}\"]"));
    std::fs::write(root.path().join("tiny.toml"), plan).unwrap();
    let mut tables = command(root.path(), "tiny.toml")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let wait = |found: &mut dyn FnMut() -> bool, what: &str| {
        while !found() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let children = format!("/proc/{0}/task/{0}/children", tables.id());
    let mut child = String::new();
    let mut begun = || {
        child = std::fs::read_to_string(&children).unwrap_or_default();
        !child.trim().is_empty()
    };
    wait(&mut begun, "no run was begun");
    let killed = Command::new("kill")
        .args(["-TERM", &tables.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    // As a shell and a supervisor see a process that did not catch it.
    assert_eq!(tables.wait().unwrap().signal(), Some(15));
    let run = format!("/proc/{}", child.trim());
    wait(&mut || !Path::new(&run).exists(), "the run goes on");
    assert!(!root.path().join("results/tiny.md").exists());
}
