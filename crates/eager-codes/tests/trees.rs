//! Whole trees of both variants: their rules, their edges, and that threads do not matter.

mod common;

use std::collections::BTreeSet;

use common::mixture;
use eager_codes::{Backend, CodeTrie, CodesConfig, CodesError, ItemCodes, Vectors};

fn plain(branching: usize, depth: Option<usize>) -> CodesConfig {
    CodesConfig {
        branching,
        depth,
        ..CodesConfig::default()
    }
}

fn balanced(branching: usize, depth: Option<usize>) -> CodesConfig {
    CodesConfig {
        branching,
        depth,
        ..CodesConfig::official()
    }
}

fn build(data: &[f32], dim: usize, config: &CodesConfig) -> ItemCodes {
    ItemCodes::build(Vectors::new(data, dim).unwrap(), config, 2024).unwrap()
}

/// All items below a node.
fn items_below(trie: &CodeTrie, node: u32) -> BTreeSet<u32> {
    match trie.item(node) {
        Some(item) => BTreeSet::from([item]),
        None => trie
            .children(node)
            .flat_map(|c| items_below(trie, c))
            .collect(),
    }
}

#[test]
fn a_small_tree_by_hand() {
    // Three far groups; {0, 3, 4} has more than k = 2 items, so it is split again: {0, 4} and {3}. k-means with k = 2 at
    // the root separates {0, 3, 4} from {1, 2}.
    let data = [0.0, 100.0, 101.0, 3.0, 0.5];
    let codes = build(&data, 1, &plain(2, None));
    assert_eq!(codes.levels(), 3);
    let paths: Vec<&[u32]> = (0..5).map(|item| codes.code(item)).collect();
    assert_eq!(
        paths,
        [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]]
    );
    // Breadth first: 0; 1, 2; 3 = {0, 4}, 4 = {3}, 5 = {1}, 6 = {2}; leaves 7 = 0, 8 = 4, 9 = 3, 10 = 1, 11 = 2.
    let trie = CodeTrie::new(&codes).unwrap();
    assert_eq!(trie.n_nodes(), 12);
    assert_eq!(
        [0, 1, 2, 3].map(|l| trie.level(l)),
        [0..1, 1..3, 3..7, 7..12]
    );
    assert_eq!(trie.children(1), 3..5);
    assert_eq!(trie.children(4), 9..10);
    assert!(trie.children(9).is_empty());
    assert_eq!(trie.path(4), [1, 3, 8]);
    assert_eq!(trie.parent(8), 3);
    assert_eq!(
        [7, 8, 9, 10, 11].map(|v| trie.item(v)),
        [0, 4, 3, 1, 2].map(Some)
    );
    assert_eq!(trie.item(6), None);
    assert_eq!(trie.item(12), None);
}

#[test]
fn plain_clusters_are_split_until_every_item_is_alone() {
    let (n, dim, k) = (1500, 8, 6);
    let data = mixture(n, dim, 40, 0.3, 1);
    let trie = CodeTrie::new(&build(&data, dim, &plain(k, None))).unwrap();
    assert_eq!(trie.n_leaves(), n);
    for node in 0..trie.n_nodes() as u32 {
        let children = trie.children(node);
        assert!(children.len() <= k);
        let items = items_below(&trie, node);
        if children.len() == 1 {
            assert_eq!(
                items.len(),
                1,
                "only an item that is alone has an only-child"
            );
        }
        if (2..=k).contains(&items.len()) {
            assert_eq!(
                children.len(),
                items.len(),
                "at most k items: each its own child"
            );
            let below: Vec<BTreeSet<u32>> =
                children.clone().map(|c| items_below(&trie, c)).collect();
            assert!(below.windows(2).all(|pair| pair[0] < pair[1]));
        }
        let smallest: Vec<u32> = children
            .filter_map(|c| items_below(&trie, c).first().copied())
            .collect();
        assert!(
            smallest.is_sorted(),
            "clusters are numbered by their smallest item"
        );
    }
}

#[test]
fn far_groups_become_the_clusters() {
    let data = mixture(400, 16, 8, 0.01, 3);
    let codes = build(&data, 16, &plain(8, None));
    for item in 0..400 {
        assert_eq!(
            codes.code(item)[0],
            item % 8,
            "numbered by the smallest item"
        );
    }
}

#[test]
fn depth_gives_what_is_left_its_own_leaves() {
    let data = mixture(900, 5, 12, 0.4, 5);
    let whole = build(&data, 5, &plain(4, None));
    assert!(whole.levels() > 3);
    for depth in 1..=3 {
        let codes = build(&data, 5, &plain(4, Some(depth)));
        assert_eq!(codes.levels(), depth);
        for item in 0..900 {
            let above = ..depth - 1;
            assert_eq!(codes.code(item)[above], whole.code(item)[above]);
        }
        let trie = CodeTrie::new(&codes).unwrap();
        let widest = trie.level(depth - 1).map(|v| trie.children(v).len()).max();
        assert!(widest > Some(4));
    }
    assert_eq!(build(&data, 5, &plain(4, Some(30))), whole);
}

#[test]
fn balanced_clusters_have_exactly_the_same_size() {
    for (n, k, depth, levels) in [(300, 7, None, 3), (256, 16, None, 2), (50, 4, Some(4), 4)] {
        let data = mixture(n, 6, 9, 0.5, 8);
        let codes = build(&data, 6, &balanced(k, depth));
        assert_eq!(codes.levels(), levels);
        assert_eq!(codes.n_leaves(), k.pow(levels as u32));
        let mut members = vec![0; k];
        let own = (0..n as u32).map(|item| codes.code(item));
        for path in own.chain(codes.extra().map(|(path, _)| path)) {
            members[path[0] as usize] += 1;
        }
        assert!(members.iter().all(|&m| m == k.pow(levels as u32 - 1)));
        let trie = CodeTrie::new(&codes).unwrap();
        let first_leaf = trie.level(levels).start;
        assert!((0..first_leaf).all(|node| trie.children(node).len() == k));
        let decoded: BTreeSet<u32> = trie
            .level(levels)
            .filter_map(|leaf| trie.item(leaf))
            .collect();
        assert_eq!(decoded.len(), n);
    }
}

