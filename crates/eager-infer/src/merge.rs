//! Two streams' predictions into one list (paper §3.5): an item once, ranked by confidence, or by the official code's sum.
//! Where the model has a direct head, its predictions are merged as those of a third.

use std::cmp::Ordering;

use eager_codes::CodeTrie;
use eager_model::{PerStream, Stream};
use serde::{Deserialize, Serialize};

use crate::Leaf;
use crate::search::select;

/// What the merged list is ranked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ranking {
    /// The log-probability of the code in the stream that predicted it; the highest where several did (paper).
    #[default]
    Confidence,
    /// `Σ w·log p`, the weighted sum of all log-probabilities, of every item that one of them predicted (official code, with
    /// both weights 1): a product of experts.
    Sum,
    /// `log (Σ w·p / Σ w)`, likewise: a mixture of experts.
    Mixture,
}

/// How much each prediction counts with [`Ranking::Sum`] and [`Ranking::Mixture`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RankingWeights {
    /// The behaviour stream's. Official code 1.
    pub behaviour: f32,
    /// The semantic stream's. Official code 1.
    pub semantic: f32,
    /// The direct head's, where there is one.
    pub direct: f32,
}

impl Default for RankingWeights {
    fn default() -> Self {
        Self {
            behaviour: 1.0,
            semantic: 1.0,
            direct: 1.0,
        }
    }
}

/// An item in one stream's list.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemScore {
    /// The item.
    pub item: u32,
    /// Log-probability of its code: of its most probable leaf, of those found.
    pub log_prob: f32,
}

/// An item in the merged list.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// The item.
    pub item: u32,
    /// What it is ranked by, see [`Ranking`].
    pub score: f32,
    /// Its log-probability in the behaviour stream; with [`Ranking::Confidence`] only where that stream predicted it.
    pub behaviour: Option<f32>,
    /// Likewise in the semantic stream.
    pub semantic: Option<f32>,
    /// Likewise by the direct head; never without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<f32>,
}

impl ItemScore {
    fn best_first(a: &Self, b: &Self) -> Ordering {
        b.log_prob.total_cmp(&a.log_prob).then(a.item.cmp(&b.item))
    }
}

impl Ranked {
    /// What predicts the item as most likely: a stream, or with `None` the direct head. Of equal ones it is the first.
    #[must_use]
    pub fn surest(&self) -> Option<Stream> {
        let predicted = [
            (self.behaviour, Some(Stream::Behaviour)),
            (self.semantic, Some(Stream::Semantic)),
            (self.direct, None),
        ];
        // One that did not predict it is less than any other.
        let surest = predicted
            .into_iter()
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        surest.and_then(|(_, by)| by)
    }

    fn best_first(a: &Self, b: &Self) -> Ordering {
        b.score.total_cmp(&a.score).then(a.item.cmp(&b.item))
    }
}

/// The items of leaves, each once with the best log-probability it has there; best first, equal ones by item.
pub(crate) fn items_of(trie: &CodeTrie, leaves: &[Leaf]) -> Vec<ItemScore> {
    let score = |leaf: &Leaf| {
        let item = trie.item(leaf.node)?;
        Some(ItemScore {
            item,
            log_prob: leaf.log_prob,
        })
    };
    let mut list: Vec<ItemScore> = leaves.iter().filter_map(score).collect();
    if trie.n_leaves() > trie.n_items() {
        list.sort_unstable_by(|a, b| a.item.cmp(&b.item).then(ItemScore::best_first(a, b)));
        list.dedup_by_key(|score| score.item);
    }
    list.sort_unstable_by(ItemScore::best_first);
    list
}

/// The `keep` best of every item's log-probability that `wanted` lets through, best first, equal ones by item.
pub(crate) fn best_items(
    scores: &[f32],
    keep: usize,
    wanted: impl Fn(u32) -> bool,
) -> Vec<ItemScore> {
    let mut list: Vec<ItemScore> = (0..)
        .zip(scores)
        .filter(|(item, _)| wanted(*item))
        .map(|(item, &log_prob)| ItemScore { item, log_prob })
        .collect();
    select(&mut list, keep, ItemScore::best_first);
    list.sort_unstable_by(ItemScore::best_first);
    list
}

