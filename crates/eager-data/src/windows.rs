//! Training examples and their batches: every item of a training history but its first is a target once, its history
//! the up-to-19 items before it (the official code's window of 20 positions: 19 of history and the label). The official code
//! starts at the fifth item: see [`Windows::with_min_history`].
//!
//! The order of an epoch is a permutation drawn from (seed, epoch), so a cursor (epoch, batch) says all there is to
//! resume from.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::{ItemId, Split};

/// Positions of the official code's window: 19 items of history and the label (`train_rec.py`).
pub const WINDOW: usize = 20;

/// A batch of examples packed end to end, without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Users, `[len]`.
    pub users: Vec<u32>,
    /// Items of all histories, oldest first, `[offsets[len]]`.
    pub items: Vec<u32>,
    /// Example `i` owns `items[offsets[i]..offsets[i + 1]]`, never empty; `[len + 1]`.
    pub offsets: Vec<u32>,
    /// Items to predict, `[len]`.
    pub targets: Vec<u32>,
}

impl Batch {
    /// Packs examples (user, history, target), each with the newest `window - 1` items of its history.
    #[must_use]
    pub fn pack<'a>(
        window: usize,
        examples: impl IntoIterator<Item = (u32, &'a [ItemId], ItemId)>,
    ) -> Self {
        let mut batch = Self {
            offsets: vec![0],
            ..Self::default()
        };
        for (user, history, target) in examples {
            let newest = &history[history.len().saturating_sub(window.saturating_sub(1))..];
            batch.users.push(user);
            batch.items.extend(newest.iter().map(|item| item.0));
            batch.offsets.push(batch.items.len() as u32);
            batch.targets.push(target.0);
        }
        batch
    }

    /// Number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there is no example.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The history of example `i`.
    ///
    /// # Panics
    /// When `i >= len()`.
    #[must_use]
    pub fn history(&self, i: usize) -> &[u32] {
        &self.items[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }
}

/// Every training example of a split.
#[derive(Clone, Debug)]
pub struct Windows {
    split: Split,
    window: usize,
    /// Fewest items of an example's history.
    min_history: usize,
    /// Examples before each user, `[n_users + 1]`.
    before: Vec<u32>,
}

impl Windows {
    /// The examples of `split`, with at most `window - 1` items of history ([`WINDOW`] in the official code).
    /// A `window` below 2 is taken as 2, the shortest with a history.
    #[must_use]
    pub fn new(split: &Split, window: usize) -> Self {
        let examples = Self {
            split: split.clone(),
            window: window.max(2),
            min_history: 1,
            before: vec![],
        };
        examples.with_min_history(1)
    }

    /// The examples among these whose history has at least `min_history` items, before it is cut to the window. The official
    /// code has 4 (`min_seq_len = 5` with the label, `_partial_gen_train_sample`). 0 is taken as 1.
    #[must_use]
    pub fn with_min_history(mut self, min_history: usize) -> Self {
        self.min_history = min_history.max(1);
        self.before = vec![0];
        let mut sum = 0;
        for user in 0..self.split.n_users() {
            let items = self.split.train(user).len();
            sum += items.saturating_sub(self.min_history) as u32;
            self.before.push(sum);
        }
        self
    }

    /// Number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.before.last().map_or(0, |&n| n as usize)
    }

    /// Whether there is no example: no user has two training items, or more than `min_history`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batches of one epoch: a permutation of all examples that (`seed`, `epoch`) alone determine, cut into pieces
    /// of `batch_size`. The last may be shorter.
    #[must_use]
    pub fn batches(&self, batch_size: usize, seed: u64, epoch: u64) -> Batches {
        Batches::shuffled(self.len(), batch_size, seed, epoch)
    }

    /// Packs the examples of these numbers.
    ///
    /// # Panics
    /// When a number is not below `len()`.
    #[must_use]
    pub fn batch(&self, examples: &[u32]) -> Batch {
        Batch::pack(
            self.window,
            examples.iter().map(|&example| {
                let user = self.before.partition_point(|&before| before <= example) - 1;
                let end = (example - self.before[user]) as usize + self.min_history;
                let train = self.split.train(user);
                (user as u32, &train[..end], train[end])
            }),
        )
    }
}

