//! `eager push` and `eager pull` against a stand-in for the hub.
#![cfg(feature = "hub")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use eager_bundle::{Bundle, Evaluation};
use eager_fixtures::hub::{Faults, MockHub, READS, WRITES};
use tempfile::TempDir;

struct Place {
    folder: TempDir,
    hub: MockHub,
    token: &'static str,
}

impl Place {
    /// A folder with a bundle, and a hub.
    fn new() -> (Self, Bundle) {
        let folder = tempfile::tempdir().unwrap();
        let mut bundle = eager_fixtures::bundle(60, 7);
        bundle.save(&folder.path().join("shop")).unwrap();
        let place = Self {
            folder,
            hub: MockHub::start(),
            token: WRITES,
        };
        (place, bundle)
    }

    /// Exit code, standard output, standard error.
    fn eager(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eager"));
        let home = self.folder.path().join("home");
        let command = command
            .current_dir(self.folder.path())
            .args(args)
            .env("HF_HOME", home)
            .env("HF_ENDPOINT", &self.hub.endpoint)
            .env("HF_TOKEN", self.token);
        let command = command
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("HF_TOKEN_PATH");
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    fn good(&self, args: &[&str]) -> String {
        let (code, out, error) = self.eager(args);
        assert_eq!(code, Some(0), "{args:?}: {error}");
        out
    }

    fn refused(&self, exit: i32, args: &[&str]) -> String {
        let (code, out, error) = self.eager(args);
        assert_eq!((code, out.as_str()), (Some(exit), ""), "{args:?}: {error}");
        error
    }

    fn files(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.folder.path().join(folder)).unwrap();
        let file = |path: &Path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        };
        entries.map(|entry| file(&entry.unwrap().path())).collect()
    }
}

#[test]
fn what_is_pushed_is_pulled_with_the_same_bytes() {
    let (place, bundle) = Place::new();
    let out = place.good(&["push", "shop", "me/shop", "--private"]);
    let commits = place.hub.commits("me/shop");
    let head = &commits[1];
    assert_eq!(
        out.trim(),
        format!("{}/me/shop/tree/{}", place.hub.endpoint, head.oid)
    );
    let message = format!("random, revision 1, digest {}", bundle.digest());
    assert_eq!(
        (commits.len(), head.message.as_str()),
        (2, message.as_str())
    );
    assert!(place.hub.private("me/shop"));

    // The saved token of the Python client, too.
    std::fs::create_dir(place.folder.path().join("home")).unwrap();
    std::fs::write(place.folder.path().join("home/token"), format!("{READS}\n")).unwrap();
    let reader = Place { token: "", ..place };
    assert_eq!(reader.good(&["pull", "me/shop", "got"]).trim(), "got");
    assert_eq!(reader.files("got"), reader.files("shop"));
    assert!(!reader.folder.path().join("got.part").exists());
    let error = reader.refused(2, &["pull", "me/shop", "got"]);
    assert!(error.contains("got: is there already"), "{error}");

    // Again: nothing is sent. Then with fewer items, and the state before by its commit.
    let place = Place {
        token: WRITES,
        ..reader
    };
    let (_, again, error) = place.eager(&["push", "shop", "me/shop"]);
    assert_eq!(again, out);
    assert!(error.contains("has all of it already"), "{error}");
    place.good(&["catalog", "remove", "shop", "--item", "i5", "--out", "less"]);
    place.good(&["push", "less", "me/shop", "-m", "Without i5"]);
    let now = place.hub.commits("me/shop");
    assert_eq!((now.len(), now[2].message.as_str()), (3, "Without i5"));
    place.good(&["pull", "me/shop", "newest"]);
    assert_eq!(place.files("newest"), place.files("less"));
    place.good(&["pull", "me/shop", "before", "--revision", &head.oid]);
    assert_eq!(place.files("before"), place.files("shop"));
}

#[test]
fn an_interrupted_pull_goes_on_and_an_altered_file_is_not_taken() {
    let (place, _) = Place::new();
    place.good(&["push", "shop", "me/shop"]);
    place.hub.set(Faults {
        cut_after: Some(0),
        ..Faults::default()
    });
    // Not one byte comes.
    let error = place.refused(1, &["pull", "me/shop", "got"]);
    assert!(
        error.contains("error: ") && !place.folder.path().join("got").exists(),
        "{error}"
    );

    place.hub.set(Faults {
        cut_after: Some(3000),
        ..Faults::default()
    });
    let part = place.folder.path().join("got.part");
    std::fs::create_dir_all(&part).unwrap();
    let whole = place.files("shop");
    let model = &whole["model.safetensors"];
    std::fs::write(part.join("model.safetensors"), &model[..2000]).unwrap();
    std::fs::write(part.join("items.jsonl"), "of another bundle").unwrap();
    place.hub.requests();
    place.good(&["pull", "me/shop", "got"]);
    assert_eq!(place.files("got"), whole);
    let requests = place.hub.requests();
    assert!(
        requests.iter().any(|line| line.ends_with("bytes=2000-")),
        "{requests:?}"
    );

    place.hub.set(Faults::default());
    place
        .hub
        .put("me/shop", "items.jsonl", b"{\"id\": \"i0\"}\n");
    let error = place.refused(1, &["pull", "me/shop", "bad"]);
    assert!(error.contains("items.jsonl"), "{error}");
    assert!(!place.folder.path().join("bad").exists());
}

