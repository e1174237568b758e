//! What a reader makes of a source: every interaction in file order, before any filter.

use std::collections::HashMap;

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

/// One interaction.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) user: u32,
    pub(crate) item: u32,
    /// Finite and not negative.
    pub(crate) time: f64,
}

/// A source's interactions in file order, its users and its items, each numbered by first appearance.
#[derive(Debug, PartialEq)]
pub(crate) struct Log {
    pub(crate) events: Vec<Event>,
    pub(crate) users: Vec<String>,
    pub(crate) items: Vec<Item>,
    pub(crate) clock: Clock,
}

/// Numbers raw ids by first appearance.
#[derive(Default)]
pub(crate) struct Numbering {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

impl Numbering {
    /// The number of `name`, a new one at its first appearance.
    pub(crate) fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        number
    }

    /// The number of `name` if it has appeared.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// The names by number.
    pub(crate) fn into_names(self) -> Vec<String> {
        self.names
    }

    /// An item of each name, by number.
    pub(crate) fn bare_items(&self) -> Vec<Item> {
        self.names.iter().map(Item::new).collect()
    }
}

/// Reads a time: a finite number that is not negative.
pub(crate) fn valid_time(time: f64) -> Option<f64> {
    (time.is_finite() && time >= 0.0).then_some(time)
}

/// What [`valid_time`] asks for, in an error's words.
pub(crate) const TIME: &str = "a finite number of seconds, not negative";
