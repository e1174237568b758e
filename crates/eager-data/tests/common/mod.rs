//! One small dataset written in every form that is read, as a user would write it: files and a manifest.

#![allow(dead_code)] // each test file uses its own part

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use eager_data::{DataError, Dataset, Manifest, Places};

/// (user, item, time), grouped by item in id order as the raw Amazon files are; three users and three items remain
/// of four each with cores of 3, and `ann` has a tie.
pub const EVENTS: [(&str, &str, u32); 13] = [
    ("ann", "B1", 30),
    ("bob", "B1", 10),
    ("cat", "B1", 12),
    ("ann", "B2", 20),
    ("bob", "B2", 15),
    ("cat", "B2", 11),
    ("dan", "B2", 50),
    ("ann", "B3", 20),
    ("bob", "B3", 5),
    ("cat", "B3", 40),
    ("dan", "B3", 60),
    ("ann", "B4", 70),
    ("bob", "B4", 80),
];

/// Raw ids of every remaining user's history in time order, ties in file order.
pub const BY_TIME: [(&str, [&str; 3]); 3] = [
    ("ann", ["B2", "B3", "B1"]),
    ("bob", ["B3", "B1", "B2"]),
    ("cat", ["B2", "B1", "B3"]),
];

pub const FORMS: [&str; 6] = [
    "amazon2014",
    "recbole",
    "csv",
    "tsv.gz",
    "jsonl",
    "benchmark",
];

