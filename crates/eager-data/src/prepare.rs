//! From a log to a dataset: iterative k-core filter, order within a user, tie rule, dense numbering.
//!
//! `order = "time"` is the task of TIGER and S³-Rec; `order = "file"` is what the official EAGER code runs, whose
//! reader sets every time to 0 and sorts stably, so that a 2014 Amazon history is in order of its items' ASINs.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::MIN_HISTORY;
use crate::log::{Event, Events, Log};
use crate::{Clock, DataError, Interactions, Item, ItemId, Result};

/// Filter, order, tie rule and split: part of the evaluation protocol, so kept with the dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// What is held out. Not written where it is the usual one, so that older runs stay as they are.
    #[serde(skip_serializing_if = "SplitRule::is_leave_one_out")]
    pub split: SplitRule,
}

impl Default for PrepareConfig {
    /// The 5-core, time-ordered sets that the paper reports on, ties as the files list them, leave-one-out.
    fn default() -> Self {
        Self {
            user_core: 5,
            item_core: 5,
            order: Order::Time,
            ties: Ties::File,
            split: SplitRule::LeaveOneOut,
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

/// Which interactions are trained on, and which are to be predicted.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SplitRule {
    /// A user's last item for the test, the one before it for validation: the paper's, S³-Rec's and TIGER's.
    #[default]
    LeaveOneOut,
    /// One cut in time for all users, and one before it for validation: nothing that happened later is trained on
    /// (Gusak et al., Time to Split, RecSys 2025: global temporal split, target "last", validation "by time").
    GlobalTime {
        /// Share of the interactions before the test's cut; the validation's cut is at the same share of those. Between 0
        /// and 1, 0.9 in that study.
        quantile: f64,
    },
}

impl SplitRule {
    /// Whether it is the default.
    #[must_use]
    pub fn is_leave_one_out(&self) -> bool {
        *self == Self::LeaveOneOut
    }

    /// Checks the ranges, for histories in this order.
    fn validate(self, order: Order) -> Result<()> {
        let Self::GlobalTime { quantile } = self else {
            return Ok(());
        };
        if !(quantile > 0.0 && quantile < 1.0) {
            return Err(DataError::Prepare(format!(
                "`split.global-time.quantile` is {quantile}; use a share between 0 and 1, such as 0.9"
            )));
        }
        match order {
            Order::Time => Ok(()),
            Order::File => Err(DataError::Prepare(
                "`split.global-time` needs `order = \"time\"`: file order ignores times".to_owned(),
            )),
        }
    }

    /// Whether the dataset has the times that it needs.
    fn check(self, dataset: &str, clock: Clock) -> Result<()> {
        let lacks = match (self, clock) {
            (Self::LeaveOneOut, _) | (_, Clock::Absolute) => return Ok(()),
            (_, Clock::SinceFirst) => "has times since each user's own first interaction only",
            (_, Clock::Rank) => "has no times",
        };
        Err(DataError::Prepare(format!(
            "dataset `{dataset}` {lacks} here, so there is no one time to cut all users at; use a source with dates (for the \
             Amazon sets the raw files), or `split = \"leave-one-out\"`"
        )))
    }
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
        self.split.validate(self.order)
    }
}

/// What is left of a log, renumbered.
pub(crate) struct Prepared {
    pub(crate) users: Vec<String>,
    pub(crate) items: Vec<Item>,
    pub(crate) interactions: Interactions,
    /// Aligned with the interactions.
    pub(crate) times: Vec<f64>,
    pub(crate) clock: Clock,
}

/// Filters and orders `log`. With `by_item` file order means the order of the raw item ids, not that of the events.
///
/// At most 28 bytes an interaction are held: the log's 16, of which none are left at the end, and the result's 12.
pub(crate) fn prepare(
    dataset: &str,
    log: Log,
    config: &PrepareConfig,
    by_item: bool,
) -> Result<Prepared> {
    config.validate()?;
    if log.clock == Clock::Rank && config.ties != Ties::File {
        return Err(DataError::Prepare(format!(
            "dataset `{dataset}` has no times here, so its ties cannot be shuffled; use `ties = \"file\"`"
        )));
    }
    config.split.check(dataset, log.clock)?;
    let before = log.events.len();
    let nothing = || DataError::NothingLeft {
        dataset: dataset.to_owned(),
        user_core: config.user_core,
        item_core: config.item_core,
        before,
    };
    let core = Core::of(&log, config.user_core, config.item_core);
    if core.interactions == 0 {
        return Err(nothing());
    }
    let (new_user, new_item) = (renumber(&core.users), renumber(&core.items));
    let items = kept(log.items, &core.items);
    let (offsets, mut ids, mut times) = pack(log.events, &core, &new_user, &new_item);
    let mut history = Vec::new();
    for (user, place) in offsets.windows(2).enumerate() {
        let (ids, times) = (&mut ids[place[0]..place[1]], &mut times[place[0]..place[1]]);
        history.clear();
        history.extend(times.iter().copied().zip(ids.iter().copied()));
        match config.order {
            Order::Time => history.sort_by(|a, b| a.0.total_cmp(&b.0)),
            Order::File if by_item => history.sort_by_key(|(_, item)| &items[item.index()].id),
            Order::File => {}
        }
        if let Ties::Shuffle { seed } = config.ties {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(user as u64);
            history
                .chunk_by_mut(|a, b| a.0 == b.0)
                .for_each(|tied| tied.shuffle(&mut rng));
        }
        for (place, &(time, id)) in history.iter().enumerate() {
            (times[place], ids[place]) = (time, id);
        }
    }
    Ok(Prepared {
        users: kept(log.users, &core.users),
        interactions: Interactions::packed(offsets, ids, items.len()).ok_or_else(nothing)?,
        items,
        times,
        clock: log.clock,
    })
}

/// The users and items that are left when those below their core are dropped, in turn, until every one holds. An
/// interaction is left when both its user and its item are.
pub(crate) struct Core {
    /// By the log's numbers.
    pub(crate) users: Vec<bool>,
    /// By the log's numbers.
    pub(crate) items: Vec<bool>,
    pub(crate) interactions: usize,
}

impl Core {
    pub(crate) fn of(log: &Log, user_core: usize, item_core: usize) -> Self {
        let (n_users, n_items) = (log.users.len(), log.items.len());
        let (mut users, mut items) = (vec![true; n_users], vec![true; n_items]);
        let (mut of_user, mut of_item) = (vec![0u32; n_users], vec![0u32; n_items]);
        let mut before = usize::MAX;
        loop {
            of_user.fill(0);
            of_item.fill(0);
            let mut interactions = 0;
            for event in log.events.iter() {
                let (user, item) = (event.user as usize, event.item as usize);
                if users[user] && items[item] {
                    of_user[user] += 1;
                    of_item[item] += 1;
                    interactions += 1;
                }
            }
            let holds = |count: u32, core: usize| count > 0 && count as usize >= core;
            for (left, &count) in users.iter_mut().zip(&of_user) {
                *left = holds(count, user_core);
            }
            for (left, &count) in items.iter_mut().zip(&of_item) {
                *left = holds(count, item_core);
            }
            if interactions == before {
                return Self {
                    users,
                    items,
                    interactions,
                };
            }
            before = interactions;
        }
    }