/// The order of one epoch; see [`Windows::batches`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batches {
    order: Vec<u32>,
    batch_size: usize,
}

impl Batches {
    /// A permutation of `n` examples that (`seed`, `epoch`) alone determine.
    pub(crate) fn shuffled(n: usize, batch_size: usize, seed: u64, epoch: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(epoch);
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.shuffle(&mut rng);
        Self {
            order,
            batch_size: batch_size.max(1),
        }
    }

    /// Number of batches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len().div_ceil(self.batch_size)
    }

    /// Whether there is no example.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Example numbers of batch `index`, for [`Windows::batch`]; `None` after the last.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u32]> {
        self.order.chunks(self.batch_size).nth(index)
    }

    /// Example numbers of every batch from `first` on: where a resumed run goes on.
    pub fn from(&self, first: usize) -> impl Iterator<Item = &[u32]> {
        self.order.chunks(self.batch_size).skip(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::tests::split;
    use std::collections::BTreeSet;

    /// Written from the definition: for every user, every item of the training part but the first `least` is a target.
    fn plain(split: &Split, window: usize, least: usize) -> BTreeSet<(u32, Vec<u32>, u32)> {
        let mut out = BTreeSet::new();
        for user in 0..split.n_users() {
            let train: Vec<u32> = split.train(user).iter().map(|item| item.0).collect();
            for end in least..train.len() {
                let start = end.saturating_sub(window - 1);
                out.insert((user as u32, train[start..end].to_vec(), train[end]));
            }
        }
        out
    }

    #[test]
    fn an_epoch_holds_every_example_once() {
        let split = split(60, 40, 3..50, 5);
        for (window, batch_size, least) in [(20, 256, 1), (2, 7, 1), (5, 1, 4), (3, 64, 4)] {
            let windows = Windows::new(&split, window).with_min_history(least);
            let mut seen = BTreeSet::new();
            let mut count = 0;
            for examples in windows.batches(batch_size, 1, 0).from(0) {
                let batch = windows.batch(examples);
                assert!(batch.len() <= batch_size);
                assert_eq!(
                    batch.offsets.last().copied().unwrap() as usize,
                    batch.items.len()
                );
                for i in 0..batch.len() {
                    seen.insert((batch.users[i], batch.history(i).to_vec(), batch.targets[i]));
                    count += 1;
                }
            }
            assert_eq!(count, windows.len());
            // Items may repeat within a history, and then so may examples: compare as sets.
            assert_eq!(seen, plain(&split, window, least));
        }
    }

    #[test]
    fn the_cursor_alone_determines_the_batch() {
        let split = split(60, 40, 3..50, 5);
        let windows = Windows::new(&split, WINDOW);
        let (a, b) = (
            windows.batches(64, 9, 3),
            Windows::new(&split, WINDOW).batches(64, 9, 3),
        );
        assert_eq!(a, b);
        let resumed: Vec<&[u32]> = a.from(2).collect();
        assert_eq!(resumed.len(), a.len() - 2);
        for (i, examples) in resumed.iter().enumerate() {
            assert_eq!(Some(*examples), a.get(i + 2));
        }
        assert_eq!(a.get(a.len()), None);
        assert_ne!(a, windows.batches(64, 9, 4), "epochs differ");
        assert_ne!(a, windows.batches(64, 8, 3), "seeds differ");
    }

    /// Pinned, because a resumed run must see the same order with the next release of this crate.
    #[test]
    fn the_permutation_is_pinned() {
        let windows = Windows::new(&split(3, 9, 6..7, 1), WINDOW);
        assert_eq!(windows.batches(9, 2024, 1).get(0), Some(PINNED));
    }

    const PINNED: &[u32] = &[0, 7, 4, 8, 3, 6, 1, 2, 5];
}