/// Writes a dataset folder of the given form with its manifest `mine.toml`; the manifest's path.
pub fn write(folder: &Path, form: &str) -> PathBuf {
    let mut rows = String::new();
    let columns = "columns = { user = \"u\", item = \"i\", timestamp = \"t\", title = \"name\", categories = \"tags\" }";
    let source = match form {
        "amazon2014" => {
            let mut reviews = String::new();
            for (user, item, time) in EVENTS {
                writeln!(reviews, "{{\"reviewerID\": \"{user}\", \"asin\": \"{item}\", \"overall\": 5.0, \"unixReviewTime\": {time}}}").unwrap();
            }
            for n in [3, 1, 9, 2, 4] {
                writeln!(
                    rows,
                    "{{'asin': 'B{n}', 'title': \"Item's {n}\", 'categories': [['x', 'y']]}}"
                )
                .unwrap();
            }
            put(&folder.join("reviews.json.gz"), &reviews);
            put(&folder.join("meta.json.gz"), &rows);
            "format = \"amazon2014\"\nreviews = { name = \"reviews.json.gz\" }\nmetadata = { name = \"meta.json.gz\" }\n".to_owned()
        }
        "recbole" | "csv" | "tsv.gz" => {
            let (comma, blank) = if form == "csv" {
                (",", "|")
            } else {
                ("\t", if form == "recbole" { " " } else { "|" })
            };
            let names = |list: &[&str]| match form {
                "recbole" => list
                    .iter()
                    .map(|n| format!("{n}:{}", if *n == "tags" { "token_seq" } else { "token" }))
                    .collect::<Vec<_>>(),
                _ => list.iter().map(|n| (*n).to_owned()).collect(),
            };
            writeln!(rows, "{}", names(&["u", "i", "t"]).join(comma)).unwrap();
            for (user, item, time) in EVENTS {
                writeln!(rows, "{user}{comma}{item}{comma}{time}").unwrap();
            }
            let mut items = format!("{}\n", names(&["i", "name", "tags"]).join(comma));
            for n in [3, 1, 9, 2, 4] {
                writeln!(items, "B{n}{comma}Item's {n}{comma}x{blank}y").unwrap();
            }
            let (a, b) = match form {
                "recbole" => ("a.inter".to_owned(), "a.item".to_owned()),
                _ => (format!("log.{form}"), format!("items.{form}")),
            };
            put(&folder.join(&a), &rows);
            put(&folder.join(&b), &items);
            let format = if form == "recbole" {
                "recbole"
            } else {
                "table"
            };
            format!(
                "format = \"{format}\"\ninteractions = {{ name = \"{a}\" }}\nitems = {{ name = \"{b}\" }}\n{columns}\n"
            )
        }
        "jsonl" => {
            for (user, item, time) in EVENTS {
                writeln!(
                    rows,
                    "{{\"u\": \"{user}\", \"i\": \"{item}\", \"t\": {time}}}"
                )
                .unwrap();
            }
            put(&folder.join("log.jsonl"), &rows);
            let items = (1..=4).fold(String::new(), |all, n| {
                all + &format!(
                    "{{\"i\": \"B{n}\", \"name\": \"Item's {n}\", \"tags\": [\"x\", \"y\"]}}\n"
                )
            });
            put(&folder.join("items.jsonl"), &items);
            format!(
                "format = \"table\"\ninteractions = {{ name = \"log.jsonl\" }}\nitems = {{ name = \"items.jsonl\" }}\n{columns}\n"
            )
        }
        // Already filtered and in time order.
        "benchmark" => {
            put(&folder.join("sequences.txt"), "1 2 3 1\n2 3 1 2\n3 2 1 3\n");
            put(&folder.join("gaps.txt"), "1 0 0 10\n2 0 5 5\n3 0 1 28\n");
            put(&folder.join("users.tsv"), "1\tann\n2\tbob\n3\tcat\n");
            let items = (1..=3).fold(String::new(), |all, n| {
                all + &format!("{{\"id\": {n}, \"asin\": \"B{n}\", \"title\": \"Item's {n}\", \"categories\": [\"x\", \"y\"]}}\n")
            });
            put(&folder.join("items.jsonl"), &items);
            "format = \"benchmark\"\nsequences = { name = \"sequences.txt\" }\nitems = { name = \"items.jsonl\" }\n\
             gaps = { name = \"gaps.txt\" }\nusers = { name = \"users.tsv\" }\nlisted_by_item = true\n"
                .to_owned()
        }
        other => panic!("no form {other}"),
    };
    let manifest = folder.join("mine.toml");
    let text = format!(
        "name = \"mine\"\ntitle = \"Mine\"\n[[source]]\n{source}[prepare]\nuser_core = 3\nitem_core = 3\n\
         [text]\nparts = [\"{{title}}\", \"{{categories}}\"]\n[expected]\nusers = 3\nitems = 3\ninteractions = 9\n"
    );
    std::fs::write(&manifest, text).unwrap();
    manifest
}

/// Writes a file, through gzip where its name says so.
pub fn put(path: &Path, text: &str) {
    std::fs::write(path, pack(path, text.as_bytes())).unwrap();
}

/// The bytes a file of that name holds for this content.
pub fn pack(path: &Path, content: &[u8]) -> Vec<u8> {
    if path.extension().is_none_or(|e| e != "gz") {
        return content.to_vec();
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// What the pipeline's data stage does: from the manifest to the kept artefact.
pub fn stage(manifest: &Path, cache: &Path, out: &Path) -> Result<Dataset, DataError> {
    let manifest = Manifest::load(manifest)?;
    let places = Places {
        data: None,
        cache: Some(cache.to_owned()),
    };
    let dataset = Dataset::from_manifest(&manifest, &manifest.prepare, &places, &mut |_| {})?;
    dataset.save(out)?;
    Ok(dataset)
}

/// Raw ids of every history, by user.
pub fn histories(dataset: &Dataset) -> Vec<(String, Vec<String>)> {
    let mut out: Vec<(String, Vec<String>)> = (0..dataset.users.len())
        .map(|user| {
            let history = dataset.interactions.history(user);
            (
                dataset.users[user].clone(),
                history
                    .iter()
                    .map(|item| dataset.items[item.index()].id.clone())
                    .collect(),
            )
        })
        .collect();
    out.sort();
    out
}
