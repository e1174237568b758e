//! A bundle of a random model: written, read, tampered with; filters, lists and explanations against plain ones.

use std::path::Path;

use candle_core::Device;
use eager_bundle::{Bundle, BundleError, Filter, ListKind, Query};
use eager_model::{PerStream, Stream};
use serde_json::Value;

const ITEMS: usize = 90;

fn bundle() -> Bundle {
    eager_fixtures::bundle(ITEMS, 7)
}

fn query(history: &[u32], k: usize) -> Query {
    Query {
        history: history.to_vec(),
        k,
        ..Query::default()
    }
}

#[test]
fn it_comes_back_as_it_was_and_every_altered_file_is_named() {
    let root = tempfile::tempdir().unwrap();
    let (folder, again) = (root.path().join("a"), root.path().join("b"));
    let mut bundle = bundle();
    bundle.save(&folder).unwrap();
    assert!(matches!(
        bundle.save(&folder),
        Err(BundleError::Exists { .. })
    ));
    // A slash at the end is no part of the name.
    bundle.save(&root.path().join("slash/")).unwrap();
    assert!(Bundle::load(&root.path().join("slash"), &Device::Cpu).is_ok());
    let mut back = Bundle::load(&folder, &Device::Cpu).unwrap();
    assert_eq!(back.manifest(), bundle.manifest());
    assert_eq!(back.digest(), bundle.digest());
    assert_eq!(back.items(), bundle.items());
    let queries = [query(&[3, 5], 7), query(&[80], 4)];
    assert_eq!(
        back.recommend(&queries).unwrap(),
        bundle.recommend(&queries).unwrap()
    );
    back.save(&again).unwrap();
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&folder), names(&again));
    assert_eq!(names(&folder).len(), 8, "seven files and the manifest");
    for name in names(&folder) {
        let path = folder.join(&name);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes, std::fs::read(again.join(&name)).unwrap());
        let refused = |found: &[u8]| {
            std::fs::write(&path, found).unwrap();
            let error = Bundle::load(&folder, &Device::Cpu).unwrap_err().to_string();
            assert!(error.contains(name.to_str().unwrap()), "{error}");
        };
        refused(&bytes[..bytes.len() - 2]);
        refused(&[]);
        if name != "bundle.json" {
            let mut altered = bytes.clone();
            altered[bytes.len() / 2] ^= 1;
            refused(&altered);
        }
        std::fs::remove_file(&path).unwrap();
        let error = Bundle::load(&folder, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(name.to_str().unwrap()), "{error}");
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(Bundle::load(&folder, &Device::Cpu).is_ok());
}

/// Everything in a folder, by name.
fn listed(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[cfg(unix)]
#[test]
fn what_a_killed_save_left_is_removed_by_the_next_of_its_name() {
    let root = tempfile::tempdir().unwrap();
    let place = |name: &str| root.path().join(name);
    // Of a process that is gone, and of one that is writing; a download's of another name; of other bundles.
    let stay = [
        ".shop.2.1-2.new",
        ".shop.3-4.new",
        ".shopping.1-2.new",
        "shop.2024-12.part",
    ];
    for name in [".shop.1-2.new"].iter().chain(&stay) {
        std::fs::create_dir(place(name)).unwrap();
        std::fs::write(place(name).join("model.json"), "{").unwrap();
    }
    let writing = std::fs::File::open(place(".shop.3-4.new")).unwrap();
    writing.try_lock().unwrap();
    let mut bundle = bundle();
    bundle.save(&place("shop")).unwrap();
    let mut there = [&stay[..], &["shop"]].concat();
    there.sort_unstable();
    assert_eq!(listed(root.path()), there);
    assert_eq!(listed(&place(".shop.3-4.new")), ["model.json"]);
    assert_eq!(listed(&place("shop")).len(), 8);
    // It is written no more.
    drop(writing);
    std::fs::rename(place("shop"), place("other")).unwrap();
    bundle.save(&place("shop")).unwrap();
    let left = [
        ".shop.2.1-2.new",
        ".shopping.1-2.new",
        "other",
        "shop",
        "shop.2024-12.part",
    ];
    assert_eq!(listed(root.path()), left);
}

#[test]
fn two_saves_at_once_do_not_write_into_each_other() {
    let root = tempfile::tempdir().unwrap();
    // A folder above is made.
    let folder = root.path().join("new/shop");
    let start = std::sync::Barrier::new(4);
    let save = |seed: u64| {
        let mut bundle = eager_fixtures::bundle(ITEMS, seed);
        start.wait();
        bundle.save(&folder).map(|()| bundle.digest().to_owned())
    };
    let ends: Vec<_> = std::thread::scope(|scope| {
        let save = &save;
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || save(seed))).collect();
        let ends = threads.into_iter().map(|thread| thread.join().unwrap());
        ends.collect()
    });
    let (first, others): (Vec<_>, Vec<_>) = ends.into_iter().partition(Result::is_ok);
    assert_eq!(first.len(), 1);
    for other in others {
        assert!(
            matches!(other, Err(BundleError::Exists { .. })),
            "{other:?}"
        );
    }
    let bundle = Bundle::load(&folder, &Device::Cpu).unwrap();
    assert_eq!(Some(bundle.digest()), first[0].as_deref().ok());
    assert_eq!(listed(&root.path().join("new")), ["shop"]);
}

