//! What a reader makes of a source: every interaction in file order, before any filter.

use indexmap::IndexSet;
use serde::{Deserialize, Serialize};

use crate::Item;

/// What the times of a dataset count from.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// Times of different users compare (seconds since 1970 in every preset).
    Absolute,
    /// Seconds since the user's first interaction: times compare within a user only.
    SinceFirst,
    /// Places in the history, 0, 1, 2, …: the source has an order but no times, so ties cannot be seen.
    Rank,
}

/// One interaction: 16 bytes.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) user: u32,
    pub(crate) item: u32,
    /// Finite and not negative.
    pub(crate) time: f64,
}

/// Interactions in file order, however many: in blocks, so that growing copies nothing, and reading them for the last time
/// gives their memory back on the way.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Events {
    blocks: Vec<Vec<Event>>,
}

/// Events of a block: a mebibyte.
const BLOCK: usize = 1 << 16;

impl Events {
    pub(crate) fn push(&mut self, event: Event) {
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK => block.push(event),
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(event);
                self.blocks.push(block);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        let full = self.blocks.len().saturating_sub(1) * BLOCK;
        full + self.blocks.last().map_or(0, Vec::len)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Event> {
        self.blocks.iter().flatten()
    }
}

impl FromIterator<Event> for Events {
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> Self {
        let mut all = Self::default();
        events.into_iter().for_each(|event| all.push(event));
        all
    }
}

impl IntoIterator for Events {
    type Item = Event;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Vec<Event>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.blocks.into_iter().flatten()
    }
}

/// A source's interactions in file order, its users and its items, each numbered by first appearance.
#[derive(Debug, PartialEq)]
pub(crate) struct Log {
    pub(crate) events: Events,
    pub(crate) users: Vec<String>,
    pub(crate) items: Vec<Item>,
    pub(crate) clock: Clock,
}

/// Numbers raw ids by first appearance; each is kept once.
#[derive(Default)]
pub(crate) struct Numbering(IndexSet<Box<str>>);

impl Numbering {
    /// The number of `name`, a new one at its first appearance.
    pub(crate) fn number(&mut self, name: &str) -> u32 {
        let number = self.0.get_index_of(name);
        number.unwrap_or_else(|| self.0.insert_full(name.into()).0) as u32
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of `name` if it has appeared.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.0.get_index_of(name).map(|number| number as u32)
    }

    /// The names by number.
    pub(crate) fn into_names(self) -> Vec<String> {
        self.0.into_iter().map(String::from).collect()
    }

    /// An item of each name, by number.
    pub(crate) fn bare_items(&self) -> Vec<Item> {
        self.0.iter().map(|name| Item::new(&**name)).collect()
    }
}

/// Reads a time: a finite number that is not negative.
pub(crate) fn valid_time(time: f64) -> Option<f64> {
    (time.is_finite() && time >= 0.0).then_some(time)
}

/// What [`valid_time`] asks for, in an error's words.
pub(crate) const TIME: &str = "a finite number of seconds, not negative";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_in_order_over_the_borders_of_blocks() {
        let all: Vec<Event> = (0..2 * BLOCK as u32 + 3)
            .map(|i| Event {
                user: i,
                item: i / 2,
                time: f64::from(i),
            })
            .collect();
        for n in [0, 1, BLOCK, BLOCK + 1, all.len()] {
            let events: Events = all[..n].iter().copied().collect();
            assert_eq!((events.len(), events.is_empty()), (n, n == 0));
            assert!(events.iter().eq(&all[..n]));
            assert!(events.into_iter().eq(all[..n].iter().copied()));
        }
    }

    #[test]
    fn names_are_numbered_by_first_appearance() {
        let mut numbering = Numbering::default();
        assert_eq!(
            ["b", "a", "b", "c"].map(|name| numbering.number(name)),
            [0, 1, 0, 2]
        );
        assert_eq!((numbering.find("c"), numbering.find("d")), (Some(2), None));
        assert_eq!(numbering.into_names(), ["b", "a", "c"]);
    }
}
