//! The leave-one-out split of the paper (and of S³-Rec and TIGER): a user's last item is the test target, the one
//! before it the validation target, the rest is for training.

use std::sync::Arc;

use crate::error::MIN_HISTORY;
use crate::{Batch, DataError, Dataset, Interactions, ItemId, Result};

/// A view of a dataset's histories; clones share them.
#[derive(Clone, Debug)]
pub struct Split {
    interactions: Arc<Interactions>,
}

impl Split {
    /// Splits `dataset`.
    ///
    /// # Errors
    /// When a user has fewer than three interactions.
    pub fn new(dataset: &Dataset) -> Result<Self> {
        let interactions = &dataset.interactions;
        match interactions
            .histories()
            .position(|history| history.len() < MIN_HISTORY)
        {
            None => Ok(Self {
                interactions: Arc::new(interactions.clone()),
            }),
            Some(user) => Err(DataError::ShortUser {
                user: dataset
                    .users
                    .get(user)
                    .cloned()
                    .unwrap_or_else(|| user.to_string()),
                found: interactions.history(user).len(),
            }),
        }
    }

    /// Number of users: each has one validation and one test target.
    #[must_use]
    pub fn n_users(&self) -> usize {
        self.interactions.n_users()
    }

    /// Number of items, those that occur only as targets included.
    #[must_use]
    pub fn n_items(&self) -> usize {
        self.interactions.n_items()
    }

    /// All but the last two items of `user`, oldest first.
    ///
    /// # Panics
    /// This and the following: when `user >= n_users()`.
    #[must_use]
    pub fn train(&self, user: usize) -> &[ItemId] {
        let history = self.interactions.history(user);
        &history[..history.len() - 2]
    }

    /// What is known when the validation target is to be predicted: [`train`](Self::train).
    #[must_use]
    pub fn valid_history(&self, user: usize) -> &[ItemId] {
        self.train(user)
    }

    /// The item before the last.
    #[must_use]
    pub fn valid_target(&self, user: usize) -> ItemId {
        let history = self.interactions.history(user);
        history[history.len() - 2]
    }

    /// What is known when the test target is to be predicted: the validation target is part of it.
    #[must_use]
    pub fn test_history(&self, user: usize) -> &[ItemId] {
        let history = self.interactions.history(user);
        &history[..history.len() - 1]
    }

    /// The last item.
    #[must_use]
    pub fn test_target(&self, user: usize) -> ItemId {
        let history = self.interactions.history(user);
        history[history.len() - 1]
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

    /// The validation examples of `users`, each with the newest `window - 1` items known.
    #[must_use]
    pub fn valid_batch(&self, users: &[u32], window: usize) -> Batch {
        Batch::pack(
            window,
            users.iter().map(|&user| {
                (
                    user,
                    self.valid_history(user as usize),
                    self.valid_target(user as usize),
                )
            }),
        )
    }

    /// The test examples of `users`, each with the newest `window - 1` items known.
    #[must_use]
    pub fn test_batch(&self, users: &[u32], window: usize) -> Batch {
        Batch::pack(
            window,
            users.iter().map(|&user| {
                (
                    user,
                    self.test_history(user as usize),
                    self.test_target(user as usize),
                )
            }),
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Clock, Item, PrepareConfig};
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
        assert_eq!(
            (split.valid_target(0), split.test_target(0)),
            (ItemId(1), ItemId(0))
        );
        assert_eq!(ids(split.valid_history(0)), [4, 3, 2]);
        assert_eq!(ids(split.test_history(0)), [4, 3, 2, 1]);
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
}
