//! A few users as the model sees them: history, target, the merged list and where each of its items came from.

use anyhow::{Context as _, Result, bail};
use candle_core::Device;
use eager_infer::{InferConfig, ItemScore, Lists, Ranked, Ranking, Recommender};
use eager_model::{PerStream, Stream};
use maud::{Markup, html};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::Part;
use super::files::{Data, RankLine, RunFiles};
use crate::html::plot::Colour;
use crate::html::table;
use crate::run::Stage;
use crate::seed;

/// Length of a list, and what counts as a hit.
const K: usize = 10;
/// Users shown whose target is in their list, and whose is not.
const HITS: usize = 4;
const MISSES: usize = 3;

/// Nothing before the run is evaluated.
pub(super) fn part(files: &RunFiles) -> Result<Option<Part>> {
    let (Some((data, ranks)), Some(codes)) = (files.evaluated(), &files.codes) else {
        return Ok(None);
    };
    let config = &files.config;
    let folder = files.root.join(Stage::Model.name());
    let recommender = Recommender::load(&folder, &Device::Cpu)
        .with_context(|| format!("the model of {}", files.root.display()))?
        .with_ops(config.ops);
    if recommender.n_items() != data.dataset.items.len() {
        bail!(
            "{}: the data have {} items, the model {}; run the pipeline again",
            files.root.display(),
            data.dataset.items.len(),
            recommender.n_items()
        );
    }
    let users = chosen(ranks, config.seed);
    let histories = users
        .iter()
        .map(|&user| data.evaluated.items[user].as_slice());
    let histories: Vec<&[u32]> = histories.collect();
    let lists = recommender.lists(&histories, &config.eval.infer)?;
    let model = recommender.model().config();
    let page = Page {
        data,
        codes: PerStream::from_fn(|stream| &codes[stream]),
        infer: &config.eval.infer,
        window: model.window,
        direct_head: model.direct_head,
    };
    let (rank, or_rank) = match page.direct_head {
        true => (", its rank in the direct head’s list", " or rank"),
        false => ("", ""),
    };
    let unpredicted = match page.infer.ranking {
        Ranking::Confidence => "it has no log-probability there either",
        Ranking::Sum | Ranking::Mixture => "as another’s have it, it is scored there all the same",
    };
    let users = users.iter().zip(&histories).zip(&lists);
    let body = html! {
        @for (place, ((&user, history), lists)) in users.enumerate() {
            (page.user(user, history, lists, place == 0))
        }
    };
    Ok(Some(Part {
        id: "users",
        title: "A few users",
        caption: format!(
            "Up to {HITS} whose target is among their first {K} and {MISSES} whose is not, drawn by the seed. Beside an item: its \
             code in each stream{rank}, and the log-probability there. “–” in place of a code{or_rank}: the first {} of that \
             list do not have the item; {unpredicted}.",
            page.infer.top_k
        ),
        body,
    }))
}

/// Places of users in `eval/ranks.csv`, drawn by the seed: first hits, then misses.
fn chosen(ranks: &[RankLine], seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed::derive(seed, "report users"));
    let mut users: Vec<usize> = (0..ranks.len()).collect();
    users.shuffle(&mut rng);
    let hit = |user: &usize| ranks[*user].merged.is_some_and(|rank| rank as usize <= K);
    let (hits, misses): (Vec<usize>, Vec<usize>) = users.into_iter().partition(hit);
    let hits = hits.into_iter().take(HITS);
    hits.chain(misses.into_iter().take(MISSES)).collect()
}

struct Page<'a> {
    data: &'a Data,
    codes: PerStream<&'a eager_codes::ItemCodes>,
    infer: &'a InferConfig,
    window: usize,
    direct_head: bool,
}

