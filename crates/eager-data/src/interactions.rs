//! Users' histories as one flat array: what every later stage reads of a dataset.

use serde::{Deserialize, Serialize};

/// An item, numbered densely from 0 to `n_items - 1`: its row in every table of the later stages.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemId(pub u32);

impl ItemId {
    /// The id as an array index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// All histories, oldest item first, in compressed rows: user `u` owns `items[offsets[u]..offsets[u + 1]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interactions {
    offsets: Vec<usize>,
    items: Vec<ItemId>,
    n_items: usize,
}

impl Interactions {
    /// Packs `histories`; `None` when an item is not below `n_items`, or there are more than `u32` can number.
    #[must_use]
    pub fn new<'a>(
        histories: impl IntoIterator<Item = &'a [ItemId]>,
        n_items: usize,
    ) -> Option<Self> {
        let (mut offsets, mut items) = (vec![0], Vec::new());
        for history in histories {
            items.extend_from_slice(history);
            offsets.push(items.len());
        }
        Self::packed(offsets, items, n_items)
    }

    /// Takes what is packed already: `offsets` from 0 ascending to the number of items. `None` as in [`new`](Self::new).
    pub(crate) fn packed(offsets: Vec<usize>, items: Vec<ItemId>, n_items: usize) -> Option<Self> {
        debug_assert!(offsets.first() == Some(&0) && offsets.last() == Some(&items.len()));
        let fits =
            items.len() <= u32::MAX as usize && items.iter().all(|item| item.index() < n_items);
        fits.then_some(Self {
            offsets,
            items,
            n_items,
        })
    }

    /// Number of users.
    #[must_use]
    pub fn n_users(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of items, those without an interaction included.
    #[must_use]
    pub fn n_items(&self) -> usize {
        self.n_items
    }

    /// Number of interactions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no interaction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The items of `user`, oldest first.
    ///
    /// # Panics
    /// When `user >= n_users()`.
    #[must_use]
    pub fn history(&self, user: usize) -> &[ItemId] {
        &self.items[self.range(user)]
    }

    /// Where `user`'s interactions lie in arrays aligned with them, such as [`Dataset::times`](crate::Dataset::times).
    ///
    /// # Panics
    /// When `user >= n_users()`.
    #[must_use]
    pub fn range(&self, user: usize) -> std::ops::Range<usize> {
        self.offsets[user]..self.offsets[user + 1]
    }

    /// Every history, user by user.
    pub fn histories(&self) -> impl Iterator<Item = &[ItemId]> {
        (0..self.n_users()).map(|user| self.history(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_and_refuses() {
        let a = [ItemId(1), ItemId(0), ItemId(1)];
        let packed = Interactions::new([&a[..], &[], &a[..1]], 3).unwrap();
        assert_eq!(
            (packed.n_users(), packed.n_items(), packed.len()),
            (3, 3, 4)
        );
        assert_eq!(packed.history(0), a);
        assert!(packed.history(1).is_empty());
        assert_eq!(packed.range(2), 3..4);
        assert!(Interactions::new([&a[..]], 1).is_none());
    }
}
