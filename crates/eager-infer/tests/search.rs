//! One stream's search against the teacher-forced decoder, and its three forms against each other.

mod common;

use std::collections::HashMap;

use candle_core::Tensor;
use common::{config, histories, recommender, recommender_of, slices};
use eager_codes::CodeTrie;
use eager_infer::{InferConfig, Ranking, RankingWeights, Search, evaluate};
use eager_model::{EagerConfig, Memory, Stream, TargetCodes};
use eager_ops::{Dropout, Ops, Pass, RowRanges};

/// Log-probabilities of every leaf for the one history of `memory`: the decoder's teacher-forced pass, softmax in f64.
fn teacher_forced(search: &Search<'_>, memory: &Memory) -> Vec<f64> {
    let trie: &CodeTrie = search.trie;
    let tokens: Vec<Vec<f32>> = search.model.tokens(search.stream).to_vec2().unwrap();
    let dropout = Dropout::off();
    let pass = Pass {
        ops: search.ops,
        dropout: &dropout,
        leaves: None,
    };
    trie.level(trie.levels())
        .map(|leaf| {
            let mut path = vec![leaf];
            while path.len() < trie.levels() {
                path.push(trie.parent(path[path.len() - 1]));
            }
            path.reverse();
            let ranges: Vec<_> = path
                .iter()
                .map(|&v| trie.children(trie.parent(v)))
                .collect();
            let codes = TargetCodes {
                rows: RowRanges::new(ranges.clone(), path.clone()).unwrap(),
                levels: path.len(),
                paths: path.clone(),
            };
            let decoded = search
                .model
                .decode(
                    search.stream,
                    pass,
                    memory,
                    &codes,
                    &search.model.vocabulary(search.stream),
                )
                .unwrap();
            let hidden: Vec<Vec<f32>> = decoded.hidden.to_vec2().unwrap();
            let logit = |h: &[f32], v: u32| -> f64 {
                let products = h.iter().zip(&tokens[v as usize]);
                products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
            };
            let log_prob = |((h, range), &v): ((&Vec<f32>, &std::ops::Range<u32>), &u32)| {
                let total: f64 = range.clone().map(|v| logit(h, v).exp()).sum();
                logit(h, v) - total.ln()
            };
            hidden.iter().zip(&ranges).zip(&path).map(log_prob).sum()
        })
        .collect()
}

#[test]
fn every_leaf_has_the_teacher_forced_log_probability() {
    let recommender = recommender(Ops::Fused);
    for history in histories(3, 1) {
        let memory = recommender.encode(&[&history]).unwrap();
        for stream in Stream::ALL {
            let search = recommender.search(stream);
            let found = &search.leaves(&memory).unwrap()[0];
            let want = teacher_forced(&search, &memory);
            assert_eq!(found.len(), want.len());
            for (a, b) in found.iter().zip(&want) {
                assert!((f64::from(*a) - b).abs() < 1e-4, "{a} {b}");
            }
            let total: f64 = found.iter().map(|&x| f64::from(x).exp()).sum();
            assert!((total - 1.0).abs() < 1e-5, "{total}");
        }
    }
}

#[test]
fn beams_for_every_leaf_equal_scoring_everything() {
    for ops in [Ops::Fused, Ops::Plain] {
        let recommender = recommender(ops);
        let histories = histories(9, 2);
        let memory = recommender.encode(&slices(&histories)).unwrap();
        for stream in Stream::ALL {
            let search = recommender.search(stream);
            let first = search.trie.level(search.trie.levels()).start;
            let leaves = search.leaves(&memory).unwrap();
            let found = search.beam_search(&memory, leaves[0].len()).unwrap();
            for (leaves, found) in leaves.iter().zip(&found) {
                assert_eq!(found.len(), leaves.len());
                assert!(found.is_sorted_by(|a, b| a.log_prob >= b.log_prob));
                let mut nodes: Vec<u32> = found.iter().map(|leaf| leaf.node).collect();
                nodes.sort_unstable();
                nodes.dedup();
                assert_eq!(nodes.len(), leaves.len());
                for leaf in found {
                    let want = leaves[(leaf.node - first) as usize];
                    assert!((leaf.log_prob - want).abs() < 1e-5);
                }
            }
        }
    }
}

/// Narrow beams against beam search written down level by level on teacher-forced prefixes of the exact tree.
#[test]
fn narrow_beams_keep_the_best_prefixes_of_every_level() {
    let recommender = recommender(Ops::Fused);
    let histories = histories(6, 3);
    let memory = recommender.encode(&slices(&histories)).unwrap();
    for stream in Stream::ALL {
        let search = recommender.search(stream);
        let trie = search.trie;
        let leaves = search.leaves(&memory).unwrap();
        for width in [1, 3, 8] {
            let found = search.beam_search(&memory, width).unwrap();
            for (leaves, found) in leaves.iter().zip(&found) {
                // A node's probability is the sum of those of the leaves below it.
                let mut probability = vec![0f64; trie.n_nodes()];
                for (leaf, &x) in trie.level(trie.levels()).zip(leaves) {
                    let mut node = leaf;
                    while node != 0 {
                        probability[node as usize] += f64::from(x).exp();
                        node = trie.parent(node);
                    }
                }
                let mut beams = vec![0];
                for _ in 0..trie.levels() {
                    beams = beams.iter().flat_map(|&v| trie.children(v)).collect();
                    beams.sort_by(|&a: &u32, &b: &u32| {
                        probability[b as usize].total_cmp(&probability[a as usize])
                    });
                    beams.truncate(width);
                }
                let nodes: Vec<u32> = found.iter().map(|leaf| leaf.node).collect();
                assert_eq!(nodes, beams, "{stream:?} {width}");
            }
        }
    }
}

