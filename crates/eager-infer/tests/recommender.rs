//! Whole lists: full beams against exact scoring, threads and batches, masking, evaluation, and the folder.

mod common;

use std::collections::HashSet;

use candle_core::Device;
use common::{histories, recommender, slices};
use eager_codes::{CodeTrie, ItemCodes};
use eager_infer::{
    InferConfig, ItemScore, Metrics, Rank, Ranked, Ranking, Recommender, TOP, evaluate,
};
use eager_model::{Catalogue, Eager, EagerConfig, PerStream, Stream, Weights};
use eager_ops::{Dropout, Ops, Pass};

/// The same items in the same order, but for neighbours that are equal within float noise.
fn same(a: &[Ranked], b: &[Ranked]) {
    assert_eq!(a.len(), b.len());
    for (place, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x.score - y.score).abs() < 1e-5, "{place}: {x:?} {y:?}");
        let twin = b.iter().find(|r| r.item == x.item);
        let twin = twin.unwrap_or_else(|| panic!("{place}: {x:?} is missing"));
        assert!(
            (x.score - twin.score).abs() < 1e-5,
            "{place}: {x:?} {twin:?}"
        );
        for (p, q) in [(x.behaviour, twin.behaviour), (x.semantic, twin.semantic)] {
            assert_eq!(p.is_some(), q.is_some());
            assert!((p.unwrap_or(0.0) - q.unwrap_or(0.0)).abs() < 1e-5);
        }
    }
}

fn settings() -> Vec<InferConfig> {
    let mut all = vec![];
    for ranking in [Ranking::Confidence, Ranking::Sum, Ranking::Mixture] {
        for mask_history in [false, true] {
            for top_k in [10, 90] {
                all.push(InferConfig {
                    beams: 200, // more than either trie has leaves
                    top_k,
                    ranking,
                    mask_history,
                    ..InferConfig::default()
                });
            }
        }
    }
    all
}

#[test]
fn full_beams_equal_exact_scoring() {
    for ops in [Ops::Fused, Ops::Plain] {
        let recommender = recommender(ops);
        let histories = histories(20, 5);
        let histories = slices(&histories);
        for config in settings() {
            let exact = InferConfig {
                exact: true,
                ..config.clone()
            };
            let found = recommender.lists(&histories, &config).unwrap();
            let want = recommender.lists(&histories, &exact).unwrap();
            for (found, want) in found.iter().zip(&want) {
                same(&found.merged, &want.merged);
                for (a, b) in [
                    (&found.streams.behaviour, &want.streams.behaviour),
                    (&found.streams.semantic, &want.streams.semantic),
                ] {
                    assert_eq!(a.len(), b.len());
                    for (a, b) in a.iter().zip(b) {
                        assert!((a.log_prob - b.log_prob).abs() < 1e-5);
                    }
                }
                if config.top_k == 90 && !config.mask_history {
                    assert_eq!(found.merged.len(), 70);
                }
            }
        }
    }
}

#[test]
fn narrow_beams_give_valid_distinct_items() {
    let recommender = recommender(Ops::Fused);
    let histories = histories(20, 6);
    let histories = slices(&histories);
    for ranking in [Ranking::Confidence, Ranking::Sum, Ranking::Mixture] {
        let config = InferConfig {
            beams: 7,
            top_k: 5,
            ranking,
            ..InferConfig::default()
        };
        for lists in recommender.lists(&histories, &config).unwrap() {
            let items: HashSet<u32> = lists.merged.iter().map(|r| r.item).collect();
            assert_eq!(items.len(), lists.merged.len());
            assert!(items.iter().all(|&item| item < 70));
            assert!((5..=10).contains(&items.len()) || lists.streams.semantic.len() < 5);
            for ranked in &lists.merged {
                let (b, s) = (ranked.behaviour, ranked.semantic);
                match ranking {
                    Ranking::Sum => assert_eq!(ranked.score, b.unwrap() + s.unwrap()),
                    Ranking::Mixture => {
                        let mixture = ((b.unwrap().exp() + s.unwrap().exp()) / 2.0).ln();
                        assert!((ranked.score - mixture).abs() < 1e-5);
                    }
                    Ranking::Confidence => {
                        let best = [b, s].into_iter().flatten().max_by(f32::total_cmp);
                        assert_eq!(Some(ranked.score), best);
                    }
                }
            }
            assert!(lists.merged.is_sorted_by(|a, b| a.score >= b.score));
        }
    }
}

