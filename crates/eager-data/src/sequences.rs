//! Whole training histories, for models that learn to predict the next item at every position at once.

use crate::windows::Batches;
use crate::{ItemId, Split};

/// Training histories packed end to end, without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceBatch {
    /// Items but for each history's last, oldest first, `[offsets[len]]`.
    pub items: Vec<u32>,
    /// History `i` owns `items[offsets[i]..offsets[i + 1]]`, never empty; `[len + 1]`.
    pub offsets: Vec<u32>,
    /// The item after each, `[offsets[len]]`.
    pub targets: Vec<u32>,
}

/// Every user's training history of two items or more.
#[derive(Clone, Debug)]
pub struct Sequences {
    split: Split,
    window: usize,
    users: Vec<u32>,
}

impl Sequences {
    /// The histories of `split`; of longer ones the newest `window` items with an item after them. A `window` of 0 is taken
    /// as 1.
    #[must_use]
    pub fn new(split: &Split, window: usize) -> Self {
        let users = 0..split.n_users() as u32;
        Self {
            split: split.clone(),
            window: window.max(1),
            users: users
                .filter(|&user| split.train(user as usize).len() > 1)
                .collect(),
        }
    }

    /// Number of histories.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether no user has two training items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The batches of one epoch: as [`Windows::batches`](crate::Windows::batches), of histories.
    #[must_use]
    pub fn batches(&self, batch_size: usize, seed: u64, epoch: u64) -> Batches {
        Batches::shuffled(self.len(), batch_size, seed, epoch)
    }

    /// Packs the histories of these numbers.
    ///
    /// # Panics
    /// When a number is not below `len()`.
    #[must_use]
    pub fn batch(&self, histories: &[u32]) -> SequenceBatch {
        let mut batch = SequenceBatch {
            offsets: vec![0],
            ..SequenceBatch::default()
        };
        let ids = |items: &[ItemId]| items.iter().map(|item| item.0).collect::<Vec<u32>>();
        for &history in histories {
            let train = self.split.train(self.users[history as usize] as usize);
            let newest = &train[train.len().saturating_sub(self.window + 1)..];
            batch.items.extend(ids(&newest[..newest.len() - 1]));
            batch.targets.extend(ids(&newest[1..]));
            batch.offsets.push(batch.items.len() as u32);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::tests::{dataset, split};

    #[test]
    fn every_item_but_the_first_is_a_target_of_the_one_before() {
        // Of 0 the last two are held out; 1 has one training item alone.
        let split = Split::new(&dataset(&[vec![4, 3, 2, 1, 0, 5], vec![0, 1, 2]], 6)).unwrap();
        let sequences = Sequences::new(&split, 9);
        assert_eq!(sequences.len(), 1);
        let batch = sequences.batch(&[0]);
        assert_eq!((batch.items, batch.targets), (vec![4, 3, 2], vec![3, 2, 1]));
        assert_eq!(batch.offsets, [0, 3]);
        let newest = Sequences::new(&split, 2).batch(&[0]);
        assert_eq!((newest.items, newest.targets), (vec![3, 2], vec![2, 1]));
    }

    #[test]
    fn an_epoch_holds_every_history_once() {
        let split = split(60, 40, 3..50, 5);
        let sequences = Sequences::new(&split, 20);
        let batches = sequences.batches(7, 1, 0);
        let mut seen: Vec<u32> = batches.from(0).flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..sequences.len() as u32).collect::<Vec<_>>());
        assert_ne!(batches, sequences.batches(7, 1, 1));
        for histories in batches.from(0) {
            let batch = sequences.batch(histories);
            assert_eq!(batch.items.len(), batch.targets.len());
            assert_eq!(batch.offsets.last(), Some(&(batch.items.len() as u32)));
            assert!(
                batch
                    .offsets
                    .windows(2)
                    .all(|w| w[0] < w[1] && w[1] - w[0] <= 20)
            );
        }
    }
}
