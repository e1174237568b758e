//! A tree that items come to and leave: places against a plain search by paths alone, and what must not move.

mod common;

use common::mixture;
use eager_codes::{CodeTrie, CodesConfig, CodesError, ItemCodes, Vectors, node_means};

const DIM: usize = 3;

fn build(data: &[f32], config: &CodesConfig) -> ItemCodes {
    ItemCodes::build(Vectors::new(data, DIM).unwrap(), config, 5).unwrap()
}

fn plain(branching: usize) -> CodesConfig {
    CodesConfig {
        branching,
        ..CodesConfig::default()
    }
}

/// Paths of all leaves with their items.
fn leaves(codes: &ItemCodes) -> Vec<(Vec<u32>, u32)> {
    let own = (0..codes.n_items() as u32).map(|item| (codes.code(item).to_vec(), item));
    own.chain(codes.extra().map(|(path, item)| (path.to_vec(), item)))
        .collect()
}

/// Where `vector` goes, from the paths alone: the prefix that it becomes a child of.
fn place(
    old: &[(Vec<u32>, u32)],
    now: &[(Vec<u32>, u32)],
    data: &[f32],
    prefix: &[u32],
    vector: &[f32],
    branching: usize,
) -> Option<Vec<u32>> {
    let levels = old[0].0.len();
    if prefix.len() == levels {
        return None;
    }
    let below = |leaves: &[(Vec<u32>, u32)], prefix: &[u32]| -> Vec<(Vec<u32>, u32)> {
        let below = leaves.iter().filter(|(path, _)| path.starts_with(prefix));
        below.cloned().collect()
    };
    let children = |leaves: &[(Vec<u32>, u32)]| {
        let below = below(leaves, prefix);
        let last = below.iter().map(|(path, _)| path[prefix.len()]).max();
        last.map_or(0, |last| last as usize + 1)
    };
    if below(old, prefix).len() == children(old) && children(now) < branching {
        return Some(prefix.to_vec());
    }
    let mut order: Vec<(f64, Vec<u32>)> = (0..children(old) as u32)
        .map(|child| {
            let path = [prefix, &[child]].concat();
            let below = below(old, &path);
            let squared = (0..DIM).map(|at| {
                let sum: f64 = below
                    .iter()
                    .map(|(_, item)| f64::from(data[*item as usize * DIM + at]))
                    .sum();
                let mean = (sum / below.len() as f64) as f32;
                (f64::from(mean) - f64::from(vector[at])).powi(2)
            });
            (squared.sum(), path)
        })
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    order
        .into_iter()
        .find_map(|(_, path)| place(old, now, data, &path, vector, branching))
}

#[test]
fn new_items_go_where_a_plain_search_puts_them_and_nothing_moves() {
    for (branching, config) in [
        (4, plain(4)),
        (7, plain(7)),
        // One level.
        (90, plain(300)),
        // Full by construction: room is what is allowed on top.
        (
            6,
            CodesConfig {
                branching: 4,
                ..CodesConfig::official()
            },
        ),
    ] {
        let data = mixture(60, DIM, 6, 0.5, 3);
        // Ten of one place, so that a node is filled.
        let mut new = mixture(14, DIM, 6, 0.6, 3);
        (0..10).for_each(|_| new.extend_from_slice(&data[..DIM]));
        let codes = build(&data, &config);
        let (vectors, fresh) = (Vectors::new(&data, DIM), Vectors::new(&new, DIM));
        let changed = codes
            .extended(vectors.unwrap(), fresh.unwrap(), branching)
            .unwrap();

        let old = leaves(&codes);
        let mut now = old.clone();
        for (row, vector) in new.chunks_exact(DIM).enumerate() {
            let prefix = place(&old, &now, &data, &[], vector, branching).unwrap();
            let below = now.iter().filter(|(path, _)| path.starts_with(&prefix));
            let last = below.map(|(path, _)| path[prefix.len()]).max().unwrap();
            let mut path = [&prefix[..], &[last + 1]].concat();
            path.resize(codes.levels(), 0);
            let item = (60 + row) as u32;
            assert_eq!(changed.codes.code(item), path, "new item {row}");
            now.push((path, item));
        }
        assert_eq!(changed.codes.n_items(), 84);
        for item in 0..60 {
            assert_eq!(changed.codes.code(item), codes.code(item));
        }
        assert!(changed.codes.extra().eq(codes.extra()));

        // A node and its origin have the same path; the rest is new.
        let (before, after) = (
            CodeTrie::new(&codes).unwrap(),
            CodeTrie::new(&changed.codes).unwrap(),
        );
        assert_eq!(changed.origins.len(), after.n_nodes());
        let path = |trie: &CodeTrie, mut node: u32| {
            let mut path = vec![];
            while node != 0 {
                path.push(node - trie.children(trie.parent(node)).start);
                node = trie.parent(node);
            }
            path
        };
        let mut found = vec![];
        for (node, origin) in (0..).zip(&changed.origins) {
            match origin {
                Some(origin) => {
                    assert_eq!(path(&after, node), path(&before, *origin));
                    found.push(*origin);
                }
                None => {
                    let leaf = after.leaves_below(node);
                    assert_eq!(leaf.len(), 1);
                    assert!(after.item(leaf.start).unwrap() >= 60);
                }
            }
        }
        assert!(found.into_iter().eq(0..before.n_nodes() as u32));

        // Away with them again.
        let keep: Vec<bool> = (0..84).map(|item| item < 60).collect();
        let back = changed.codes.retained(&keep).unwrap();
        assert_eq!(back.codes, codes);
        let through = back
            .origins
            .iter()
            .map(|o| changed.origins[o.unwrap() as usize]);
        assert!(through.eq((0..before.n_nodes() as u32).map(Some)));
    }
}

