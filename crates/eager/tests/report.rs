//! `report.html` of a small run, by the command: whole, escaped, alone, and there whatever is missing.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const USERS: usize = 60;
const ITEMS: usize = 30;

/// A dataset whose every title tries to be markup.
fn dataset(folder: &Path) -> PathBuf {
    let (mut orders, mut articles) = ("user,item,time\n".to_owned(), "id,title,path\n".to_owned());
    for user in 0..USERS {
        for time in 0..5 + user % 4 {
            let item = (user * 7 + time * (1 + user % 3)) % ITEMS;
            let _ = writeln!(orders, "u{user},i{item},{time}");
        }
    }
    for item in 0..ITEMS {
        let _ = writeln!(
            articles,
            "i{item},\"</script><script>alert('thing {item}')</script> & more\",things>kind {}",
            item % 3
        );
    }
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("orders.csv", &orders);
    write("articles.csv", &articles);
    write(
        "shop.toml",
        r#"
name = "shop"
title = "A small shop"

[[source]]
format = "table"
interactions = { name = "orders.csv" }
items = { name = "articles.csv" }
columns = { user = "user", item = "item", timestamp = "time", id = "id", title = "title", categories = "path", separator = ">" }

[prepare]
user_core = 5
item_core = 1

[text]
parts = ["{title}", "{categories}"]

[settings]
codes.behaviour.branching = 4
codes.semantic.branching = 4
behaviour.training = { batch_size = 64, max_epochs = 2, valid_users = 20, log_every = 2 }
model = { d_model = 16, heads = 2, feed_forward = 32, decoder_layers = 1 }
training = { batch_size = 32, max_epochs = 3, valid_users = 20, log_every = 2 }
eval = { exact_users = 0, infer = { beams = 20 }, bootstrap = { resamples = 50 } }
"#,
    );
    folder.join("shop.toml")
}

fn eager(args: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eager"))
        .args(args)
        .env_remove("EAGER_DATA_DIR")
        .output()
        .unwrap()
}

/// A subcommand, the dataset, where runs go, and what else is to be said.
fn run(command: &[&str], manifest: &Path, out: &Path, more: &[&str]) -> Output {
    let mut args: Vec<&Path> = command.iter().map(Path::new).collect();
    args.extend([manifest, Path::new("--out"), out]);
    args.extend(["--text-encoder", "lsa"].map(Path::new));
    args.extend(more.iter().map(Path::new));
    eager(&args)
}

fn pipeline(manifest: &Path, out: &Path) -> Output {
    run(&["pipeline"], manifest, out, &[])
}

/// The page of a run that ended well.
fn page_of(output: &Output, run: &Path) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    is_whole_and_alone(&page);
    page
}

/// A section of a page.
fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let start = format!("<section id=\"{id}\"");
    let rest = page.split_once(&start).expect(id).1;
    rest.split_once("</section>").unwrap().0
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Values of an attribute.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    let parts = page.split(&start).skip(1);
    parts
        .filter_map(|rest| Some(rest.split_once('"')?.0))
        .collect()
}

/// What must hold of any page.
fn is_whole_and_alone(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    for tag in [
        "section", "svg", "table", "figure", "details", "ul", "style",
    ] {
        let count = |text: String| page.matches(&text).count();
        let open = count(format!("<{tag}>")) + count(format!("<{tag} "));
        assert_eq!(open, count(format!("</{tag}>")), "{tag}");
    }
    let ids = attributes(page, "id");
    let distinct: HashSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len(), "{ids:?}");
    for link in attributes(page, "href") {
        let target = link.strip_prefix('#').expect(link);
        assert!(distinct.contains(target), "{link}");
    }
    for outside in ["http:", "https:", " src=", "url(", "@import", "fetch("] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Titles are text: in markup escaped, in the data without a `<`.
    assert!(!page.contains("<script>alert") && !page.contains("alert('thing 0')</script>"));
    for plot in page.split("<svg ").skip(1) {
        let open = plot.split_once('>').unwrap().0;
        assert!(
            open.contains("role=\"img\"") && open.contains("aria-label=\""),
            "{open}"
        );
    }
}

