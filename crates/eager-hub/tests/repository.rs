//! Repositories against a stand-in for the hub: pushed, pushed again, refused, broken off, downloaded.

use std::path::Path;

use eager_fixtures::hub::{Faults, MockHub, PIECE, READS, WRITES};
use eager_hub::{Client, Content, Expected, File, Hub, HubError, RepositoryName, Token};
use sha2::{Digest as _, Sha256};

fn client(hub: &MockHub, token: &str) -> Client {
    let hub = Hub {
        endpoint: Some(hub.endpoint.clone()),
        token: Token::new(token),
        ..Hub::default()
    };
    hub.client().unwrap()
}

fn name() -> RepositoryName {
    "me/shop".parse().unwrap()
}

/// Bytes that do not repeat.
fn bytes(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file(name: &str, content: Vec<u8>) -> File {
    File {
        name: name.to_owned(),
        content: Content::Bytes(content),
    }
}

/// One that stands in the commit, an empty one, one stored whole, and two stored in pieces, of one content.
fn files(folder: &Path) -> Vec<File> {
    let path = folder.join("large");
    std::fs::write(&path, bytes(3 * PIECE + 5, 1)).unwrap();
    vec![
        file("a.json", b"{}".to_vec()),
        file("empty.safetensors", vec![]),
        file("small.safetensors", bytes(100, 2)),
        File {
            name: "large.safetensors".to_owned(),
            content: Content::Path(path),
        },
        file("twin.safetensors", bytes(3 * PIECE + 5, 1)),
    ]
}

fn puts(hub: &MockHub) -> usize {
    let requests = hub.requests();
    requests
        .iter()
        .filter(|line| line.starts_with("PUT"))
        .count()
}

#[test]
fn a_push_is_one_commit_and_sends_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, name) = (MockHub::start(), name());
    let client = client(&hub, WRITES);
    assert!(client.create(&name, true).unwrap());
    assert!(!client.create(&name, false).unwrap());
    assert!(hub.private("me/shop"));

    let mut files = files(folder.path());
    let mut told = Vec::new();
    let mut progress = |at: eager_hub::Progress| told.push((at.file.to_owned(), at.done, at.total));
    let pushed = client.push(&name, "First", &files, &mut progress).unwrap();
    let commits = hub.commits("me/shop");
    assert_eq!(commits.len(), 2, "the hub's own, and this one");
    let head = &commits[1];
    assert_eq!(
        (&head.oid, head.message.as_str()),
        (&pushed.commit, "First")
    );
    assert_eq!(pushed.changed, 5);
    for file in &files {
        let here = match &file.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::Path(path) => std::fs::read(path).unwrap(),
        };
        assert!(head.files[&file.name] == here, "{}", file.name);
    }
    let stored: Vec<&str> = head.stored.keys().map(String::as_str).collect();
    let large = ["large.safetensors", "small.safetensors", "twin.safetensors"];
    assert_eq!(stored, large);
    assert_eq!(puts(&hub), 5, "one, and four pieces of what is there twice");
    let size = (3 * PIECE + 5) as u64;
    let of_large =
        |line: &&(String, u64, u64)| line.0.starts_with("large") || line.0.starts_with("twin");
    let end = told.iter().rfind(of_large).unwrap();
    assert_eq!((end.1, end.2), (size, size));

    // The same again: nothing is sent, and there is no new commit.
    let again = client.push(&name, "Again", &files, &mut |_| {}).unwrap();
    assert_eq!((again.changed, again.commit), (0, pushed.commit));
    assert_eq!((puts(&hub), hub.commits("me/shop").len()), (0, 2));

    files[0] = file("a.json", b"[]".to_vec());
    files[2] = file("small.safetensors", bytes(100, 3));
    let changed = client.push(&name, "Changed", &files, &mut |_| {}).unwrap();
    assert_eq!((changed.changed, puts(&hub)), (2, 1));
    let head = &hub.commits("me/shop")[2];
    assert_eq!(head.files["a.json"], b"[]");
    assert_eq!(head.files["small.safetensors"], bytes(100, 3));
    assert_eq!(head.files.len(), 6, "with .gitattributes, which stays");
}

