//! Histories in, ranked items out (paper §3.5): the encoder once a user, both decoders' predictions, one list. Users are
//! worked off in chunks of a size that the configuration alone decides, so lists do not depend on the number of threads.

use std::ops::Range;
use std::thread::available_parallelism;

use eager_codes::{CodeTrie, ItemCodes};
use eager_model::{Eager, Histories, Memory, PerStream, Stream};
use eager_ops::{Dropout, Ops, Pass, TreeScores};

use crate::merge::{best_items, items_of, rank, union};
use crate::search::widest;
use crate::workers::Workers;
use crate::{InferConfig, InferError, ItemScore, Ranked, Ranking, Result, Search};

/// Rows of a decoding step that a chunk of users is to make: enough for the matrix products to be fast, few enough for the
/// caches.
const ROWS: usize = 2048;

/// The most users of a chunk.
const USERS: usize = 256;

/// Whether a history (by its place) may be given an item.
type Allowed<'a> = &'a (dyn Fn(usize, u32) -> bool + Sync);

/// A model with its codes: everything that recommending needs, kept in one folder by [`save`](Self::save).
#[derive(Debug)]
pub struct Recommender {
    pub(crate) model: Eager,
    pub(crate) codes: PerStream<ItemCodes>,
    tries: PerStream<CodeTrie>,
    /// Rows of the larger stream's largest decoding step, were every prefix kept.
    widest: usize,
    ops: Ops,
    workers: Workers,
}

/// What is predicted for one history.
#[derive(Clone, Debug, PartialEq)]
pub struct Lists {
    /// The first [`InferConfig::top_k`] of both streams and of the direct head, merged; best first.
    pub merged: Vec<Ranked>,
    /// Each stream's own list, as long as its beams give (with `exact`, every item); best first.
    pub streams: PerStream<Vec<ItemScore>>,
    /// The direct head's own list, as long as the streams'; empty without one.
    pub direct: Vec<ItemScore>,
}

impl Recommender {
    /// Of a model and the codes that it was trained on. Uses all cores, see [`with_threads`](Self::with_threads).
    ///
    /// # Errors
    /// When they do not belong together, or no thread can be started.
    pub fn new(model: Eager, codes: PerStream<ItemCodes>, ops: Ops) -> Result<Self> {
        let tries = PerStream::try_from_fn(|stream| CodeTrie::new(&codes[stream]))?;
        Self::of(model, codes, tries, ops)
    }

    /// As [`new`](Self::new), with the codes' tries.
    pub(crate) fn of(
        model: Eager,
        codes: PerStream<ItemCodes>,
        tries: PerStream<CodeTrie>,
        ops: Ops,
    ) -> Result<Self> {
        let n_items = tries.behaviour.n_items();
        if tries.semantic.n_items() != n_items {
            return Err(InferError::Mismatch(format!(
                "{n_items} items have behaviour codes, {} semantic ones",
                tries.semantic.n_items()
            )));
        }
        for stream in Stream::ALL {
            let (own, nodes) = (model.nodes(stream), tries[stream].n_nodes());
            if own != nodes {
                let name = stream.name();
                return Err(InferError::Mismatch(format!(
                    "the model's {name} decoder is of {own} nodes, the trie of the {name} codes has {nodes}"
                )));
            }
        }
        let threads = if model.tokens(Stream::Behaviour).device().is_cpu() {
            available_parallelism().map_or(1, usize::from)
        } else {
            1
        };
        Ok(Self {
            model,
            codes,
            widest: widest(&tries.behaviour).max(widest(&tries.semantic)),
            tries,
            ops,
            workers: Workers::new(threads)?,
        })
    }

    /// The same with another form of the operations; [`load`](Self::load) takes the fused ones.
    #[must_use]
    pub fn with_ops(self, ops: Ops) -> Self {
        Self { ops, ..self }
    }

    /// The same on `threads` threads, at least one. The lists stay the same.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn with_threads(self, threads: usize) -> Result<Self> {
        Ok(Self {
            workers: Workers::new(threads)?,
            ..self
        })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Eager {
        &self.model
    }