#[test]
fn given_items_have_the_scores_they_have_among_all() {
    for ops in [Ops::Fused, Ops::Plain] {
        let recommender = recommender(ops);
        let histories = histories(5, 4);
        let memory = recommender.encode(&slices(&histories)).unwrap();
        let mut items: Vec<Vec<u32>> = vec![vec![69, 0, 33, 33], vec![], vec![5], vec![]];
        items.push((0..70).rev().collect());
        for stream in Stream::ALL {
            let search = recommender.search(stream);
            let exact = search.exact(&memory).unwrap();
            let found = search.score_items(&memory, &items).unwrap();
            for ((items, exact), found) in items.iter().zip(&exact).zip(&found) {
                assert_eq!(items.len(), found.len());
                for (&item, &score) in items.iter().zip(found) {
                    assert!((score - exact[item as usize]).abs() < 1e-5);
                }
            }
            assert!(search.score_items(&memory, &items[..4]).is_err());
            items[2][0] = 70;
            let message = search.score_items(&memory, &items).unwrap_err().to_string();
            assert!(message.contains("history 2: item 70"), "{message}");
            items[2][0] = 5;
            let none = search.score_items(&memory, &vec![vec![]; 5]).unwrap();
            assert!(none.iter().all(Vec::is_empty));
        }
    }
}

#[test]
fn a_ranking_that_is_by_nothing_is_refused() {
    let recommender = recommender(Ops::Fused);
    let by = |behaviour: f32| InferConfig {
        ranking: Ranking::Mixture,
        weights: RankingWeights {
            behaviour,
            semantic: 0.0,
            direct: 1.0,
        },
        ..InferConfig::default()
    };
    let history: [&[u32]; 1] = [&[1, 2]];
    assert!(recommender.recommend(&history, 3, &by(0.5)).is_ok());
    let nothing = by(0.0);
    for refused in [
        recommender.recommend(&history, 3, &nothing).err(),
        recommender.lists(&history, &nothing).err(),
        evaluate(&recommender, &history, &[3], &nothing, &mut |_| ()).err(),
    ] {
        let message = refused.unwrap().to_string();
        assert!(message.contains("without a direct head"), "{message}");
    }
}

#[test]
fn a_node_that_is_no_leaf_is_named() {
    let recommender = recommender(Ops::Fused);
    let memory = recommender.encode(&[&[1], &[2]]).unwrap();
    for stream in Stream::ALL {
        let search = recommender.search(stream);
        let leaves = search.trie.level(search.trie.levels());
        let prefixes = |node| search.prefixes(&memory, &[leaves.start, node]);
        assert_eq!(prefixes(leaves.end - 1).unwrap().len(), 2);
        for node in [0, leaves.start - 1, leaves.end] {
            let message = prefixes(node).unwrap_err().to_string();
            let fault = format!("history 1: node {node} is no leaf");
            assert!(message.contains(&fault), "{message}");
        }
    }
}

/// What recommending says after one of the model's parameters was changed.
fn fault_with(
    config: &EagerConfig,
    name: &str,
    change: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> String {
    let recommender = recommender_of(config, Ops::Fused);
    let parameters = recommender.model().parameters();
    let copy = |(name, tensor): (String, Tensor)| (name, tensor.copy().unwrap());
    let mut tensors: HashMap<_, _> = parameters.tensors().into_iter().map(copy).collect();
    let changed = change(&tensors[name]).unwrap();
    tensors.insert(name.to_owned(), changed);
    parameters.set(&tensors).unwrap();
    recommender
        .recommend(&[&[1, 2]], 3, &InferConfig::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let nan = |like: &Tensor| Tensor::full(f32::NAN, like.dims(), like.device());
    let message = fault_with(&config(), "semantic.norm.weight", nan);
    assert!(message.contains("the semantic decoder"), "{message}");
    // The direct head alone reads the embedding of an item that is in no history.
    let direct = EagerConfig {
        direct_head: true,
        ..config()
    };
    let last = |items: &Tensor| {
        let (others, last) = (items.narrow(0, 0, 69)?, items.narrow(0, 69, 1)?);
        Tensor::cat(&[&others, &nan(&last)?], 0)
    };
    let message = fault_with(&direct, "encoder.items", last);
    assert!(message.contains("history 0: the direct head"), "{message}");
}