#[test]
fn a_push_that_fails_leaves_the_branch_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, name) = (MockHub::start(), name());
    let client = client(&hub, WRITES);
    client.create(&name, false).unwrap();
    assert!(!hub.private("me/shop"));
    let files = files(folder.path());
    let push = || client.push(&name, "First", &files, &mut |_| {});
    let commits = || hub.commits("me/shop").len();

    // The small one and two pieces of the large one arrive.
    hub.set(Faults {
        stores: Some(3),
        ..Faults::default()
    });
    let error = push().unwrap_err();
    assert!(
        matches!(error, HubError::Status { status: 503, .. }),
        "{error}"
    );
    let words = error.to_string();
    assert!(
        words.contains("me/shop/large.safetensors") && words.contains("reduce your"),
        "{words}"
    );
    assert_eq!(commits(), 1);
    assert_eq!(puts(&hub), 6, "three taken, one tried three times");

    hub.set(Faults {
        loses: true,
        ..Faults::default()
    });
    let error = push().unwrap_err().to_string();
    assert!(
        error.contains("large.safetensors") && commits() == 1,
        "{error}"
    );
    assert_eq!(puts(&hub), 4, "the small one is stored already");

    hub.set(Faults {
        overtaken: true,
        ..Faults::default()
    });
    let error = push().unwrap_err();
    assert!(matches!(error, HubError::Changed { .. }), "{error}");
    assert_eq!(commits(), 2, "somebody else's alone");

    hub.set(Faults::default());
    hub.requests();
    assert_eq!(push().unwrap().changed, 5);
    assert_eq!((puts(&hub), commits()), (0, 3), "all was stored before");
}

#[test]
fn who_may_not_is_told_what_to_do() {
    let (hub, name) = (MockHub::start(), name());
    let said = |error: HubError| error.to_string();
    let push = |client: &Client| {
        let files = [file("a.json", b"{}".to_vec())];
        said(client.push(&name, "x", &files, &mut |_| {}).unwrap_err())
    };
    let (owner, reader) = (client(&hub, WRITES), client(&hub, READS));
    let (nobody, wrong) = (client(&hub, ""), client(&hub, "hf_old"));

    let words = said(nobody.create(&name, false).unwrap_err());
    assert!(
        words.contains("no token") && words.contains("HF_TOKEN"),
        "{words}"
    );
    let words = said(wrong.create(&name, false).unwrap_err());
    assert!(
        words.contains("does not accept the token") && words.contains("hf auth login"),
        "{words}"
    );
    let words = said(reader.create(&name, false).unwrap_err());
    assert!(
        words.contains("403") && words.contains("write, to push"),
        "{words}"
    );
    let other: RepositoryName = "others/shop".parse().unwrap();
    let words = said(owner.create(&other, false).unwrap_err());
    assert!(
        words.contains("others/shop") && words.contains("rights to create"),
        "{words}"
    );
    assert!(push(&owner).contains("no such repository"));
    assert!(hub.commits("me/shop").is_empty());

    owner.create(&name, true).unwrap();
    let words = push(&reader);
    assert!(
        words.contains("403") && words.contains("rights to write to me/shop"),
        "{words}"
    );
    let words = said(nobody.commit_of(&name, "main").unwrap_err());
    assert!(
        words.contains("private") && words.contains("a token into HF_TOKEN"),
        "{words}"
    );
    let words = said(owner.commit_of(&name, "v2").unwrap_err());
    assert!(words.contains("no branch, tag or commit \"v2\""), "{words}");
    let words = said(owner.read(&name, "main", "b").unwrap_err());
    assert!(words.contains("has no file b"), "{words}");
    assert_eq!(hub.commits("me/shop").len(), 1);
    // A page that is no hub.
    let page = Hub {
        endpoint: Some(format!("{}/elsewhere", hub.endpoint)),
        token: Token::new(WRITES),
        ..Hub::default()
    };
    let error = page.client().unwrap().commit_of(&name, "main").unwrap_err();
    assert!(matches!(error, HubError::NoRepository { .. }), "{error}");
    let offline = Hub {
        offline: true,
        ..page
    };
    assert!(
        offline
            .client()
            .unwrap_err()
            .to_string()
            .contains("unset it")
    );
}