#[test]
fn what_is_left_keeps_its_order_and_siblings_move_up() {
    for config in [
        plain(4),
        CodesConfig {
            branching: 4,
            ..CodesConfig::official()
        },
    ] {
        let data = mixture(60, DIM, 6, 0.5, 3);
        let codes = build(&data, &config);
        let keep: Vec<bool> = (0..60).map(|item| item % 3 != 0 && item != 22).collect();
        let changed = codes.retained(&keep).unwrap();
        let kept: Vec<u32> = (0..60).filter(|&item| keep[item as usize]).collect();
        // Plain: rank a path's ordinals among the distinct prefixes that are left.
        let left: Vec<_> = leaves(&codes)
            .into_iter()
            .filter(|(_, item)| keep[*item as usize])
            .collect();
        let renumbered = |path: &[u32]| -> Vec<u32> {
            (0..path.len())
                .map(|at| {
                    let same = left.iter().filter(|(other, _)| other[..at] == path[..at]);
                    let mut smaller: Vec<u32> = same.map(|(other, _)| other[at]).collect();
                    smaller.sort_unstable();
                    smaller.dedup();
                    smaller.partition_point(|&other| other < path[at]) as u32
                })
                .collect()
        };
        assert_eq!(changed.codes.n_items(), kept.len());
        for (number, &item) in (0..).zip(&kept) {
            assert_eq!(changed.codes.code(number), renumbered(codes.code(item)));
        }
        let extra: Vec<(Vec<u32>, u32)> = codes
            .extra()
            .filter(|(_, item)| keep[*item as usize])
            .map(|(path, item)| (renumbered(path), kept.binary_search(&item).unwrap() as u32))
            .collect();
        let found: Vec<_> = changed
            .codes
            .extra()
            .map(|(p, i)| (p.to_vec(), i))
            .collect();
        assert_eq!(found, extra);
        let (before, after) = (
            CodeTrie::new(&codes).unwrap(),
            CodeTrie::new(&changed.codes).unwrap(),
        );
        for (number, &item) in (0..).zip(&kept) {
            let origins = after.path(number).iter();
            let origins = origins.map(|&node| changed.origins[node as usize].unwrap());
            assert!(origins.eq(before.path(item).iter().copied()));
        }
    }
}

#[test]
fn means_are_those_of_the_leaves_below() {
    let data = mixture(40, DIM, 4, 0.5, 9);
    let codes = build(
        &data,
        &CodesConfig {
            branching: 3,
            ..CodesConfig::official()
        },
    );
    let trie = CodeTrie::new(&codes).unwrap();
    let means = node_means(&trie, Vectors::new(&data, DIM).unwrap()).unwrap();
    let leaves = leaves(&codes);
    for (item, at) in (0..40).flat_map(|item| (0..codes.levels()).map(move |at| (item, at))) {
        let prefix = &codes.code(item)[..=at];
        let below: Vec<u32> = leaves
            .iter()
            .filter(|(p, _)| p.starts_with(prefix))
            .map(|l| l.1)
            .collect();
        let node = trie.path(item)[at] as usize;
        for column in 0..DIM {
            let sum: f32 = below.iter().map(|&i| data[i as usize * DIM + column]).sum();
            let mean = sum / below.len() as f32;
            assert!((means[node * DIM + column] - mean).abs() < 1e-6);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let data = mixture(16, DIM, 4, 0.5, 1);
    let codes = build(
        &data,
        &CodesConfig {
            branching: 4,
            ..CodesConfig::official()
        },
    );
    let vectors = Vectors::new(&data, DIM).unwrap();
    let one = Vectors::new(&data[..DIM], DIM).unwrap();
    let full = codes.extended(vectors, one, 4).unwrap_err();
    assert!(
        matches!(
            full,
            CodesError::NoRoom {
                row: 0,
                branching: 4
            }
        ),
        "{full}"
    );
    assert!(codes.extended(vectors, one, 5).is_ok());
    assert!(
        codes.extended(one, one, 5).is_err(),
        "vectors of other items"
    );
    assert!(
        codes
            .extended(vectors, Vectors::new(&data[..4], 4).unwrap(), 5)
            .is_err()
    );
    assert!(codes.retained(&[true; 15]).is_err());
    assert!(codes.retained(&[false; 16]).is_err());
}
