//! Which interactions are trained on, and which item of each user is to be predicted from what: leave-one-out, as the paper,
//! S³-Rec and TIGER have it, or one cut in time for all users ([`SplitRule`]).

use std::sync::Arc;

use crate::error::MIN_HISTORY;
use crate::prepare::SplitRule;
use crate::{Batch, DataError, Dataset, Interactions, ItemId, Result};

/// A view of a dataset's histories; clones share them.
#[derive(Clone, Debug)]
pub struct Split {
    interactions: Arc<Interactions>,
    /// By user.
    cuts: Arc<[Cut]>,
    /// Of validation and test, where they are the same for all.
    times: Option<[f64; 2]>,
}

/// Places in a user's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// End of what is trained on.
    train: u32,
    /// Target of the validation, with something before it.
    valid: Option<u32>,
    /// Target of the test, with something before it.
    test: Option<u32>,
}

/// An item to be predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example<'a> {
    /// What is known then, oldest first, never empty.
    pub history: &'a [ItemId],
    /// The item.
    pub target: ItemId,
}

impl Split {
    /// Splits `dataset` as its preparation says.
    ///
    /// # Errors
    /// When a user has fewer than three interactions for leave-one-out, or a cut in time leaves nothing to train on, or no
    /// user for validation or test.
    pub fn new(dataset: &Dataset) -> Result<Self> {
        let (cuts, times) = match dataset.prepare.split {
            SplitRule::LeaveOneOut => (leave_one_out(dataset)?, None),
            SplitRule::GlobalTime { quantile } => {
                let times = cut_times(&dataset.times, quantile)?;
                (at_times(dataset, times)?, Some(times))
            }
        };
        Ok(Self {
            interactions: Arc::new(dataset.interactions.clone()),
            cuts: cuts.into(),
            times,
        })
    }

    /// Number of users, those without a target included.
    #[must_use]
    pub fn n_users(&self) -> usize {
        self.interactions.n_users()
    }

    /// Number of items, those that occur only as targets included.
    #[must_use]
    pub fn n_items(&self) -> usize {
        self.interactions.n_items()
    }

    /// Where a global time split cuts, for validation and for test: what happened at that time or later is held out.
    #[must_use]
    pub fn cut_times(&self) -> Option<[f64; 2]> {
        self.times
    }

    /// The items of `user` that are trained on, oldest first.
    ///
    /// # Panics
    /// This and the following: when `user >= n_users()`.
    #[must_use]
    pub fn train(&self, user: usize) -> &[ItemId] {
        &self.interactions.history(user)[..self.cuts[user].train as usize]
    }

    /// The validation's target of `user`; with leave-one-out every user has one.
    #[must_use]
    pub fn valid(&self, user: usize) -> Option<Example<'_>> {
        self.example(user, self.cuts[user].valid)
    }

    /// The test's target of `user`; what was the validation's is part of its history. With leave-one-out every user has one.
    #[must_use]
    pub fn test(&self, user: usize) -> Option<Example<'_>> {
        self.example(user, self.cuts[user].test)
    }

    fn example(&self, user: usize, place: Option<u32>) -> Option<Example<'_>> {
        let (history, rest) = self
            .interactions
            .history(user)
            .split_at_checked(place? as usize)?;
        Some(Example {
            history,
            target: *rest.first()?,
        })
    }

    /// Users with a target in validation, ascending.
    #[must_use]
    pub fn valid_users(&self) -> Vec<u32> {
        self.users(|cut| cut.valid)
    }

    /// Users with a target in the test, ascending.
    #[must_use]
    pub fn test_users(&self) -> Vec<u32> {
        self.users(|cut| cut.test)
    }

    fn users(&self, target: impl Fn(&Cut) -> Option<u32>) -> Vec<u32> {
        let users = (0..).zip(self.cuts.iter());
        users
            .filter(|(_, cut)| target(cut).is_some())
            .map(|(user, _)| user)
            .collect()
    }

    /// Training interactions of every item, `[n_items]`: the popularity a baseline may know.
    #[must_use]
    pub fn train_counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.n_items()];
        for item in (0..self.n_users()).flat_map(|user| self.train(user)) {
            counts[item.index()] += 1;
        }
        counts
    }

    /// The validation examples of those of `users` that have one, each with the newest `window - 1` items known.
    #[must_use]
    pub fn valid_batch(&self, users: &[u32], window: usize) -> Batch {
        Self::batch(users, window, |user| self.valid(user))
    }

    /// The test examples of those of `users` that have one, each with the newest `window - 1` items known.
    #[must_use]
    pub fn test_batch(&self, users: &[u32], window: usize) -> Batch {
        Self::batch(users, window, |user| self.test(user))
    }

    fn batch<'a>(
        users: &[u32],
        window: usize,
        example: impl Fn(usize) -> Option<Example<'a>>,
    ) -> Batch {
        let examples = users.iter().filter_map(|&user| {
            let Example { history, target } = example(user as usize)?;
            Some((user, history, target))
        });
        Batch::pack(window, examples)
    }
}