#[test]
fn a_run_leaves_a_page_of_all_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, out) = (dataset(folder.path()), folder.path().join("runs"));
    let output = pipeline(&manifest, &out);
    let log = text(&output.stderr);
    assert!(output.status.success(), "{log}");
    let prepare = |more: &[&str]| run(&["data"], &manifest, &out, more);
    let run = out.join("shop/paper");
    let path = run.join("report.html");
    assert!(
        log.contains(&format!("report: {}", path.display())),
        "{log}"
    );
    let page = std::fs::read_to_string(&path).unwrap();
    is_whole_and_alone(&page);
    let sections = [
        "figures",
        "streams",
        "calibration",
        "groups",
        "training",
        "behaviour-training",
        "users",
        "codes",
        "stages",
        "settings",
    ];
    for section in sections {
        assert!(
            page.contains(&format!("<section id=\"{section}\"")),
            "{section}"
        );
        assert!(
            page.contains(&format!("<a href=\"#{section}\">")),
            "{section}"
        );
    }
    assert_eq!(page.matches("<svg ").count(), 13);
    assert!(page.contains("&lt;script&gt;alert('thing "));
    assert!(page.contains("60 users, 30 items"));
    for figure in ["recall@10", "95 % interval", "popularity", "beams 20"] {
        assert!(page.contains(figure), "{figure}");
    }
    let training = section(&page, "training");
    for caption in ["with 20 beams", "no longer rises", "summed over its levels"] {
        assert!(training.contains(caption), "{caption}");
    }

    // The data of the trees: every item once, a code a leaf, as many items as the tokens say.
    let start = "<script type=\"application/json\" id=\"catalogue\">";
    let data = page.split_once(start).unwrap().1;
    let data = data.split_once("</script>").unwrap().0;
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    let length = |value: &serde_json::Value| value.as_array().unwrap().len();
    assert_eq!(length(&data["titles"]), ITEMS);
    assert!(
        data["titles"][0]
            .as_str()
            .unwrap()
            .starts_with("</script><script>")
    );
    for tree in data["streams"].as_array().unwrap() {
        let levels = tree["levels"].as_u64().unwrap() as usize;
        assert_eq!(length(&tree["codes"]), ITEMS * levels);
        let tokens = tree["tokens"].as_array().unwrap().iter();
        let items: u64 = tokens.map(|token| token[0].as_u64().unwrap()).sum();
        assert_eq!(items, ITEMS as u64);
    }

    // The same page by the command, also from inside the folder.
    let other = folder.path().join("other.html");
    let path_of = Path::new;
    let output = eager(&[path_of("report"), &run, path_of("--out"), &other]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).trim(), other.display().to_string());
    assert!(std::fs::read_to_string(&other).unwrap() == page);

    // A later command of other settings ends before anything is made with them.
    let sets = [
        "model.window=3",
        "behaviour.model=sasrec",
        "losses.generation.levels=mean",
        "training.patience=0",
        "training.valid_beams=30",
    ];
    let mut more = vec!["--seed", "7"];
    more.extend(sets.into_iter().flat_map(|set| ["--set", set]));
    assert!(prepare(&more).status.success());
    let output = eager(&[path_of("report"), &run, path_of("--out"), &other]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let later = std::fs::read_to_string(&other).unwrap();
    assert!(section(&later, "settings").contains("seed = 7"));
    assert!(later.contains("<dt>seed</dt><dd>2024</dd>"));
    for part in ["figures", "training", "behaviour-training", "users"] {
        assert_eq!(section(&later, part), section(&page, part));
    }

    // A page that cannot be written does not fail a run.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let output = pipeline(&manifest, &out);
    assert!(output.status.success() && text(&output.stdout).contains("recall@10"));
    assert!(
        text(&output.stderr).contains("eager report"),
        "{}",
        text(&output.stderr)
    );
    std::fs::remove_dir(&path).unwrap();

    unfinished(&run);
}

