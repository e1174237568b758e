//! Two streams' predictions into one list (paper §3.5): an item once, ranked by confidence, or by the official code's sum.

use std::cmp::Ordering;

use eager_codes::CodeTrie;
use eager_model::PerStream;
use serde::{Deserialize, Serialize};

use crate::Leaf;
use crate::search::select;

/// What the merged list is ranked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ranking {
    /// The log-probability of the code in the stream that predicted it; the higher one where both did (paper).
    #[default]
    Confidence,
    /// The sum of both streams' log-probabilities, of every item that one of them predicted (official code).
    Sum,
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
}

impl ItemScore {
    fn best_first(a: &Self, b: &Self) -> Ordering {
        b.log_prob.total_cmp(&a.log_prob).then(a.item.cmp(&b.item))
    }
}

impl Ranked {
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

/// The items of both lists, each once, ascending by item; with the log-probabilities of the lists that it is in.
pub(crate) fn union(lists: PerStream<&[ItemScore]>) -> Vec<Ranked> {
    let of = |score: &ItemScore, behaviour, semantic| Ranked {
        item: score.item,
        score: score.log_prob,
        behaviour,
        semantic,
    };
    let behaviour = lists.behaviour.iter();
    let semantic = lists.semantic.iter();
    let mut all: Vec<Ranked> = behaviour
        .map(|s| of(s, Some(s.log_prob), None))
        .chain(semantic.map(|s| of(s, None, Some(s.log_prob))))
        .collect();
    all.sort_unstable_by_key(|r| (r.item, r.behaviour.is_none()));
    all.dedup_by(|second, first| {
        let same = second.item == first.item;
        if same {
            first.semantic = second.semantic;
        }
        same
    });
    all
}

/// Scores and sorts a union: best first, equal ones by item. For [`Ranking::Sum`] both log-probabilities must be there.
pub(crate) fn rank(all: &mut [Ranked], ranking: Ranking) {
    for ranked in all.iter_mut() {
        let or_none = |score: Option<f32>| score.unwrap_or(f32::NEG_INFINITY);
        let (behaviour, semantic) = (or_none(ranked.behaviour), or_none(ranked.semantic));
        ranked.score = match ranking {
            Ranking::Confidence => behaviour.max(semantic),
            Ranking::Sum => behaviour + semantic,
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
        let mut all = union(PerStream {
            behaviour: &behaviour,
            semantic: &semantic,
        });
        rank(&mut all, Ranking::Confidence);
        let found: Vec<_> = all.iter().map(|r| (r.item, r.score)).collect();
        assert_eq!(found, [(7, -1.0), (2, -1.5), (9, -1.5), (5, -3.0)]);
        assert_eq!((all[0].behaviour, all[0].semantic), (Some(-1.0), None));
        assert_eq!(
            (all[1].behaviour, all[1].semantic),
            (Some(-2.0), Some(-1.5))
        );
        all.retain(|r| r.behaviour.is_some() && r.semantic.is_some());
        rank(&mut all, Ranking::Sum);
        let found: Vec<_> = all.iter().map(|r| (r.item, r.score)).collect();
        assert_eq!(found, [(2, -3.5), (5, -7.0)]);
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
