//! `eager init` from outside: from files that nobody has described to a dataset that the pipeline takes.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use eager_data::Dataset;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

fn eager(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eager"))
        .args(args)
        .current_dir(folder)
        .env_remove("EAGER_DATA_DIR")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A user, an item and seconds since 1970 a row; every user has seven interactions, some at the same time.
fn events() -> Vec<(String, String, i64)> {
    let event = |i: i64| {
        let (user, place) = (i % 40, i / 40);
        let item = (user * 7 + place * 3 + place * place) % 25;
        (
            format!("u{user}"),
            format!("i{item}"),
            1_600_000_000 + 86_400 * (place / 2) + user,
        )
    };
    (0..280).map(event).collect()
}

fn separated(separator: char) -> (String, String) {
    let mut log = ["user_id", "item_id", "timestamp"].join(&separator.to_string());
    for (user, item, time) in events() {
        write!(log, "\n{user}{separator}{item}{separator}{time}").unwrap();
    }
    let mut items = ["item_id", "title", "genres"].join(&separator.to_string());
    for i in 0..25 {
        write!(items, "\ni{i}{separator}Item {i}{separator}a|b{}", i % 3).unwrap();
    }
    (log, items)
}

fn parquet(path: &Path, schema: &str, texts: &[&[String]], times: Option<&[i64]>) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let rows = texts[0].len();
    // Two row groups.
    for half in [0..rows / 2, rows / 2..rows] {
        let mut group = writer.next_row_group().unwrap();
        let mut place = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            match (texts.get(place), times) {
                (Some(texts), _) => {
                    let values: Vec<ByteArray> = texts[half.clone()]
                        .iter()
                        .map(|t| t.as_str().into())
                        .collect();
                    column
                        .typed::<ByteArrayType>()
                        .write_batch(&values, None, None)
                        .unwrap();
                }
                (None, Some(times)) => {
                    column
                        .typed::<Int64Type>()
                        .write_batch(&times[half.clone()], None, None)
                        .unwrap();
                }
                (None, None) => unreachable!(),
            }
            column.close().unwrap();
            place += 1;
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// The same data in a form; the files' names.
fn write(folder: &Path, form: &str) -> [String; 2] {
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.join(name), bytes).unwrap();
        name.to_owned()
    };
    let gzip = |text: &str| {
        let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    match form {
        "csv" | "dates" | "one" => {
            let (log, items) = separated(',');
            let (log, items) = match form {
                "csv" => (log, items),
                "dates" => {
                    let date = |time: i64| {
                        let day = (time - 1_600_000_000) / 86_400;
                        let second = (time - 1_600_000_000) % 86_400;
                        format!(
                            "2020-09-{:02} 12:{:02}:{:02}",
                            13 + day,
                            26 + (40 + second) / 60,
                            (40 + second) % 60
                        )
                    };
                    let log = log
                        .lines()
                        .skip(1)
                        .fold("user,item,date".to_owned(), |all, line| {
                            let (rest, time) = line.rsplit_once(',').unwrap();
                            all + &format!("\n{rest},{}", date(time.parse().unwrap()))
                        });
                    (log, items)
                }
                _ => {
                    let log = log.lines().skip(1).fold(
                        "user_id,item_id,timestamp,title,genres".to_owned(),
                        |all, line| {
                            let i: usize = line.split(',').nth(1).unwrap()[1..].parse().unwrap();
                            all + &format!("\n{line},Item {i},a|b{}", i % 3)
                        },
                    );
                    let name = put("log.csv", log.as_bytes());
                    return [name, String::new()];
                }
            };
            [
                put("log.csv", log.as_bytes()),
                put("items.csv", items.as_bytes()),
            ]
        }
        "semicolons" => {
            let (log, items) = separated(';');
            [
                put("log.csv", log.as_bytes()),
                put("items.txt", items.as_bytes()),
            ]
        }
        "tsv.gz" => {
            let (log, items) = separated('\t');
            [
                put("log.tsv.gz", &gzip(&log)),
                put("items.tsv.gz", &gzip(&items)),
            ]
        }
        "jsonl" => {
            let log = events().into_iter().fold(String::new(), |all, (user, item, time)| {
                all + &format!("{{\"user_id\": \"{user}\", \"item_id\": \"{item}\", \"timestamp\": {time}, \"ok\": true}}\n")
            });
            let items = (0..25).fold(String::new(), |all, i| {
                all + &format!("{{\"item_id\": \"i{i}\", \"title\": \"Item {i}\", \"genres\": [\"a\", \"b{}\"]}}\n", i % 3)
            });
            [
                put("log.jsonl", log.as_bytes()),
                put("items.jsonl", items.as_bytes()),
            ]
        }
        "recbole" | "mixed" => {
            let (log, items) = separated('\t');
            let log = log.replacen(
                "user_id\titem_id\ttimestamp",
                "user_id:token\titem_id:token\ttimestamp:float",
                1,
            );
            let items = items.replacen(
                "item_id\ttitle\tgenres",
                "item_id:token\ttitle:token_seq\tgenres:token_seq",
                1,
            );
            if form == "mixed" {
                let (_, items) = separated(',');
                return [
                    put("a.inter", log.as_bytes()),
                    put("items.csv", items.as_bytes()),
                ];
            }
            [
                put("a.inter", log.as_bytes()),
                put("a.item", items.replace('|', " ").as_bytes()),
            ]
        }
        "parquet" => {
            let events = events();
            let users: Vec<String> = events.iter().map(|e| e.0.clone()).collect();
            let items: Vec<String> = events.iter().map(|e| e.1.clone()).collect();
            let times: Vec<i64> = events.iter().map(|e| e.2).collect();
            let schema = "message m { required binary user_id (UTF8); required binary item_id (UTF8); required int64 timestamp; }";
            parquet(
                &folder.join("log.parquet"),
                schema,
                &[&users, &items],
                Some(&times),
            );
            let of = |make: fn(usize) -> String| (0..25).map(make).collect::<Vec<String>>();
            let (ids, titles) = (of(|i| format!("i{i}")), of(|i| format!("Item {i}")));
            let genres = of(|i| format!("a|b{}", i % 3));
            let schema = "message m { required binary item_id (UTF8); required binary title (UTF8); required binary genres (UTF8); }";
            parquet(
                &folder.join("items.parquet"),
                schema,
                &[&ids, &titles, &genres],
                None,
            );
            ["log.parquet".to_owned(), "items.parquet".to_owned()]
        }
        other => panic!("no form {other}"),
    }
}

/// What the data stage makes of a manifest, without the names of the files.
fn dataset(folder: &Path, manifest: &str) -> Dataset {
    let made = eager(folder, &["-q", "data", manifest]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let mut dataset = Dataset::load(&folder.join(text(&made.stdout).trim())).unwrap();
    (dataset.files, dataset.format) = (vec![], String::new());
    dataset
}

/// The same data written in any form, with no column named by anybody, give the same dataset.
#[test]
fn init_and_the_data_stage_agree_in_every_form() {
    let mut first: Option<Dataset> = None;
    for form in [
        "csv",
        "semicolons",
        "tsv.gz",
        "jsonl",
        "parquet",
        "recbole",
        "mixed",
        "dates",
        "one",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path(), form);
        let files: Vec<&str> = files
            .iter()
            .map(String::as_str)
            .filter(|name| !name.is_empty())
            .collect();
        let args = [&["init", "--out", "mine.toml"], files.as_slice()].concat();
        let found = eager(folder.path(), &args);
        assert_eq!(
            found.status.code(),
            Some(0),
            "{form}: {}{}",
            text(&found.stdout),
            text(&found.stderr)
        );
        let said = text(&found.stdout);
        for words in [
            "\nrows                     280\n",
            "interactions             280",
            "users                     40",
            "2020-09-13 12:26:40 to 2020-09-16 12:27:19",
            "next: eager pipeline mine.toml",
        ] {
            assert!(said.contains(words), "{form}: `{words}` in\n{said}");
        }
        let dataset = dataset(folder.path(), "mine.toml");
        assert!(
            dataset
                .items
                .iter()
                .all(|item| item.title.is_some() && item.categories.len() == 2),
            "{form}"
        );
        match &first {
            Some(first) => assert_eq!(dataset, *first, "{form}"),
            None => first = Some(dataset),
        }
    }
}

/// Three kinds of fault: all named, nothing written, unless one insists; mended, the same command writes.
#[test]
fn faults_are_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "csv");
    let path = folder.path().join("log.csv");
    let good = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = good.lines().collect();
    (lines[4], lines[9], lines[100]) = ("u1,i1,last tuesday", "u1,i1", "u1,,1600000000");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let args = ["init", "log.csv", "items.csv"];
    let bad = eager(folder.path(), &args);
    assert_eq!(bad.status.code(), Some(1));
    for words in [
        "log.csv:5: field `timestamp` is `last tuesday`",
        "log.csv:10: 2 fields",
        "log.csv:101: field `item_id` is missing",
    ] {
        assert!(
            text(&bad.stdout).contains(words),
            "`{words}` in\n{}",
            text(&bad.stdout)
        );
    }
    assert!(text(&bad.stderr).contains("3 faults of 3 kinds; log.toml was not written"));
    assert!(!folder.path().join("log.toml").exists());

    let json = eager(
        folder.path(),
        &["init", "log.csv", "items.csv", "--json", "-q"],
    );
    let told: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(told["found"]["faults"].as_array().unwrap().len(), 3);
    assert_eq!(told["found"]["faults"][0]["first"][0][0], 101);
    assert!(told["manifest"].is_null());

    let forced = eager(folder.path(), &["init", "log.csv", "items.csv", "--force"]);
    assert_eq!(forced.status.code(), Some(0), "{}", text(&forced.stderr));
    assert!(text(&forced.stderr).contains("the pipeline will stop there"));
    let stopped = eager(folder.path(), &["-q", "data", "log.toml"]);
    assert!(text(&stopped.stderr).contains("log.csv:5: field `timestamp`"));

    std::fs::write(&path, good).unwrap();
    let again = eager(folder.path(), &args);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("log.toml: is there already"));
    assert_eq!(
        eager(folder.path(), &["init", "log.csv", "items.csv", "--force"])
            .status
            .code(),
        Some(0)
    );
    assert_eq!(dataset(folder.path(), "log.toml").users.len(), 40);
}

