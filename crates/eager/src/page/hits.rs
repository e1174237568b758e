//! Where hits come from: which list, how sure it was, how popular the target, how long the history.

use std::ops::Range;

use anyhow::Result;
use eager_infer::metrics::{CUTOFFS, Rank, ReliabilityBin, wilson};
use maud::{Markup, html};

use super::Part;
use super::files::{List, RankLine, RunFiles};
use crate::html::plot::{self, Axis, Colour, Line, Point, Points};
use crate::html::{count, figure, table};
use crate::stages::eval::Calibration;

/// Cut-off of the recalls by popularity and length.
const K: u32 = 10;

/// Most buckets of users in a plot.
const BUCKETS: usize = 7;

pub(super) fn parts(files: &RunFiles) -> Result<Vec<Part>> {
    let (lists, mut parts) = (files.lists(), vec![]);
    let ranks = files.ranks.as_deref().filter(|ranks| !ranks.is_empty());
    // A baseline's list is merged of nothing.
    if let (Some(ranks), [_, merged_of @ ..]) = (ranks, &lists[..])
        && !merged_of.is_empty()
    {
        parts.push(streams(ranks, merged_of)?);
    }
    match &files.calibration {
        Some(calibration) => parts.push(reliability(calibration)?),
        None if files.ranks.is_some() && files.baseline().is_none() => parts.push(Part {
            id: "calibration",
            title: "Calibration",
            caption: "eval/ was written by an older version, which kept no probabilities: delete that folder and give the \
                      pipeline’s command again."
                .to_owned(),
            body: html! {},
        }),
        None => {}
    }
    if let Some((data, ranks)) = files.evaluated() {
        let popularity =
            |user: usize| u64::from(data.counts[data.evaluated.targets[user] as usize]);
        let length = |user: usize| data.evaluated.items[user].len() as u64;
        parts.push(Part {
            id: "groups",
            title: "Who is served",
            caption: format!(
                "Recall@{K} of groups of users, with 95 % intervals (Wilson); the second line is how many users a group has."
            ),
            body: html! {
                div.plots {
                    (groups(ranks, &lists, "Recall by popularity of the target", "interactions of the target in training", popularity)?)
                    (groups(ranks, &lists, "Recall by length of the history", "items in the history", length)?)
                }
            },
        });
    }
    Ok(parts)
}

fn hit(rank: Rank, k: usize) -> bool {
    rank.is_some_and(|rank| rank as usize <= k)
}

/// Users whose target is in the lists that are merged, and in the merged one.
struct Shares {
    k: usize,
    /// In that list alone.
    alone: Vec<u64>,
    /// In more than one.
    shared: u64,
    merged: u64,
}

impl Shares {
    fn of(ranks: &[RankLine], lists: &[List], k: usize) -> Self {
        let mut shares = Self {
            k,
            alone: vec![0; lists.len()],
            shared: 0,
            merged: 0,
        };
        for line in ranks {
            let mut found = (0..lists.len()).filter(|&list| hit((lists[list].rank)(line), k));
            match (found.next(), found.next()) {
                (None, _) => {}
                (Some(list), None) => shares.alone[list] += 1,
                (Some(_), Some(_)) => shares.shared += 1,
            }
            shares.merged += u64::from(hit(line.merged, k));
        }
        shares
    }

    /// As they are drawn: what is shared after the first, so that it is between two.
    fn parts(&self) -> Vec<u64> {
        let mut parts = self.alone.clone();
        parts.insert(1, self.shared);
        parts
    }
}

