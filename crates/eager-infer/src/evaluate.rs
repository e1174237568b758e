//! Ranks of held-out targets ("leave one out", as in the paper's tables): against all items, in the merged list and in each
//! stream's own, from one pass. And the ranks that popularity alone gives them.

use std::ops::Range;

use crate::recommender::check_items;
use crate::{InferConfig, InferError, ItemScore, Lists, Rank, Recommender, Result};

/// First items of every list whose log-probabilities an [`Evaluation`] keeps.
pub const TOP: usize = 10;

/// The rank of every user's target, counted from 1; `None` where it is not in the list. Lists are as long as the search
/// makes them (at most [`InferConfig::beams`] in a stream, `2 · top_k` merged, `3 · top_k` with a direct head), so a cut-off
/// should not be above [`InferConfig::top_k`]. With [`InferConfig::mask_history`] a target that is also in the user's history
/// has no rank: it cannot be hit.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// In the merged list.
    pub merged: Vec<Rank>,
    /// In the behaviour stream's list.
    pub behaviour: Vec<Rank>,
    /// In the semantic stream's list.
    pub semantic: Vec<Rank>,
    /// In the direct head's list; empty without one.
    pub direct: Vec<Rank>,
    /// What the first [`TOP`] items of each list are ranked by, to hold against the ranks
    /// ([`reliability`](crate::metrics::reliability)).
    pub scores: TopScores,
}

/// Scores of the first [`TOP`] items of every user's lists, `[users, TOP]` each; −∞ where a list ends before. The streams'
/// are log-probabilities, the merged list's what [`Ranking`](crate::Ranking) says.
#[derive(Clone, Debug, PartialEq)]
pub struct TopScores {
    /// Of the merged list.
    pub merged: Vec<f32>,
    /// Of the behaviour stream's list.
    pub behaviour: Vec<f32>,
    /// Of the semantic stream's list.
    pub semantic: Vec<f32>,
    /// Of the direct head's list; empty without one.
    pub direct: Vec<f32>,
}

fn check_targets(histories: usize, targets: &[u32], items: usize) -> Result<()> {
    if targets.len() != histories {
        return Err(InferError::Lengths {
            what: "targets",
            found: targets.len(),
            expected: histories,
        });
    }
    match targets.iter().position(|&t| t as usize >= items) {
        Some(history) => Err(InferError::UnknownItem {
            history,
            item: targets[history],
            items,
        }),
        None => Ok(()),
    }
}

/// What an evaluation keeps of one list.
struct Found {
    /// Place of the target, counted from 1.
    rank: Rank,
    /// Of the first items.
    scores: [f32; TOP],
}

/// Of a list of items with their scores, best first.
fn found(list: impl Iterator<Item = (u32, f32)> + Clone, target: u32) -> Found {
    let place = list.clone().position(|(item, _)| item == target);
    let mut scores = [f32::NEG_INFINITY; TOP];
    for (kept, (_, score)) in scores.iter_mut().zip(list) {
        *kept = score;
    }
    Found {
        rank: place.map(|place| place as u32 + 1),
        scores,
    }
}

