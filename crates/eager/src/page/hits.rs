//! Where hits come from: which stream, how sure it was, how popular the target, how long the history.

use std::ops::Range;

use anyhow::Result;
use eager_infer::metrics::{CUTOFFS, Rank, ReliabilityBin, wilson};
use maud::{Markup, html};

use super::Part;
use super::files::{RankLine, RunFiles};
use crate::html::plot::{self, Axis, Colour, Line, Point, Points};
use crate::html::{count, figure, table};
use crate::stages::eval::Calibration;

/// Cut-off of the recalls by popularity and length.
const K: u32 = 10;

/// Most buckets of users in a plot.
const BUCKETS: usize = 7;

pub(super) fn parts(files: &RunFiles) -> Result<Vec<Part>> {
    let mut parts = vec![];
    let streams_of = files.ranks.as_deref().filter(|ranks| !ranks.is_empty());
    if let (Some(ranks), None) = (streams_of, files.baseline()) {
        parts.push(streams(ranks)?);
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
                    (groups(ranks, "Recall by popularity of the target", "interactions of the target in training", popularity)?)
                    (groups(ranks, "Recall by length of the history", "items in the history", length)?)
                }
            },
        });
    }
    Ok(parts)
}

fn hit(rank: Rank, k: usize) -> bool {
    rank.is_some_and(|rank| rank as usize <= k)
}

/// Hits of each stream's own list that the other has too, or not.
struct Shares {
    k: usize,
    behaviour_alone: u64,
    semantic_alone: u64,
    both: u64,
    merged: u64,
}

impl Shares {
    fn of(ranks: &[RankLine], k: usize) -> Self {
        let number =
            |is: &dyn Fn(&RankLine) -> bool| ranks.iter().filter(|line| is(line)).count() as u64;
        let behaviour = |line: &RankLine| hit(line.behaviour, k);
        let semantic = |line: &RankLine| hit(line.semantic, k);
        Self {
            k,
            behaviour_alone: number(&|line| behaviour(line) && !semantic(line)),
            semantic_alone: number(&|line| semantic(line) && !behaviour(line)),
            both: number(&|line| behaviour(line) && semantic(line)),
            merged: number(&|line| hit(line.merged, k)),
        }
    }

    fn parts(&self) -> [u64; 3] {
        [self.behaviour_alone, self.both, self.semantic_alone]
    }
}

fn streams(ranks: &[RankLine]) -> Result<Part> {
    let shares = CUTOFFS.map(|k| Shares::of(ranks, k));
    let users = ranks.len() as f64;
    let parts = [
        ("behaviour alone".to_owned(), Colour::Behaviour),
        ("both".to_owned(), Colour::Both),
        ("semantic alone".to_owned(), Colour::Semantic),
    ];
    let names = shares.each_ref().map(|s| format!("k = {}", s.k));
    let values: Vec<Vec<f64>> = shares
        .iter()
        .map(|s| s.parts().iter().map(|&n| n as f64 / users).collect())
        .collect();
    let alt = "Share of users whose target is in the first k of the behaviour stream alone, of both, of the semantic stream \
               alone, for k 5, 10, 20; numbers in the table beside";
    let plot = plot::stacked(alt, "share of users", &names, &parts, &values)?;
    let head = [
        "k",
        "behaviour alone",
        "both",
        "semantic alone",
        "either",
        "merged list",
        "merged of either",
    ];
    let head = head.map(|title| html! { (title) });
    let rows: Vec<Vec<Markup>> = shares
        .iter()
        .map(|s| {
            let either: u64 = s.parts().iter().sum();
            let kept = match either {
                0 => "–".to_owned(),
                n => format!("{:.0} %", 100.0 * s.merged as f64 / n as f64),
            };
            let numbers = s.parts().into_iter().chain([either, s.merged]);
            let mut row = vec![html! { (s.k) }];
            row.extend(numbers.map(|n| html! { (count(n)) }));
            row.push(html! { (kept) });
            row
        })
        .collect();
    Ok(Part {
        id: "streams",
        title: "The two streams",
        caption: "Whose first k hold the target. What only one stream finds is what the other adds; “either” is the most that any \
                  merging of the two could hit with k items, “merged list” what this one did."
            .to_owned(),
        body: html! {
            div.plots { (figure("Hits by stream", &plot, "")) (table("Users whose target is there", &head, &rows)) }
        },
    })
}

