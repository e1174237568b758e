//! `eager recommend` over a bundle of a random model: every form in and out, filters, reasons, folders that go on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use eager::run::{Run, Stage};
use eager_bundle::{Bundle, Filter, ListKind, Query};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use tempfile::TempDir;

const ITEMS: u32 = 90;

/// A folder with a bundle, and the bundle.
fn bundle() -> (TempDir, Bundle) {
    let folder = tempfile::tempdir().unwrap();
    let mut bundle = eager_fixtures::bundle(ITEMS as usize, 7);
    bundle.save(&folder.path().join("bundle")).unwrap();
    (folder, bundle)
}

fn command(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eager"));
    let here = command.current_dir(folder.path());
    here.args(["recommend", "bundle"]).args(args);
    command
}

/// Exit code, standard output, standard error.
fn eager(folder: &TempDir, args: &[&str]) -> (Option<i32>, String, String) {
    let output = command(folder, args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// What a command that must succeed prints.
fn good(folder: &TempDir, args: &[&str]) -> String {
    let (code, out, error) = eager(folder, args);
    assert_eq!(code, Some(0), "{args:?}: {error}");
    out
}

/// What a command that must not succeed says.
fn refused(folder: &TempDir, exit: i32, args: &[&str]) -> String {
    let (code, out, error) = eager(folder, args);
    assert_eq!((code, out.as_str()), (Some(exit), ""), "{args:?}: {error}");
    error
}

/// Histories of users `u0`, `u1`, …: one to five items each.
fn histories(users: u32) -> Vec<Vec<u32>> {
    let history = |user: u32| (0..1 + user % 5).map(move |n| (user * 7 + n * n * 13) % ITEMS);
    (0..users).map(|user| history(user).collect()).collect()
}

fn id(item: u32) -> String {
    format!("i{item}")
}

fn ids(items: &[u32]) -> Vec<String> {
    items.iter().copied().map(id).collect()
}

fn jsonl(histories: &[Vec<u32>]) -> String {
    let line = |(user, items): (usize, &Vec<u32>)| {
        format!(
            "{}\n",
            json!({"user": format!("u{user}"), "history": ids(items)})
        )
    };
    histories.iter().enumerate().map(line).collect()
}

fn write(folder: &TempDir, name: &str, text: &str) {
    std::fs::write(folder.path().join(name), text).unwrap();
}

/// A Parquet table of users as pandas and polars write it.
fn parquet(path: &Path, histories: &[Vec<u32>]) {
    let schema = "message schema {
        optional binary user (STRING);
        optional group history (LIST) { repeated group list { optional binary element (STRING); } }
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let text = |text: String| ByteArray::from(text.into_bytes());
    let users: Vec<ByteArray> = (0..histories.len())
        .map(|u| text(format!("u{u}")))
        .collect();
    let items: Vec<ByteArray> = histories.iter().flatten().map(|&i| text(id(i))).collect();
    let starts = histories
        .iter()
        .flat_map(|history| (0..history.len()).map(|n| i16::from(n > 0)));
    let columns = [
        (users, vec![1; histories.len()], None),
        (
            items.clone(),
            vec![3; items.len()],
            Some(starts.collect::<Vec<_>>()),
        ),
    ];
    for (values, defined, repeated) in columns {
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<ByteArrayType>();
        typed
            .write_batch(&values, Some(&defined), repeated.as_deref())
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

/// What the command should print for `histories`.
fn expected(bundle: &Bundle, histories: &[Vec<u32>], of: impl Fn(Query) -> Query) -> Vec<Value> {
    let queries: Vec<Query> = histories
        .iter()
        .map(|history| {
            of(Query {
                history: history.clone(),
                k: 10,
                ..Query::default()
            })
        })
        .collect();
    let lists = bundle.recommend(&queries).unwrap();
    let line = |(user, list): (usize, &Vec<eager_bundle::Ranked>)| {
        let items = list.iter().map(|ranked| {
            let mut item = json!({
                "id": id(ranked.item),
                "title": format!("Item number {}", ranked.item),
                "score": ranked.score,
            });
            for (name, value) in [
                ("behaviour", ranked.behaviour),
                ("semantic", ranked.semantic),
            ] {
                if let Some(value) = value {
                    item[name] = value.into();
                }
            }
            item
        });
        json!({"user": format!("u{user}"), "items": items.collect::<Vec<_>>()})
    };
    lists.iter().enumerate().map(line).collect()
}

/// Lines of JSON, whose numbers are read as the single-precision ones that they are.
fn lines(text: &str) -> Vec<Value> {
    fn single(value: &mut Value) {
        match value {
            Value::Number(number) if number.is_f64() => {
                *value = (number.as_f64().unwrap() as f32).into();
            }
            Value::Array(values) => values.iter_mut().for_each(single),
            Value::Object(values) => values.values_mut().for_each(single),
            _ => {}
        }
    }
    let line = |line: &str| {
        let mut value = serde_json::from_str(line).unwrap();
        single(&mut value);
        value
    };
    text.lines().map(line).collect()
}

/// Whether two values are equal but for the last digits of numbers, which depend on the users that are scored together.
fn close(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(name, a): (&String, &Value)| b.get(name).is_some_and(|b| close(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        (Value::Number(a), Value::Number(b)) => {
            (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-5
        }
        _ => a == b,
    }
}

#[test]
fn every_form_of_users_gives_the_recommender_s_own_lists() {
    let (folder, bundle) = bundle();
    let histories = histories(40);
    let expected = expected(&bundle, &histories, |query| query);
    let users = histories.iter().enumerate();
    let row = |separator: &'static str| {
        move |(user, items): (usize, &Vec<u32>)| format!("u{user},{}\n", ids(items).join(separator))
    };
    let interactions = users.clone().flat_map(|(user, items)| {
        let row = move |(time, &item): (usize, &u32)| format!("{time}\tu{user}\ti{item}\n");
        items.iter().enumerate().map(row)
    });
    write(&folder, "u.jsonl", &jsonl(&histories));
    write(
        &folder,
        "blanks.csv",
        &format!(
            "user,history\n{}",
            users.clone().map(row(" ")).collect::<String>()
        ),
    );
    write(
        &folder,
        "bars.csv",
        &format!(
            "user,history\n{}",
            users.clone().map(row(" | ")).collect::<String>()
        ),
    );
    write(
        &folder,
        "one-a-row.tsv",
        &format!("time\tuser\titem\n{}", interactions.collect::<String>()),
    );
    parquet(&folder.path().join("u.parquet"), &histories);
    for args in [
        &["--users", "u.jsonl"][..],
        &["--users", "blanks.csv"],
        &["--users", "bars.csv", "--separator", "|"],
        &["--users", "one-a-row.tsv"],
        &["--users", "u.parquet"],
    ] {
        assert_eq!(lines(&good(&folder, args)), expected, "{args:?}");
    }
    let mut piped = command(&folder, &["--users", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = piped.stdin.take().unwrap();
    input.write_all(jsonl(&histories).as_bytes()).unwrap();
    drop(input);
    let output = piped.wait_with_output().unwrap();
    assert_eq!(
        lines(std::str::from_utf8(&output.stdout).unwrap()),
        expected
    );

    let history = ids(&histories[3]).join(",");
    let one = lines(&good(&folder, &["--history", &history, "--json"]));
    assert!(close(&one[0]["items"], &expected[3]["items"]));
}

/// A table's rows: columns by name; numbers in single precision.
type Rows = Vec<BTreeMap<String, Value>>;

fn rows_of_csv(path: &Path) -> Rows {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    let value = |name: &str, text: &str| match name {
        _ if text.is_empty() => Value::Null,
        "rank" => text.parse::<i64>().unwrap().into(),
        "score" | "behaviour" | "semantic" | "direct" | "confidence" => {
            text.parse::<f32>().unwrap().into()
        }
        _ => text.into(),
    };
    let row = |row: csv::Result<csv::StringRecord>| {
        let row = row.unwrap();
        let cells = header.iter().zip(row.iter());
        cells
            .map(|(name, text)| (name.to_owned(), value(name, text)))
            .collect()
    };
    reader.records().map(row).collect()
}

fn rows_of_parquet(path: &Path) -> Rows {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let value = |field: &Field| match field {
        Field::Null => Value::Null,
        Field::Str(text) => text.as_str().into(),
        Field::Int(number) => (*number).into(),
        Field::Float(number) => (*number).into(),
        other => panic!("{other:?}"),
    };
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| {
        let row = row.unwrap();
        let cells = row.get_column_iter();
        cells
            .map(|(name, field)| (name.clone(), value(field)))
            .collect()
    })
    .collect()
}

/// The rows that lists in JSON lines should be, of a model with or without a direct head.
fn rows_of_lists(lists: &[Value], direct: bool) -> Rows {
    let mut rows = vec![];
    for list in lists {
        for (rank, item) in (1..).zip(list["items"].as_array().unwrap()) {
            let mut row = BTreeMap::from([
                ("user".to_owned(), list["user"].clone()),
                ("rank".to_owned(), json!(rank)),
                ("item".to_owned(), item["id"].clone()),
            ]);
            let direct = direct.then_some("direct");
            for name in ["score", "behaviour", "semantic"].into_iter().chain(direct) {
                row.insert(name.to_owned(), item[name].clone());
            }
            if let Some(why) = item.get("explanation") {
                row.insert("stream".to_owned(), why["stream"].clone());
                row.insert("confidence".to_owned(), why["confidence"].clone());
                for stream in ["behaviour", "semantic"] {
                    let tokens = why[stream]["tokens"].as_array().unwrap();
                    let join = |of: &dyn Fn(&Value) -> String| {
                        tokens.iter().map(of).collect::<Vec<_>>().join(" ")
                    };
                    let codes = join(&|token| token["token"].to_string());
                    let log_probs = join(&|token| {
                        let value = token["log_prob"].as_f64().unwrap() as f32;
                        value.to_string()
                    });
                    row.insert(format!("{stream}_code"), codes.into());
                    row.insert(format!("{stream}_log_probs"), log_probs.into());
                }
            }
            rows.push(row);
        }
    }
    rows
}

#[test]
fn every_form_of_lists_has_the_same_rows_and_a_file_is_whole_or_not_there() {
    let (folder, _) = bundle();
    write(&folder, "u.jsonl", &jsonl(&histories(50)));
    for explain in [&[][..], &["--explain"]] {
        let to = |out: &str| {
            let args = [&["--users", "u.jsonl", "--force", "--out", out], explain].concat();
            assert_eq!(good(&folder, &args).trim(), out);
            folder.path().join(out)
        };
        let lists = lines(&std::fs::read_to_string(to("lists.jsonl")).unwrap());
        let rows = rows_of_lists(&lists, false);
        assert_eq!(rows.len(), 500);
        assert_eq!(rows[0].len(), if explain.is_empty() { 6 } else { 12 });
        assert!(rows.iter().any(|row| row["semantic"].is_null()));
        assert_eq!(rows_of_csv(&to("lists.csv")), rows);
        assert_eq!(rows_of_parquet(&to("lists.parquet")), rows);
        let args = [&["--users", "u.jsonl", "--format", "csv"], explain].concat();
        let csv = std::fs::read_to_string(folder.path().join("lists.csv")).unwrap();
        assert_eq!(good(&folder, &args), csv);
    }
    let error = refused(&folder, 2, &["--users", "u.jsonl", "--out", "lists.csv"]);
    assert!(error.contains("lists.csv: is there already"), "{error}");
    std::fs::create_dir(folder.path().join("folder.csv")).unwrap();
    for force in [&[][..], &["--force"]] {
        let args = [&["--users", "u.jsonl", "--out", "folder.csv"], force].concat();
        let error = refused(&folder, 2, &args);
        assert!(error.contains("folder.csv: is a folder"), "{error}");
    }
    let error = refused(
        &folder,
        1,
        &["--users", "u.jsonl", "--out", "no/such/l.csv"],
    );
    let words = "error: no/such/l.csv: there is no folder no/such; make it, or give another name";
    assert!(error.contains(words), "{error}");
    write(
        &folder,
        "bad.jsonl",
        "{\"user\": \"a\", \"history\": [\"i1\"]}\n{\"user\": \"b\", \"history\": [\"i1\", \"x\"]}\n",
    );
    for out in ["new.csv", "new.parquet", "new"] {
        let error = refused(&folder, 1, &["--users", "bad.jsonl", "--out", out]);
        assert!(
            error.contains("bad.jsonl:2: item \"x\" is not in the catalogue"),
            "{error}"
        );
        assert!(!folder.path().join(out).exists());
    }
    let hidden = std::fs::read_dir(folder.path()).unwrap();
    let mut hidden = hidden.map(|entry| entry.unwrap().file_name());
    assert!(!hidden.any(|name| name.to_string_lossy().starts_with('.')));
}

/// A model with a direct head has one column more, and some items are there by it alone.
#[test]
fn lists_say_what_the_direct_head_predicts() {
    let folder = tempfile::tempdir().unwrap();
    let mut bundle = eager_fixtures::bundle_with_direct_head(ITEMS as usize, 7);
    bundle.save(&folder.path().join("bundle")).unwrap();
    let histories = histories(50);
    write(&folder, "u.jsonl", &jsonl(&histories));
    let to = |out: &str| {
        good(&folder, &["--users", "u.jsonl", "--explain", "--out", out]);
        folder.path().join(out)
    };
    let lists = lines(&std::fs::read_to_string(to("lists.jsonl")).unwrap());
    let rows = rows_of_lists(&lists, true);
    assert_eq!((rows.len(), rows[0].len()), (500, 13));
    assert_eq!(rows_of_csv(&to("lists.csv")), rows);
    assert_eq!(rows_of_parquet(&to("lists.parquet")), rows);
    let header = std::fs::read_to_string(folder.path().join("lists.csv")).unwrap();
    assert!(header.starts_with("user,rank,item,score,behaviour,semantic,direct,stream,"));

    // As the bundle says.
    let queries = histories.iter().map(|history| Query {
        history: history.clone(),
        k: 10,
        ..Query::default()
    });
    let ranked = bundle.recommend(&queries.collect::<Vec<_>>()).unwrap();
    let ranked: Vec<_> = ranked.into_iter().flatten().collect();
    for (row, ranked) in rows.iter().zip(&ranked) {
        assert_eq!(row["item"], id(ranked.item));
        let direct = ranked.direct.map_or(Value::Null, Value::from);
        assert!(close(&row["direct"], &direct), "{row:?} {direct}");
    }
    let alone = rows.iter().filter(|row| row["stream"] == "direct");
    let alone: Vec<_> = alone.collect();
    assert!(!alone.is_empty() && rows.len() > alone.len());
    for row in alone {
        assert_eq!(row["direct"], row["score"]);
        let confidence = row["score"].as_f64().unwrap().exp();
        assert!((row["confidence"].as_f64().unwrap() - confidence).abs() < 1e-6);
    }
    let text = good(&folder, &["--history", "i3,i5"]);
    let columns = ["rank", "item", "behaviour", "semantic", "direct", "title"];
    let header: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, columns);
}

/// The bytes of a folder by name, hidden files too.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect()
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("_manifest.json")).unwrap()).unwrap()
}

#[test]
fn a_killed_command_goes_on_and_leaves_the_same_bytes() {
    let (folder, bundle) = bundle();
    write(&folder, "u.jsonl", &jsonl(&histories(6000)));
    for format in ["parquet", "jsonl"] {
        let (whole, cut) = (format!("whole-{format}"), format!("cut-{format}"));
        let args = |out| {
            let args = ["--users", "u.jsonl", "--exclude-seen", "--part-users", "50"];
            [&args[..], &["--format", format, "--out", out]].concat()
        };
        good(&folder, &args(&whole));
        let whole = contents(&folder.path().join(&whole));
        let path: PathBuf = folder.path().join(&cut);
        // Killed twice, at whatever it is doing.
        for parts in [1, 4] {
            let mut child = command(&folder, &args(&cut))
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            while !path.join(format!("part-{parts:05}.{format}")).exists() {
                assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
                std::thread::sleep(Duration::from_millis(1));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let left = manifest(&path);
            assert_eq!(left["complete"], false);
            assert!(left["parts"].as_array().unwrap().len() >= parts);
        }
        let (code, _, log) = eager(&folder, &args(&cut));
        assert!(code == Some(0) && log.contains("going on after"), "{log}");
        assert!(contents(&path) == whole, "other bytes than in one go");
        let done = manifest(&path);
        assert_eq!(done["complete"], true);
        assert_eq!(done["bundle"]["digest"], bundle.digest());
        assert_eq!(done["parts"].as_array().unwrap().len(), 120);

        // Nothing is left to do; a damaged part is noticed and made again.
        let (_, _, log) = eager(&folder, &args(&cut));
        assert!(log.contains("all 6000 users have their lists"), "{log}");
        std::fs::write(path.join(format!("part-00117.{format}")), "x").unwrap();
        let (_, _, log) = eager(&folder, &args(&cut));
        assert!(
            log.contains("missing or altered") && log.contains("after 5850"),
            "{log}"
        );
        assert!(contents(&path) == whole);

        let lists: String = whole
            .iter()
            .filter(|(name, _)| name.ends_with(".jsonl"))
            .map(|(_, bytes)| std::str::from_utf8(bytes).unwrap())
            .collect();
        if format == "jsonl" {
            let apart = good(&folder, &["--users", "u.jsonl", "--exclude-seen"]);
            assert!(close(&lines(&apart).into(), &lines(&lists).into()));
        }
    }
}

#[test]
fn another_command_is_refused_by_name_and_force_takes_the_folder() {
    let (folder, _) = bundle();
    write(&folder, "u.jsonl", &jsonl(&histories(9)));
    write(&folder, "v.jsonl", &jsonl(&histories(10)));
    write(&folder, "allow.txt", "i1\ni2\ni3\n");
    let mut other = eager_fixtures::bundle(ITEMS as usize, 8);
    other.save(&folder.path().join("other")).unwrap();
    let args = ["--users", "u.jsonl", "--allow", "allow.txt", "--out", "l"];
    good(&folder, &args);
    let before = contents(&folder.path().join("l"));
    for (more, words) in [
        (&["-k", "3"][..], "settings.k is 10 there, 3 now"),
        (&["--list", "semantic"], "settings.list"),
        (&["--explain"], "settings.explain is false there, true now"),
        (&["--format", "csv"], "settings.format"),
    ] {
        let error = refused(&folder, 1, &[&args[..], more].concat());
        assert!(
            error.contains(words) && error.contains("--force"),
            "{error}"
        );
    }
    let users = ["--users", "v.jsonl", "--allow", "allow.txt", "--out", "l"];
    let error = refused(&folder, 1, &users);
    assert!(
        error.contains("input.sha256") && error.contains("input.users is 9 there, 10 now"),
        "{error}"
    );
    let output = Command::new(env!("CARGO_BIN_EXE_eager"))
        .current_dir(folder.path())
        .args([&["recommend", "other"], &args[..]].concat())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && error.contains("bundle.digest"),
        "{error}"
    );
    write(&folder, "allow.txt", "i1\ni2\n");
    let error = refused(&folder, 1, &args);
    assert!(error.contains("settings.allow"), "{error}");
    assert!(contents(&folder.path().join("l")) == before);

    // What is no manifest is told without the words of the program's source.
    let whole = &before["_manifest.json"];
    for (text, words) in [("[]", "found a list"), ("{}", "form is missing")] {
        write(&folder, "l/_manifest.json", text);
        let error = refused(&folder, 1, &args);
        let start = "l/_manifest.json: is not what this version writes (";
        assert!(error.contains(start) && error.contains(words), "{error}");
        assert!(
            !error.contains("struct") && !error.contains("sequence"),
            "{error}"
        );
    }
    std::fs::write(folder.path().join("l/_manifest.json"), whole).unwrap();

    // Files of others stay.
    write(&folder, "l/notes.txt", "mine");
    good(&folder, &[&args[..], &["-k", "2", "--force"]].concat());
    let after = contents(&folder.path().join("l"));
    assert_eq!(after["notes.txt"], b"mine");
    assert_eq!(manifest(&folder.path().join("l"))["parts"][0]["rows"], 18);
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    write(&folder, "mine/notes.txt", "mine");
    let error = refused(&folder, 1, &["--users", "u.jsonl", "--out", "mine"]);
    assert!(error.contains("notes.txt"), "{error}");
}

#[test]
fn filters_are_those_of_the_bundle() {
    let (folder, bundle) = bundle();
    let histories = histories(20);
    write(&folder, "u.jsonl", &jsonl(&histories));
    write(&folder, "allow.txt", "i1\n\n i5 \r\ni14\ni23\ni41\ni50\n");
    write(&folder, "deny.txt", "i5\n");
    let allow = Some(vec![1, 5, 14, 23, 41, 50]);
    let categories = ["c1", "c5"];
    type Change = fn(&mut Query);
    let cases: [(&[&str], Change); 5] = [
        (&["--exclude-seen", "-k", "25"], |query| {
            query.k = 25;
            query.filter.exclude_seen = true;
        }),
        (&["--list", "behaviour"], |query| {
            query.list = ListKind::Behaviour
        }),
        (&["--list", "semantic"], |query| {
            query.list = ListKind::Semantic
        }),
        (&["--deny", "deny.txt"], |query| query.filter.deny = vec![5]),
        (&["--category", "c1", "--category", "c5"], |query| {
            query.filter.categories = vec!["c1".to_owned(), "c5".to_owned()];
        }),
    ];
    for (args, change) in cases {
        let expected = expected(&bundle, &histories, |mut query| {
            change(&mut query);
            query
        });
        let args = [&["--users", "u.jsonl"], args].concat();
        assert_eq!(lines(&good(&folder, &args)), expected, "{args:?}");
    }
    let all = expected(&bundle, &histories, |query| Query {
        filter: Filter {
            exclude_seen: true,
            allow: allow.clone(),
            deny: vec![5],
            categories: categories.map(str::to_owned).to_vec(),
        },
        ..query
    });
    let args = [
        &[
            "--users",
            "u.jsonl",
            "--allow",
            "allow.txt",
            "--deny",
            "deny.txt",
        ][..],
        &["--exclude-seen", "--category", "c1", "--category", "c5"],
    ];
    let found = lines(&good(&folder, &args.concat()));
    assert_eq!(found, all);
    assert!(
        found
            .iter()
            .any(|list| list["items"].as_array().unwrap().len() == 5)
    );
}

#[test]
fn an_explanation_is_the_bundle_s() {
    let (folder, bundle) = bundle();
    let histories = histories(12);
    write(&folder, "u.jsonl", &jsonl(&histories));
    let lists = lines(&good(&folder, &["--users", "u.jsonl", "--explain"]));
    let mut streams = vec![];
    for (list, history) in lists.iter().zip(&histories) {
        for item in list["items"].as_array().unwrap() {
            let number = bundle.number(item["id"].as_str().unwrap()).unwrap();
            let whole = bundle.explain(history, number, 0).unwrap();
            let why = &item["explanation"];
            let stream = why["stream"].as_str().unwrap();
            streams.push(stream.to_owned());
            // The stream is the one that the score comes from.
            assert_eq!(item[stream], item["score"]);
            let confidence = item["score"].as_f64().unwrap().exp();
            assert!((why["confidence"].as_f64().unwrap() - confidence).abs() < 1e-5);
            for (name, path) in [
                ("behaviour", &whole.streams.behaviour),
                ("semantic", &whole.streams.semantic),
            ] {
                let tokens: Vec<Value> = path
                    .tokens
                    .iter()
                    .map(|token| json!({"token": token.ordinal, "log_prob": token.log_prob}))
                    .collect();
                let code = json!({"log_prob": path.log_prob, "tokens": tokens});
                assert!(close(&why[name], &code), "{} {code}", why[name]);
            }
        }
    }
    assert!(streams.contains(&"behaviour".to_owned()) && streams.contains(&"semantic".to_owned()));
    let text = good(&folder, &["--history", "i3,i5", "--explain", "-k", "2"]);
    assert_eq!(text.lines().count(), 1 + 2 * 4);
    assert!(text.contains("confidence 0."), "{text}");
}

#[test]
fn unknown_ids_are_refused_by_line_or_counted() {
    let (folder, bundle) = bundle();
    write(
        &folder,
        "u.csv",
        "user,history\nu0,i1 new i2\nu1,i5\nu2,newer\n",
    );
    write(&folder, "ids.txt", "i1\nold\n");
    let error = refused(&folder, 1, &["--users", "u.csv"]);
    assert!(
        error.contains("u.csv:2: item \"new\" is not in the catalogue of 90 items")
            && error.contains("--unknown skip"),
        "{error}"
    );
    let error = refused(&folder, 1, &["--history", "i1", "--deny", "ids.txt"]);
    assert!(error.contains("ids.txt:2: item \"old\""), "{error}");
    let (code, out, log) = eager(&folder, &["--users", "u.csv", "--unknown", "skip"]);
    assert!(
        code == Some(0)
            && log.contains("left out of histories: 2 ids")
            && log.contains("with an empty list: 1 user"),
        "{log}"
    );
    let lists = lines(&out);
    let known = expected(&bundle, &[vec![1, 2], vec![5]], |query| query);
    assert_eq!(lists[..2], known[..]);
    assert_eq!(lists[2], json!({"user": "u2", "items": []}));
    let error = refused(&folder, 1, &["--history", "i1", "--category", "c99"]);
    assert!(error.contains("\"c99\""), "{error}");
}

/// One rule for an empty history and for one of unknown ids, of a user and on the command line.
#[test]
fn who_has_no_history_is_refused_or_gets_an_empty_list() {
    let (folder, _) = bundle();
    write(&folder, "u.csv", "user,history\nbob,\nu1,new\n");
    write(&folder, "u.tsv", "user\titem\nbob\t\nu1\tnew\n");
    write(&folder, "none.csv", "user,history\nbob,\n");
    let bob = json!({"user": "bob", "items": []});
    let both = vec![bob.clone(), json!({"user": "u1", "items": []})];
    for (file, lists, said) in [
        ("u.csv", &both[..], "with an empty list: 2 users"),
        ("u.tsv", &both, "with an empty list: 2 users"),
        ("none.csv", &[bob], "with an empty list: 1 user"),
    ] {
        let error = refused(&folder, 1, &["--users", file]);
        let place = format!("{file}:2: user \"bob\" has no item here");
        assert!(error.contains(&place), "{error}");
        assert!(error.contains("--unknown skip"), "{error}");
        let (code, out, log) = eager(&folder, &["--users", file, "--unknown", "skip"]);
        assert_eq!((code, &lines(&out)[..]), (Some(0), lists), "{log}");
        assert!(log.contains(said), "{log}");
    }
    for (history, words) in [
        ("", "--history: the history is empty"),
        (" , ", "--history: the history is empty"),
        ("x", "--history: item \"x\" is not in the catalogue"),
    ] {
        let error = refused(&folder, 1, &["--history", history]);
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("correct the row"), "{error}");
        let args = ["--history", history, "--unknown", "skip", "--json"];
        let (code, out, log) = eager(&folder, &args);
        assert_eq!((code, out.trim()), (Some(0), "{\"items\":[]}"), "{log}");
        assert!(log.contains("the list is empty"), "{log}");
    }
    let one = good(&folder, &["--history", "i1,,i5,"]);
    assert_eq!(one, good(&folder, &["--history", "i1,i5"]));
}

#[test]
fn a_table_of_users_is_told_what_it_lacks() {
    let (folder, _) = bundle();
    let mut child = command(&folder, &["--users", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"[\"u0\", [\"i1\"]]\n").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let words = "found a list, expected keys with values; expected one JSON object a line";
    assert!(
        said.contains("standard input:1: ") && said.contains(words),
        "{said}"
    );

    let lists = good(&folder, &["--history", "i1,i5", "--json"]);
    let orders = "when,customer,sku\n0,a,i1\n1,a,i5\n0,b,i7\n";
    write(&folder, "orders.csv", orders);
    write(&folder, "twice.csv", "user,history\na,i1\nb,i2\na,i3\n");
    let error = refused(&folder, 1, &["--users", "orders.csv"]);
    assert!(
        error.contains("orders.csv:1: the header has when, customer, sku; a table of users has `user` and `history`"),
        "{error}"
    );
    let error = refused(&folder, 1, &["--users", "twice.csv"]);
    assert!(
        error.contains("twice.csv:4: user a is further up already"),
        "{error}"
    );

    // A run knows what the table that it was made of calls users and items.
    let run = Run::open(&folder.path().join("bundle")).unwrap();
    let columns = json!({"user": "customer", "item": "sku"});
    let settings = json!({"source": {"format": "table", "columns": columns}});
    run.stage(Stage::Data, &settings, 0, &[], &[], |_| Ok(()))
        .unwrap();
    let found = lines(&good(&folder, &["--users", "orders.csv"]));
    assert_eq!(
        (&found[0]["user"], &found[1]["user"]),
        (&json!("a"), &json!("b"))
    );
    assert!(close(&found[0]["items"], &lines(&lists)[0]["items"]));
    write(&folder, "other.csv", "name,sku\na,i1\n");
    let error = refused(&folder, 1, &["--users", "other.csv"]);
    assert!(error.contains("`customer` and `sku`"), "{error}");
}

#[test]
fn wrong_usage_is_2() {
    let (folder, _) = bundle();
    write(&folder, "u.csv", "user,history\na,i1\n");
    for (args, words) in [
        (&[][..], "--history"),
        (
            &["--history", "i1", "--users", "u.csv"],
            "cannot be used with",
        ),
        (
            &["--users", "u.csv", "-k", "0"],
            "'--k <N>': expected 1 or more",
        ),
        (
            &["--users", "u.csv", "--part-users", "x"],
            "expected 1 or more",
        ),
        (&["--users", "u.csv", "--list", "both"], "merged"),
        (&["--users", "u.csv", "--format", "parquet"], "--out"),
        (
            &["--users", "u.csv", "--format", "csv", "--out", "l.jsonl"],
            "do not agree",
        ),
        (&["--users", "-", "--out", "lists"], "cannot be read again"),
        (&["--history", "i1", "--out", "lists"], "--out is for users"),
        (&["--all-users"], "has no users"),
    ] {
        let error = refused(&folder, 2, args);
        assert!(error.contains(words), "{args:?}: {error}");
    }
    assert!(!folder.path().join("lists").exists());
}

/// As after `| head -1`, with lists that fill the buffers of what writes them; a file that cannot be read is an error there too.
#[test]
fn nobody_who_reads_on_is_no_failure() {
    let (folder, _) = bundle();
    write(&folder, "u.jsonl", &jsonl(&histories(200)));
    for (code, args) in [
        (0, &["--users", "u.jsonl", "--format", "csv"][..]),
        (0, &["--users", "u.jsonl"]),
        (0, &["--history", "i1"]),
        (1, &["--users", "nosuch.jsonl"]),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(&folder, args).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert_eq!(said.contains("error"), code == 1, "{args:?}: {said}");
    }
}

#[test]
fn completions_and_manual_pages_have_every_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    let eager = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_eager"))
            .args(args)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = eager(&["completions", shell]);
        assert!(
            script.contains("recommend") && script.contains("exclude-seen"),
            "{shell}"
        );
    }
    eager(&["man", "man1"]);
    let page = |name: &str| std::fs::read_to_string(folder.path().join("man1").join(name)).unwrap();
    assert!(page("eager.1").contains("eager\\-recommend(1)"));
    assert!(page("eager-recommend.1").contains("exclude\\-seen"));
}
