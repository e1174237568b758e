//! Training over updates: losses, validation, learning rate, of the generator and of DIN.

use anyhow::Result;
use eager_losses::Levels;
use maud::{Markup, html};

use super::Part;
use super::files::{LogLine, RunFiles};
use crate::baseline::TIGER;
use crate::config::BehaviourModel;
use crate::html::figure;
use crate::html::plot::{self, Axis, Colour, Line};
use crate::stages::validated;
use crate::train::epochs::{Found, Outcome};

pub(super) fn parts(files: &RunFiles) -> Result<Vec<Part>> {
    let mut parts = vec![];
    if !files.model_log.is_empty() || files.outcome.is_some() {
        parts.push(model(files)?);
    }
    let ended = files.behaviour_report.is_some() || files.behaviour_outcome.is_some();
    if !files.behaviour_log.is_empty() || ended {
        parts.push(behaviour(files)?);
    }
    Ok(parts)
}

fn model(files: &RunFiles) -> Result<Part> {
    let log = &files.model_log;
    let outcome = files.outcome.as_ref();
    let best = outcome.and_then(|outcome| step_of(log, &outcome.best));
    let caption = match outcome {
        Some(outcome) => format!(
            "{} updates in {} epochs; the weights of epoch {} were kept, the best of the validation (marked). {}",
            crate::html::count(outcome.updates),
            outcome.epochs,
            outcome.best_epoch,
            ended(outcome.stopped_early, log)
        ),
        None => "Training has not ended.".to_owned(),
    };
    let both = |kind: &str| {
        [
            (
                format!("{kind}/behaviour"),
                format!("{kind}, behaviour"),
                Colour::Behaviour,
            ),
            (
                format!("{kind}/semantic"),
                format!("{kind}, semantic"),
                Colour::Semantic,
            ),
        ]
    };
    let one = |name: &str, colour| (name.to_owned(), name.to_owned(), colour);
    let mut losses = vec![("loss".to_owned(), "sum of all".to_owned(), Colour::Merged)];
    losses.extend(both("generation"));
    if files.has_direct_head() {
        losses.push(one("direct", Colour::DIRECT));
    }
    let mut tasks = both("contrastive").to_vec();
    tasks.push(one("reconstruction", Colour::Other(0)));
    tasks.push(one("recognition", Colour::Other(1)));
    let valid = [
        (
            "valid/recall@10".to_owned(),
            "recall@10".to_owned(),
            Colour::Merged,
        ),
        (
            "valid/ndcg@10".to_owned(),
            "NDCG@10".to_owned(),
            Colour::Other(0),
        ),
    ];
    let training = |name: &str| files.training[name].as_u64().unwrap_or(0);
    let users = match (files.baseline(), training("valid_users")) {
        (None, _) => format!(
            "On validation users, with {} beams.",
            training("valid_beams")
        ),
        (Some(TIGER), n) if n > 0 => {
            let n = crate::html::count(n);
            format!("On {n} users drawn by the seed, or all where there are fewer.")
        }
        (Some(_), _) => "On all users.".to_owned(),
    };
    let ends = match training("patience") {
        0 => "Training goes on to its limit, whatever this is.",
        _ => "Training ends when it no longer rises.",
    };
    let validated = format!("{users} {ends}");
    let levels = match files.config.losses.generation.levels {
        Levels::Sum => "summed",
        Levels::Mean => "averaged",
    };
    let generation = format!(
        "Generation is the cross-entropy of the next item’s code, {levels} over its levels"
    );
    let learnt = match (files.baseline(), files.has_direct_head()) {
        (Some(_), _) => "The cross-entropy of the next item.".to_owned(),
        (None, false) => format!("{generation}."),
        (None, true) => {
            format!("{generation}; direct that of the item itself among all, by the direct head.")
        }
    };
    let body = html! {
        div.plots {
            (curve(log, "Validation", &valid, Y::Dots, best, &validated)?)
            (curve(log, "Training loss", &losses, Y::Plain, best, &learnt)?)
            (curve(log, "Losses of the other tasks", &tasks, Y::Log, best,
                "Logarithmic. One that is flat from the start has taught the model nothing.")?)
            (curve(log, "Learning rate", &[one("learning_rate", Colour::Merged)], Y::Plain, best, "")?)
        }
    };
    Ok(Part {
        id: "training",
        title: "Training",
        caption,
        body,
    })
}