    pub(crate) fn holds(&self, event: &Event) -> bool {
        self.users[event.user as usize] && self.items[event.item as usize]
    }
}

/// New numbers of what is left, in the old order; those of the others mean nothing.
fn renumber(left: &[bool]) -> Vec<u32> {
    let mut next = 0;
    left.iter()
        .map(|&left| {
            let number = next;
            next += u32::from(left);
            number
        })
        .collect()
}

fn kept<T>(all: Vec<T>, left: &[bool]) -> Vec<T> {
    let all = all.into_iter().zip(left);
    all.filter_map(|(one, &left)| left.then_some(one)).collect()
}

/// All histories in file order, in compressed rows with their times: offsets, items, times.
pub(crate) fn histories(log: Log) -> (Vec<usize>, Vec<ItemId>, Vec<f64>) {
    let core = Core {
        users: vec![true; log.users.len()],
        items: vec![true; log.items.len()],
        interactions: log.events.len(),
    };
    let (new_user, new_item) = (renumber(&core.users), renumber(&core.items));
    pack(log.events, &core, &new_user, &new_item)
}

/// The histories that are left in file order, in compressed rows, with their times.
fn pack(
    events: Events,
    core: &Core,
    new_user: &[u32],
    new_item: &[u32],
) -> (Vec<usize>, Vec<ItemId>, Vec<f64>) {
    let n_users = core.users.iter().filter(|left| **left).count();
    let mut offsets = vec![0; n_users + 1];
    for event in events.iter().filter(|event| core.holds(event)) {
        offsets[new_user[event.user as usize] as usize + 1] += 1;
    }
    for user in 0..n_users {
        offsets[user + 1] += offsets[user];
    }
    let mut next = offsets[..n_users].to_vec();
    let mut ids = vec![ItemId(0); core.interactions];
    let mut times = vec![0.0; core.interactions];
    for event in events.into_iter().filter(|event| core.holds(event)) {
        let place = &mut next[new_user[event.user as usize] as usize];
        ids[*place] = ItemId(new_item[event.item as usize]);
        times[*place] = event.time;
        *place += 1;
    }
    (offsets, ids, times)
}

#[cfg(test)]
mod tests {
    use super::*;
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
                .map(|i| Item::new(format!("i{:02}", 99 - i)))
                .collect(),
            clock: Clock::Absolute,
        }
    }

    fn items(prepared: &Prepared, user: usize) -> Vec<u32> {
        prepared
            .interactions
            .history(user)
            .iter()
            .map(|item| 99 - prepared.items[item.index()].id[1..].parse::<u32>().unwrap())
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
            let log = Log {
                events: events.iter().copied().collect(),
                users: vec![String::new(); 25],
                items: vec![Item::default(); 25],
                clock: Clock::Absolute,
            };
            let core = Core::of(&log, 5, 4);
            let fast: Vec<Event> = events.into_iter().filter(|e| core.holds(e)).collect();
            assert_eq!(fast, slow);
            assert_eq!(core.interactions, slow.len());
            sizes.push(fast.len());
        }
        assert!(
            sizes.iter().any(|&n| n > 0 && n < 150),
            "the cases must filter: {sizes:?}"
        );
    }

    #[test]
    fn time_order_is_stable_and_file_order_ignores_times() {
        let log = || log(&[(0, 2, 5.0), (0, 0, 1.0), (0, 1, 5.0), (0, 3, 0.5)]);
        let config = PrepareConfig {
            user_core: 3,
            item_core: 1,
            ..PrepareConfig::default()
        };
        assert_eq!(
            items(&prepare("t", log(), &config, false).unwrap(), 0),
            [3, 0, 2, 1]
        );
        let config = PrepareConfig {
            order: Order::File,
            ..config
        };
        assert_eq!(
            items(&prepare("t", log(), &config, false).unwrap(), 0),
            [2, 0, 1, 3]
        );
        // Raw ids run i99, i98, …: by raw id the order turns round.
        assert_eq!(
            items(&prepare("t", log(), &config, true).unwrap(), 0),
            [3, 2, 1, 0]
        );
    }

    #[test]
    fn shuffling_moves_ties_only_and_is_seeded() {
        let events: Vec<(u32, u32, f64)> = (0..40)
            .map(|i| (i / 20, i % 20, f64::from(i % 20 / 5)))
            .collect();
        let log = || log(&events);
        let with = |seed| PrepareConfig {
            user_core: 3,
            item_core: 1,
            ties: Ties::Shuffle { seed },
            ..PrepareConfig::default()
        };
        let a = prepare("t", log(), &with(1), false).unwrap();
        let (again, b) = (
            prepare("t", log(), &with(1), false).unwrap(),
            prepare("t", log(), &with(2), false).unwrap(),
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
            PrepareConfig {
                split: SplitRule::GlobalTime { quantile: 1.0 },
                ..base.clone()
            },
            PrepareConfig {
                split: SplitRule::GlobalTime { quantile: f64::NAN },
                ..base.clone()
            },
            PrepareConfig {
                order: Order::File,
                split: SplitRule::GlobalTime { quantile: 0.9 },
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
            prepare("t", ranked, &shuffle, false),
            Err(DataError::Prepare(_))
        ));
        let cut = PrepareConfig {
            split: SplitRule::GlobalTime { quantile: 0.9 },
            ..base.clone()
        };
        for (clock, lacks) in [
            (Clock::Rank, "no times"),
            (Clock::SinceFirst, "each user's own first interaction"),
        ] {
            let mut log = log(&[(0, 0, 0.0); 6]);
            log.clock = clock;
            let message = prepare("t", log, &cut, false).err().unwrap().to_string();
            assert!(
                message.contains(lacks) && message.contains("`t`"),
                "{message}"
            );
        }
        assert!(matches!(
            prepare("t", log(&[(0, 0, 0.0)]), &base, false),
            Err(DataError::NothingLeft { before: 1, .. })
        ));
    }

    #[test]
    fn the_usual_split_is_not_written_and_the_other_is_read_back() {
        let base = PrepareConfig::default();
        let text = serde_json::to_string(&base).unwrap();
        assert_eq!(
            text,
            r#"{"user_core":5,"item_core":5,"order":"time","ties":"file"}"#
        );
        let named: PrepareConfig = serde_json::from_str(r#"{"split":"leave-one-out"}"#).unwrap();
        assert_eq!(named, base);
        let cut = r#"{"user_core":5,"item_core":5,"order":"time","ties":"file","split":{"global-time":{"quantile":0.9}}}"#;
        let read: PrepareConfig = serde_json::from_str(cut).unwrap();
        assert_eq!(read.split, SplitRule::GlobalTime { quantile: 0.9 });
        assert_eq!(serde_json::to_string(&read).unwrap(), cut);
    }
}