#[test]
fn balanced_clusters_hold_what_is_near() {
    // 16 groups of 16 far apart: the only way to 16 clusters of 16 that mixes no groups.
    let data = mixture(256, 12, 16, 0.01, 4);
    let trie = CodeTrie::new(&build(&data, 12, &balanced(16, None))).unwrap();
    let near = |node: u32| {
        let groups: BTreeSet<u32> = items_below(&trie, node).iter().map(|i| i % 16).collect();
        groups.len() == 1
    };
    let pure = trie.level(1).filter(|&node| near(node)).count();
    assert!(pure >= 10, "{pure} of 16 clusters hold one group alone");
}

#[test]
fn threads_do_not_matter_and_seeds_do() {
    let (n, dim) = (3000, 24);
    let data = mixture(n, dim, 100, 0.6, 6);
    let vectors = Vectors::new(&data, dim).unwrap();
    let with = |threads: usize, config: &CodesConfig, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| ItemCodes::build(vectors, config, seed))
            .unwrap()
    };
    for config in [plain(20, None), plain(3, Some(4)), balanced(15, None)] {
        let one = with(1, &config, 7);
        assert_eq!(one, with(2, &config, 7));
        assert_eq!(one, with(5, &config, 7));
        assert_ne!(one, with(2, &config, 8));
    }
}

#[test]
fn few_items_and_equal_items_have_their_rules() {
    for config in [plain(8, None), balanced(8, None)] {
        let single = build(&[1.0, 2.0], 2, &config);
        assert_eq!((single.levels(), single.n_leaves()), (1, 1));
        assert_eq!(single.code(0), [0]);
    }
    assert_eq!(build(&[1.0], 1, &plain(8, Some(3))).code(0), [0]);
    assert_eq!(
        build(&[1.0], 1, &balanced(8, Some(3))).code(0),
        [0, 0, 0],
        "exactly so many levels"
    );

    let five = [5.0, 1.0, 4.0, 1.0, 5.0];
    let codes = build(&five, 1, &plain(8, None));
    assert_eq!((codes.levels(), codes.n_leaves()), (1, 5));
    assert!((0..5).all(|item| codes.code(item) == [item]));
    let codes = build(&five, 1, &balanced(8, None));
    assert_eq!((codes.levels(), codes.n_leaves()), (1, 8));

    // Equal vectors: k runs of ids whose sizes differ by one at most.
    let codes = build(&[2.5; 22 * 3], 3, &plain(4, None));
    assert_eq!(codes.levels(), 3);
    let first: Vec<u32> = (0..22).map(|item| codes.code(item)[0]).collect();
    assert!(first.is_sorted());
    let sizes = [0, 1, 2, 3].map(|c| first.iter().filter(|&&x| x == c).count());
    assert_eq!(sizes, [6, 6, 5, 5]);

    // Two values, 20 items each, k = 4: the values part first, then the runs.
    let two: Vec<f32> = (0..40).map(|i| (i % 2) as f32).collect();
    let codes = build(&two, 1, &plain(4, None));
    assert!((0..40).all(|item| codes.code(item)[0] == item % 2));
    assert_eq!(build(&[0.0; 100], 1, &balanced(10, None)).n_leaves(), 100);
}

#[test]
fn what_cannot_be_built_says_why() {
    let data = mixture(100, 2, 5, 0.5, 9);
    let vectors = Vectors::new(&data, 2).unwrap();
    let refused = |config: &CodesConfig| ItemCodes::build(vectors, config, 1).unwrap_err();
    assert!(matches!(refused(&plain(1, None)), CodesError::Config(_)));
    assert!(matches!(
        refused(&balanced(3, Some(4))),
        CodesError::TooFewLeaves {
            leaves: 81,
            items: 100,
            ..
        }
    ));
    assert!(matches!(
        refused(&balanced(256, Some(4))),
        CodesError::TooManyLeaves { .. }
    ));
    // Every level of two branches splits one far point off: deeper than any code may be.
    let outliers: Vec<f32> = (-59..59).map(|i| 2f32.powi(i)).collect();
    let outliers = Vectors::new(&outliers, 1).unwrap();
    let error = ItemCodes::build(outliers, &plain(2, None), 1).unwrap_err();
    assert!(
        matches!(error, CodesError::TooDeep { levels: 64, .. }),
        "{error}"
    );
    let codes = ItemCodes::build(outliers, &plain(2, Some(5)), 1).unwrap();
    assert_eq!(codes.levels(), 5);
}

#[test]
fn the_kmeans_backend_is_there_or_says_that_it_is_not() {
    let data = mixture(200, 4, 10, 0.01, 2);
    let config = CodesConfig {
        backend: Backend::Kmeans,
        ..plain(10, None)
    };
    let built = ItemCodes::build(Vectors::new(&data, 4).unwrap(), &config, 1);
    if cfg!(feature = "kmeans") {
        let codes = built.unwrap();
        for item in 0..200 {
            assert_eq!(codes.code(item)[0], item % 10, "far groups part first");
        }
    } else {
        assert!(built.unwrap_err().to_string().contains("--features kmeans"));
    }
}