fn behaviour(files: &RunFiles) -> Result<Part> {
    let log = &files.behaviour_log;
    let (name, cutoff, found) = match files.config.behaviour.model {
        BehaviourModel::Din => {
            let report = files.behaviour_report.as_ref();
            let ended = report.map(|report| Ended::new(log, &report.outcome));
            ("DIN", 20, ended)
        }
        BehaviourModel::Sasrec => {
            let outcome = files.behaviour_outcome.as_ref();
            (
                "SASRec",
                10,
                outcome.map(|outcome| Ended::new(log, outcome)),
            )
        }
    };
    let best = found.as_ref().and_then(|found| found.best);
    let whose = format!("The {name} whose item vectors become the behaviour codes");
    let caption = match found {
        Some(Ended { caption, .. }) => format!("{whose}: {caption}"),
        None => format!("{whose}. Training has not ended."),
    };
    let one = |name: &str, shown: &str, colour| (name.to_owned(), shown.to_owned(), colour);
    let valid = [
        one(
            &validated(&format!("recall@{cutoff}")),
            &format!("recall@{cutoff}"),
            Colour::Behaviour,
        ),
        one(
            &validated(&format!("ndcg@{cutoff}")),
            &format!("NDCG@{cutoff}"),
            Colour::Other(0),
        ),
    ];
    let of = format!("Of {name} as a recommender, on validation users.");
    let body = html! {
        div.plots {
            (curve(log, "Validation", &valid, Y::Dots, best, &of)?)
            (curve(log, "Training loss", &[one("loss", "loss", Colour::Behaviour)], Y::Plain, best, "")?)
            (curve(log, "Learning rate", &[one("learning_rate", "rate", Colour::Behaviour)], Y::Plain, best, "")?)
        }
    };
    Ok(Part {
        id: "behaviour-training",
        title: "Behaviour vectors",
        caption,
        body,
    })
}

/// What the training of the behaviour vectors came to.
struct Ended {
    caption: String,
    /// The update of the best validation.
    best: Option<u64>,
}

impl Ended {
    fn new<F: Found>(log: &[LogLine], outcome: &Outcome<F>) -> Self {
        Self {
            caption: format!(
                "{} updates in {} epochs, epoch {} kept. {}",
                crate::html::count(outcome.updates),
                outcome.epochs,
                outcome.best_epoch,
                ended(outcome.stopped_early, log)
            ),
            best: step_of(log, &outcome.best),
        }
    }
}

/// How training ended, and where its curves are if not here.
fn ended(early: bool, log: &[LogLine]) -> String {
    let how = if early {
        "It ended when validation had not risen for as many validations as the patience."
    } else {
        "It ended at its limit."
    };
    // A stage taken from another run (`--reuse`) comes without its log.
    match log {
        [] => format!("{how} Its curves are with the run that it was taken from."),
        _ => how.to_owned(),
    }
}

/// Updates made when this was found; its values are the log's own, so they are equal to the last bit.
fn step_of<F: Found>(log: &[LogLine], found: &F) -> Option<u64> {
    let is = |line: &&LogLine| {
        let of = |(name, value)| line.values.get(&validated(name)) == Some(&Some(value));
        found.named().into_iter().all(of)
    };
    log.iter().find(is).map(|line| line.step)
}

/// How a curve's upright axis is.
#[derive(Clone, Copy, PartialEq)]
enum Y {
    Plain,
    /// Plain, from 0, with points where something was measured.
    Dots,
    Log,
}

/// Values of the log by their name there, with the name shown; nothing where the log has none of them.
fn curve(
    log: &[LogLine],
    title: &str,
    of: &[(String, String, Colour)],
    y: Y,
    best: Option<u64>,
    caption: &str,
) -> Result<Markup> {
    let lines: Vec<Line> = of
        .iter()
        .map(|(name, shown, colour)| {
            let values = log.iter().filter_map(|line| {
                let value = (*line.values.get(name)?)?;
                Some((line.step as f64, value))
            });
            Line {
                name: shown.clone(),
                colour: *colour,
                points: values.collect(),
                intervals: vec![],
                dots: y == Y::Dots,
            }
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    if lines.is_empty() {
        return Ok(html! {});
    }
    let x_axis = Axis {
        label: "updates",
        log: false,
        zero: true,
    };
    let y_axis = Axis {
        label: "",
        log: y == Y::Log,
        zero: y != Y::Log,
    };
    let ends = lines.iter().map(|line| {
        let (first, last) = (line.points[0].1, line.points[line.points.len() - 1].1);
        format!("{} from {first:.3} to {last:.3}", line.name)
    });
    let ends: Vec<String> = ends.collect();
    let alt = format!("{title} over updates: {}", ends.join(", "));
    let best = best.map(|step| (step as f64, "kept"));
    let plot = plot::lines(&alt, &x_axis, &y_axis, &lines, best)?;
    Ok(figure(title, &plot, caption))
}