impl Page<'_> {
    fn user(&self, user: usize, history: &[u32], lists: &Lists, open: bool) -> Markup {
        let evaluated = &self.data.evaluated;
        let target = evaluated.targets[user];
        let name = &self.data.dataset.users[evaluated.users[user] as usize];
        let place = lists.merged.iter().position(|of| of.item == target);
        let read = &history[history.len().saturating_sub(self.window - 1)..];
        let verdict = match place {
            Some(place) if place < K => format!("hit at rank {}", place + 1),
            Some(place) => format!("miss: rank {}", place + 1),
            None => "miss: not in the list".to_owned(),
        };
        let found = |list: &[ItemScore]| {
            let place = place_in(list, target);
            place.map_or("not found".to_owned(), |place| {
                format!("at rank {}", place + 1)
            })
        };
        let mut head = vec!["rank", "item", "behaviour", "log p", "semantic", "log p"];
        if self.direct_head {
            head.extend(["direct", "log p"]);
        }
        let head: Vec<Markup> = head.into_iter().map(|title| html! { (title) }).collect();
        let rows = lists.merged.iter().take(K).zip(1..);
        let rows: Vec<Vec<Markup>> = rows
            .map(|(of, rank)| self.row(of, rank, target, lists))
            .collect();
        html! {
            details.user open[open] {
                summary { strong { (verdict) } " · user " code { (name) } }
                p {
                    "Target: " strong { (self.data.title(target)) } ", seen "
                    (self.data.counts[target as usize]) " times in training; "
                    @for (i, stream) in Stream::ALL.into_iter().enumerate() {
                        @if i > 0 { ", " }
                        (stream.name()) " " code { (self.code(stream, target)) } " "
                        (found(&lists.streams[stream]))
                    }
                    @if self.direct_head { ", direct head " (found(&lists.direct)) }
                    "."
                }
                h3 { "History, oldest first" }
                @if read.len() < history.len() {
                    p.quiet { "The newest " (read.len()) " of " (history.len()) " items: what the model reads." }
                }
                ol { @for &item in read { li { (self.data.title(item)) } } }
                (table(&format!("Recommended to {name}"), &head, &rows))
            }
        }
    }

    fn row(&self, of: &Ranked, rank: usize, target: u32, lists: &Lists) -> Vec<Markup> {
        let title = self.data.title(of.item);
        let name = if of.item == target {
            html! { mark { (title) } " ← target" }
        } else {
            html! { (title) }
        };
        let mut row = vec![html! { (rank) }, name];
        // What a list says of the item where that is among its first, and the log-probability there, which ranked by a sum or
        // a mixture an item has whoever predicted it.
        let mut add =
            |place: Option<usize>, colour: Colour, shown: Markup, log_prob: Option<f32>| {
                row.push(html! {
                    @if place.is_some_and(|place| place < self.infer.top_k) {
                        span class={ "key key-" (colour.class()) } {}
                        (shown)
                    } @else { "–" }
                });
                row.push(html! { (log_prob.map_or("–".to_owned(), |p| format!("{p:.2}"))) });
            };
        for stream in Stream::ALL {
            let (colour, log_prob) = match stream {
                Stream::Behaviour => (Colour::Behaviour, of.behaviour),
                Stream::Semantic => (Colour::Semantic, of.semantic),
            };
            let place = place_in(&lists.streams[stream], of.item);
            let code = html! { code { (self.code(stream, of.item)) } };
            add(place, colour, code, log_prob);
        }
        if self.direct_head {
            let place = place_in(&lists.direct, of.item);
            let rank = html! { @if let Some(place) = place { (place + 1) } };
            add(place, Colour::DIRECT, rank, of.direct);
        }
        row
    }

    fn code(&self, stream: Stream, item: u32) -> String {
        let code: Vec<String> = self.codes[stream]
            .code(item)
            .iter()
            .map(u32::to_string)
            .collect();
        code.join("·")
    }
}

/// Where an item is in one of the lists that are merged, from 0.
fn place_in(list: &[ItemScore], item: u32) -> Option<usize> {
    list.iter().position(|score| score.item == item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_and_misses_are_drawn_by_the_seed() {
        let line = |n: u32| RankLine {
            user: String::new(),
            merged: n.is_multiple_of(3).then_some(1 + n % 20),
            behaviour: None,
            semantic: None,
            direct: None,
        };
        let ranks: Vec<RankLine> = (0..200).map(line).collect();
        let users = chosen(&ranks, 7);
        let hit = |user: usize| ranks[user].merged.is_some_and(|rank| rank <= 10);
        assert_eq!(users.len(), HITS + MISSES);
        assert!(users[..HITS].iter().all(|&user| hit(user)));
        assert!(users[HITS..].iter().all(|&user| !hit(user)));
        assert_eq!(users, chosen(&ranks, 7));
        assert_ne!(users, chosen(&ranks, 8));
        assert!(chosen(&[], 7).is_empty());
    }
}