/// The direct head's list is a softmax over the catalogue of the products of its query with the items' embeddings, and every
/// item that any list predicts is ranked by all three log-probabilities.
#[test]
fn the_direct_head_is_a_softmax_over_the_catalogue_and_a_third_list() {
    let model = EagerConfig {
        direct_head: true,
        ..common::config()
    };
    let recommender = common::recommender_of(&model, Ops::Fused);
    let histories = histories(20, 5);
    let histories = slices(&histories);
    let pass = Pass {
        ops: Ops::Plain,
        dropout: &Dropout::off(),
        leaves: None,
    };
    let memory = recommender.encode(&histories).unwrap();
    let queries = recommender.model().direct(pass, &memory).unwrap().unwrap();
    let queries: Vec<Vec<f32>> = queries.to_vec2().unwrap();
    let items: Vec<Vec<f32>> = recommender.model().items().to_vec2().unwrap();
    let naive = |history: usize| -> Vec<f64> {
        let logit = |item: &Vec<f32>| -> f64 {
            let terms = item.iter().zip(&queries[history]);
            terms.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let logits: Vec<f64> = items.iter().map(logit).collect();
        let normaliser = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
        logits.into_iter().map(|x| x - normaliser).collect()
    };
    let config = InferConfig {
        beams: 30,
        top_k: 10,
        ranking: Ranking::Sum,
        ..InferConfig::default()
    };
    let exact = InferConfig {
        exact: true,
        ..config.clone()
    };
    let all = recommender.lists(&histories, &exact).unwrap();
    for (history, lists) in recommender
        .lists(&histories, &config)
        .unwrap()
        .iter()
        .enumerate()
    {
        let want = naive(history);
        assert_eq!(lists.direct.len(), 30);
        assert!(lists.direct.is_sorted_by(|a, b| a.log_prob >= b.log_prob));
        for score in &lists.direct {
            let want = want[score.item as usize];
            assert!((f64::from(score.log_prob) - want).abs() < 1e-5);
        }
        let best = want.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert!((f64::from(lists.direct[0].log_prob) - best).abs() < 1e-5);
        let first = |list: &[ItemScore]| list[..10].iter().map(|s| s.item).collect::<Vec<_>>();
        let mut predicted = first(&lists.direct);
        predicted.extend(first(&lists.streams.behaviour));
        predicted.extend(first(&lists.streams.semantic));
        let predicted: HashSet<u32> = predicted.into_iter().collect();
        let merged: HashSet<u32> = lists.merged.iter().map(|r| r.item).collect();
        assert_eq!(merged, predicted);
        for ranked in &lists.merged {
            let of = |list: &[ItemScore]| {
                list.iter()
                    .find(|s| s.item == ranked.item)
                    .unwrap()
                    .log_prob
            };
            let every = &all[history];
            let parts = [
                (ranked.behaviour, of(&every.streams.behaviour)),
                (ranked.semantic, of(&every.streams.semantic)),
                (ranked.direct, of(&every.direct)),
            ];
            for (found, want) in parts {
                assert!((found.unwrap() - want).abs() < 1e-5, "{ranked:?}");
            }
            let sum: f32 = parts.iter().map(|(_, want)| want).sum();
            assert!((ranked.score - sum).abs() < 1e-4);
        }
    }
}

#[test]
fn threads_and_company_do_not_matter() {
    let plain = recommender(Ops::Plain);
    let one = recommender(Ops::Fused).with_threads(1).unwrap();
    let two = recommender(Ops::Fused).with_threads(2).unwrap();
    assert_eq!((one.threads(), two.threads()), (1, 2));
    let histories = histories(600, 7);
    let histories = slices(&histories);
    for ranking in [Ranking::Confidence, Ranking::Sum] {
        let config = InferConfig {
            beams: 30,
            ranking,
            ..InferConfig::default()
        };
        let lists = one.recommend(&histories, 10, &config).unwrap();
        assert_eq!(lists, two.recommend(&histories, 10, &config).unwrap());
        assert!(lists.iter().all(|list| list.len() == 10));
        for (at, history) in histories.iter().enumerate().step_by(60) {
            let alone = two.recommend(&[history], 10, &config).unwrap();
            assert_eq!(alone[0], lists[at], "user {at}");
            let alone = plain.recommend(&[history], 10, &config).unwrap();
            same(&alone[0], &lists[at]);
        }
    }
    assert!(
        two.recommend(&[], 10, &InferConfig::default())
            .unwrap()
            .is_empty()
    );
}

#[test]
fn evaluation_ranks_targets_in_every_list() {
    let head = EagerConfig {
        direct_head: true,
        ..common::config()
    };
    let with_head = common::recommender_of(&head, Ops::Fused);
    let recommender = recommender(Ops::Fused);
    let owned = histories(50, 8);
    let histories = slices(&owned);
    // The last item of every other history is its own target too.
    let targets: Vec<u32> = (0..50)
        .map(|u| if u % 2 == 0 { u } else { owned[u as usize][0] })
        .collect();
    let exact = settings().into_iter().map(|config| InferConfig {
        exact: true,
        ..config
    });
    // So narrow that a stream's list ends before what is kept of it.
    let narrow = InferConfig {
        beams: 5,
        top_k: 5,
        ..InferConfig::default()
    };
    let configs: Vec<InferConfig> = exact.chain(settings()).chain([narrow]).collect();
    for recommender in [&recommender, &with_head] {
        for config in &configs {
            let mut heard = 0;
            let mut progress = |done| heard = done;
            let ranks = evaluate(recommender, &histories, &targets, config, &mut progress).unwrap();
            assert_eq!(heard, 50);
            let has_direct = recommender.model().config().direct_head;
            assert_eq!(ranks.direct.is_empty(), !has_direct);
            let lists = recommender.lists(&histories, config).unwrap();
            for (user, lists) in lists.iter().enumerate() {
                let check = |ranks: &[Rank], scores: &[f32], list: Vec<(u32, f32)>| {
                    let place = list.iter().position(|&(item, _)| item == targets[user]);
                    assert_eq!(ranks[user], place.map(|p| p as u32 + 1));
                    let mut kept: Vec<f32> = list.into_iter().map(|(_, score)| score).collect();
                    kept.resize(TOP, f32::NEG_INFINITY);
                    assert_eq!(scores[user * TOP..][..TOP], kept);
                };
                let single =
                    |list: &[ItemScore]| list.iter().map(|s| (s.item, s.log_prob)).collect();
                let PerStream {
                    behaviour,
                    semantic,
                } = &lists.streams;
                let scores = &ranks.scores;
                check(&ranks.behaviour, &scores.behaviour, single(behaviour));
                check(&ranks.semantic, &scores.semantic, single(semantic));
                let merged = lists.merged.iter().map(|r| (r.item, r.score)).collect();
                check(&ranks.merged, &scores.merged, merged);
                if has_direct {
                    check(&ranks.direct, &scores.direct, single(&lists.direct));
                }
                if config.beams < 70 {
                    assert!(behaviour.len() <= 5 && semantic.len() <= 5);
                    continue;
                }
                let masked = config.mask_history && histories[user].contains(&targets[user]);
                assert_eq!(ranks.behaviour[user].is_none(), masked);
                let distinct: HashSet<u32> = histories[user].iter().copied().collect();
                let hidden = if config.mask_history {
                    distinct.len()
                } else {
                    0
                };
                assert_eq!(semantic.len(), 70 - hidden);
                if config.mask_history {
                    assert!(lists.merged.iter().all(|r| !distinct.contains(&r.item)));
                }
            }
            assert!(Metrics::new(&ranks.merged, &[5, 10]).is_ok());
        }
    }
    let refused = |targets: &[u32]| {
        let config = InferConfig::default();
        evaluate(&recommender, &histories[..2], targets, &config, &mut |_| ())
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&[1]).contains("1 targets for 2 histories"));
    assert!(refused(&[1, 70]).contains("item 70"));
}

