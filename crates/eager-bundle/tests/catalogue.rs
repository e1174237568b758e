//! Items come and go: what stays as it was, where new rows start, what is refused.

use std::path::Path;

use candle_core::Device;
use eager_bundle::{AddConfig, Bundle, BundleError, Item, NewItems, Query};
use eager_codes::{CodeTrie, CodesConfig, ItemVectors, Vectors, node_means};
use eager_model::{EagerConfig, ItemTable, PerStream, Stream};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Items of the bundle, and of those that come.
const ITEMS: usize = 90;
const NEW: usize = 11;

fn bundle() -> Bundle {
    eager_fixtures::bundle(ITEMS, 7)
}

fn new_items(bundle: &Bundle, behaviour: bool) -> NewItems {
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    let mut vectors = |stream| {
        let dim = bundle.vectors(stream).dim;
        let data = (0..NEW * dim).map(|_| rng.random_range(-1.0..1.0));
        ItemVectors {
            dim,
            data: data.collect(),
        }
    };
    let semantic = vectors(Stream::Semantic);
    let item = |number| Item {
        categories: vec!["new".to_owned()],
        ..Item::new(format!("new{number}"))
    };
    NewItems {
        items: (0..NEW).map(item).collect(),
        semantic,
        behaviour: behaviour.then(|| vectors(Stream::Behaviour)),
    }
}

/// The paper's form, and the authors': a full tree with duplicates, a table of items for each stream.
fn forms() -> [(Bundle, AddConfig); 2] {
    let codes = CodesConfig {
        branching: 5,
        ..CodesConfig::official()
    };
    let model = EagerConfig {
        d_model: 16,
        heads: 2,
        feed_forward: 32,
        init: 0.3,
        ..EagerConfig::official()
    };
    let more = AddConfig {
        branching: Some(7),
        ..AddConfig::default()
    };
    let official = eager_fixtures::bundle_of(ITEMS, 7, &codes, &model);
    assert_eq!(
        official.recommender().model().config().items,
        ItemTable::PerStream
    );
    [(bundle(), AddConfig::default()), (official, more)]
}

/// Log-probability of each node after its parent, from those of all leaves: `[nodes]`.
fn conditional(bundle: &Bundle, stream: Stream, history: &[u32]) -> Vec<f64> {
    let memory = bundle.recommender().encode(&[history]).unwrap();
    let leaves = bundle.recommender().search(stream).leaves(&memory).unwrap();
    let trie = bundle.recommender().trie(stream);
    let first = trie.level(trie.levels()).start;
    let mass = |node: u32| -> f64 {
        let below = trie.leaves_below(node);
        below
            .map(|leaf| f64::from(leaves[0][(leaf - first) as usize]).exp())
            .sum()
    };
    let nodes = 0..trie.n_nodes() as u32;
    nodes
        .map(|node| mass(node).ln() - mass(trie.parent(node)).ln())
        .collect()
}

/// The node with the path that `node` has in another trie.
fn same_path(from: &CodeTrie, node: u32, to: &CodeTrie) -> u32 {
    if node == 0 {
        return 0;
    }
    let parent = from.parent(node);
    to.children(same_path(from, parent, to)).start + node - from.children(parent).start
}

#[test]
fn new_items_change_scores_by_the_larger_softmax_alone() {
    for (old, config) in forms() {
        let new = old.with_items(&new_items(&old, true), &config).unwrap();
        assert_eq!(new.items().len(), ITEMS + NEW);
        assert_eq!(new.categories()["new"].len(), NEW);
        let history = [3, 12, 30];
        for stream in Stream::ALL {
            let (before, after) = (
                old.recommender().trie(stream),
                new.recommender().trie(stream),
            );
            let scores = PerStream {
                behaviour: conditional(&old, stream, &history),
                semantic: conditional(&new, stream, &history),
            };
            let (was, is) = (scores.behaviour, scores.semantic);
            let mut grown = 0;
            for parent in before.level(0).start..before.level(before.levels()).start {
                let there = same_path(before, parent, after);
                let (few, more) = (before.children(parent), after.children(there));
                let added: f64 = more
                    .clone()
                    .skip(few.len())
                    .map(|node| is[node as usize].exp())
                    .sum();
                grown += usize::from(more.len() > few.len());
                for (node, now) in few.zip(more) {
                    let expected = was[node as usize] + (1.0 - added).ln();
                    let found = is[now as usize];
                    assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
                }
            }
            assert!(grown > 1, "several nodes have new children");
            // Every leaf decodes to what it did, and every new item has one.
            for item in 0..ITEMS as u32 {
                let moved = before
                    .leaves(item)
                    .iter()
                    .map(|&leaf| same_path(before, leaf, after));
                assert!(moved.eq(after.leaves(item).iter().copied()));
            }
            for item in ITEMS as u32..(ITEMS + NEW) as u32 {
                assert_eq!(after.leaves(item).len(), 1);
                assert_eq!(after.item(after.leaves(item)[0]), Some(item));
            }
        }
        // They are recommended, and can be in a history.
        let query = Query {
            history: vec![ITEMS as u32 + 2, 5],
            k: ITEMS + NEW,
            ..Query::default()
        };
        assert_eq!(new.recommend(&[query]).unwrap()[0].len(), ITEMS + NEW);
    }
}