fn reliability(calibration: &Calibration) -> Result<Part> {
    let axis = |label| Axis {
        label,
        log: true,
        zero: false,
    };
    let lists = [
        ("merged", "merged", Colour::Merged),
        ("behaviour", "behaviour", Colour::Behaviour),
        ("semantic", "semantic", Colour::Semantic),
    ];
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
    for (name, shown, colour) in lists {
        let Some(bins) = found(name) else { continue };
        let seen: Vec<&ReliabilityBin> = bins.iter().filter(|bin| bin.hits > 0).collect();
        let interval = |bin: &&ReliabilityBin| {
            let interval = wilson(bin.hits, bin.items);
            (interval.low, interval.high)
        };
        let point = |bin: &&ReliabilityBin| (bin.confidence, bin.hit_rate());
        series.push(Line {
            name: shown.to_owned(),
            colour,
            points: seen.iter().map(point).collect(),
            intervals: seen.iter().map(interval).collect(),
            dots: true,
        });
        errors.push(format!("{shown} {:.4}", expected_error(bins)));
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
    let of_list = |(name, shown, _): (&str, &'static str, Colour)| {
        let bins = found(name).map_or(&[][..], Vec::as_slice);
        let row = move |bin: &ReliabilityBin| {
            let interval = wilson(bin.hits, bin.items);
            vec![
                html! { (shown) },
                html! { (format!("{:.5}", bin.confidence)) },
                html! { (format!("{:.5}", bin.hit_rate())) },
                html! { (format!("{:.5} – {:.5}", interval.low, interval.high)) },
                html! { (count(bin.hits)) },
                html! { (count(bin.items)) },
            ]
        };
        bins.iter().map(row).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<Markup>> = lists.into_iter().flat_map(of_list).collect();
    Ok(Part {
        id: "calibration",
        title: "Calibration",
        caption: format!(
            "Of the first {} items of every list: how often they were the target, by the probability predicted for their code. \
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
    title: &str,
    label: &str,
    of: impl Fn(usize) -> u64,
) -> Result<Markup> {
    let values: Vec<u64> = (0..ranks.len()).map(of).collect();
    let buckets = buckets(&values);
    type RankOf = fn(&RankLine) -> Rank;
    let lists: [(&str, Colour, RankOf); 3] = [
        ("merged", Colour::Merged, |line| line.merged),
        ("behaviour", Colour::Behaviour, |line| line.behaviour),
        ("semantic", Colour::Semantic, |line| line.semantic),
    ];
    let users = |bucket: &Range<u64>| values.iter().filter(|v| bucket.contains(v)).count() as u64;
    let series = lists.map(|(name, colour, rank)| {
        let point = |bucket: &Range<u64>| {
            let hits = ranks.iter().zip(&values);
            let hits = hits.filter(|(line, v)| bucket.contains(v) && hit(rank(line), K as usize));
            let (hits, n) = (hits.count() as u64, users(bucket));
            let interval = wilson(hits, n);
            Some(Point {
                value: hits as f64 / n as f64,
                interval: Some((interval.low, interval.high)),
            })
        };
        Points {
            name: name.to_owned(),
            colour,
            values: buckets.iter().map(point).collect(),
        }
    });
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
        "{title}, merged list: {}",
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
    fn shares_are_of_each_stream_alone_and_both() {
        let line = |behaviour, semantic, merged| RankLine {
            user: String::new(),
            merged,
            behaviour,
            semantic,
        };
        let ranks = [
            line(Some(1), Some(5), Some(1)),
            line(Some(6), Some(2), Some(3)),
            line(Some(2), None, Some(6)),
            line(None, Some(7), None),
        ];
        let shares = Shares::of(&ranks, 5);
        assert_eq!(shares.parts(), [1, 1, 1]);
        assert_eq!(shares.merged, 2);
        assert_eq!(Shares::of(&ranks, 10).parts(), [1, 2, 1]);
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