#[test]
fn what_cannot_be_recommended_for_is_named() {
    let recommender = recommender(Ops::Fused);
    let config = InferConfig::default();
    let refused = |histories: &[&[u32]]| {
        let result = recommender.recommend(histories, 3, &config);
        result.unwrap_err().to_string()
    };
    assert!(refused(&[&[1], &[]]).contains("history 1 is empty"));
    assert!(refused(&[&[1], &[2, 70, 1, 1, 1, 1, 1, 1]]).contains("history 1: item 70"));
    let config = InferConfig {
        beams: 0,
        ..InferConfig::default()
    };
    assert!(recommender.recommend(&[&[1]], 3, &config).is_err());
}

/// Codes of as many items are another model's if their trie has another number of nodes.
#[test]
fn codes_of_another_model_are_refused() {
    let codes = |ordinals: [u32; 8]| ItemCodes::new(2, ordinals.to_vec(), vec![], vec![]).unwrap();
    let own = codes([0, 0, 0, 1, 1, 0, 1, 1]);
    let fewer = codes([0, 0, 0, 1, 0, 2, 0, 3]);
    let trie = CodeTrie::new(&own).unwrap();
    assert_eq!(CodeTrie::new(&fewer).unwrap().n_nodes() + 1, trie.n_nodes());
    let catalogue = Catalogue {
        tries: PerStream::from_fn(|_| &trie),
        dims: PerStream::from_fn(|_| 4),
    };
    for other in Stream::ALL {
        let weights = Weights::random(3, &Device::Cpu);
        let model = Eager::new(&common::config(), &catalogue, weights).unwrap();
        let mut codes = PerStream::from_fn(|_| own.clone());
        codes[other] = fewer.clone();
        let message = Recommender::new(model, codes, Ops::Fused)
            .unwrap_err()
            .to_string();
        let fault = format!("the model's {} decoder is of 7 nodes", other.name());
        assert!(message.contains(&fault), "{message}");
    }
}