/// Less and less of a run still gives a page; what is no run gives none.
fn unfinished(run: &Path) {
    let report = || eager(&[Path::new("report"), run]);
    let page = |without: &str| {
        std::fs::remove_dir_all(run.join(without)).unwrap();
        let output = report();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let page = std::fs::read_to_string(run.join("report.html")).unwrap();
        is_whole_and_alone(&page);
        page
    };
    let has = |page: &str, section: &str| page.contains(&format!("<section id=\"{section}\""));
    let training = page("eval");
    assert!(training.contains("not done are the stages eval."));
    assert!(has(&training, "training") && has(&training, "codes") && !has(&training, "users"));
    let codes = page("model");
    assert!(!has(&codes, "training") && has(&codes, "behaviour-training"));
    let behaviour = page("codes");
    assert!(!has(&behaviour, "codes"));
    let (_, text_stage, data) = (page("behaviour"), page("text"), page("data"));
    assert!(has(&text_stage, "stages") && data.contains("a dataset not yet prepared"));

    std::fs::remove_file(run.join("config.toml")).unwrap();
    let output = report();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("is no folder of a run"), "{error}");
}

#[test]
fn the_direct_head_stands_beside_the_streams_and_the_figures_are_the_stages_own() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, out) = (dataset(folder.path()), folder.path().join("runs"));
    let plus = [
        "--config",
        "plus",
        "--set",
        "baselines.sasrec.training.max_epochs=2",
        "--set",
        "losses.generation.levels=mean",
        "--set",
        "training.patience=0",
    ];
    let command = |more: &[&str]| run(&["pipeline"], &manifest, &out, &[&plus[..], more].concat());
    let run = out.join("shop/plus");
    let page = page_of(&command(&["--set", "eval.held_out=valid"]), &run);
    assert!(page.contains("<h1>EAGER+ on shop · plus</h1>"));
    let streams = section(&page, "streams");
    for text in [
        "the direct head</h2>",
        "direct alone",
        "several",
        "“any”",
        "merged of any",
    ] {
        assert!(streams.contains(text), "{text}");
    }
    assert!(!streams.contains("either"));
    assert!(section(&page, "calibration").contains(", direct 0."));
    let name = "</span>direct</li>";
    for part in ["groups", "training"] {
        assert!(section(&page, part).contains(name), "{part}");
    }
    let training = section(&page, "training");
    for caption in ["on to its limit", "averaged over its levels; direct"] {
        assert!(training.contains(caption), "{caption}");
    }
    let users = section(&page, "users");
    for text in [
        ">direct</th>",
        ", direct head ",
        "or rank: the first 20",
        "all the same",
    ] {
        assert!(users.contains(text), "{text}");
    }
    let on_validation = |page: &str| {
        let figures = section(page, "figures");
        figures.contains("60 users’ last but one item")
            && figures.contains("Figures on validation")
            && !figures.contains("test set")
    };
    assert!(on_validation(&page));

    // Another item is to be held out, but the command ends before that.
    assert!(command(&["--until", "model"]).status.success());
    let page = page_of(&eager(&[Path::new("report"), &run]), &run);
    assert!(on_validation(&page));
    let page = page_of(&command(&[]), &run);
    let figures = section(&page, "figures");
    assert!(figures.contains("60 users’ last item") && figures.contains("on the test set"));
}

#[test]
fn a_baseline_has_its_own_list_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, out) = (dataset(folder.path()), folder.path().join("runs"));
    let sets = [
        "beams=20",
        "codes.branching=8",
        "model.d_model=16",
        "model.heads=2",
        "model.feed_forward=32",
        "model.encoder_layers=1",
        "model.decoder_layers=1",
        "training.max_epochs=2",
        "training.valid_users=20",
    ];
    let sets = sets.map(|set| format!("baselines.tiger.{set}"));
    let more: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let output = run(&["baseline", "tiger"], &manifest, &out, &more);
    let page = page_of(&output, &out.join("shop/tiger"));
    assert!(page.contains("<h1>tiger on shop · tiger</h1>"));
    assert!(!page.contains("<section id=\"streams\""));
    let groups = section(&page, "groups");
    assert!(!groups.contains("legend") && !groups.contains("behaviour"));
    let training = section(&page, "training");
    assert!(training.contains("On 20 users drawn by the seed") && !training.contains("all users"));

    // And is one before it is evaluated.
    let run = out.join("shop/tiger");
    std::fs::remove_dir_all(run.join("eval")).unwrap();
    let unfinished = page_of(&eager(&[Path::new("report"), &run]), &run);
    assert!(unfinished.contains("<h1>tiger on shop · tiger</h1>"));
    assert!(section(&unfinished, "figures").contains("not done are the stages eval."));
    assert_eq!(section(&unfinished, "training"), training);
}