/// A column that is wrong in many rows is to be converted; a line is not to be removed for it.
#[test]
fn many_faults_of_a_column_are_for_the_column_to_be_mended() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "dates");
    let path = folder.path().join("log.csv");
    let good = std::fs::read_to_string(&path).unwrap();
    // All of the last day, or one of them.
    for (every, words, not) in [
        (
            1,
            "fault in log.csv: field `date` cannot be read, 40 times\n",
            "correct or remove the line",
        ),
        (40, "correct or remove the line", "convert the column"),
    ] {
        let bad = good.lines().enumerate().map(|(at, line)| match at % every {
            0 => line.replace("2020-09-16", "16.09.2020"),
            _ => line.to_owned(),
        });
        std::fs::write(&path, bad.collect::<Vec<_>>().join("\n")).unwrap();
        let refused = eager(folder.path(), &["init", "log.csv", "items.csv"]);
        let said = text(&refused.stdout);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(words) && !said.contains(not), "{said}");
        let many = said.contains("  … and 35 more; convert the column\n");
        assert_eq!(many, every == 1, "{said}");
    }
}

#[test]
fn items_that_share_their_texts_are_noted() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "csv");
    let args = ["init", "log.csv", "items.csv", "--text", "genres"];
    let made = eager(folder.path(), &args);
    let said = text(&made.stdout);
    assert!(
        said.contains("25 items have 3 different texts ({categories})"),
        "{said}"
    );
    let made = eager(folder.path(), &["init", "log.csv", "items.csv", "--force"]);
    assert!(!text(&made.stdout).contains("different text"));
}