/// The last item for the test, the one before it for validation.
fn leave_one_out(dataset: &Dataset) -> Result<Vec<Cut>> {
    let lengths = dataset.interactions.histories().map(<[ItemId]>::len);
    let cut = |(user, length): (usize, usize)| {
        if length < MIN_HISTORY {
            return Err(DataError::ShortUser {
                user: named(dataset, user),
                found: length,
            });
        }
        let last = length as u32 - 1;
        Ok(Cut {
            train: last - 1,
            valid: Some(last - 1),
            test: Some(last),
        })
    };
    lengths.enumerate().map(cut).collect()
}

fn named(dataset: &Dataset, user: usize) -> String {
    let name = dataset.users.get(user);
    name.cloned().unwrap_or_else(|| user.to_string())
}

/// The time before which a share of all interactions lies (with those of that very time after it), and the same of those
/// before it: validation's, test's.
fn cut_times(times: &[f64], quantile: f64) -> Result<[f64; 2]> {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let at = |times: &[f64]| times.get((quantile * times.len() as f64) as usize).copied();
    let nothing = || {
        DataError::Prepare(format!(
            "the {quantile} quantile of the times leaves nothing before it to train on; raise `split.global-time.quantile`"
        ))
    };
    let test = at(&times).ok_or_else(nothing)?;
    let before = &times[..times.partition_point(|&time| time < test)];
    let valid = at(before).ok_or_else(nothing)?;
    match before.first() {
        Some(&first) if first < valid => Ok([valid, test]),
        _ => Err(nothing()),
    }
}