#[test]
fn a_saved_recommender_comes_back_the_same() {
    let saved = recommender(Ops::Fused);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("deep/er");
    saved.save(&folder).unwrap();
    saved.save(&folder).unwrap(); // over itself
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let files = [
        "behaviour.safetensors",
        "model.json",
        "model.safetensors",
        "semantic.safetensors",
    ];
    assert_eq!(names, files);
    let loaded = Recommender::load(&folder, &Device::Cpu).unwrap();
    assert_eq!(loaded.model().config(), saved.model().config());
    let histories = histories(30, 9);
    let histories = slices(&histories);
    let lists = |r: &Recommender| {
        r.recommend(&histories, 10, &InferConfig::default())
            .unwrap()
    };
    assert_eq!(lists(&loaded), lists(&saved));

    // Every file: missing, cut in half, empty.
    for name in files {
        let path = folder.join(name);
        let whole = std::fs::read(&path).unwrap();
        let refused = || {
            let message = Recommender::load(&folder, &Device::Cpu)
                .unwrap_err()
                .to_string();
            assert!(message.contains(name), "{message}");
            message
        };
        std::fs::remove_file(&path).unwrap();
        assert!(refused().contains("cannot read"));
        for size in [whole.len() / 2, 0] {
            std::fs::write(&path, &whole[..size]).unwrap();
            assert!(refused().contains("again"));
        }
        std::fs::write(&path, &whole).unwrap();
    }
    // Of another form, another model, other codes.
    let path = folder.join("model.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, fault) in [
        ("\"format\": 1", "\"format\": 9", "form 9"),
        (
            "\"decoder_layers\": 2",
            "\"decoder_layers\": 3",
            "model.safetensors",
        ),
        ("\"n_items\": 70", "\"n_items\": 71", "codes of 70 items"),
    ] {
        assert!(text.contains(from));
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let message = Recommender::load(&folder, &Device::Cpu)
            .unwrap_err()
            .to_string();
        assert!(message.contains(fault), "{message}");
    }
}