    /// A stream's trie.
    #[must_use]
    pub fn trie(&self, stream: Stream) -> &CodeTrie {
        &self.tries[stream]
    }

    /// A stream's codes.
    #[must_use]
    pub fn codes(&self, stream: Stream) -> &ItemCodes {
        &self.codes[stream]
    }

    /// Number of items.
    #[must_use]
    pub fn n_items(&self) -> usize {
        self.tries.behaviour.n_items()
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// One stream's search.
    #[must_use]
    pub fn search(&self, stream: Stream) -> Search<'_> {
        Search {
            model: &self.model,
            stream,
            trie: &self.tries[stream],
            ops: self.ops,
        }
    }

    /// The encoder's pass over the newest `window - 1` items of histories, each oldest first.
    ///
    /// # Errors
    /// When a history is empty or holds an unknown item.
    pub fn encode(&self, histories: &[&[u32]]) -> Result<Memory> {
        self.check(histories)?;
        let most = self.model.config().window - 1;
        let pass = Pass {
            ops: self.ops,
            dropout: &Dropout::off(),
            leaves: None,
        };
        Ok(self
            .model
            .encode(pass, &Histories::newest(histories, most)?)?)
    }

    /// The `k` best items for every history (items oldest first, of which the newest `window - 1` are read), best first.
    /// Each stream gives its first `top_k`, or `k` if that is more; a list is shorter than `k` only where beams, masks or a
    /// catalogue end it. With [`Ranking::Sum`] and [`Ranking::Mixture`] a `k` above `top_k` makes another list, of which the
    /// first `top_k` need not be those of a shorter one: items that the streams give then may rank among them.
    ///
    /// # Errors
    /// When a history is empty or holds an unknown item, or a setting is outside its range.
    pub fn recommend(
        &self,
        histories: &[&[u32]],
        k: usize,
        config: &InferConfig,
    ) -> Result<Vec<Vec<Ranked>>> {
        config.validate_for(self.model.config().direct_head)?;
        let config = InferConfig {
            top_k: config.top_k.max(k),
            ..config.clone()
        };
        let mut all = vec![vec![]; histories.len()];
        let first = |_: Range<usize>, lists: Vec<Lists>| -> Vec<Vec<Ranked>> {
            let merged = lists.into_iter().map(|lists| lists.merged);
            merged
                .map(|mut list| {
                    list.truncate(k);
                    list
                })
                .collect()
        };
        let keep = config.top_k;
        self.each_chunk(
            histories,
            &config,
            keep,
            &|_, _| true,
            first,
            |users, found| {
                for (list, found) in all[users].iter_mut().zip(found) {
                    *list = found;
                }
            },
        )?;
        Ok(all)
    }

    /// Merged and single lists of every history, from one pass. With `exact` they hold the whole catalogue each: ask for a
    /// few thousand histories at a time.
    ///
    /// # Errors
    /// As [`recommend`](Self::recommend).
    pub fn lists(&self, histories: &[&[u32]], config: &InferConfig) -> Result<Vec<Lists>> {
        self.lists_where(histories, config, usize::MAX, |_, _| true)
    }

    /// As [`lists`](Self::lists), of the items that `allowed` (place of the history, item) lets through: the others are
    /// taken out of each stream's list before it is cut and merged, as items of the history are with
    /// [`InferConfig::mask_history`]. Beams are not drawn to allowed items, so a list may end early; with `exact`, where a
    /// stream's list ends after `keep` items, it holds all of them.
    ///
    /// # Errors
    /// As [`recommend`](Self::recommend).
    pub fn lists_where(
        &self,
        histories: &[&[u32]],
        config: &InferConfig,
        keep: usize,
        allowed: impl Fn(usize, u32) -> bool + Sync,
    ) -> Result<Vec<Lists>> {
        config.validate_for(self.model.config().direct_head)?;
        let mut all = vec![None; histories.len()];
        let whole = |_: Range<usize>, lists: Vec<Lists>| lists;
        self.each_chunk(histories, config, keep, &allowed, whole, |users, found| {
            for (list, found) in all[users].iter_mut().zip(found) {
                *list = Some(found);
            }
        })?;
        Ok(all.into_iter().flatten().collect())
    }