/// The items of all lists, each once, ascending by item; with the log-probabilities of the lists that it is in.
pub(crate) fn union(streams: PerStream<&[ItemScore]>, direct: &[ItemScore]) -> Vec<Ranked> {
    let of = |list: &[ItemScore], set: fn(&mut Ranked) -> &mut Option<f32>| {
        let ranked = |score: &ItemScore| {
            let mut ranked = Ranked {
                item: score.item,
                score: score.log_prob,
                behaviour: None,
                semantic: None,
                direct: None,
            };
            *set(&mut ranked) = Some(score.log_prob);
            ranked
        };
        list.iter().map(ranked).collect::<Vec<_>>()
    };
    let mut all = of(streams.behaviour, |ranked| &mut ranked.behaviour);
    all.extend(of(streams.semantic, |ranked| &mut ranked.semantic));
    all.extend(of(direct, |ranked| &mut ranked.direct));
    all.sort_by_key(|ranked| ranked.item);
    all.dedup_by(|second, first| {
        let same = second.item == first.item;
        if same {
            first.semantic = first.semantic.or(second.semantic);
            first.direct = first.direct.or(second.direct);
        }
        same
    });
    all
}

/// Scores and sorts a union: best first, equal ones by item. But for [`Ranking::Confidence`] all log-probabilities that
/// there can be must be there.
pub(crate) fn rank(all: &mut [Ranked], ranking: Ranking, weights: &RankingWeights) {
    let highest = |found: &mut dyn Iterator<Item = f32>| found.fold(f32::NEG_INFINITY, f32::max);
    for ranked in all.iter_mut() {
        let found = [
            (ranked.behaviour, weights.behaviour),
            (ranked.semantic, weights.semantic),
            (ranked.direct, weights.direct),
        ];
        let found = found
            .into_iter()
            .filter_map(|(log_prob, w)| Some((log_prob?, w)));
        ranked.score = match ranking {
            Ranking::Confidence => highest(&mut found.map(|(log_prob, _)| log_prob)),
            Ranking::Sum => found.map(|(log_prob, w)| w * log_prob).sum(),
            Ranking::Mixture => {
                let total: f32 = found.clone().map(|(_, w)| w).sum();
                let terms = found.map(|(log_prob, w)| (w / total).ln() + log_prob);
                let highest = highest(&mut terms.clone());
                if highest == f32::NEG_INFINITY {
                    highest
                } else {
                    highest + terms.map(|term| (term - highest).exp()).sum::<f32>().ln()
                }
            }
        };
    }
    all.sort_unstable_by(Ranked::best_first);
}

#[cfg(test)]
mod tests {
    use eager_codes::ItemCodes;

    use super::*;

    fn list(scores: &[(u32, f32)]) -> Vec<ItemScore> {
        let score = |&(item, log_prob): &(u32, f32)| ItemScore { item, log_prob };
        scores.iter().map(score).collect()
    }

    #[test]
    fn an_item_of_both_lists_has_the_higher_confidence() {
        let (behaviour, semantic) = (
            list(&[(7, -1.0), (2, -2.0), (5, -3.0)]),
            list(&[(2, -1.5), (9, -1.5), (5, -4.0)]),
        );
        let streams = PerStream {
            behaviour: &behaviour[..],
            semantic: &semantic[..],
        };
        let weights = RankingWeights::default();
        let mut all = union(streams, &[]);
        rank(&mut all, Ranking::Confidence, &weights);
        let found: Vec<_> = all.iter().map(|r| (r.item, r.score)).collect();
        assert_eq!(found, [(7, -1.0), (2, -1.5), (9, -1.5), (5, -3.0)]);
        assert_eq!((all[0].behaviour, all[0].semantic), (Some(-1.0), None));
        assert_eq!(
            (all[1].behaviour, all[1].semantic),
            (Some(-2.0), Some(-1.5))
        );
        all.retain(|r| r.behaviour.is_some() && r.semantic.is_some());
        rank(&mut all, Ranking::Sum, &weights);
        let found: Vec<_> = all.iter().map(|r| (r.item, r.score)).collect();
        assert_eq!(found, [(2, -3.5), (5, -7.0)]);
    }