fn streams(ranks: &[RankLine], lists: &[List]) -> Result<Part> {
    let (title, shared, any) = match lists.len() {
        0..=2 => ("The two streams", "both", "either"),
        _ => ("The two streams and the direct head", "several", "any"),
    };
    let shares = CUTOFFS.map(|k| Shares::of(ranks, lists, k));
    let users = ranks.len() as f64;
    let parts = lists
        .iter()
        .map(|list| (format!("{} alone", list.name), list.colour));
    let mut parts: Vec<(String, Colour)> = parts.collect();
    parts.insert(1, (shared.to_owned(), Colour::Both));
    let names = shares.each_ref().map(|s| format!("k = {}", s.k));
    let values: Vec<Vec<f64>> = shares
        .iter()
        .map(|s| s.parts().iter().map(|&n| n as f64 / users).collect())
        .collect();
    let told: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
    let alt = format!(
        "Share of users by whose first k hold the target ({}), for k 5, 10, 20; numbers in the table beside",
        told.join(", ")
    );
    let plot = plot::stacked(&alt, "share of users", &names, &parts, &values)?;
    let merged_of = format!("merged of {any}");
    let mut head = vec!["k"];
    head.extend(told);
    head.extend([any, "merged list", merged_of.as_str()]);
    let head: Vec<Markup> = head.into_iter().map(|title| html! { (title) }).collect();
    let rows: Vec<Vec<Markup>> = shares
        .iter()
        .map(|s| {
            let found: u64 = s.parts().iter().sum();
            let kept = match found {
                0 => "–".to_owned(),
                n => format!("{:.0} %", 100.0 * s.merged as f64 / n as f64),
            };
            let numbers = s.parts().into_iter().chain([found, s.merged]);
            let mut row = vec![html! { (s.k) }];
            row.extend(numbers.map(|n| html! { (count(n)) }));
            row.push(html! { (kept) });
            row
        })
        .collect();
    Ok(Part {
        id: "streams",
        title,
        caption: format!(
            "Whose first k hold the target. What one alone finds is what it adds; “{any}” is the most that a list ranked by the \
             surest prediction could hit with k items; one ranked by a sum or a mixture can hit more, with items from further \
             down. “merged list” is what this one did."
        ),
        body: html! {
            div.plots { (figure("Hits by list", &plot, "")) (table("Users whose target is there", &head, &rows)) }
        },
    })
}