#[test]
fn names_stay_within_their_segment_of_an_address() {
    let (hub, name) = (MockHub::start(), name());
    let client = client(&hub, WRITES);
    client.create(&name, false).unwrap();
    hub.requests();
    // Cut at `?` or `#`, these would be the branch main.
    for (revision, segment) in [
        ("main?x", "main%3Fx"),
        ("main#x", "main%23x"),
        ("refs/pr/1", "refs%2Fpr%2F1"),
        ("a b%2F\\é\n-._~", "a%20b%252F%5C%C3%A9%0A-._~"),
    ] {
        let error = client.commit_of(&name, revision).unwrap_err();
        assert!(matches!(error, HubError::NoRevision { .. }), "{error}");
        let path = format!("GET /api/models/me/shop/revision/{segment}");
        assert_eq!(hub.requests(), [path]);
    }
    let error = client.read(&name, "main#x", "a/b c?.json").unwrap_err();
    assert!(error.to_string().contains("main#x"), "{error}");
    assert_eq!(
        hub.requests(),
        ["GET /me/shop/resolve/main%23x/a/b%20c%3F.json"]
    );
    for revision in ["", ".", ".."] {
        let words = client.commit_of(&name, revision).unwrap_err().to_string();
        let expected = format!("{revision:?} is no revision; expected a branch");
        assert!(words.starts_with(&expected), "{words}");
    }
    assert!(hub.requests().is_empty());
}

#[test]
fn a_request_that_is_none_is_not_tried_again() {
    let hub = Hub {
        endpoint: Some("no address".to_owned()),
        ..Hub::default()
    };
    let start = std::time::Instant::now();
    let error = hub
        .client()
        .unwrap()
        .commit_of(&name(), "main")
        .unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("no address") && words.contains("HF_ENDPOINT"),
        "{words}"
    );
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
}

#[test]
fn a_download_is_whole_or_not_there_and_taken_up_where_it_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, name) = (MockHub::start(), name());
    let client = client(&hub, WRITES);
    client.create(&name, true).unwrap();
    let content = bytes(3 * PIECE + 5, 1);
    client
        .push(&name, "First", &files(folder.path()), &mut |_| {})
        .unwrap();
    let commit = client.commit_of(&name, "main").unwrap();
    let (path, digest) = (folder.path().join("got"), sha256(&content));
    let wanted = Expected {
        bytes: content.len() as u64,
        sha256: &digest,
    };
    let download = |wanted: Expected| {
        let file = ("large.safetensors", wanted);
        client.download(&name, &commit, file, &path, &mut |_| {})
    };
    let ranges = || -> Vec<String> {
        let requests = hub.requests();
        let from_storage = requests.iter().filter(|line| line.starts_with("GET /cdn"));
        from_storage
            .filter_map(|line| Some(line.split_once("bytes=")?.1.to_owned()))
            .collect()
    };

    // Broken off after every 5,000 bytes: four times taken up, in one call.
    hub.set(Faults {
        cut_after: Some(5000),
        ..Faults::default()
    });
    ranges();
    download(wanted).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content);
    assert_eq!(ranges(), ["0-", "5000-", "10000-"]);

    // Nothing comes any more: what is there stays.
    std::fs::write(&path, &content[..7000]).unwrap();
    hub.set(Faults {
        cut_after: Some(0),
        ..Faults::default()
    });
    let words = download(wanted).unwrap_err().to_string();
    assert!(
        words.contains("at 7000 of 12293 bytes") && words.contains("to go on"),
        "{words}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), content[..7000]);
    hub.set(Faults::default());
    ranges();
    download(wanted).unwrap();
    assert_eq!(
        (std::fs::read(&path).unwrap(), ranges()),
        (content.clone(), vec!["7000-".to_owned()])
    );
    // All there: nothing is asked.
    download(wanted).unwrap();
    assert!(hub.requests().is_empty());

    // What lies there is of another file: shorter, as long, longer.
    for length in [7000, content.len(), content.len() + 9] {
        std::fs::write(&path, bytes(length, 9)).unwrap();
        download(wanted).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
    // The hub's file is not what it must be: another content, longer, shorter.
    let other = sha256(b"other");
    for (bytes, fault) in [
        (12293, "sha256 is"),
        (12000, "has 12001 bytes"),
        (13000, "has 12293 bytes"),
    ] {
        std::fs::remove_file(&path).ok();
        let wanted = Expected {
            bytes,
            sha256: &other,
        };
        let words = download(wanted).unwrap_err().to_string();
        assert!(words.contains(fault), "{words}");
        assert!(!path.exists());
    }
}
