//! Queries: a history, a filter and a number of items in; a ranked list out.

use std::collections::{BTreeMap, BTreeSet};

use eager_infer::{InferConfig, Lists, Ranked};
use eager_model::Stream;
use serde::{Deserialize, Serialize};

use crate::{Bundle, BundleError, Result};

/// One user's question. Items are numbers, see [`Bundle::number`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// The user's items, oldest first; at least one. The newest of them are read, as many as the model's window has room for.
    pub history: Vec<u32>,
    /// Length of the list; it is shorter only where the filter lets fewer items through. Above the bundle's `top_k` more of
    /// each stream is taken, so by sum or mixture the first items of a longer list need not be those of a shorter one.
    pub k: usize,
    /// Which list.
    pub list: ListKind,
    /// What may be in it.
    pub filter: Filter,
}

/// Both streams' list, or one stream's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListKind {
    /// Both streams' predictions, merged (paper §3.5).
    #[default]
    Merged,
    /// The behaviour stream's.
    Behaviour,
    /// The semantic stream's.
    Semantic,
}

/// What a list may hold. `Default` lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Leave out what is in the history.
    pub exclude_seen: bool,
    /// Nothing but these, where it is given.
    pub allow: Option<Vec<u32>>,
    /// None of these.
    pub deny: Vec<u32>,
    /// Nothing but items of one of these categories, where there are any.
    pub categories: Vec<String>,
}

impl Filter {
    /// How many queries with this filter to hand over at a time: each holds its own, and memory stays bounded. From 16 to
    /// 1,024, which keep every core busy.
    #[must_use]
    pub fn queries_at_a_time(&self) -> usize {
        const NUMBERS: usize = 1 << 24;
        let of_one = self.allow.as_ref().map_or(0, Vec::len) + self.deny.len();
        (NUMBERS / of_one.max(1)).clamp(16, 1024)
    }
}

/// A filter of one query as a set: bit `i` of word `i / 64` for item `i`.
struct Allowed {
    words: Vec<u64>,
    count: usize,
}

impl Allowed {
    fn contains(&self, item: u32) -> bool {
        self.words[item as usize / 64] >> (item % 64) & 1 == 1
    }
}

impl Bundle {
    /// A list for each query, best first. A query's list is the same whichever queries stand beside it; with
    /// [`Filter::allow`] and [`Filter::categories`] every item is scored, else as the bundle's [`InferConfig`] says, and
    /// every item is scored where the beams leave the list short of allowed items.
    ///
    /// # Errors
    /// When a history is empty, `k` is 0, or an item or a category does not exist.
    pub fn recommend(&self, queries: &[Query]) -> Result<Vec<Vec<Ranked>>> {
        let allowed = queries
            .iter()
            .enumerate()
            .map(|(place, query)| self.allowed(place, query))
            .collect::<Result<Vec<_>>>()?;
        let mut groups: BTreeMap<(bool, usize), Vec<usize>> = BTreeMap::new();
        for (place, query) in queries.iter().enumerate() {
            groups.entry(self.pass(query)).or_default().push(place);
        }
        let mut lists = vec![vec![]; queries.len()];
        let mut short: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for ((exact, top_k), places) in groups {
            self.answer(queries, &allowed, &places, top_k, exact, &mut lists)?;
            if exact {
                continue;
            }
            let wanted = |place: usize| queries[place].k.min(allowed[place].count);
            let incomplete = places.into_iter().filter(|&p| lists[p].len() < wanted(p));
            short.insert(top_k, incomplete.collect());
        }
        for (top_k, places) in short {
            self.answer(queries, &allowed, &places, top_k, true, &mut lists)?;
        }
        Ok(lists)
    }

    /// What queries have in common that are answered in one pass: whether every item is scored, and how much of each stream
    /// is taken, more than usual for a longer list.
    #[must_use]
    pub fn pass(&self, query: &Query) -> (bool, usize) {
        let filter = &query.filter;
        let exact = filter.allow.is_some() || !filter.categories.is_empty();
        (exact, query.k.max(self.manifest().infer.top_k))
    }

