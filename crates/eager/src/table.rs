//! The last thing a pipeline prints: ours, the paper's, the difference.

use std::fmt::Write as _;

use eager_infer::metrics::Metrics;
use serde_json::Value;

use crate::report::Report;

/// The report as aligned text: two lines on what was measured and how, the table, where the paper's figures are from.
///
/// Of the streams and baselines, those are shown that differ from the model's figures. The difference is ours less the
/// paper's, and in percent of the paper's.
#[must_use]
pub fn render(report: &Report) -> String {
    let columns = columns(report);
    let names: Vec<String> = report.metrics.named().map(|(name, _)| name).collect();
    let mut out = format!(
        "{}: {} users, text encoder {}\nprotocol: {}\n\n",
        report.dataset,
        indicatif::HumanCount(report.users as u64),
        report.text_encoder,
        protocol(report),
    );
    let mut line = |first: &str, cells: Vec<&str>| {
        let mut line = format!("{first:<10}");
        for (cell, (title, values)) in cells.iter().zip(&columns) {
            let lengths = values.iter().map(|(_, text)| text.chars().count());
            let width = lengths.chain([title.chars().count()]).max().unwrap_or(0);
            let _ = write!(line, "  {cell:>width$}");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    };
    line(
        "",
        columns.iter().map(|(title, _)| title.as_str()).collect(),
    );
    for name in &names {
        let cell = |(_, values): &(String, Vec<(String, String)>)| {
            values.iter().position(|(n, _)| n == name)
        };
        let cells = columns
            .iter()
            .map(|column| cell(column).map_or("–", |place| column.1[place].1.as_str()));
        line(name, cells.collect());
    }
    match &report.paper {
        Some(paper) => {
            let _ = write!(out, "\npaper: {}", paper.source);
        }
        None => out.push_str("\npaper: no figures for this dataset"),
    }
    out
}

/// A title, and a cell for each metric by its name.
pub(crate) type Column = (String, Vec<(String, String)>);

/// What stands beside the names of the metrics: ours, its interval, streams and baselines that differ from it, the paper's,
/// the difference.
pub(crate) fn columns(report: &Report) -> Vec<Column> {
    let mut columns = vec![column("ours", &report.metrics)];
    if let Some(intervals) = &report.intervals {
        let cells = intervals.named().map(|(name, interval)| {
            let text = format!("{:.4} – {:.4}", interval.low, interval.high);
            (name, text)
        });
        let level = format!("{} % interval", round(100.0 * report.interval_level));
        columns.push((level, cells.collect()));
    }
    let others = report.streams.iter().chain(&report.baselines);
    columns.extend(
        others
            .filter(|(_, figures)| **figures != report.metrics)
            .map(|(name, figures)| column(name, figures)),
    );
    if let Some(paper) = &report.paper {
        let figure = |name: &str| paper.figures.get(name).copied();
        let named = || report.metrics.named();
        let theirs = named().filter_map(|(name, _)| {
            let text = format!("{:.4}", figure(&name)?);
            Some((name, text))
        });
        let difference = named().filter_map(|(name, ours)| {
            let text = difference(*ours, figure(&name)?);
            Some((name, text))
        });
        columns.push(("paper".to_owned(), theirs.collect()));
        columns.push(("difference".to_owned(), difference.collect()));
    }
    columns
}

fn column(title: &str, figures: &Metrics) -> Column {
    let cells = figures
        .named()
        .map(|(name, figure)| (name, format!("{figure:.4}")));
    (title.to_owned(), cells.collect())
}

fn difference(ours: f64, theirs: f64) -> String {
    let difference = ours - theirs;
    if theirs == 0.0 {
        return format!("{difference:+.4}");
    }
    let percent = 100.0 * difference / theirs;
    format!("{difference:+.4} ({percent:+.1} %)")
}

/// What decides the figures, in one line.
pub(crate) fn protocol(report: &Report) -> String {
    let part = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name} {text}"),
        value => format!("{name} {value}"),
    };
    let parts: Vec<String> = report.protocol.iter().map(part).collect();
    parts.join(", ")
}

/// To one decimal, without a needless zero.
fn round(value: f64) -> f64 {
    (10.0 * value).round() / 10.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figures(scale: f64) -> Value {
        json!({
            "recall@5": 0.06 * scale, "recall@10": 0.08 * scale, "recall@20": 0.11 * scale,
            "ndcg@5": 0.045 * scale, "ndcg@10": 0.052 * scale, "ndcg@20": 0.06 * scale,
        })
    }

    fn report() -> Report {
        let mut report = figures(1.0);
        let intervals: serde_json::Map<String, Value> = report
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, x)| {
                let x = x.as_f64().unwrap();
                (name.clone(), json!({"low": x - 0.002, "high": x + 0.002}))
            })
            .collect();
        let rest = json!({
            "dataset": "amazon-beauty",
            "users": 22363,
            "text_encoder": "sentence-t5-base",
            "protocol": {"beams": 100, "order": "time", "ties": "file"},
            "intervals": intervals,
            "streams": {"behaviour": figures(0.9), "semantic": figures(0.8), "merged": figures(1.0)},
            "baselines": {"popularity": figures(0.1)},
            "paper": {
                "source": "EAGER (KDD 2024)",
                "figures": {
                    "recall@5": 0.0618, "recall@10": 0.0836, "recall@20": 0.1124,
                    "ndcg@5": 0.0451, "ndcg@10": 0.0525, "ndcg@20": 0.0
                },
            },
        });
        let (report_map, rest) = (report.as_object_mut().unwrap(), rest.as_object().unwrap());
        report_map.extend(rest.clone());
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn the_table_reads() {
        let expected = "\
amazon-beauty: 22,363 users, text encoder sentence-t5-base
protocol: beams 100, order time, ties file

              ours    95 % interval  behaviour  semantic  popularity   paper        difference
recall@5    0.0600  0.0580 – 0.0620     0.0540    0.0480      0.0060  0.0618  -0.0018 (-2.9 %)
recall@10   0.0800  0.0780 – 0.0820     0.0720    0.0640      0.0080  0.0836  -0.0036 (-4.3 %)
recall@20   0.1100  0.1080 – 0.1120     0.0990    0.0880      0.0110  0.1124  -0.0024 (-2.1 %)
ndcg@5      0.0450  0.0430 – 0.0470     0.0405    0.0360      0.0045  0.0451  -0.0001 (-0.2 %)
ndcg@10     0.0520  0.0500 – 0.0540     0.0468    0.0416      0.0052  0.0525  -0.0005 (-1.0 %)
ndcg@20     0.0600  0.0580 – 0.0620     0.0540    0.0480      0.0060  0.0000           +0.0600

paper: EAGER (KDD 2024)";
        assert_eq!(render(&report()), expected);
    }

    #[test]
    fn the_least_there_can_be() {
        let report = Report {
            intervals: None,
            streams: Default::default(),
            baselines: Default::default(),
            paper: None,
            ..report()
        };
        let text = render(&report);
        assert!(
            text.contains("\n              ours\nrecall@5    0.0600\n"),
            "{text}"
        );
        assert!(text.ends_with("paper: no figures for this dataset"));
    }

    #[test]
    fn the_file_reads_back() {
        let report = report();
        let text = serde_json::to_string(&report).unwrap();
        let flat: Value = serde_json::from_str(&text).unwrap();
        assert!(flat["recall@10"].is_f64() && flat["paper"]["source"].is_string());
        assert!(flat["streams"]["behaviour"]["ndcg@10"].is_f64());
        let back: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(render(&back), render(&report));
    }
}
