//! From a log to a dataset: iterative k-core filter, order within a user, tie rule, dense numbering.
//!
//! `order = "time"` is the task of TIGER and S³-Rec; `order = "file"` is what the official EAGER code runs, whose
//! reader sets every time to 0 and sorts stably, so that a 2014 Amazon history is in order of its items' ASINs.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::MIN_HISTORY;
use crate::log::{Event, Log};
use crate::{Clock, DataError, Interactions, ItemId, Result};

/// Filter, order and tie rule: part of the evaluation protocol, so kept with the dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrepareConfig {
    /// Fewest interactions of a user; at least 3, as leave-one-out needs. 5 in the paper's sets.
    pub user_core: usize,
    /// Fewest interactions of an item; 5 in the paper's sets. Users and items are dropped in turn until both hold.
    pub item_core: usize,
    /// Order of a history.
    pub order: Order,
    /// Order of interactions with the same time; has a meaning with `order = "time"` only.
    pub ties: Ties,
}

impl Default for PrepareConfig {
    /// The 5-core, time-ordered sets that the paper reports on, ties as the files list them.
    fn default() -> Self {
        Self {
            user_core: 5,
            item_core: 5,
            order: Order::Time,
            ties: Ties::File,
        }
    }
}

/// What a history is sorted by.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Oldest first, by the source's times.
    Time,
    /// As the source's files list the interactions, times ignored: the official code's order.
    File,
}

/// How interactions with the same time are ordered.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ties {
    /// As the files list them (a stable sort). In the 2014 Amazon sets that is in order of ASIN.
    File,
    /// In an order drawn for each user from this seed.
    Shuffle {
        /// Seed; a user's draw depends on it and on the user's number alone.
        seed: u64,
    },
}