    /// Makes the lists of the queries at `places`.
    fn answer(
        &self,
        queries: &[Query],
        allowed: &[Allowed],
        places: &[usize],
        top_k: usize,
        exact: bool,
        lists: &mut [Vec<Ranked>],
    ) -> Result<()> {
        let infer = &self.manifest().infer;
        let config = InferConfig {
            top_k,
            beams: infer.beams.max(top_k),
            exact: exact || infer.exact,
            ..infer.clone()
        };
        // With `exact` a query's lists hold the catalogue, so not all at a time.
        const AT_A_TIME: usize = 1024;
        for places in places.chunks(AT_A_TIME) {
            let histories: Vec<&[u32]> = places.iter().map(|&p| &queries[p].history[..]).collect();
            let found =
                self.recommender()
                    .lists_where(&histories, &config, top_k, |at, item| {
                        allowed[places[at]].contains(item)
                    })?;
            for (&place, found) in places.iter().zip(found) {
                let query = &queries[place];
                lists[place] = of_kind(found, query.list);
                lists[place].truncate(query.k);
            }
        }
        Ok(())
    }

    /// Checks a query and makes a set of its filter.
    fn allowed(&self, place: usize, query: &Query) -> Result<Allowed> {
        let n = self.items().len();
        let fault = |fault: String| BundleError::Query {
            query: place,
            fault,
        };
        if query.history.is_empty() {
            let expected = "the history is empty; at least one item is needed";
            return Err(fault(expected.to_owned()));
        }
        if query.k == 0 {
            return Err(fault("k is 0, expected 1 or more".to_owned()));
        }
        let filter = &query.filter;
        let named = query.history.iter().chain(&filter.deny);
        let mut named = named.chain(filter.allow.iter().flatten());
        if let Some(item) = named.find(|&&item| item as usize >= n) {
            return Err(fault(format!(
                "there is no item {item}, only 0 to {}",
                n - 1
            )));
        }
        let mut words = vec![0; n.div_ceil(64)];
        let put = |words: &mut [u64], item: u32| words[item as usize / 64] |= 1 << (item % 64);
        match &filter.allow {
            Some(allow) => allow.iter().for_each(|&item| put(&mut words, item)),
            None => (0..n as u32).for_each(|item| put(&mut words, item)),
        }
        if !filter.categories.is_empty() {
            let mut wanted = vec![0; words.len()];
            // A name that is there again costs nothing.
            for category in filter.categories.iter().collect::<BTreeSet<_>>() {
                let unknown = || BundleError::UnknownCategory {
                    category: category.clone(),
                };
                let items = self.categories().get(category).ok_or_else(unknown)?;
                items.iter().for_each(|&item| put(&mut wanted, item));
            }
            for (word, wanted) in words.iter_mut().zip(wanted) {
                *word &= wanted;
            }
        }
        let seen = filter.exclude_seen || self.manifest().infer.mask_history;
        let seen = query.history.iter().filter(|_| seen);
        for &item in filter.deny.iter().chain(seen) {
            words[item as usize / 64] &= !(1 << (item % 64));
        }
        let count = words.iter().map(|word| word.count_ones() as usize).sum();
        Ok(Allowed { words, count })
    }
}

fn of_kind(lists: Lists, kind: ListKind) -> Vec<Ranked> {
    let stream = match kind {
        ListKind::Merged => return lists.merged,
        ListKind::Behaviour => Stream::Behaviour,
        ListKind::Semantic => Stream::Semantic,
    };
    let list = lists.streams[stream].iter();
    list.map(|score| {
        let here = |of: Stream| (of == stream).then_some(score.log_prob);
        Ranked {
            item: score.item,
            score: score.log_prob,
            behaviour: here(Stream::Behaviour),
            semantic: here(Stream::Semantic),
            direct: None,
        }
    })
    .collect()
}