fn reliability(calibration: &Calibration) -> Result<Part> {
    let axis = |label| Axis {
        label,
        log: true,
        zero: false,
    };
    let found = |name: &str| calibration.lists.get(name).filter(|bins| !bins.is_empty());
    let confidences = || {
        calibration
            .lists
            .values()
            .flatten()
            .map(|bin| bin.confidence)
    };
    let ends = [
        confidences().fold(1.0, f64::min),
        confidences().fold(0.0, f64::max),
    ];
    let mut series = vec![Line {
        name: "as predicted".to_owned(),
        colour: Colour::Popularity,
        points: ends.map(|end| (end, end)).to_vec(),
        intervals: vec![],
        dots: false,
    }];
    let mut errors = vec![];
    for list in List::ALL {
        let Some(bins) = found(list.name) else {
            continue;
        };
        let seen: Vec<&ReliabilityBin> = bins.iter().filter(|bin| bin.hits > 0).collect();
        let interval = |bin: &&ReliabilityBin| {
            let interval = wilson(bin.hits, bin.items);
            (interval.low, interval.high)
        };
        let point = |bin: &&ReliabilityBin| (bin.confidence, bin.hit_rate());
        series.push(Line {
            name: list.name.to_owned(),
            colour: list.colour,
            points: seen.iter().map(point).collect(),
            intervals: seen.iter().map(interval).collect(),
            dots: true,
        });
        errors.push(format!("{} {:.4}", list.name, expected_error(bins)));
    }
    let errors = format!("Expected calibration error: {}.", errors.join(", "));
    let alt = format!("Hit rate by predicted probability. {errors} Numbers in the table below");
    let (x, y) = (axis("predicted probability"), axis(""));
    let plot = plot::lines(&alt, &x, &y, &series, None)?;
    let head = [
        "list",
        "predicted, mean",
        "hit rate",
        "95 % interval",
        "hits",
        "items",
    ];
    let head = head.map(|title| html! { (title) });
    let of_list = |list: List| {
        let bins = found(list.name).map_or(&[][..], Vec::as_slice);
        let row = move |bin: &ReliabilityBin| {
            let interval = wilson(bin.hits, bin.items);
            vec![
                html! { (list.name) },
                html! { (format!("{:.5}", bin.confidence)) },
                html! { (format!("{:.5}", bin.hit_rate())) },
                html! { (format!("{:.5} – {:.5}", interval.low, interval.high)) },
                html! { (count(bin.hits)) },
                html! { (count(bin.items)) },
            ]
        };
        bins.iter().map(row).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<Markup>> = List::ALL.into_iter().flat_map(of_list).collect();
    Ok(Part {
        id: "calibration",
        title: "Calibration",
        caption: format!(
            "Of the first {} items of every list: how often they were the target, by the probability predicted for them. \
             On the grey line predictions are what happens; below it the model is too sure. Both axes are logarithmic; bins \
             without a hit are in the table alone.",
            calibration.top
        ),
        body: html! {
            div.plots { (figure("Hit rate by predicted probability", &plot, &errors)) }
            details { summary { "All numbers" } (table("Hit rate by predicted probability", &head, &rows)) }
        },
    })
}

/// Expected calibration error: the mean distance of prediction and hit rate, weighed by items (Naeini et al. 2015).
fn expected_error(bins: &[ReliabilityBin]) -> f64 {
    let items: u64 = bins.iter().map(|bin| bin.items).sum();
    let gap = |bin: &ReliabilityBin| (bin.confidence - bin.hit_rate()).abs() * bin.items as f64;
    bins.iter().map(gap).sum::<f64>() / items.max(1) as f64
}

/// Recall of users in buckets of a number that each has.
fn groups(
    ranks: &[RankLine],
    lists: &[List],
    title: &str,
    label: &str,
    of: impl Fn(usize) -> u64,
) -> Result<Markup> {
    let values: Vec<u64> = (0..ranks.len()).map(of).collect();
    let buckets = buckets(&values);
    let users = |bucket: &Range<u64>| values.iter().filter(|v| bucket.contains(v)).count() as u64;
    let series = lists.iter().map(|list| {
        let point = |bucket: &Range<u64>| {
            let hits = ranks.iter().zip(&values);
            let hits =
                hits.filter(|(line, v)| bucket.contains(v) && hit((list.rank)(line), K as usize));
            let (hits, n) = (hits.count() as u64, users(bucket));
            let interval = wilson(hits, n);
            Some(Point {
                value: hits as f64 / n as f64,
                interval: Some((interval.low, interval.high)),
            })
        };
        Points {
            name: list.name.to_owned(),
            colour: list.colour,
            values: buckets.iter().map(point).collect(),
        }
    });
    let series: Vec<Points> = series.collect();
    let last = buckets.len() - 1;
    let names: Vec<String> = buckets
        .iter()
        .enumerate()
        .map(|(place, bucket)| {
            let range = match (bucket.start, bucket.end - 1) {
                (low, _) if place == last && place > 0 => format!("{low}+"),
                (low, high) if low == high => low.to_string(),
                (low, high) => format!("{low}–{high}"),
            };
            format!("{range}\n{}", count(users(bucket)))
        })
        .collect();
    let described = names.iter().zip(&series[0].values).map(|(name, point)| {
        let value = point.map_or(0.0, |point| point.value);
        format!("{} {value:.3}", name.lines().next().unwrap_or(""))
    });
    let alt = format!(
        "{title}, of what is recommended: {}",
        described.collect::<Vec<_>>().join(", ")
    );
    let axis = Axis {
        label: "",
        log: false,
        zero: true,
    };
    let plot = plot::points(&alt, label, &names, &axis, &series)?;
    Ok(figure(title, &plot, ""))
}

/// Ranges that hold all values: steps of half an octave, the smallest joined to their neighbours until there are at most
/// [`BUCKETS`], each with 2 % of the values or more.
fn buckets(values: &[u64]) -> Vec<Range<u64>> {
    let (low, high) = (
        values.iter().copied().min().unwrap_or(0),
        values.iter().copied().max().unwrap_or(0),
    );
    let octaves = (2..63).flat_map(|power| [1u64 << power, 3 << (power - 1)]);
    let inner = [1, 2, 3].into_iter().chain(octaves);
    let mut edges = vec![low];
    edges.extend(inner.filter(|edge| (low + 1..=high).contains(edge)));
    edges.push(high + 1);
    let mut found: Vec<(Range<u64>, usize)> = edges
        .windows(2)
        .map(|ends| {
            let range = ends[0]..ends[1];
            let n = values.iter().filter(|v| range.contains(v)).count();
            (range, n)
        })
        .collect();
    while found.len() > 1 {
        let smallest = (0..found.len()).min_by_key(|&place| found[place].1);
        let Some(place) =
            smallest.filter(|&place| found.len() > BUCKETS || found[place].1 * 50 < values.len())
        else {
            break;
        };
        let before = place.checked_sub(1).map(|at| (found[at].1, at));
        let after = found.get(place + 1).map(|next| (next.1, place));
        let Some((_, first)) = before.into_iter().chain(after).min() else {
            break;
        };
        let (next, n) = found.remove(first + 1);
        found[first].0.end = next.end;
        found[first].1 += n;
    }
    found.into_iter().map(|(range, _)| range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_all_and_none_is_nearly_empty() {
        let one = buckets(&[7; 100]);
        assert_eq!((one.len(), &one[0]), (1, &(7..8)));
        // One user of a thousand has 900.
        let mut values: Vec<u64> = (0..999).map(|n| 4 + n % 4).collect();
        values.push(900);
        assert_eq!(buckets(&values), [4..6, 6..901]);
        let values: Vec<u64> = (0..5000).collect();
        let found = buckets(&values);
        assert!(found.len() <= BUCKETS && found[0].start == 0);
        assert!(found.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(found.last().unwrap().end, 5000);
        let of = |bucket: &Range<u64>| bucket.end - bucket.start;
        assert!(found.iter().all(|bucket| of(bucket) >= 100), "{found:?}");
    }

    #[test]
    fn shares_are_of_each_list_alone_and_of_several() {
        let line = |behaviour, semantic, direct, merged| RankLine {
            user: String::new(),
            merged,
            behaviour,
            semantic,
            direct,
        };
        let ranks = [
            line(Some(1), Some(5), None, Some(1)),
            line(Some(6), Some(2), Some(4), Some(3)),
            line(Some(2), None, None, Some(6)),
            line(None, Some(7), Some(8), None),
            line(None, None, Some(5), Some(9)),
        ];
        let parts = |lists: &[List], k| Shares::of(&ranks, lists, k).parts();
        let [_, streams @ .., _] = &List::ALL;
        assert_eq!(parts(streams, 5), [1, 1, 1]);
        assert_eq!(parts(streams, 10), [1, 2, 1]);
        let [_, all @ ..] = &List::ALL;
        assert_eq!(parts(all, 5), [1, 2, 0, 1]);
        assert_eq!(parts(all, 10), [1, 3, 0, 1]);
        assert_eq!(Shares::of(&ranks, all, 5).merged, 2);
    }

    #[test]
    fn the_error_is_the_mean_gap() {
        let bin = |confidence, hits, items| ReliabilityBin {
            low: 0.0,
            items,
            confidence,
            hits,
        };
        let bins = [bin(0.5, 10, 40), bin(0.1, 6, 60)];
        assert!((expected_error(&bins) - 0.1).abs() < 1e-12);
        assert_eq!(expected_error(&[]), 0.0);
    }
}