#[test]
fn older_forms_are_read_and_a_newer_one_is_refused_before_its_fields() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("a");
    let mut bundle = bundle();
    bundle.save(&folder).unwrap();
    let path = folder.join("bundle.json");
    let written: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(written["format"], 2);
    let load = |manifest: &Value| {
        std::fs::write(&path, manifest.to_string()).unwrap();
        Bundle::load(&folder, &Device::Cpu)
    };
    let said = |manifest: &Value| load(manifest).unwrap_err().to_string();

    // As the first form was: without weights and without an evaluation.
    let mut older = written.clone();
    older["format"] = 1.into();
    older["infer"].as_object_mut().unwrap().remove("weights");
    let query = [query(&[3, 5], 7)];
    let back = load(&older).unwrap();
    assert_eq!(
        back.recommend(&query).unwrap(),
        bundle.recommend(&query).unwrap()
    );
    assert_eq!(back.manifest().evaluation, None);

    let mut newer = written.clone();
    newer["format"] = 3.into();
    newer["infer"]["a field of its"] = 1.into();
    let words = "a bundle of form 3, this program reads forms up to 2; use the version of eager that wrote it";
    assert!(said(&newer).contains(words), "{}", said(&newer));
    newer["format"] = 2.into();
    assert!(said(&newer).contains("unknown field `a field of its`"));

    let mut outside = written;
    outside["files"]["../model.json"] = outside["files"]["model.json"].clone();
    assert!(said(&outside).contains("\"../model.json\", expected a name without a folder"));
}

/// Every item that may be in the list, by the scores of the whole catalogue.
fn plain(bundle: &Bundle, query: &Query, allowed: impl Fn(u32) -> bool) -> Vec<u32> {
    let memory = bundle.recommender().encode(&[&query.history]).unwrap();
    let scores = PerStream::from_fn(|stream| {
        let search = bundle.recommender().search(stream);
        search.exact(&memory).unwrap().remove(0)
    });
    let score = |item: u32| {
        let of = |stream: Stream| scores[stream][item as usize];
        match query.list {
            ListKind::Merged => of(Stream::Behaviour).max(of(Stream::Semantic)),
            ListKind::Behaviour => of(Stream::Behaviour),
            ListKind::Semantic => of(Stream::Semantic),
        }
    };
    let mut items: Vec<u32> = (0..ITEMS as u32).filter(|&item| allowed(item)).collect();
    items.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
    items.truncate(query.k);
    items
}

#[test]
fn filters_let_through_what_they_say_and_lists_are_as_long_as_they_can_be() {
    let bundle = bundle();
    let kinds = [ListKind::Merged, ListKind::Behaviour, ListKind::Semantic];
    let allow: Vec<u32> = (0..ITEMS as u32).step_by(4).collect();
    let history = [3, 12, 30];
    for list in kinds {
        let filter = Filter {
            exclude_seen: true,
            allow: Some(allow.clone()),
            deny: vec![8, 16],
            categories: vec!["c0".to_owned(), "c3".to_owned(), "c4".to_owned()],
        };
        let narrow = Query {
            list,
            filter,
            ..query(&history, 6)
        };
        let lets = |item: u32| {
            allow.contains(&item)
                && ![8, 16, 3, 12, 30].contains(&item)
                && [0, 3, 4].contains(&(item % 9))
        };
        let expected = plain(&bundle, &narrow, lets);
        // Alone and among others.
        let others = [query(&[1], 30), narrow.clone(), query(&[2], 5)];
        for (queries, at) in [(&others[1..2], 0), (&others[..], 1)] {
            let lists = bundle.recommend(queries).unwrap();
            let found: Vec<u32> = lists[at].iter().map(|r| r.item).collect();
            assert_eq!(found, expected, "{list:?}");
            assert_eq!(found.len(), 6);
        }
        // More than the beams find: the whole catalogue but for the history.
        let all = Query {
            list,
            filter: Filter {
                exclude_seen: true,
                ..Filter::default()
            },
            ..query(&history, 500)
        };
        let found = &bundle.recommend(std::slice::from_ref(&all)).unwrap()[0];
        let found: Vec<u32> = found.iter().map(|r| r.item).collect();
        assert_eq!(found, plain(&bundle, &all, |item| !history.contains(&item)));
        assert_eq!(found.len(), ITEMS - 3);
    }
    let deny = Query {
        filter: Filter {
            deny: (0..ITEMS as u32 - 1).collect(),
            ..Filter::default()
        },
        ..query(&[0], 5)
    };
    // Alone, and beside one that is scored exactly from the start.
    let allow = Query {
        filter: Filter {
            allow: Some(vec![1]),
            ..Filter::default()
        },
        ..query(&[0], 5)
    };
    for queries in [&[deny.clone()][..], &[deny.clone(), allow]] {
        let found = &bundle.recommend(queries).unwrap()[0];
        let found: Vec<u32> = found.iter().map(|r| r.item).collect();
        assert_eq!(found, [ITEMS as u32 - 1]);
    }
}