/// All files but the manifest.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .filter(|(name, _)| name != "bundle.json")
        .collect();
    files.sort();
    files
}

#[test]
fn what_was_added_and_removed_leaves_no_trace() {
    for (mut old, config) in forms() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| root.path().join(name);
        old.save(&folder("old")).unwrap();
        let mut new = old.with_items(&new_items(&old, false), &config).unwrap();
        assert_eq!(new.manifest().revision, 2);
        assert_eq!(new.manifest().parent.as_deref(), Some(old.digest()));
        new.save(&folder("new")).unwrap();
        assert_eq!(files(&folder("new")).len(), 7);
        let new = Bundle::load(&folder("new"), &Device::Cpu).unwrap();
        let gone: Vec<u32> = (0..NEW)
            .map(|i| new.number(&format!("new{i}")).unwrap())
            .collect();
        let mut back = new.without_items(&gone).unwrap();
        assert_eq!(back.manifest().revision, 3);
        assert_eq!(back.manifest().parent.as_deref(), Some(new.digest()));
        back.save(&folder("back")).unwrap();
        assert!(
            files(&folder("back")) == files(&folder("old")),
            "the bytes are equal"
        );
        assert!(files(&folder("new")) != files(&folder("old")));
        // Items of the middle: the rest says of each other what it did.
        let gone: Vec<u32> = (0..ITEMS as u32).filter(|item| item % 4 == 1).collect();
        let rest = old.without_items(&gone).unwrap();
        assert_eq!(rest.items().len(), ITEMS - gone.len());
        let history: Vec<u32> = vec![0, 40, 88];
        let ids = history
            .iter()
            .map(|&item| old.items()[item as usize].id.as_str());
        let numbers = rest.numbers(&ids.collect::<Vec<_>>()).unwrap();
        for stream in Stream::ALL {
            let (was, is) = (
                conditional(&old, stream, &history),
                conditional(&rest, stream, &numbers),
            );
            let (before, after) = (
                old.recommender().trie(stream),
                rest.recommender().trie(stream),
            );
            for (number, item) in (0..).zip(rest.items()) {
                let path = before.path(old.number(&item.id).unwrap());
                for (&node, &now) in path.iter().zip(after.path(number)) {
                    // Of what the siblings had together, its share is the same.
                    let left = after.children(after.parent(now));
                    let shares = before.children(before.parent(node));
                    let kept = |sibling: &u32| {
                        let below = before.leaves_below(*sibling);
                        below
                            .filter_map(|leaf| before.item(leaf))
                            .any(|item| item % 4 != 1)
                    };
                    let kept: Vec<u32> = shares.filter(kept).collect();
                    assert_eq!(kept.len(), left.len());
                    let mass: f64 = kept
                        .iter()
                        .map(|&sibling| was[sibling as usize].exp())
                        .sum();
                    let expected = was[node as usize] - mass.ln();
                    assert!((is[now as usize] - expected).abs() < 1e-5);
                }
            }
        }
    }
}