    /// Calls `work` with every chunk of users and their lists, on the workers, then `done` with the result, on this thread.
    /// With `exact` a stream's list ends after `keep` items.
    pub(crate) fn each_chunk<T: Send>(
        &self,
        histories: &[&[u32]],
        config: &InferConfig,
        keep: usize,
        allowed: Allowed<'_>,
        work: impl Fn(Range<usize>, Vec<Lists>) -> T + Sync,
        mut done: impl FnMut(Range<usize>, T),
    ) -> Result<()> {
        self.check(histories)?;
        let size = self.chunk_size(config);
        let users = |chunk: usize| chunk * size..histories.len().min((chunk + 1) * size);
        self.workers.run(
            histories.len().div_ceil(size),
            |chunk| {
                let users = users(chunk);
                let lists = self
                    .chunk(&histories[users.clone()], config, keep, &|history, item| {
                        allowed(users.start + history, item)
                    })
                    .map_err(|error| of_user(error, users.start))?;
                Ok(work(users, lists))
            },
            |chunk, result| done(users(chunk), result),
        )
    }

    /// Users of a chunk.
    fn chunk_size(&self, config: &InferConfig) -> usize {
        let rows = if config.exact {
            self.widest
        } else {
            self.widest.min(config.beams)
        };
        (ROWS / rows.max(1)).clamp(1, USERS)
    }

    fn check(&self, histories: &[&[u32]]) -> Result<()> {
        match histories.iter().position(|list| list.is_empty()) {
            Some(history) => Err(InferError::EmptyHistory { history }),
            None => check_items(histories, self.n_items()),
        }
    }

    fn chunk(
        &self,
        histories: &[&[u32]],
        config: &InferConfig,
        keep: usize,
        allowed: Allowed<'_>,
    ) -> Result<Vec<Lists>> {
        let memory = self.encode(histories)?;
        let direct = self.direct_scores(&memory)?;
        let masked: Vec<Vec<u32>> = histories
            .iter()
            .map(|history| {
                let masked = if config.mask_history { *history } else { &[] };
                let mut masked = masked.to_vec();
                masked.sort_unstable();
                masked
            })
            .collect();
        let allowed = |history: usize, item| {
            masked[history].binary_search(&item).is_err() && allowed(history, item)
        };
        let mut every = PerStream::from_fn(|_| None);
        let lists: PerStream<Vec<Vec<ItemScore>>> = PerStream::try_from_fn(|stream| {
            let search = self.search(stream);
            if config.exact {
                let scores = search.exact(&memory)?;
                let lists = scores.iter().enumerate();
                let lists = lists.map(|(h, scores)| best_items(scores, keep, |i| allowed(h, i)));
                let lists = lists.collect();
                every[stream] = Some(scores);
                return Ok::<_, InferError>(lists);
            }
            let found = search.beam_search(&memory, config.beams)?;
            let lists = found.iter().enumerate().map(|(history, leaves)| {
                let mut list = items_of(search.trie, leaves);
                list.retain(|score| allowed(history, score.item));
                list
            });
            Ok(lists.collect())
        })?;
        let keep = if config.exact {
            keep
        } else {
            keep.min(config.beams)
        };
        let mut direct_lists: Vec<Vec<ItemScore>> = vec![vec![]; histories.len()];
        if let Some(scores) = &direct {
            for (history, list) in direct_lists.iter_mut().enumerate() {
                *list = best_items(scores.row(history), keep, |item| allowed(history, item));
            }
        }
        let mut merged: Vec<Vec<Ranked>> = (0..histories.len())
            .map(|history| {
                fn first(list: &[ItemScore], top_k: usize) -> &[ItemScore] {
                    &list[..list.len().min(top_k)]
                }
                let streams = PerStream::from_fn(|s| first(&lists[s][history], config.top_k));
                union(streams, first(&direct_lists[history], config.top_k))
            })
            .collect();
        if config.ranking != Ranking::Confidence {
            if let Some(scores) = &direct {
                for (history, list) in merged.iter_mut().enumerate() {
                    for ranked in list {
                        ranked.direct = Some(scores.row(history)[ranked.item as usize]);
                    }
                }
            }
            for stream in Stream::ALL {
                match &every[stream] {
                    Some(scores) => {
                        for (scores, list) in scores.iter().zip(&mut merged) {
                            for ranked in list {
                                *ranked.of(stream) = Some(scores[ranked.item as usize]);
                            }
                        }
                    }
                    None => self.complete(stream, &memory, &lists[stream], &mut merged)?,
                }
            }
        }
        let PerStream {
            behaviour,
            semantic,
        } = lists;
        Ok(merged
            .into_iter()
            .zip(behaviour.into_iter().zip(semantic))
            .zip(direct_lists)
            .map(|((mut merged, (behaviour, semantic)), direct)| {
                rank(&mut merged, config.ranking, &config.weights);
                Lists {
                    merged,
                    streams: PerStream {
                        behaviour,
                        semantic,
                    },
                    direct,
                }
            })
            .collect())
    }

