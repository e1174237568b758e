//! Semantic ids against residual quantisation written from its definition, as an artefact, and as a tree.

mod common;

use std::collections::BTreeSet;

use common::mixture;
use eager_codes::{CodeTrie, SemanticIdConfig, SemanticIds, Vectors};
use safetensors::tensor::{Dtype, TensorView};

fn config(levels: usize, branching: usize) -> SemanticIdConfig {
    SemanticIdConfig {
        levels,
        branching,
        ..SemanticIdConfig::default()
    }
}

/// Level by level in `f64`: every item's codeword is that of the nearest mean of the residuals that share a codeword, and
/// what is left of the vectors grows smaller.
#[test]
fn every_codeword_is_the_nearest_centre_of_the_residual() {
    let (n, dim) = (600, 7);
    let data = mixture(n, dim, 11, 0.6, 5);
    let ids = SemanticIds::build(Vectors::new(&data, dim).unwrap(), &config(3, 16), 9).unwrap();
    assert_eq!((ids.length(), ids.n_items()), (4, n));
    assert_eq!(ids.vocabulary()[..3], [16, 16, 16]);
    let mut residuals: Vec<Vec<f64>> = data
        .chunks(dim)
        .map(|row| row.iter().map(|&x| f64::from(x)).collect())
        .collect();
    let mut errors = vec![];
    for level in 0..3 {
        let codeword = |item: usize| ids.id(item as u32)[level] as usize;
        let mut centres = vec![vec![0.0; dim]; 16];
        for (c, centre) in centres.iter_mut().enumerate() {
            let own: Vec<usize> = (0..n).filter(|&item| codeword(item) == c).collect();
            for (d, x) in centre.iter_mut().enumerate() {
                *x = own.iter().map(|&item| residuals[item][d]).sum::<f64>() / own.len() as f64;
            }
        }
        let mut error = 0.0;
        for (item, residual) in residuals.iter_mut().enumerate() {
            let distance = |centre: &[f64]| -> f64 {
                let pairs = residual.iter().zip(centre);
                pairs.map(|(x, c)| (x - c).powi(2)).sum()
            };
            let own = distance(&centres[codeword(item)]);
            let nearest = centres.iter().map(|c| distance(c)).fold(f64::MAX, f64::min);
            assert!(own <= nearest + 1e-6, "level {level}, item {item}");
            error += own;
            let centre = &centres[codeword(item)];
            residual.iter_mut().zip(centre).for_each(|(x, c)| *x -= c);
        }
        errors.push(error);
    }
    assert!(errors.is_sorted_by(|a, b| *b < 0.9 * a), "{errors:?}");
    // Numbered by their smallest item.
    for level in 0..3 {
        let firsts = (0..16).map(|c| (0..n as u32).find(|&i| ids.id(i)[level] == c).unwrap());
        assert!(firsts.is_sorted());
    }
}

#[test]
fn ids_are_distinct_and_the_same_on_any_number_of_threads() {
    let data = mixture(900, 5, 6, 0.3, 1);
    let vectors = Vectors::new(&data, 5).unwrap();
    let build = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| SemanticIds::build(vectors, &config(2, 12), 3).unwrap())
    };
    let ids = build(1);
    assert_eq!(ids, build(3));
    assert_ne!(
        ids,
        SemanticIds::build(vectors, &config(2, 12), 4).unwrap(),
        "another seed"
    );
    let distinct: BTreeSet<&[u32]> = (0..900).map(|item| ids.id(item)).collect();
    assert_eq!(distinct.len(), 900);
    let report = ids.report();
    let codewords: BTreeSet<&[u32]> = distinct.iter().map(|id| &id[..2]).collect();
    assert_eq!(report.prefixes, [12, codewords.len()]);
    assert_eq!(report.largest as u32, ids.vocabulary()[2]);
    let alone = |prefix: &&&[u32]| distinct.iter().filter(|id| id[..2] == ***prefix).count() == 1;
    let shared = 900 - codewords.iter().filter(alone).count();
    assert!(shared > 0 && (report.collisions - shared as f64 / 900.0).abs() < 1e-12);
}