/// A mean of rows weighted by their inverse distances, plainly; of one row that row, how far it may be.
fn mean(near: &[(f64, Vec<f32>)]) -> Vec<f64> {
    if let [(_, row)] = near {
        return row.iter().map(|&x| f64::from(x)).collect();
    }
    let total: f64 = near.iter().map(|(distance, _)| 1.0 / distance).sum();
    let column = |at: usize| -> f64 {
        let parts = near
            .iter()
            .map(|(distance, row)| f64::from(row[at]) / distance);
        parts.sum::<f64>() / total
    };
    (0..near[0].1.len()).map(column).collect()
}

fn close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (&found, &expected) in found.iter().zip(expected) {
        assert!(
            (f64::from(found) - expected).abs() < 1e-5,
            "{found}, {expected}"
        );
    }
}

#[test]
fn rows_start_as_the_mean_of_the_nearest() {
    for ((old, config), neighbours) in forms()
        .into_iter()
        .zip([1, 3])
        .chain(forms().into_iter().zip([4, 1]))
    {
        let config = AddConfig {
            neighbours,
            ..config
        };
        let added = new_items(&old, false);
        let new = old.with_items(&added, &config).unwrap();
        let (was, is) = (
            old.recommender().model().tables().unwrap(),
            new.recommender().model().tables().unwrap(),
        );
        let d = old.recommender().model().config().d_model;
        let row = |table: &[f32], at: usize, width: usize| table[at * width..][..width].to_vec();
        for number in 0..NEW {
            let vector = added.semantic.row(number as u32);
            let known = old.vectors(Stream::Semantic);
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter()
                    .zip(b)
                    .map(|(&x, &y)| f64::from(x) * f64::from(y))
                    .sum()
            };
            let mut near: Vec<(f64, usize)> = (0..ITEMS)
                .map(|item| {
                    let other = known.row(item as u32);
                    let lengths = (dot(vector, vector) * dot(other, other)).sqrt();
                    (1.0 - dot(vector, other) / lengths, item)
                })
                .collect();
            near.sort_by(|a, b| a.0.total_cmp(&b.0));
            near.truncate(neighbours);
            let of = |table: &[f32], width: usize| {
                let rows = near
                    .iter()
                    .map(|&(distance, item)| (distance, row(table, item, width)));
                mean(&rows.collect::<Vec<_>>())
            };
            let behaviour = old.vectors(Stream::Behaviour);
            close(
                new.vectors(Stream::Behaviour).row((ITEMS + number) as u32),
                &of(&behaviour.data, behaviour.dim),
            );
            assert_eq!(is.items.len(), was.items.len());
            for (was, is) in was.items.iter().zip(&is.items) {
                assert_eq!(is[..was.len()], was[..]);
                close(&row(is, ITEMS + number, d), &of(was, d));
            }
        }
        for stream in Stream::ALL {
            let (before, after) = (
                old.recommender().trie(stream),
                new.recommender().trie(stream),
            );
            let known = old.vectors(stream);
            let means = node_means(before, Vectors::new(&known.data, known.dim).unwrap()).unwrap();
            let mut seen = 0;
            for item in ITEMS as u32..(ITEMS + NEW) as u32 {
                let path = new.recommender().codes(stream).code(item);
                // How much of the path was there: as far as the ordinals lead in the old trie.
                let (mut node, mut there) = (0, 0);
                while path[there] < before.children(node).len() as u32 {
                    node = before.children(node).start + path[there];
                    there += 1;
                }
                for depth in there + 1..=path.len() {
                    let mut candidates = vec![node];
                    for _ in there..depth {
                        candidates = candidates
                            .into_iter()
                            .flat_map(|node| before.children(node))
                            .collect();
                    }
                    let vector = new.vectors(stream).row(item);
                    let mut near: Vec<(f64, Vec<f32>)> = candidates
                        .into_iter()
                        .map(|node| {
                            let mean = &means[node as usize * known.dim..][..known.dim];
                            let squares = mean
                                .iter()
                                .zip(vector)
                                .map(|(&a, &b)| f64::from(a - b).powi(2));
                            (
                                squares.sum::<f64>(),
                                row(&was.tokens[stream], node as usize, d),
                            )
                        })
                        .collect();
                    near.sort_by(|a, b| a.0.total_cmp(&b.0));
                    near.truncate(neighbours);
                    let token = after.path(item)[depth - 1] as usize;
                    close(&row(&is.tokens[stream], token, d), &mean(&near));
                    seen += 1;
                }
            }
            assert!(seen >= NEW);
        }
    }
}