/// Ranks `targets[i]` for the user of `histories[i]`. `progress` hears how many users are done, now and then.
///
/// # Errors
/// When there are not as many targets as histories, one is unknown, or as [`Recommender::recommend`].
pub fn evaluate(
    recommender: &Recommender,
    histories: &[&[u32]],
    targets: &[u32],
    config: &InferConfig,
    progress: &mut dyn FnMut(usize),
) -> Result<Evaluation> {
    let has_direct = recommender.model().config().direct_head;
    config.validate_for(has_direct)?;
    check_targets(histories.len(), targets, recommender.n_items())?;
    let none: Vec<Rank> = vec![None; histories.len()];
    let unscored = vec![f32::NEG_INFINITY; histories.len() * TOP];
    let mut ranks = Evaluation {
        merged: none.clone(),
        behaviour: none.clone(),
        semantic: none.clone(),
        direct: if has_direct { none } else { vec![] },
        scores: TopScores {
            merged: unscored.clone(),
            behaviour: unscored.clone(),
            semantic: unscored.clone(),
            direct: if has_direct { unscored } else { vec![] },
        },
    };
    let rank = |users: Range<usize>, lists: Vec<Lists>| -> Vec<[Option<Found>; 4]> {
        let targets = targets[users].iter();
        let rank = |(&target, lists): (&u32, Lists)| {
            let single =
                |list: &[ItemScore]| found(list.iter().map(|of| (of.item, of.log_prob)), target);
            let merged = lists.merged.iter().map(|of| (of.item, of.score));
            [
                Some(found(merged, target)),
                Some(single(&lists.streams.behaviour)),
                Some(single(&lists.streams.semantic)),
                has_direct.then(|| single(&lists.direct)),
            ]
        };
        targets.zip(lists).map(rank).collect()
    };
    let mut finished = 0;
    recommender.each_chunk(
        histories,
        config,
        usize::MAX,
        &|_, _| true,
        rank,
        |users, found| {
            finished += users.len();
            let scores = &mut ranks.scores;
            for (user, found) in users.zip(found) {
                let kept = [
                    (&mut ranks.merged, &mut scores.merged),
                    (&mut ranks.behaviour, &mut scores.behaviour),
                    (&mut ranks.semantic, &mut scores.semantic),
                    (&mut ranks.direct, &mut scores.direct),
                ];
                for (of, (ranks, scores)) in found.into_iter().zip(kept) {
                    let Some(of) = of else { continue };
                    ranks[user] = of.rank;
                    scores[user * TOP..][..TOP].copy_from_slice(&of.scores);
                }
            }
            progress(finished);
        },
    )?;
    Ok(ranks)
}

/// Ranks of targets among all items by `counts` `[items]` in training, equal ones by item: the list everyone gets, with
/// `mask_history` less the items of the user's history (a target among them then has no rank).
///
/// # Errors
/// When there are not as many targets as histories, or an item is not among `counts`.
pub fn popularity_ranks(
    counts: &[u32],
    histories: &[&[u32]],
    targets: &[u32],
    mask_history: bool,
) -> Result<Vec<Rank>> {
    check_targets(histories.len(), targets, counts.len())?;
    check_items(histories, counts.len())?;
    let mut order: Vec<u32> = (0..counts.len() as u32).collect();
    order.sort_by_key(|&item| std::cmp::Reverse(counts[item as usize]));
    let mut places = vec![0u32; counts.len()];
    for (place, &item) in (0..).zip(&order) {
        places[item as usize] = place;
    }
    let rank = |(history, &target): (&&[u32], &u32)| {
        let own = places[target as usize];
        let masked = if mask_history { *history } else { &[] };
        if masked.contains(&target) {
            return None;
        }
        let masked = masked.iter().map(|&item| places[item as usize]);
        let mut before: Vec<u32> = masked.filter(|&place| place < own).collect();
        before.sort_unstable();
        before.dedup();
        Some(own - before.len() as u32 + 1)
    };
    Ok(histories.iter().zip(targets).map(rank).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popular_items_come_first_and_equal_ones_by_item() {
        // In order: 3 (7 times), 1, 4 (5), 0, 2 (1).
        let counts = [1, 5, 1, 7, 5];
        let histories: [&[u32]; 4] = [&[3, 3, 4], &[1], &[0], &[4, 1]];
        let targets = [2, 4, 3, 1];
        let ranks = |mask| popularity_ranks(&counts, &histories, &targets, mask).unwrap();
        assert_eq!(ranks(false), [Some(5), Some(3), Some(1), Some(2)]);
        assert_eq!(ranks(true), [Some(3), Some(2), Some(1), None]);
        assert!(popularity_ranks(&counts, &histories, &targets[1..], true).is_err());
        for mask in [false, true] {
            assert!(popularity_ranks(&counts, &[&[0]], &[5], mask).is_err());
            // Unknown, and of a user whose target is masked.
            let unknown = popularity_ranks(&counts, &[&[0], &[1, 9]], &[2, 1], mask);
            let message = unknown.unwrap_err().to_string();
            assert!(message.contains("history 1: item 9"), "{message}");
        }
    }
}