#[test]
fn equal_vectors_and_single_items_have_ids() {
    let data = [1.0, 2.0, 1.0, 2.0, 5.0, 5.0, 1.0, 2.0];
    let ids = SemanticIds::build(Vectors::new(&data, 2).unwrap(), &config(2, 8), 1).unwrap();
    let all: Vec<&[u32]> = (0..4).map(|item| ids.id(item)).collect();
    assert_eq!(all, [[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 2]]);
    let report = ids.report();
    assert_eq!((report.collisions, report.largest), (0.75, 3));
    let one = SemanticIds::build(Vectors::new(&[3.0], 1).unwrap(), &config(3, 256), 1).unwrap();
    assert_eq!(one.id(0), [0, 0, 0, 0]);

    // What a level leaves may be shorter than vectors may be.
    let data = [1.0, -1.0, 1e-17, 2e-17];
    let ids = SemanticIds::build(Vectors::new(&data, 1).unwrap(), &config(2, 3), 1).unwrap();
    let all: Vec<&[u32]> = (0..4).map(|item| ids.id(item)).collect();
    assert_eq!(all, [[0, 0, 0], [1, 0, 0], [2, 1, 0], [2, 2, 0]]);
}

#[test]
fn the_tree_has_every_prefix_once_in_the_order_of_tokens() {
    let data = mixture(400, 4, 6, 0.4, 2);
    let ids = SemanticIds::build(Vectors::new(&data, 4).unwrap(), &config(2, 9), 3).unwrap();
    let trie = CodeTrie::new(&ids.tree().unwrap()).unwrap();
    for length in 1..=3 {
        let prefixes: BTreeSet<&[u32]> = (0..400).map(|item| &ids.id(item)[..length]).collect();
        assert_eq!(trie.level(length).len(), prefixes.len());
        for (node, prefix) in trie.level(length).zip(prefixes) {
            let items = (0..400).filter(|&item| trie.path(item)[length - 1] == node);
            assert!(
                items
                    .into_iter()
                    .all(|item| ids.id(item)[..length] == *prefix)
            );
        }
    }
}

#[test]
fn files_come_back_and_wrong_ones_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids.safetensors");
    let ids = SemanticIds::new(3, vec![0, 1, 0, 1, 0, 0, 0, 1, 1]).unwrap();
    assert_eq!(ids.vocabulary(), [2, 2, 2]);
    ids.save(&path).unwrap();
    assert_eq!(SemanticIds::load(&path).unwrap(), ids);
    let refused = |length: usize, tokens: &[u32]| {
        let bytes: Vec<u8> = tokens.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = vec![tokens.len() / length, length];
        let view = TensorView::new(Dtype::U32, shape, &bytes).unwrap();
        std::fs::write(
            &path,
            safetensors::serialize([("ids", view)], None).unwrap(),
        )
        .unwrap();
        let message = SemanticIds::load(&path).unwrap_err().to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
        message
    };
    assert!(refused(2, &[0, 0, 0, 0]).contains("item 1 has the last token 0, expected 1"));
    assert!(refused(2, &[0, 1]).contains("item 0 has the last token 1, expected 0"));
    assert!(refused(2, &[0, 0, 2, 0]).contains("no item has token 1 in place 0"));
    assert!(refused(1, &[0]).contains("no ids of 1 tokens"));
    assert!(refused(2, &[]).contains("0 tokens are no ids"));
    std::fs::write(&path, "x").unwrap();
    let message = SemanticIds::load(&path).unwrap_err().to_string();
    assert!(
        message.contains("not a readable safetensors file"),
        "{message}"
    );
}

#[test]
fn settings_outside_their_range_are_named() {
    let refused = |config: SemanticIdConfig| config.validate().unwrap_err().to_string();
    assert!(refused(config(0, 256)).contains("`levels` is 0, expected 1 to 63"));
    assert!(refused(config(3, 1)).contains("`branching` is 1"));
    let none = SemanticIdConfig {
        max_iterations: 0,
        ..SemanticIdConfig::default()
    };
    assert!(refused(none).contains("`max_iterations` is 0"));
    assert!(SemanticIdConfig::default().validate().is_ok());
}