    /// Log-probabilities of all items by the direct head, a row a history; `None` without one.
    fn direct_scores(&self, memory: &Memory) -> Result<Option<TreeScores>> {
        let pass = Pass {
            ops: self.ops,
            dropout: &Dropout::off(),
            leaves: None,
        };
        let Some(queries) = self.model.direct(pass, memory)? else {
            return Ok(None);
        };
        let all = vec![0..self.n_items() as u32; memory.rows.len()];
        let scores = (self.ops).tree_scores(&queries, self.model.items(), &all)?;
        let wrong = |&history: &usize| scores.row(history).iter().any(|x| x.is_nan());
        if let Some(history) = (0..scores.len()).find(wrong) {
            return Err(InferError::NotANumber {
                history,
                part: "direct head",
            });
        }
        Ok(Some(scores))
    }

    /// Gives every item of `merged` its log-probability in `stream`: from the stream's own list, else by scoring it.
    fn complete(
        &self,
        stream: Stream,
        memory: &Memory,
        lists: &[Vec<ItemScore>],
        merged: &mut [Vec<Ranked>],
    ) -> Result<()> {
        let search = self.search(stream);
        let mut missing = Vec::with_capacity(lists.len());
        for (list, merged) in lists.iter().zip(&mut *merged) {
            let mut list = list.clone();
            list.sort_unstable_by_key(|score| score.item);
            let mut asked = vec![];
            for ranked in merged {
                // Of an item with several leaves the search may have missed the most probable one.
                let known = match search.trie.leaves(ranked.item).len() {
                    1 => list.binary_search_by_key(&ranked.item, |s| s.item).ok(),
                    _ => None,
                };
                *ranked.of(stream) = known.map(|at| list[at].log_prob);
                if known.is_none() {
                    asked.push(ranked.item);
                }
            }
            missing.push(asked);
        }
        let scores = search.score_items(memory, &missing)?;
        for (scores, merged) in scores.into_iter().zip(merged) {
            let unknown = merged.iter_mut().map(|ranked| ranked.of(stream));
            for (score, found) in unknown.filter(|score| score.is_none()).zip(scores) {
                *score = Some(found);
            }
        }
        Ok(())
    }
}

impl Ranked {
    fn of(&mut self, stream: Stream) -> &mut Option<f32> {
        match stream {
            Stream::Behaviour => &mut self.behaviour,
            Stream::Semantic => &mut self.semantic,
        }
    }
}

/// Whether all items of all lists, one a history, are among `items` items.
pub(crate) fn check_items(lists: &[impl AsRef<[u32]>], items: usize) -> Result<()> {
    for (history, list) in lists.iter().enumerate() {
        if let Some(&item) = list.as_ref().iter().find(|&&i| i as usize >= items) {
            return Err(InferError::UnknownItem {
                history,
                item,
                items,
            });
        }
    }
    Ok(())
}

/// An error of a chunk, with the history's place among all.
fn of_user(mut error: InferError, first: usize) -> InferError {
    match &mut error {
        InferError::EmptyHistory { history }
        | InferError::UnknownItem { history, .. }
        | InferError::NotANumber { history, .. } => *history += first,
        _ => {}
    }
    error
}