#[test]
fn what_cannot_be_done_is_said_with_its_line() {
    let old = bundle();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    let said = |text: &str, ids: bool| {
        std::fs::write(&path, text).unwrap();
        let error = match ids {
            false => old.read_new_items(&path).map(drop).unwrap_err(),
            true => old.read_ids(&path).map(drop).unwrap_err(),
        };
        assert!(matches!(error, BundleError::Line { .. }), "{error}");
        error.to_string()
    };
    let line = |id: &str| format!("{{\"id\": \"{id}\"}}\n");
    assert!(said("", false).contains("empty"));
    let error = said(&format!("{}\n{}", line("a"), line("i7")), false);
    assert!(
        error.contains(":3: item \"i7\" is in the catalogue already"),
        "{error}"
    );
    let error = said(&format!("{}{}{}", line("a"), line("b"), line("a")), false);
    assert!(
        error.contains(":3: item \"a\" is on line 1 already"),
        "{error}"
    );
    let error = said(&format!("{}{{\"name\": 3}}", line("a")), false);
    assert!(
        error.contains(":2: ") && error.contains("expected an item"),
        "{error}"
    );
    assert!(
        error.contains(":2: column ") && !error.contains("at line 1"),
        "{error}"
    );
    // Read by their places, they would be items.
    for other in ["[\"b\"]", "  [\"b\", \"B\"]", "\"b\"", "null"] {
        let error = said(&format!("{}{other}\n", line("a")), false);
        assert!(
            error.contains(":2: is no JSON object; expected an item"),
            "{error}"
        );
    }
    for blank in ["", " ", "\\t", "\u{a0}"] {
        let error = said(&format!("{}{}", line("a"), line(blank)), false);
        assert!(error.contains(":2: field `id` is blank"), "{error}");
    }
    for blanks in [" b", "b ", "b\\n", "a "] {
        let error = said(&format!("{}{}", line("a"), line(blanks)), false);
        assert!(
            error.contains(":2: field `id` is \"") && error.contains("without blanks around it"),
            "{error}"
        );
    }
    let error = said("i3\nx\n", true);
    assert!(
        error.contains(":2: item \"x\" is not in the catalogue"),
        "{error}"
    );
    assert!(said("i3\ni4\n\ni3\n", true).contains(":4: item \"i3\" is on line 1 already"));
    std::fs::write(&path, b"i3\n\xff\n").unwrap();
    let error = old.read_ids(&path).unwrap_err().to_string();
    assert!(error.contains(":2: is not UTF-8"), "{error}");
    std::fs::write(&path, "i3\n\ni5\n").unwrap();
    assert_eq!(old.read_ids(&path).unwrap(), [3, 5]);
    std::fs::write(&path, line("a")).unwrap();
    assert_eq!(old.read_new_items(&path).unwrap(), [Item::new("a")]);

    let refused = |change: &dyn Fn(&mut NewItems, &mut AddConfig)| {
        let (mut new, mut config) = (new_items(&old, true), AddConfig::default());
        change(&mut new, &mut config);
        old.with_items(&new, &config).unwrap_err().to_string()
    };
    assert!(refused(&|new, _| new.items.clear()).contains("no item to add"));
    assert!(refused(&|new, _| new.items[4].id = "i8".to_owned()).contains("\"i8\""));
    assert!(refused(&|new, _| new.items[4].id = "new5".to_owned()).contains("\"new5\""));
    assert!(
        refused(&|new, _| new.semantic.data.truncate(10))
            .contains("semantic vectors are 1 of width 10, expected 11")
    );
    assert!(refused(&|new, _| new.behaviour.as_mut().unwrap().data[0] = f32::NAN).contains("NaN"));
    assert!(refused(&|_, config| config.neighbours = 0).contains("`neighbours`"));
    let error = refused(&|_, config| config.branching = Some(1));
    assert!(
        error.contains("\"new0\"") && error.contains("--branching"),
        "{error}"
    );
    assert!(
        old.without_items(&[90])
            .unwrap_err()
            .to_string()
            .contains("no item 90")
    );
    let all: Vec<u32> = (0..ITEMS as u32).collect();
    assert!(
        old.without_items(&all)
            .unwrap_err()
            .to_string()
            .contains("at least one")
    );
}
