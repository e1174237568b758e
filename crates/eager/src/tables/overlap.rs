//! Whose targets two rows both find: rows of equal figures may serve different users.

use eager_infer::metrics::Rank;
use serde::Serialize;

/// Length of the lists.
pub const K: usize = 10;

/// Hits among the first [`K`] of a row and of the best row, as shares of the users; means over pairs of runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Overlap {
    /// Pairs of runs.
    pub pairs: usize,
    /// Of both.
    pub both: f64,
    /// Of this row alone.
    pub alone: f64,
    /// Of the best row alone.
    pub best_alone: f64,
    /// Which share of the best row's hits this row has too; 0 where that has none.
    pub of_best: f64,
}

impl Overlap {
    /// Of all pairs (a run of the row, a run of the best row), over the same users; `None` without a pair.
    pub fn of(pairs: &[(&[Rank], &[Rank])]) -> Option<Self> {
        let hit = |rank: &Rank| rank.is_some_and(|rank| rank as usize <= K);
        let (mut counts, mut users) = ([0usize; 3], 0);
        for (row, best) in pairs {
            users += row.len();
            for (row, best) in row.iter().zip(*best) {
                match (hit(row), hit(best)) {
                    (true, true) => counts[0] += 1,
                    (true, false) => counts[1] += 1,
                    (false, true) => counts[2] += 1,
                    (false, false) => {}
                }
            }
        }
        let share = |n: usize| n as f64 / users as f64;
        (users > 0).then(|| Self {
            pairs: pairs.len(),
            both: share(counts[0]),
            alone: share(counts[1]),
            best_alone: share(counts[2]),
            of_best: counts[0] as f64 / (counts[0] + counts[2]).max(1) as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_of_both_or_of_one() {
        let row = [Some(1), Some(10), Some(11), None, Some(3)];
        let best = [Some(10), Some(2), Some(1), Some(4), None];
        let found = Overlap::of(&[(&row, &best)]).unwrap();
        assert_eq!((found.both, found.alone, found.best_alone), (0.4, 0.2, 0.4));
        assert_eq!(found.of_best, 0.5);
        let other = [None; 5];
        let mean = Overlap::of(&[(&row, &best), (&other, &best)]).unwrap();
        assert_eq!((mean.pairs, mean.both, mean.of_best), (2, 0.2, 0.25));
        assert_eq!(Overlap::of(&[(&row, &other)]).unwrap().of_best, 0.0);
        assert_eq!(Overlap::of(&[]), None);
    }
}