#[test]
fn a_card_says_what_the_bundle_is_until_somebody_writes_another() {
    let (place, bundle) = Place::new();
    place.good(&["push", "shop", "me/shop"]);
    let card = |place: &Place| {
        let head = place.hub.commits("me/shop").pop().unwrap();
        String::from_utf8(head.files["README.md"].clone()).unwrap()
    };
    let text = card(&place);
    let (header, body) = text
        .strip_prefix("---\n")
        .unwrap()
        .split_once("\n---\n")
        .unwrap();
    for line in [
        "library_name: eager-rec",
        "- name: \"random\"",
        "    - type: recall@10\n      name: recall@10\n      value: 0.125",
    ] {
        assert!(header.contains(line), "{header}");
    }
    for words in [
        "# random\n",
        "ranks the 60 items of the dataset `none`",
        "| recall@10 | 0.1250 |",
        "Their intervals are not recorded",
        "eager pull me/shop shop\neager recommend shop --history i0,i1 --explain",
        "bundle.recommend([[\"i0\", \"i1\"]], k=10)",
        bundle.digest(),
        &bundle.manifest().files["model.safetensors"].sha256,
    ] {
        assert!(body.contains(words), "{words}: {body}");
    }

    // With an evaluation: intervals and protocol.
    let path = place.folder.path().join("shop/bundle.json");
    let mut manifest = bundle.manifest().clone();
    manifest.evaluation = Some(Evaluation {
        users: 321,
        intervals: [("recall@10".to_owned(), [0.1, 0.15])].into(),
        interval_level: 0.95,
        protocol: [("split".to_owned(), "leave-one-out".into())]
            .into_iter()
            .collect(),
    });
    std::fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    place.good(&["push", "shop", "me/shop"]);
    let text = card(&place);
    assert!(
        text.contains("321 users; 95 % bootstrap intervals"),
        "{text}"
    );
    assert!(
        text.contains("| recall@10 | 0.1250 | 0.1000 – 0.1500 |"),
        "{text}"
    );
    assert!(text.contains("| split | leave-one-out |"), "{text}");

    place.hub.put("me/shop", "README.md", b"# Mine\n");
    let (_, _, error) = place.eager(&["push", "shop", "me/shop"]);
    assert!(
        error.contains("README.md of me/shop is not one of `eager push`, and stays"),
        "{error}"
    );
    assert_eq!(card(&place), "# Mine\n");
}

#[test]
fn what_cannot_be_done_is_said_with_the_way_on() {
    let (place, _) = Place::new();
    let error = place.refused(2, &["push", "shop", "shop"]);
    assert!(
        error.contains("no name of a repository") && error.contains("OWNER/NAME"),
        "{error}"
    );
    let error = place.refused(1, &["push", "elsewhere", "me/shop"]);
    assert!(
        error.contains("elsewhere: is no bundle") && error.contains("eager export"),
        "{error}"
    );
    let error = place.refused(1, &["pull", "me/shop", "got"]);
    assert!(
        error.contains("me/shop: the hub has no such repository"),
        "{error}"
    );

    // A bundle that is not whole is not pushed.
    let items = place.folder.path().join("shop/items.jsonl");
    let whole = std::fs::read(&items).unwrap();
    std::fs::write(&items, &whole[1..]).unwrap();
    let error = place.refused(1, &["push", "shop", "me/shop"]);
    assert!(error.contains("items.jsonl"), "{error}");
    std::fs::write(&items, &whole).unwrap();
    assert!(
        place
            .hub
            .requests()
            .iter()
            .all(|line| !line.starts_with("POST"))
    );

    place.good(&["push", "shop", "me/other"]);
    let place = Place { token: "", ..place };
    let error = place.refused(1, &["push", "shop", "me/shop"]);
    assert!(
        error.contains("no token") && error.contains("HF_TOKEN"),
        "{error}"
    );
    let place = Place {
        token: READS,
        ..place
    };
    let error = place.refused(1, &["push", "shop", "me/other"]);
    assert!(
        error.contains("me/other") && !error.contains("403") || error.contains("write, to push"),
        "{error}"
    );

    // A repository without a bundle.
    let owner = Place {
        token: WRITES,
        ..place
    };
    let client = eager_hub::Hub {
        endpoint: Some(owner.hub.endpoint.clone()),
        token: eager_hub::Token::new(WRITES),
        ..eager_hub::Hub::default()
    };
    let client = client.client().unwrap();
    client.create(&"me/empty".parse().unwrap(), false).unwrap();
    let error = owner.refused(1, &["pull", "me/empty", "got"]);
    assert!(
        error.contains("me/empty is no bundle: it has no bundle.json"),
        "{error}"
    );
    let error = owner.refused(1, &["pull", "me/other", "got", "--revision", "v9"]);
    assert!(error.contains("no branch, tag or commit \"v9\""), "{error}");

    // No hub at all, and none wanted.
    let output = |variable: &str, value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eager"));
        let command = command.current_dir(owner.folder.path());
        let output = command
            .args(["pull", "me/other", "got"])
            .env(variable, value)
            .output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}", port.local_addr().unwrap());
    drop(port);
    let error = output("HF_ENDPOINT", &nowhere);
    assert!(
        error.contains("cannot be reached") && error.contains("HF_ENDPOINT"),
        "{error}"
    );
    assert!(output("HF_HUB_OFFLINE", "1").contains("HF_HUB_OFFLINE is set"));
    assert!(!owner.folder.path().join("got").exists());
}