    #[test]
    fn the_direct_head_counts_as_a_third() {
        let (behaviour, semantic) = (list(&[(1, -1.0)]), list(&[(1, -3.0), (2, -2.0)]));
        let direct = list(&[(2, -0.5), (1, -2.0), (3, -4.0)]);
        let streams = PerStream {
            behaviour: &behaviour[..],
            semantic: &semantic[..],
        };
        let mut all = union(streams, &direct);
        let (one, two) = (all[0], all[1]);
        assert_eq!(
            (one.behaviour, one.semantic, one.direct),
            (Some(-1.0), Some(-3.0), Some(-2.0))
        );
        assert_eq!(
            (two.behaviour, two.semantic, two.direct),
            (None, Some(-2.0), Some(-0.5))
        );
        rank(&mut all, Ranking::Confidence, &RankingWeights::default());
        let items: Vec<u32> = all.iter().map(|r| r.item).collect();
        assert_eq!(items, [2, 1, 3]);

        let weights = RankingWeights {
            behaviour: 0.5,
            semantic: 0.25,
            direct: 2.0,
        };
        let mut all = [one];
        rank(&mut all, Ranking::Sum, &weights);
        assert_eq!(all[0].score, -0.5 - 0.75 - 4.0);
        rank(&mut all, Ranking::Mixture, &weights);
        let mixture = 0.5 * (-1f64).exp() + 0.25 * (-3f64).exp() + 2.0 * (-2f64).exp();
        assert!((f64::from(all[0].score) - (mixture / 2.75).ln()).abs() < 1e-6);
        // A weight of 0 leaves its expert out.
        let none = RankingWeights {
            behaviour: 0.0,
            semantic: 0.0,
            direct: 1.0,
        };
        rank(&mut all, Ranking::Mixture, &none);
        assert!((all[0].score + 2.0).abs() < 1e-6);
    }

    #[test]
    fn the_surest_is_the_likeliest_of_those_that_predicted_the_item() {
        let surest = |behaviour, semantic, direct| {
            let ranked = Ranked {
                item: 0,
                score: 0.0,
                behaviour,
                semantic,
                direct,
            };
            ranked.surest()
        };
        let (behaviour, semantic) = (Some(Stream::Behaviour), Some(Stream::Semantic));
        assert_eq!(surest(Some(-1.0), Some(-2.0), Some(-3.0)), behaviour);
        assert_eq!(surest(Some(-3.0), Some(-2.0), None), semantic);
        assert_eq!(surest(None, Some(-9.0), None), semantic);
        assert_eq!(surest(Some(-2.0), Some(-2.0), Some(-1.0)), None);
        assert_eq!(surest(None, None, Some(-1.0)), None);
        assert_eq!(surest(Some(-2.0), Some(-2.0), Some(-2.0)), behaviour);
    }

    #[test]
    fn an_item_of_several_leaves_comes_once() {
        // Item 0 has leaves 0.0 and 1.1, item 1 has 0.1, item 2 has 1.0.
        let codes = ItemCodes::new(2, vec![0, 0, 0, 1, 1, 0], vec![1, 1], vec![0]).unwrap();
        let trie = CodeTrie::new(&codes).unwrap();
        let leaf = |node, log_prob| Leaf { node, log_prob };
        let leaves = [leaf(6, -1.0), leaf(5, -1.5), leaf(4, -1.5), leaf(3, -2.0)];
        let items = items_of(&trie, &leaves);
        assert_eq!(items, list(&[(0, -1.0), (1, -1.5), (2, -1.5)]));
        let best = best_items(&[-3.0, -1.0, -1.0, -2.0], 2, |item| item != 1);
        assert_eq!(best, list(&[(2, -1.0), (3, -2.0)]));
    }
}
