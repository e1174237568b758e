//! The head of the page, the table of figures, the stages, the settings.

use anyhow::Result;
use eager_data::SplitRule;
use eager_infer::metrics::CUTOFFS;
use maud::{Markup, html};

use super::Part;
use super::files::{List, RunFiles};
use crate::baseline::TIGER;
use crate::config::HeldOut;
use crate::html::plot::{self, Axis, Colour, Point, Points};
use crate::html::{bytes, count, duration, figure, table};
use crate::report::Report;
use crate::run::Stage;
use crate::table::{columns, protocol};

/// Dataset, encoder, protocol, settings, versions.
pub(super) fn head(files: &RunFiles) -> Markup {
    let statistics = files.data.as_ref().map(|data| data.dataset.statistics());
    let mut versions: Vec<String> = vec![];
    for record in &files.records {
        let v = &record.versions;
        let mut text = format!(
            "eager {}, candle {}, {}, {}, on {}",
            v.eager, v.candle, v.rustc, v.target, record.device
        );
        if let Some(processor) = &v.processor {
            text.push_str(&format!(", {processor}"));
        }
        if !versions.contains(&text) {
            versions.push(text);
        }
    }
    html! {
        dl {
            dt { "dataset" }
            dd {
                (files.dataset_name())
                @if let Some(s) = &statistics {
                    ": " (count(s.users as u64)) " users, " (count(s.items as u64)) " items, "
                    (count(s.interactions as u64)) " interactions"
                }
            }
            dt { "text encoder" }
            dd { (files.report.as_ref().map_or(&files.config.text.encoder, |r| &r.text_encoder)) }
            @if let Some(report) = &files.report { dt { "protocol" } dd { (protocol(report)) } }
            dt { "seed" }
            dd { (files.config.seed) }
            dt { "config" }
            dd { "SHA-256 " code { (files.config_digest[..16]) } ", " a href="#settings" { "all settings" } }
            @if !files.records.is_empty() { dt { "cost" } dd { (cost(files)) ", " a href="#stages" { "by stage" } } }
            @if !versions.is_empty() { dt { "made by" } dd { (versions.join("; ")) } }
        }
    }
}

/// Time and memory of all stages.
fn cost(files: &RunFiles) -> String {
    let seconds = files.records.iter().map(|record| record.wall_seconds);
    let peak = files
        .records
        .iter()
        .filter_map(|record| record.peak_memory_bytes);
    let peak = peak
        .max()
        .map(|peak| format!(", at most {} of memory", bytes(peak)));
    duration(seconds.sum()) + &peak.unwrap_or_default()
}

/// What is to be said of figures on validation.
const CHOSEN_BY: &str =
    " The weights were chosen by these items, so that the figures are a little too good.";

/// The figures, once the run is evaluated.
pub(super) fn parts(files: &RunFiles) -> Result<Vec<Part>> {
    let Some(report) = &files.report else {
        let all: &[Stage] = match files.baseline() {
            None => &Stage::ALL,
            Some(TIGER) => &[
                Stage::Data,
                Stage::Text,
                Stage::Codes,
                Stage::Model,
                Stage::Eval,
            ],
            Some(_) => &[Stage::Data, Stage::Model, Stage::Eval],
        };
        let missing: Vec<&str> = all
            .iter()
            .filter(|stage| !files.records.iter().any(|record| record.stage == **stage))
            .map(|stage| stage.name())
            .collect();
        return Ok(vec![Part {
            id: "figures",
            title: "Figures",
            caption: format!("None yet: not done are the stages {}.", missing.join(", ")),
            body: html! {},
        }]);
    };
    let columns = columns(report);
    let mut head = vec![html! { "metric" }];
    head.extend(columns.iter().map(|(title, _)| {
        let colour = colour(title);
        html! {
            @if let Some(colour) = colour { span class={ "key key-" (colour.class()) } {} }
            (title)
        }
    }));
    let rows: Vec<Vec<Markup>> = report
        .metrics
        .named()
        .map(|(name, _)| {
            let cells = columns.iter().map(|(_, cells)| {
                let cell = cells.iter().find(|(of, _)| *of == name);
                html! { (cell.map_or("–", |(_, text)| text)) }
            });
            let mut row = vec![html! { (name) }];
            row.extend(cells);
            row
        })
        .collect();
    let (label, item, warning) = match (files.config.eval.held_out, &files.config.prepare.split) {
        (HeldOut::Test, _) => ("Figures on the test set", "last item", ""),
        (HeldOut::Valid, SplitRule::LeaveOneOut) => {
            ("Figures on validation", "last but one item", CHOSEN_BY)
        }
        (HeldOut::Valid, SplitRule::GlobalTime { .. }) => {
            ("Figures on validation", "validation item", CHOSEN_BY)
        }
    };
    let source = report.paper.as_ref().map(|paper| &paper.source);
    let body = html! {
        (table(label, &head, &rows))
        @if let Some(source) = source { p.quiet { "Paper: " (source) "." } }
        div.plots { (side_by_side(report, "recall")?) (side_by_side(report, "ndcg")?) }
    };
    Ok(vec![Part {
        id: "figures",
        title: "Figures",
        caption: format!(
            "Each of {} users’ {item}, ranked among all items. “ours” is {}, with the interval \
             that resampling the users gives; a figure of the paper inside it cannot be told from ours by these users.{warning}",
            count(report.users as u64),
            files
                .baseline()
                .map_or("the merged list".to_owned(), |name| format!(
                    "the list of {name}"
                ))
        ),
        body,
    }])
}

