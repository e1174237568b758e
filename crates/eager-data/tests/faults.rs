//! A fault in a source's files, through the same steps as the pipeline's data stage: the error names file and line and
//! says what to do, and neither an artefact nor a half-fetched file is left.

mod common;

use std::path::PathBuf;

use common::{pack, stage, write};
use eager_data::{Manifest, Places, acquire};

/// How a good file is spoilt.
enum Spoil {
    /// The first occurrence is replaced.
    Replace(&'static str, &'static str),
    /// All of the content.
    Content(&'static [u8]),
    /// Only so many thousandths of the file's bytes are left.
    Cut(usize),
    /// A digest that is not the file's is pinned.
    Digest,
}
use Spoil::{Content, Cut, Digest, Replace};

const CASES: &[(&str, &str, Spoil, &[&str])] = &[
    (
        "amazon2014",
        "reviews.json.gz",
        Cut(700),
        &[
            "reviews.json.gz:",
            "cut short: delete it and fetch it again",
        ],
    ),
    (
        "amazon2014",
        "meta.json.gz",
        Cut(500),
        &["meta.json.gz:", "cut short"],
    ),
    (
        "tsv.gz",
        "log.tsv.gz",
        Cut(600),
        &["log.tsv.gz:", "cut short"],
    ),
    (
        "amazon2014",
        "reviews.json.gz",
        Digest,
        &["reviews.json.gz: sha256 is ", "`mine` pins 000"],
    ),
    (
        "benchmark",
        "gaps.txt",
        Digest,
        &["gaps.txt: sha256 is ", "fetch the file again"],
    ),
    (
        "amazon2014",
        "reviews.json.gz",
        Replace("\"asin\": \"B3\", ", ""),
        &["reviews.json.gz:8: field `asin` is missing"],
    ),
    (
        "amazon2014",
        "meta.json.gz",
        Replace("'asin': 'B1', ", ""),
        &["meta.json.gz:2: field `asin` is missing"],
    ),
    (
        "amazon2014",
        "meta.json.gz",
        Replace("'B9'", "B9"),
        &["meta.json.gz:3: column 10: `B9` is no literal"],
    ),
    (
        "amazon2014",
        "meta.json.gz",
        Replace("'B2'", "'B3'"),
        &["meta.json.gz:4: item B3 is already on line 1"],
    ),
    (
        "recbole",
        "a.inter",
        Replace("u:token", "u"),
        &["a.inter:1: header field `u`"],
    ),
    (
        "recbole",
        "a.inter",
        Replace("bob\tB2\t15", "bob\tB2"),
        &["a.inter:6: 2 fields where the header has 3"],
    ),
    (
        "recbole",
        "a.item",
        Replace("B9", "B3"),
        &["a.item:4: item B3 is already on line 2"],
    ),
    (
        "csv",
        "log.csv",
        Replace("cat,B1,12", "cat,,12"),
        &["log.csv:4: field `i` is missing"],
    ),
    (
        "csv",
        "log.csv",
        Replace("cat,B1,12", "cat,B1,-12"),
        &["log.csv:4: field `t` is `-12`", "not negative"],
    ),
    (
        "csv",
        "log.csv",
        Replace("cat,B1,12", "cat,B1,nan"),
        &["log.csv:4: field `t` is `nan`"],
    ),
    (
        "csv",
        "log.csv",
        Replace("u,i,t", "u,i,time"),
        &["log.csv:1: no column `t`", "u, i, time"],
    ),
    (
        "csv",
        "items.csv",
        Content(b"i,name,tags\nB1,caf\xe9,x\n"),
        &["items.csv:2: byte 7 of the line is not UTF-8"],
    ),
    (
        "jsonl",
        "log.jsonl",
        Replace("\"i\": \"B2\"", "\"item\": \"B2\""),
        &["log.jsonl:4: field `i` is missing"],
    ),
    (
        "jsonl",
        "log.jsonl",
        Content(b"{\"u\": 1, \"i\": 2, \"t\": 3}\n{\"u\"\n"),
        &["log.jsonl:2: column 4"],
    ),
    (
        "jsonl",
        "log.jsonl",
        Content(b""),
        &["log.jsonl: the file is empty"],
    ),
    (
        "benchmark",
        "sequences.txt",
        Replace("2 3 1 2", "2 3 7 2"),
        &["sequences.txt:2: item 7 is not in items.jsonl"],
    ),
    (
        "benchmark",
        "sequences.txt",
        Replace("2 3 1 2", "2 3 1"),
        &["sequences.txt:2: user 2 has 2 interactions"],
    ),
    (
        "benchmark",
        "sequences.txt",
        Replace("2 3 1 2", "4 3 1 2"),
        &["sequences.txt:2: id is 4, expected 2"],
    ),
    (
        "benchmark",
        "sequences.txt",
        Content(b"1 2 3 1\n2 3 \xff 2\n"),
        &["sequences.txt:2: byte 5 of the line is not UTF-8"],
    ),
    (
        "benchmark",
        "items.jsonl",
        Replace("\"id\": 2, ", ""),
        &["items.jsonl:2: field `id` is missing"],
    ),
    (
        "benchmark",
        "items.jsonl",
        Replace("\"id\": 2", "\"id\": 1"),
        &["items.jsonl:2: item 1 is already on line 1"],
    ),
    (
        "benchmark",
        "items.jsonl",
        Content(b""),
        &["items.jsonl: the file is empty"],
    ),
    (
        "benchmark",
        "gaps.txt",
        Replace("2 0 5 5", "2 0 5"),
        &["gaps.txt:2: 2 values for user 2, but 3 in sequences.txt"],
    ),
    // Well-formed, but other data than the manifest expects.
    (
        "csv",
        "log.csv",
        Replace("dan,B3,60", "dan,B3,60\ndan,B1,61"),
        &[
            "dataset `mine`",
            "users                   4           3   differs",
        ],
    ),
    (
        "csv",
        "log.csv",
        Content(b"u,i,t\nann,B1,1\n"),
        &["dataset `mine`", "none of 1 interaction is left"],
    ),
];

#[test]
fn every_fault_names_its_place_and_leaves_nothing() {
    for (form, file, spoil, words) in CASES {
        let folder = tempfile::tempdir().unwrap();
        let manifest = write(folder.path(), form);
        let (path, cache, out) = (
            folder.path().join(file),
            folder.path().join("cache"),
            folder.path().join("run"),
        );
        assert!(
            stage(&manifest, &cache, &folder.path().join("good")).is_ok(),
            "{form}: the unspoilt files are good"
        );

        let bytes = std::fs::read(&path).unwrap();
        match spoil {
            Replace(from, to) => {
                let mut text = String::new();
                match path.extension().is_some_and(|e| e == "gz") {
                    true => std::io::Read::read_to_string(
                        &mut flate2::read::GzDecoder::new(&bytes[..]),
                        &mut text,
                    )
                    .unwrap(),
                    false => std::io::Read::read_to_string(&mut &bytes[..], &mut text).unwrap(),
                };
                assert!(text.contains(from), "{file} has `{from}`");
                std::fs::write(&path, pack(&path, text.replacen(from, to, 1).as_bytes())).unwrap();
            }
            Content(content) => std::fs::write(&path, pack(&path, content)).unwrap(),
            Cut(thousandths) => {
                std::fs::write(&path, &bytes[..bytes.len() * thousandths / 1000]).unwrap()
            }
            Digest => {
                let text = std::fs::read_to_string(&manifest).unwrap();
                let pinned = format!("name = \"{file}\", sha256 = \"{}\"", "0".repeat(64));
                std::fs::write(
                    &manifest,
                    text.replace(&format!("name = \"{file}\""), &pinned),
                )
                .unwrap();
            }
        }
        let message = stage(&manifest, &cache, &out).unwrap_err().to_string();
        for word in *words {
            assert!(
                message.contains(word),
                "{form}, {file}: `{word}` is not in: {message}"
            );
        }
        assert!(
            !out.exists() && !cache.exists(),
            "{form}, {file}: something is left"
        );
    }
}

/// Nothing at hand and nothing to fetch from: the error says where was looked and what to do.
#[test]
fn a_dataset_that_is_not_there_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, out) = (write(folder.path(), "benchmark"), folder.path().join("run"));
    std::fs::remove_file(folder.path().join("gaps.txt")).unwrap();
    let message = stage(&manifest, &folder.path().join("cache"), &out)
        .unwrap_err()
        .to_string();
    for word in [
        "`mine` is not to be had",
        "no gaps.txt",
        "--data-dir or EAGER_DATA_DIR",
        "sequences.txt, items.jsonl, gaps.txt, users.tsv",
        "correct the names in the manifest",
    ] {
        assert!(message.contains(word), "{message}");
    }
    assert!(!message.contains("movielens"), "{message}");
    assert!(!out.exists());

    let missing = |manifest: &Manifest| {
        let found = acquire(manifest, &Places::default(), &mut |_| {});
        found.unwrap_err().to_string()
    };
    // As the command line has it with the manifest of the working directory.
    let mut here = Manifest::load(&manifest).unwrap();
    here.folder = Some(PathBuf::new());
    let (message, folder) = (missing(&here), std::env::current_dir().unwrap());
    let looked = format!("benchmark in {}: no sequences.txt", folder.display());
    assert!(message.contains(&looked), "{message}");
    let message = missing(&Manifest::find("yelp").unwrap());
    assert!(message.contains("or take `movielens-100k`"), "{message}");
}

