//! Codes as an artefact and as a trie: random codes against the definition, and every way a file can be wrong.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::mixture;
use eager_codes::{CodeTrie, CodesConfig, CodesError, ItemCodes, Vectors};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, TensorView};

/// A random tree of `levels` levels: the paths of its leaves, in random order.
fn random_paths(levels: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<u32>> {
    let mut paths = vec![Vec::new()];
    for _ in 0..levels {
        paths = paths
            .iter()
            .flat_map(|path| {
                (0..rng.random_range(1..5)).map(|ordinal| {
                    let mut path = path.clone();
                    path.push(ordinal);
                    path
                })
            })
            .collect();
    }
    paths.shuffle(rng);
    paths
}

#[test]
fn random_tries_hold_to_their_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    for round in 0..60 {
        let levels = 1 + round % 5;
        let paths = random_paths(levels, &mut rng);
        let items = rng.random_range(1..=paths.len());
        let extra_items: Vec<u32> = (items..paths.len())
            .map(|_| rng.random_range(0..items as u32))
            .collect();
        let codes = ItemCodes::new(
            levels,
            paths[..items].concat(),
            paths[items..].concat(),
            extra_items.clone(),
        )
        .unwrap();
        let trie = CodeTrie::new(&codes).unwrap();

        // The nodes are the distinct prefixes, shorter first, then in the order of their ordinals.
        let mut nodes: Vec<(usize, &[u32])> = paths
            .iter()
            .flat_map(|path| (0..=levels).map(|l| (l, &path[..l])))
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        let numbers: BTreeMap<&[u32], u32> = nodes.iter().map(|n| n.1).zip(0..).collect();
        assert_eq!(trie.n_nodes(), nodes.len());
        assert_eq!(
            (trie.levels(), trie.n_items(), trie.n_leaves()),
            (levels, items, paths.len())
        );

        for (node, &(level, prefix)) in (0u32..).zip(&nodes) {
            assert!(trie.level(level).contains(&node));
            let parent = &prefix[..level.saturating_sub(1)];
            assert_eq!(trie.parent(node), numbers[parent]);
            let children: Vec<u32> = nodes
                .iter()
                .filter(|(l, p)| *l == level + 1 && p[..level] == *prefix)
                .map(|(_, p)| numbers[p])
                .collect();
            assert_eq!(trie.children(node).collect::<Vec<u32>>(), children);
            for (ordinal, child) in children.iter().enumerate() {
                assert_eq!(nodes[*child as usize].1[level], ordinal as u32);
            }
            assert_eq!(trie.item(node).is_some(), level == levels);
        }
        for item in 0..items as u32 {
            let path = &paths[item as usize];
            let own: Vec<u32> = (1..=levels).map(|l| numbers[&path[..l]]).collect();
            assert_eq!(trie.path(item), own);
            let mut leaves = vec![own[levels - 1]];
            for (path, &owner) in paths[items..].iter().zip(&extra_items) {
                if owner == item {
                    leaves.push(numbers[path.as_slice()]);
                }
            }
            assert_eq!(trie.leaves(item), leaves);
            assert!(leaves.iter().all(|&leaf| trie.item(leaf) == Some(item)));
        }
    }
}

#[test]
fn codes_that_form_no_trie_are_refused() {
    let new = |levels, codes: &[u32], extra: &[u32], items: &[u32]| {
        ItemCodes::new(levels, codes.to_vec(), extra.to_vec(), items.to_vec()).unwrap_err()
    };
    assert!(matches!(new(0, &[0], &[], &[]), CodesError::Shape(_)));
    assert!(matches!(new(65, &[0; 65], &[], &[]), CodesError::Shape(_)));
    assert!(matches!(new(2, &[], &[], &[]), CodesError::Shape(_)));
    assert!(matches!(new(2, &[0, 0, 0], &[], &[]), CodesError::Shape(_)));
    assert!(matches!(new(1, &[0], &[1], &[]), CodesError::Shape(_)));
    assert!(matches!(
        new(1, &[0], &[1], &[1]),
        CodesError::UnknownItem {
            leaf: 0,
            item: 1,
            items: 1
        }
    ));
    assert!(matches!(
        new(2, &[0, 0, 1, 0, 0, 0], &[], &[]),
        CodesError::SharedLeaf {
            first: 0,
            second: 2,
            ..
        }
    ));
    assert!(matches!(
        new(1, &[0, 1], &[1], &[0]),
        CodesError::SharedLeaf {
            first: 1,
            second: 0,
            ..
        }
    ));
    let gap = new(2, &[0, 0, 1, 0, 1, 2], &[], &[]);
    assert!(matches!(
        gap,
        CodesError::Gap {
            expected: 1,
            found: 2,
            ..
        }
    ));
    assert!(gap.to_string().contains("below prefix [1]"));
    assert!(matches!(
        new(2, &[1, 0], &[], &[]),
        CodesError::Gap {
            expected: 0,
            found: 1,
            ..
        }
    ));
    assert!(matches!(
        new(2, &[0, 1], &[], &[]),
        CodesError::Gap {
            expected: 0,
            found: 1,
            ..
        }
    ));
}