/// Of a name in other letters no dash is left, which the next command would take for an option.
#[test]
fn files_with_names_in_other_letters_get_a_manifest_that_can_be_given_on() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "csv");
    for (file, name) in [("заказы.csv", "data"), ("заказы-2024 г.csv", "2024")] {
        std::fs::copy(folder.path().join("log.csv"), folder.path().join(file)).unwrap();
        let made = eager(folder.path(), &["init", file, "items.csv"]);
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        let manifest = format!("{name}.toml");
        let next = format!("next: eager pipeline {manifest}");
        assert!(text(&made.stdout).contains(&next), "{}", text(&made.stdout));
        assert_eq!(dataset(folder.path(), &manifest).name, name);
    }
}

/// A table that is of interactions and items has the faults of both.
#[test]
fn faults_of_items_in_the_table_of_interactions_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "one");
    let path = folder.path().join("log.csv");
    let good = std::fs::read_to_string(&path).unwrap();
    let priced = good.lines().enumerate().map(|(at, line)| match at {
        0 => format!("{line},price"),
        // The first row of its item: what the others say does not count.
        3 => format!("{line},free"),
        _ => format!("{line},2.5"),
    });
    std::fs::write(&path, priced.collect::<Vec<_>>().join("\n")).unwrap();
    let bad = eager(folder.path(), &["init", "log.csv"]);
    assert_eq!(bad.status.code(), Some(1), "{}", text(&bad.stdout));
    let words = "log.csv:4: field `price` is `free`";
    assert!(text(&bad.stdout).contains(words), "{}", text(&bad.stdout));
    eager(folder.path(), &["init", "log.csv", "--force"]);
    let stopped = eager(folder.path(), &["-q", "data", "log.toml"]);
    assert!(text(&stopped.stderr).contains(words));
}

