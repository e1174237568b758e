//! Both trees of codes to browse. The page holds the items and their codes once, as compact JSON; `codes.js` builds of it
//! what is opened.

use std::collections::HashMap;

use anyhow::Result;
use eager_codes::ItemCodes;
use eager_model::Stream;
use maud::{PreEscaped, html};
use serde::Serialize;

use super::Part;
use super::files::{Data, RunFiles};
use crate::html::plot::Colour;
use crate::html::{count, data as embedded};

/// Most items in a page, the most popular ones: with titles some hundred bytes each.
const MOST: usize = 20_000;

const SCRIPT: &str = include_str!("codes.js");

/// What the script reads.
#[derive(Serialize)]
struct Catalogue<'a> {
    ids: Vec<&'a str>,
    titles: Vec<String>,
    /// Interactions in training.
    counts: Vec<u32>,
    streams: Vec<Tree>,
}

#[derive(Serialize)]
struct Tree {
    name: &'static str,
    levels: usize,
    /// `[leaves, levels]`: the items' own codes, then further leaves.
    codes: Vec<u32>,
    /// Items of the further leaves.
    extra: Vec<u32>,
    /// Of every first token: its leaves, of the whole catalogue, and what its items have in common.
    tokens: Vec<(u32, String)>,
}

/// Nothing before there are codes.
pub(super) fn part(files: &RunFiles) -> Result<Option<Part>> {
    let (Some(data), Some(codes)) = (&files.data, &files.codes) else {
        return Ok(None);
    };
    let items = data.dataset.items.len();
    let kept = most_popular(&data.counts);
    let catalogue = Catalogue {
        ids: kept
            .iter()
            .map(|&i| data.dataset.items[i as usize].id.as_str())
            .collect(),
        titles: kept.iter().map(|&item| data.title(item)).collect(),
        counts: kept
            .iter()
            .map(|&item| data.counts[item as usize])
            .collect(),
        streams: Stream::ALL
            .map(|stream| tree(stream, &codes[stream], data, &kept))
            .into(),
    };
    let colour = |stream| match stream {
        Stream::Behaviour => Colour::Behaviour,
        Stream::Semantic => Colour::Semantic,
    };
    let body = html! {
        noscript { p { "The trees are drawn by a script in this page." } }
        label.find { "Find an item by title or id " input #find type="search" autocomplete="off"; }
        ul.found #found aria-live="polite" {}
        div.trees {
            @for stream in Stream::ALL {
                div {
                    h3 {
                        span class={ "key key-" (colour(stream).class()) } {}
                        (stream.name()) ", " (codes[stream].levels()) " levels"
                    }
                    div.tree id={ "tree-" (stream.name()) } tabindex="0" role="region"
                        aria-label={ "Tree of the " (stream.name()) " codes" } {}
                }
            }
        }
        (embedded("catalogue", &catalogue)?)
        // This program's own text.
        script { (PreEscaped(SCRIPT)) }
    };
    let cut = if kept.len() < items {
        format!(
            " Shown are the {} items most popular in training of {}; the counts are of all.",
            count(kept.len() as u64),
            count(items as u64)
        )
    } else {
        String::new()
    };
    Ok(Some(Part {
        id: "codes",
        title: "Codes",
        caption: format!(
            "The first token of a code with the number of its items and the category that sets them apart; open one for the next \
             token. Good behaviour tokens hold what the same people use, good semantic tokens what is alike.{cut}"
        ),
        body,
    }))
}

/// The items of the page, ascending.
fn most_popular(counts: &[u32]) -> Vec<u32> {
    let mut items: Vec<u32> = (0..counts.len() as u32).collect();
    items.sort_by_key(|&item| std::cmp::Reverse(counts[item as usize]));
    items.truncate(MOST);
    items.sort_unstable();
    items
}

fn tree(stream: Stream, codes: &ItemCodes, data: &Data, kept: &[u32]) -> Tree {
    let mut leaves: Vec<Vec<u32>> = vec![];
    let own = (0..codes.n_items() as u32).map(|item| (codes.code(item), item));
    for (code, item) in own.chain(codes.extra()) {
        let token = code[0] as usize;
        if token >= leaves.len() {
            leaves.resize(token + 1, vec![]);
        }
        leaves[token].push(item);
    }
    let all = categories(data, 0..codes.n_items() as u32);
    let tokens = leaves.iter().map(|items| {
        let label = apart(
            &categories(data, items.iter().copied()),
            items.len(),
            &all,
            codes.n_items(),
        );
        (items.len() as u32, label)
    });
    let own = kept.iter().flat_map(|&item| codes.code(item));
    let extra = codes.extra().filter_map(|(code, item)| {
        let place = kept.binary_search(&item).ok()?;
        Some((code, place as u32))
    });
    let extra: Vec<(&[u32], u32)> = extra.collect();
    Tree {
        name: stream.name(),
        levels: codes.levels(),
        codes: own
            .chain(extra.iter().flat_map(|(code, _)| *code))
            .copied()
            .collect(),
        extra: extra.iter().map(|(_, item)| *item).collect(),
        tokens: tokens.collect(),
    }
}

/// How many of the items have a category.
fn categories(data: &Data, items: impl Iterator<Item = u32>) -> HashMap<&str, usize> {
    let mut found = HashMap::new();
    for item in items {
        let mut of: Vec<&str> = data.dataset.items[item as usize]
            .categories
            .iter()
            .map(String::as_str)
            .collect();
        of.sort_unstable();
        of.dedup();
        for category in of {
            *found.entry(category).or_insert(0) += 1;
        }
    }
    found
}

/// The category that sets a group apart, with its share: that with the largest part in the Kullback–Leibler divergence
/// from the catalogue, `p log(p / q)`. Empty where there is none.
fn apart(
    group: &HashMap<&str, usize>,
    n: usize,
    all: &HashMap<&str, usize>,
    n_all: usize,
) -> String {
    let share = |found: usize, n: usize| found as f64 / n as f64;
    let part = |category: &str, found: usize| {
        let (p, q) = (
            share(found, n),
            share(all.get(category).copied().unwrap_or(1), n_all),
        );
        p * (p / q).ln()
    };
    let best = group
        .iter()
        .map(|(category, &found)| (part(category, found), *category, found))
        .filter(|(part, ..)| *part > 0.0)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)));
    best.map_or(String::new(), |(_, category, found)| {
        format!("{category} {:.0} %", 100.0 * share(found, n))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sets_a_group_apart_is_not_what_all_have() {
        let all = HashMap::from([("Beauty", 100), ("Nails", 10), ("Hair", 40)]);
        let group = HashMap::from([("Beauty", 10), ("Nails", 5), ("Hair", 5)]);
        assert_eq!(apart(&group, 10, &all, 100), "Nails 50 %");
        // A whole catalogue differs from itself in nothing.
        assert_eq!(apart(&all, 100, &all, 100), "");
        assert_eq!(apart(&HashMap::new(), 10, &all, 100), "");
    }

    #[test]
    fn the_most_popular_items_are_kept_in_their_order() {
        let mut counts = vec![1; MOST + 5];
        counts[MOST + 4] = 9;
        let kept = most_popular(&counts);
        assert_eq!(
            (kept.len(), kept[0], kept[MOST - 1]),
            (MOST, 0, MOST as u32 + 4)
        );
        assert!(kept.is_sorted());
    }
}