impl PrepareConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// When a field is out of range, or a tie rule is asked of an order without ties.
    pub fn validate(&self) -> Result<()> {
        if self.user_core < MIN_HISTORY {
            return Err(DataError::Prepare(format!(
                "`user_core` is {}; leave-one-out needs at least {MIN_HISTORY} interactions a user (one to train on, one to validate, one to test)",
                self.user_core
            )));
        }
        if self.item_core == 0 {
            return Err(DataError::Prepare(
                "`item_core` is 0; use 1 to keep every item that occurs".to_owned(),
            ));
        }
        if self.order == Order::File && self.ties != Ties::File {
            return Err(DataError::Prepare(
                "`ties` other than \"file\" needs `order = \"time\"`: file order ignores times"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// What is left of a log: the old numbers of users and items, and the histories in new ones.
pub(crate) struct Prepared {
    pub(crate) users: Vec<u32>,
    pub(crate) items: Vec<u32>,
    pub(crate) interactions: Interactions,
    /// Aligned with the interactions.
    pub(crate) times: Vec<f64>,
}

/// Filters and orders `log`. With `by_item` file order means the order of the raw item ids, not that of the events.
pub(crate) fn prepare(
    dataset: &str,
    log: &Log,
    config: &PrepareConfig,
    by_item: bool,
) -> Result<Prepared> {
    config.validate()?;
    if log.clock == Clock::Rank && config.ties != Ties::File {
        return Err(DataError::Prepare(format!(
            "dataset `{dataset}` has no times here, so its ties cannot be shuffled; use `ties = \"file\"`"
        )));
    }
    let kept = k_core(&log.events, log.users.len(), log.items.len(), config);
    let nothing = || DataError::NothingLeft {
        dataset: dataset.to_owned(),
        user_core: config.user_core,
        item_core: config.item_core,
        before: log.events.len(),
    };
    if kept.is_empty() {
        return Err(nothing());
    }
    let (users, new_user) = renumber(log.users.len(), kept.iter().map(|event| event.user));
    let (items, new_item) = renumber(log.items.len(), kept.iter().map(|event| event.item));

    let mut histories: Vec<Vec<Event>> = vec![Vec::new(); users.len()];
    for event in kept {
        histories[new_user[event.user as usize] as usize].push(event);
    }
    for (user, history) in histories.iter_mut().enumerate() {
        match config.order {
            Order::Time => history.sort_by(|a, b| a.time.total_cmp(&b.time)),
            Order::File if by_item => {
                history.sort_by_key(|event| &log.items[event.item as usize].id)
            }
            Order::File => {}
        }
        if let Ties::Shuffle { seed } = config.ties {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(user as u64);
            history
                .chunk_by_mut(|a, b| a.time == b.time)
                .for_each(|tied| tied.shuffle(&mut rng));
        }
    }
    let times = histories.iter().flatten().map(|event| event.time).collect();
    let histories: Vec<Vec<ItemId>> = histories
        .iter()
        .map(|history| {
            history
                .iter()
                .map(|event| ItemId(new_item[event.item as usize]))
                .collect()
        })
        .collect();
    let interactions =
        Interactions::new(histories.iter().map(Vec::as_slice), items.len()).ok_or_else(nothing)?;
    Ok(Prepared {
        users,
        items,
        interactions,
        times,
    })
}

/// Drops users and items below their core, in turn, until every one that is left holds.
fn k_core(events: &[Event], n_users: usize, n_items: usize, config: &PrepareConfig) -> Vec<Event> {
    let mut kept = events.to_vec();
    loop {
        let (mut of_user, mut of_item) = (vec![0usize; n_users], vec![0usize; n_items]);
        for event in &kept {
            of_user[event.user as usize] += 1;
            of_item[event.item as usize] += 1;
        }
        let before = kept.len();
        kept.retain(|event| {
            of_user[event.user as usize] >= config.user_core
                && of_item[event.item as usize] >= config.item_core
        });
        if kept.len() == before {
            return kept;
        }
    }
}

/// Old numbers that occur, ascending, and the new number of each old one.
fn renumber(n: usize, occurring: impl Iterator<Item = u32>) -> (Vec<u32>, Vec<u32>) {
    let mut occurs = vec![false; n];
    for old in occurring {
        occurs[old as usize] = true;
    }
    let old: Vec<u32> = (0..n as u32).filter(|&old| occurs[old as usize]).collect();
    let mut new = vec![u32::MAX; n];
    for (number, &old) in old.iter().enumerate() {
        new[old as usize] = number as u32;
    }
    (old, new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Item;
    use rand::Rng;

    fn log(events: &[(u32, u32, f64)]) -> Log {
        let n =
            |pick: fn(&(u32, u32, f64)) -> u32| events.iter().map(pick).max().map_or(0, |m| m + 1);
        Log {
            events: events
                .iter()
                .map(|&(user, item, time)| Event { user, item, time })
                .collect(),
            users: (0..n(|e| e.0)).map(|u| format!("u{u}")).collect(),
            items: (0..n(|e| e.1))
                .map(|i| Item::new(format!("i{}", 9 - i)))
                .collect(),
            clock: Clock::Absolute,
        }
    }

    fn items(prepared: &Prepared, user: usize) -> Vec<u32> {
        prepared
            .interactions
            .history(user)
            .iter()
            .map(|item| prepared.items[item.index()])
            .collect()
    }

    /// Against the definition: the k-core is the union of all sets of events in which every user and item holds;
    /// removing offenders one at a time, in any order, must leave the same.
    #[test]
    fn k_core_equals_one_at_a_time_removal() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut sizes = Vec::new();
        for _ in 0..50 {
            let events: Vec<Event> = (0..150)
                .map(|_| Event {
                    user: rng.random_range(0..25),
                    item: rng.random_range(0..25),
                    time: 0.0,
                })
                .collect();
            let config = PrepareConfig {
                user_core: 5,
                item_core: 4,
                ..PrepareConfig::default()
            };
            let mut slow = events.clone();
            loop {
                let offends = |e: &Event| {
                    slow.iter().filter(|o| o.user == e.user).count() < 5
                        || slow.iter().filter(|o| o.item == e.item).count() < 4
                };
                let offenders: Vec<usize> =
                    (0..slow.len()).filter(|&i| offends(&slow[i])).collect();
                if offenders.is_empty() {
                    break;
                }
                slow.remove(offenders[rng.random_range(0..offenders.len())]);
            }
            let fast = k_core(&events, 25, 25, &config);
            assert_eq!(fast, slow);
            sizes.push(fast.len());
        }
        assert!(
            sizes.iter().any(|&n| n > 0 && n < 150),
            "the cases must filter: {sizes:?}"
        );
    }

    #[test]
    fn time_order_is_stable_and_file_order_ignores_times() {
        let log = log(&[(0, 2, 5.0), (0, 0, 1.0), (0, 1, 5.0), (0, 3, 0.5)]);
        let config = PrepareConfig {
            user_core: 3,
            item_core: 1,
            ..PrepareConfig::default()
        };
        assert_eq!(
            items(&prepare("t", &log, &config, false).unwrap(), 0),
            [3, 0, 2, 1]
        );
        let config = PrepareConfig {
            order: Order::File,
            ..config
        };
        assert_eq!(
            items(&prepare("t", &log, &config, false).unwrap(), 0),
            [2, 0, 1, 3]
        );
        // Raw ids run i9, i8, …: by raw id the order turns round.
        assert_eq!(
            items(&prepare("t", &log, &config, true).unwrap(), 0),
            [3, 2, 1, 0]
        );
    }

    #[test]
    fn shuffling_moves_ties_only_and_is_seeded() {
        let events: Vec<(u32, u32, f64)> = (0..40)
            .map(|i| (i / 20, i % 20, f64::from(i % 20 / 5)))
            .collect();
        let log = log(&events);
        let with = |seed| PrepareConfig {
            user_core: 3,
            item_core: 1,
            ties: Ties::Shuffle { seed },
            ..PrepareConfig::default()
        };
        let a = prepare("t", &log, &with(1), false).unwrap();
        let (again, b) = (
            prepare("t", &log, &with(1), false).unwrap(),
            prepare("t", &log, &with(2), false).unwrap(),
        );
        assert_eq!(items(&a, 0), items(&again, 0));
        assert_ne!(items(&a, 0), items(&b, 0));
        assert_ne!(items(&a, 0), items(&a, 1), "users draw apart");
        assert_eq!(a.times, events.iter().map(|e| e.2).collect::<Vec<_>>());
        for (group, tied) in items(&a, 0).chunks(5).enumerate() {
            let mut tied = tied.to_vec();
            tied.sort_unstable();
            assert_eq!(
                tied,
                (group as u32 * 5..group as u32 * 5 + 5).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let base = PrepareConfig::default();
        assert!(base.validate().is_ok());
        for bad in [
            PrepareConfig {
                user_core: 2,
                ..base.clone()
            },
            PrepareConfig {
                item_core: 0,
                ..base.clone()
            },
            PrepareConfig {
                order: Order::File,
                ties: Ties::Shuffle { seed: 1 },
                ..base.clone()
            },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
        let mut ranked = log(&[(0, 0, 0.0); 6]);
        ranked.clock = Clock::Rank;
        let shuffle = PrepareConfig {
            ties: Ties::Shuffle { seed: 1 },
            ..base.clone()
        };
        assert!(matches!(
            prepare("t", &ranked, &shuffle, false),
            Err(DataError::Prepare(_))
        ));
        assert!(matches!(
            prepare("t", &log(&[(0, 0, 0.0)]), &base, false),
            Err(DataError::NothingLeft { before: 1, .. })
        ));
    }
}