/// The manifest's folder is made; where it cannot be, nothing is said to be written.
#[test]
fn the_manifest_may_lie_in_a_new_folder() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "csv");
    let init = |out: &str| {
        let args = ["init", "log.csv", "items.csv", "--out", out];
        eager(folder.path(), &args)
    };
    let made = init("sub/dir/z.toml");
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    assert!(text(&made.stdout).contains("sub/dir/z.toml: written"));
    assert_eq!(dataset(folder.path(), "sub/dir/z.toml").users.len(), 40);
    let made = init("sub/my shop.toml");
    let next = "next: eager pipeline 'sub/my shop.toml' --text-encoder lsa";
    assert!(text(&made.stdout).contains(next), "{}", text(&made.stdout));

    let refused = init("log.csv/z.toml");
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(
        said.contains("log.csv: cannot make the manifest's folder; give another place with --out"),
        "{said}"
    );
    assert!(!text(&refused.stdout).contains("written"));
}

#[test]
fn what_cannot_be_right_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("plain.csv", "a,b\nx,p\ny,q\nx,q\n");
    put("short.csv", "user,item\nx,p\ny,q\nx,q\n");
    put("other.csv", "item,title\n17,Ex\n18,Why\n");
    for (code, args, words) in [
        (
            1,
            &["init", "plain.csv"][..],
            &["--user COLUMN and --item COLUMN", "x, y"][..],
        ),
        (
            1,
            &["init", "short.csv"],
            &["no user has three interactions"],
        ),
        (
            1,
            &["init", "short.csv", "other.csv"],
            &["no item of short.csv is in other.csv"],
        ),
        (1, &["init", "none.csv"], &["none.csv: cannot open"]),
        (
            2,
            &["init", "short.csv", "--name", "demo"],
            &["name of a preset"],
        ),
        // Said before the files are read.
        (
            2,
            &["init", "none.csv", "--name", "../../x"],
            &["--name ../../x: it becomes a folder"],
        ),
        (
            2,
            &["init", "short.csv", "--user", "nosuch"],
            &["--user nosuch: there is no such column"],
        ),
        (
            2,
            &["init", "short.csv", "--interactions", "other.csv"],
            &["other.csv: is not among the files"],
        ),
        (
            2,
            &["init", "short.csv", "other.csv", "plain.csv"],
            &["plain.csv: a third file"],
        ),
    ] {
        let refused = eager(folder.path(), args);
        assert_eq!(refused.status.code(), Some(code), "{args:?}");
        for word in words {
            assert!(
                text(&refused.stderr).contains(word),
                "{args:?}: {}",
                text(&refused.stderr)
            );
        }
    }
    let tables = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(tables, 3, "no manifest");
}