/// A fetched file that is not the pinned one is deleted, and no other source is taken in its place.
#[cfg(feature = "download")]
#[test]
fn a_fetched_file_with_a_wrong_digest_is_not_kept() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/log.csv", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nu,i,t\n")
            .unwrap();
    });
    let manifest = folder.path().join("mine.toml");
    let text = format!(
        "name = \"mine\"\ntitle = \"Mine\"\n[[source]]\nformat = \"table\"\n\
         interactions = {{ name = \"log.csv\", url = \"{url}\", sha256 = \"{}\" }}\ncolumns = {{ user = \"u\", item = \"i\" }}\n\
         [[source]]\nformat = \"table\"\ninteractions = {{ name = \"other.csv\", url = \"{url}\" }}\ncolumns = {{ user = \"u\", item = \"i\" }}\n",
        "0".repeat(64)
    );
    std::fs::write(&manifest, text).unwrap();
    let (cache, out) = (folder.path().join("cache"), folder.path().join("run"));
    let message = stage(&manifest, &cache, &out).unwrap_err().to_string();
    assert!(
        message.contains("log.csv.part: sha256 is ") && message.contains("`mine` pins 000"),
        "{message}"
    );
    assert_eq!(
        std::fs::read_dir(cache.join("datasets/mine"))
            .unwrap()
            .count(),
        0
    );
    assert!(!out.exists());
}