#[test]
fn saved_codes_come_back_and_equal_codes_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = mixture(300, 4, 20, 0.3, 1);
    let vectors = Vectors::new(&data, 4).unwrap();
    for (config, name) in [
        (CodesConfig::default(), "plain"),
        (
            CodesConfig {
                branching: 18,
                ..CodesConfig::official()
            },
            "balanced",
        ),
    ] {
        let codes = ItemCodes::build(vectors, &config, 3).unwrap();
        let path = folder.path().join(name);
        codes.save(&path).unwrap();
        assert_eq!(ItemCodes::load(&path).unwrap(), codes);
        let bytes = std::fs::read(&path).unwrap();
        codes.save(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "no temporary file is left");
    let nowhere = folder.path().join("missing").join("codes");
    let codes = ItemCodes::new(1, vec![0], Vec::new(), Vec::new()).unwrap();
    assert!(matches!(
        codes.save(&nowhere),
        Err(CodesError::Io {
            action: "write",
            ..
        })
    ));
    assert!(matches!(
        ItemCodes::load(&nowhere),
        Err(CodesError::Io { action: "read", .. })
    ));
}

/// A safetensors file of `u32` tensors.
fn file(path: &Path, tensors: &[(&str, &[usize], &[u32])]) {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|t| t.2.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|(t, b)| (t.0, TensorView::new(Dtype::U32, t.1.to_vec(), b).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn a_bad_file_is_named_with_its_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("codes.safetensors");
    let fault = || {
        let error = ItemCodes::load(&path).unwrap_err();
        assert!(error.to_string().contains("codes.safetensors: "));
        match error {
            CodesError::File { fault, .. } => *fault,
            other => panic!("{other}"),
        }
    };
    std::fs::write(&path, b"not a tensor file").unwrap();
    assert!(matches!(fault(), CodesError::Format(_)));

    let none: (&str, &[usize], &[u32]) = ("extra_items", &[0], &[]);
    let good: (&str, &[usize], &[u32]) = ("codes", &[2, 1], &[0, 1]);
    file(&path, &[good, ("extra_codes", &[0, 1], &[]), none]);
    assert_eq!(ItemCodes::load(&path).unwrap().n_items(), 2);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(fault(), CodesError::Format(_)));

    file(&path, &[good, none]);
    assert!(fault().to_string().contains("extra_codes"));
    file(
        &path,
        &[
            ("codes", &[2], &[0, 1]),
            ("extra_codes", &[0, 1], &[]),
            none,
        ],
    );
    assert!(fault().to_string().contains("rank 2"));
    file(&path, &[good, ("extra_codes", &[0, 3], &[]), none]);
    assert!(fault().to_string().contains("`extra_codes` 3"));
    file(
        &path,
        &[
            good,
            ("extra_codes", &[1, 1], &[2]),
            ("extra_items", &[1], &[7]),
        ],
    );
    assert!(matches!(fault(), CodesError::UnknownItem { item: 7, .. }));
    file(
        &path,
        &[
            ("codes", &[2, 1], &[0, 0]),
            ("extra_codes", &[0, 1], &[]),
            none,
        ],
    );
    assert!(matches!(fault(), CodesError::SharedLeaf { .. }));
}