/// Of every user the last interaction between the cuts for validation, the last one of all for the test if it is after them.
fn at_times(dataset: &Dataset, [valid, test]: [f64; 2]) -> Result<Vec<Cut>> {
    let interactions = &dataset.interactions;
    // The last of `range`, if there is one with something before it.
    let last = |range: std::ops::Range<usize>| {
        let place = range.end.checked_sub(1)?;
        (place >= range.start.max(1)).then_some(place as u32)
    };
    let users = (0..interactions.n_users()).map(|user| {
        let times = &dataset.times[interactions.range(user)];
        let before = |cut: f64| times.partition_point(|&time| time < cut);
        Cut {
            train: before(valid) as u32,
            valid: last(before(valid)..before(test)),
            test: last(before(test)..times.len()),
        }
    });
    let cuts: Vec<Cut> = users.collect();
    for (what, none) in [
        ("validation", cuts.iter().all(|cut| cut.valid.is_none())),
        ("test", cuts.iter().all(|cut| cut.test.is_none())),
    ] {
        if none {
            return Err(DataError::Prepare(format!(
                "the global time split leaves no user with a {what} target and a history before it; choose another \
                 `split.global-time.quantile`"
            )));
        }
    }
    Ok(cuts)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Clock, Item, PrepareConfig, Sequences, Windows};
    use rand::{Rng, SeedableRng};

    /// A dataset with these histories.
    pub(crate) fn dataset(histories: &[Vec<u32>], n_items: u32) -> Dataset {
        let histories: Vec<Vec<ItemId>> = histories
            .iter()
            .map(|h| h.iter().map(|&i| ItemId(i)).collect())
            .collect();
        let times = histories
            .iter()
            .flat_map(|h| (0..h.len()).map(|i| i as f64 / 2.0))
            .collect();
        Dataset {
            name: "test".into(),
            interactions: Interactions::new(histories.iter().map(Vec::as_slice), n_items as usize)
                .unwrap(),
            times,
            clock: Clock::Absolute,
            items: (0..n_items).map(|i| Item::new(format!("i{i}"))).collect(),
            users: (0..histories.len()).map(|u| format!("u{u}")).collect(),
            prepare: PrepareConfig::default(),
            format: "test".into(),
            files: vec![],
        }
    }

    /// Random histories of these lengths.
    pub(crate) fn split(
        users: usize,
        n_items: u32,
        lengths: std::ops::Range<usize>,
        seed: u64,
    ) -> Split {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let histories: Vec<Vec<u32>> = (0..users)
            .map(|_| {
                (0..rng.random_range(lengths.clone()))
                    .map(|_| rng.random_range(0..n_items))
                    .collect()
            })
            .collect();
        Split::new(&dataset(&histories, n_items)).unwrap()
    }

    fn ids(items: &[ItemId]) -> Vec<u32> {
        items.iter().map(|item| item.0).collect()
    }

    #[test]
    fn the_last_two_are_held_out() {
        let split = Split::new(&dataset(&[vec![4, 3, 2, 1, 0], vec![0, 1, 2]], 5)).unwrap();
        assert_eq!(ids(split.train(0)), [4, 3, 2]);
        let shown = |example: Option<Example>| example.map(|e| (ids(e.history), e.target.0));
        assert_eq!(shown(split.valid(0)), Some((vec![4, 3, 2], 1)));
        assert_eq!(shown(split.test(0)), Some((vec![4, 3, 2, 1], 0)));
        assert_eq!(
            (split.valid_users(), split.test_users()),
            (vec![0, 1], vec![0, 1])
        );
        assert_eq!(split.cut_times(), None);
        assert_eq!(ids(split.train(1)), [0]);
        assert_eq!(split.train_counts(), [1, 0, 1, 1, 1]);
        let batch = split.test_batch(&[1, 0], 4);
        assert_eq!(batch.users, [1, 0]);
        assert_eq!(
            (batch.history(0), batch.history(1)),
            (&[0, 1][..], &[3, 2, 1][..])
        );
        assert_eq!(batch.targets, [2, 0]);
        assert_eq!(split.valid_batch(&[1], 20).targets, [1]);
    }

    #[test]
    fn too_short_a_user_is_named() {
        let message = Split::new(&dataset(&[vec![0, 1, 2], vec![0, 1]], 3))
            .unwrap_err()
            .to_string();
        assert!(message.contains("user u1 has 2 interactions"), "{message}");
    }

    /// Users with random times, every interaction with an item of its own, so that an item tells its time.
    fn in_time(users: usize, seed: u64, quantile: f64) -> Dataset {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let (mut histories, mut times) = (vec![], vec![]);
        let mut next = 0;
        for _ in 0..users {
            // Some users come early, some late, and days are few enough for ties at the cuts.
            let (length, from) = (rng.random_range(1..12), rng.random_range(0..60));
            let mut own: Vec<f64> = (0..length)
                .map(|_| f64::from(from + rng.random_range(0..25)))
                .collect();
            own.sort_by(f64::total_cmp);
            times.extend(own);
            histories.push((next..next + length).collect());
            next += length;
        }
        let mut dataset = dataset(&histories, next);
        dataset.times = times;
        dataset.prepare.split = SplitRule::GlobalTime { quantile };
        dataset
    }

    /// Against the definition, written slowly from the events alone.
    #[test]
    fn nothing_after_the_cut_is_trained_on() {
        for (seed, quantile) in [(1, 0.9), (2, 0.8), (3, 0.5), (4, 0.95)] {
            let dataset = in_time(80, seed, quantile);
            let split = Split::new(&dataset).unwrap();
            let time = |item: ItemId| dataset.times[item.index()];
            let cut = |before: f64| {
                let mut times: Vec<f64> = dataset.times.clone();
                times.retain(|&time| time < before);
                times.sort_by(f64::total_cmp);
                times[(quantile * times.len() as f64) as usize]
            };
            let test_cut = cut(f64::INFINITY);
            let valid_cut = cut(test_cut);
            assert_eq!(split.cut_times(), Some([valid_cut, test_cut]));
            assert!(valid_cut < test_cut);
            let mut skipped = 0;
            for user in 0..split.n_users() {
                let all: Vec<ItemId> = dataset.interactions.history(user).to_vec();
                let until = |end: f64| -> Vec<ItemId> {
                    all.iter()
                        .copied()
                        .filter(|&item| time(item) < end)
                        .collect()
                };
                assert_eq!(split.train(user), until(valid_cut));
                let expected = |from: f64, end: f64| {
                    let known = until(end);
                    let (&target, history) = known.split_last()?;
                    (time(target) >= from && !history.is_empty())
                        .then(|| (history.to_vec(), target))
                };
                let found =
                    |example: Option<Example>| example.map(|e| (e.history.to_vec(), e.target));
                let (valid, test) = (found(split.valid(user)), found(split.test(user)));
                assert_eq!(valid, expected(valid_cut, test_cut));
                assert_eq!(test, expected(test_cut, f64::INFINITY));
                assert_eq!(
                    split.valid_users().contains(&(user as u32)),
                    valid.is_some()
                );
                assert_eq!(split.test_users().contains(&(user as u32)), test.is_some());
                skipped += usize::from(test.is_none());
                // Who has a target has that of leave-one-out: the last item.
                assert!(test.is_none_or(|(_, target)| Some(&target) == all.last()));
            }
            assert!(skipped > 0 && skipped < 80, "{skipped}");
            let examples = Windows::new(&split, 20);
            let numbers: Vec<u32> = (0..examples.len() as u32).collect();
            let batch = examples.batch(&numbers);
            let trained = batch.items.iter().chain(&batch.targets);
            assert!(trained.copied().all(|item| time(ItemId(item)) < valid_cut));
            let sequences = Sequences::new(&split, 20);
            let numbers: Vec<u32> = (0..sequences.len() as u32).collect();
            let batch = sequences.batch(&numbers);
            assert!(
                batch
                    .targets
                    .iter()
                    .all(|&item| time(ItemId(item)) < valid_cut)
            );
            let late = |item: usize| time(ItemId(item as u32)) >= valid_cut;
            let counts = split.train_counts();
            assert!((0..counts.len()).all(|item| (counts[item] == 0) == late(item)));
            // A batch is of those that have a target.
            let users: Vec<u32> = (0..split.n_users() as u32).collect();
            assert_eq!(split.valid_batch(&users, 20).users, split.valid_users());
            let batch = split.test_batch(&users, 20);
            assert_eq!(batch.users, split.test_users());
            assert!(
                batch
                    .targets
                    .iter()
                    .all(|&item| time(ItemId(item)) >= test_cut)
            );
        }
    }

    #[test]
    fn a_cut_that_leaves_nothing_is_told() {
        let mut dataset = in_time(20, 1, 0.9);
        let message = |dataset: &Dataset| Split::new(dataset).unwrap_err().to_string();
        dataset.times.fill(7.0);
        assert!(
            message(&dataset).contains("leaves nothing before it"),
            "{}",
            message(&dataset)
        );
        // Two users who never meet: the later one has no history before the test, the earlier one nothing in it.
        let mut apart = super::tests::dataset(&[vec![0, 1, 2, 3], vec![4]], 5);
        apart.times = vec![1.0, 2.0, 3.0, 4.0, 9.0];
        apart.prepare.split = SplitRule::GlobalTime { quantile: 0.8 };
        assert!(
            message(&apart).contains("no user with a test target"),
            "{}",
            message(&apart)
        );
    }
}