#[test]
fn what_cannot_be_answered_is_said() {
    let bundle = bundle();
    let said = |query: Query| bundle.recommend(&[query]).unwrap_err().to_string();
    assert!(said(query(&[], 3)).contains("empty"));
    assert!(said(query(&[0], 0)).contains("k is 0"));
    assert!(said(query(&[90], 3)).contains("no item 90, only 0 to 89"));
    let mut other = query(&[0], 3);
    other.filter.categories = vec!["c9".to_owned()];
    assert!(said(other).contains("\"c9\""));
    assert!(
        bundle
            .number("x")
            .unwrap_err()
            .to_string()
            .contains("\"x\"")
    );
    assert_eq!(bundle.numbers(&["i4", "i2"]).unwrap(), [4, 2]);
    assert!(bundle.explain(&[], 3, 1).is_err());
    assert!(bundle.explain(&[0], 90, 1).is_err());
    assert!(bundle.similar(90, Stream::Semantic, 1).is_err());
}

#[test]
fn an_explanation_adds_up_to_the_score_and_shows_what_shares_the_prefix() {
    let bundle = bundle();
    let history = [4, 9, 11];
    let memory = bundle.recommender().encode(&[&history]).unwrap();
    assert_eq!(bundle.explain_each(&history, &[], 3).unwrap(), []);
    let each = bundle.explain_each(&history, &[0, 17, 89], 3).unwrap();
    for (item, together) in [0, 17, 89].into_iter().zip(each) {
        let explanation = bundle.explain(&history, item, 3).unwrap();
        assert_eq!(together, explanation, "alone or among others");
        for stream in Stream::ALL {
            let search = bundle.recommender().search(stream);
            let score = search.score_items(&memory, &[vec![item]]).unwrap()[0][0];
            let path = &explanation.streams[stream];
            let sum: f32 = path.tokens.iter().map(|token| token.log_prob).sum();
            assert!((path.log_prob - score).abs() < 1e-5 && (sum - score).abs() < 1e-5);
            let trie = bundle.recommender().trie(stream);
            let nodes: Vec<u32> = path.tokens.iter().map(|token| token.node).collect();
            assert_eq!(nodes, trie.path(item));
            let last = &path.tokens[path.tokens.len() - 1];
            assert_eq!((last.leaves, &last.samples[..]), (1, &[item][..]));
            for token in &path.tokens {
                let below: Vec<u32> = bundle.items_below(stream, token.node).collect();
                assert!(below.contains(&item));
                assert_eq!(below.len(), token.leaves);
                assert_eq!(token.samples, below[..below.len().min(3)]);
                let siblings = trie.children(trie.parent(token.node));
                assert_eq!(siblings.start + token.ordinal, token.node);
                assert!(token.siblings > 1 || token.log_prob == 0.0);
            }
        }
    }
}

#[test]
fn similar_items_are_those_of_the_greatest_cosine() {
    let bundle = bundle();
    for view in Stream::ALL {
        let vectors = bundle.vectors(view);
        let cosine = |a: u32, b: u32| {
            let dot = |a: u32, b: u32| -> f64 {
                let pairs = vectors.row(a).iter().zip(vectors.row(b));
                pairs.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
            };
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let mut expected: Vec<u32> = (0..ITEMS as u32).filter(|&item| item != 5).collect();
        expected.sort_by(|&a, &b| cosine(5, b).total_cmp(&cosine(5, a)));
        let found = bundle.similar(5, view, 8).unwrap();
        assert_eq!(
            found.iter().map(|s| s.item).collect::<Vec<_>>(),
            expected[..8]
        );
        assert!((f64::from(found[0].cosine) - cosine(5, expected[0])).abs() < 1e-6);
        assert_eq!(bundle.similar(5, view, 1000).unwrap().len(), ITEMS - 1);
    }
}