/// One metric at all cut-offs, ours beside the others.
fn side_by_side(report: &Report, metric: &str) -> Result<Markup> {
    let names: Vec<String> = CUTOFFS.iter().map(|k| format!("{metric}@{k}")).collect();
    let of = |metrics: &eager_infer::Metrics, name: &String| {
        let found = metrics.named().find(|(of, _)| of == name)?;
        Some(Point {
            value: *found.1,
            interval: None,
        })
    };
    let ours = names.iter().map(|name| {
        let mut point = of(&report.metrics, name)?;
        let intervals = report.intervals.as_ref();
        let interval = intervals.and_then(|all| all.named().find(|(of, _)| of == name));
        point.interval = interval.map(|(_, ends)| (ends.low, ends.high));
        Some(point)
    });
    let mut series = vec![Points {
        name: "ours".to_owned(),
        colour: Colour::Merged,
        values: ours.collect(),
    }];
    let others = report.streams.iter().chain(&report.baselines);
    let others = others.filter(|(_, figures)| **figures != report.metrics);
    for (place, (name, figures)) in others.enumerate() {
        series.push(Points {
            name: name.clone(),
            colour: colour(name).unwrap_or(Colour::Other(place)),
            values: names.iter().map(|name| of(figures, name)).collect(),
        });
    }
    if let Some(paper) = &report.paper {
        let value = |name: &String| {
            let value = *paper.figures.get(name)?;
            Some(Point {
                value,
                interval: None,
            })
        };
        series.push(Points {
            name: "paper".to_owned(),
            colour: Colour::Paper,
            values: names.iter().map(value).collect(),
        });
    }
    let axis = Axis {
        label: "",
        log: false,
        zero: true,
    };
    let alt = format!(
        "{metric} at 5, 10 and 20 of ours, the streams, baselines and the paper; numbers in the table above"
    );
    let plot = plot::points(&alt, "", &names, &axis, &series)?;
    let title = if metric == "ndcg" { "NDCG" } else { "Recall" };
    Ok(figure(title, &plot, ""))
}

/// What a column or list of that name is drawn in.
fn colour(name: &str) -> Option<Colour> {
    match name {
        "ours" => Some(Colour::Merged),
        "popularity" => Some(Colour::Popularity),
        "paper" => Some(Colour::Paper),
        _ => {
            let list = List::ALL.into_iter().find(|list| list.name == name);
            list.map(|list| list.colour)
        }
    }
}

/// When and at what cost each stage was done.
pub(super) fn stages(files: &RunFiles) -> Part {
    let head = [
        "stage",
        "time",
        "peak memory",
        "attempts",
        "inputs",
        "output files",
    ];
    let head = head.map(|title| html! { (title) });
    let rows: Vec<Vec<Markup>> = files
        .records
        .iter()
        .map(|record| {
            vec![
                html! { (record.stage) },
                html! { (duration(record.wall_seconds)) },
                html! { (record.peak_memory_bytes.map_or("–".to_owned(), bytes)) },
                html! { (record.attempts) },
                html! { code { (record.inputs.get(..12).unwrap_or(&record.inputs)) } },
                html! { (record.outputs.len()) },
            ]
        })
        .collect();
    Part {
        id: "stages",
        title: "Stages",
        caption: "“inputs” begins the digest of all that a stage follows from: equal ones are equal work. Peak memory is the \
                  process’s, without a GPU’s."
            .to_owned(),
        body: table("What each stage took and made", &head, &rows),
    }
}

/// `config.toml`.
pub(super) fn settings(files: &RunFiles) -> Part {
    Part {
        id: "settings",
        title: "Settings",
        caption: "config.toml as the run’s last command left it; it can be given to --config."
            .to_owned(),
        body: html! {
            details {
                summary { "config.toml, SHA-256 " code { (files.config_digest) } }
                pre tabindex="0" { (files.config_text) }
            }
        },
    }
}
