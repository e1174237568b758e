//! A table as a page of its own: plots of every row with its seeds, the differences with their intervals, whose hits the
//! rows have in common, every seed's figures, commands. Made of what the JSON holds and of nothing else.

use std::collections::BTreeMap;

use anyhow::Result;
use eager_infer::metrics::Difference;
use maud::{Markup, html};

use super::overlap::{K, Overlap};
use super::section::{CHOSEN_BY, Cells, NOT_COMPARED, PLACES, Source};
use super::{List, Plan, Table};
use crate::html::plot::{self, Axis, Colour, Mark, Point, Row};
use crate::html::{count, document, duration, figure, legend, section, table};

/// The metrics that are drawn, with their titles; all that the plan asks for stand in the tables.
const DRAWN: [(&str, &str); 2] = [("recall@10", "Recall@10"), ("ndcg@10", "NDCG@10")];

/// An axis of differences or figures, which need not hold 0.
const PLAIN: Axis<'static> = Axis {
    label: "",
    log: false,
    zero: false,
};

/// The page.
///
/// # Errors
/// When a plot cannot be drawn.
pub fn page(plan: &Plan, sections: &[Table], name: &str, command: &str) -> Result<String> {
    let parts: Vec<Markup> = sections
        .iter()
        .map(|of| of.part(plan))
        .collect::<Result<_>>()?;
    let body = html! {
        header {
            h1 { (plan.title) }
            @for part in plan.about.split("\n\n") { p { (part) } }
            p.quiet {
                "A figure is the mean over seeds ± the standard deviation of one seed. A difference is to the best baseline of \
                 the same users and targets by " (CHOSEN_BY) ", with its 95 % paired bootstrap interval: it says how sure \
                 the difference between these runs is, the deviation how far another seed would move. Made by "
                code { (command) } ", as are " code { (name) ".md" } " and " code { (name) ".json" }
                " with all digits."
            }
            nav aria-label="Datasets" {
                ul { @for of in sections { li { a href={ "#" (of.id()) } { (of.heading()) } } } }
            }
        }
        @for (of, part) in sections.iter().zip(&parts) { (section(&of.id(), &of.heading(), &of.caption(), part)) }
    };
    Ok(document(&plan.title, &body))
}

impl Table {
    fn caption(&self) -> String {
        match self.users {
            0 => "No run is there yet.".to_owned(),
            users => format!(
                "{} users; text encoder: {}.",
                count(users as u64),
                self.text_encoders.join(", ")
            ),
        }
    }

    /// The heading as a place of the page.
    fn id(&self) -> String {
        let letter = |c: char| if c.is_alphanumeric() { c } else { '-' };
        self.heading().chars().map(letter).collect()
    }

    fn part(&self, plan: &Plan) -> Result<Markup> {
        if self.users == 0 {
            return Ok(html! {});
        }
        Ok(html! {
            (legend(&self.colours()))
            div.plots {
                @for (metric, title) in DRAWN { (self.figures_plot(metric, title)?) }
            }
            (self.figures_table(plan))
            @if let Some(paper) = self.published() { p.quiet { "Paper: " (paper.source) "." } }
            (self.differences(plan)?)
            (self.overlaps()?)
            details {
                summary { "Every seed" }
                (self.seeds_table(plan))
            }
            details {
                summary { "Commands and digests" }
                (self.runs())
            }
        })
    }

    /// What the colours of the rows stand for.
    fn colours(&self) -> Vec<(String, Colour)> {
        let mut found: Vec<(String, Colour)> = vec![];
        for row in self.rows.iter().filter(|row| !row.runs.is_empty()) {
            let name = match (row.baseline, row.list) {
                (true, _) => "a baseline".to_owned(),
                (false, list) => format!("the {} list", list.name()),
            };
            if found.iter().all(|(other, _)| *other != name) {
                found.push((name, row.colour()));
            }
        }
        found
    }

    /// Every row's mean, its seeds below it, the paper's figure as a line.
    fn figures_plot(&self, metric: &str, title: &str) -> Result<Markup> {
        let rows: Vec<Row> = self
            .rows
            .iter()
            .filter_map(|row| {
                let cell = row.figures.get(metric)?;
                let seeds = || cell.seeds.values().copied().collect();
                Some(Row {
                    name: row.title.clone(),
                    colour: row.colour(),
                    point: Some(Point {
                        value: cell.mean,
                        interval: None,
                    }),
                    parts: if cell.seeds.len() > 1 {
                        seeds()
                    } else {
                        vec![]
                    },
                })
            })
            .collect();
        let theirs = self.published().and_then(|p| p.figures.get(metric));
        let mark = theirs.map(|&at| Mark {
            at,
            name: format!("paper {at:.4}"),
            colour: Colour::Paper,
        });
        let told = rows.iter().filter_map(|row| {
            let value = row.point?.value;
            Some(format!("{} {value:.4}", row.name))
        });
        let mut told: Vec<String> = told.collect();
        told.extend(theirs.map(|at| format!("the paper {at:.4}")));
        let alt = format!("{title} of every row: {}", told.join(", "));
        let plot = plot::forest(&alt, &PLAIN, &rows, &mark.into_iter().collect::<Vec<_>>())?;
        let caption = match rows.iter().any(|row| !row.parts.is_empty()) {
            true => "Large dots are means, the small dots below them seeds.",
            false => "",
        };
        Ok(figure(title, &plot, caption))
    }

    fn figures_table(&self, plan: &Plan) -> Markup {
        let last = self.last_columns();
        let mut rows: Vec<Vec<Markup>> = self
            .rows
            .iter()
            .map(|row| {
                let cell = |metric: &String| {
                    let Some(cell) = row.figures.get(metric) else {
                        return html! { "–" };
                    };
                    let deviation = cell.deviation.map(|d| format!(" ± {d:.4}"));
                    html! { (format!("{:.4}", cell.mean)) (deviation.unwrap_or_default()) }
                };
                let mut cells = vec![html! { (row.title) }];
                cells.extend(plan.metrics.iter().map(cell));
                cells.push(html! { (row.runs.len()) });
                if last.len() > 1 {
                    cells.push(html! { (count(row.users as u64)) });
                }
                cells
            })
            .collect();
        if let Some(paper) = self.published() {
            let theirs = |metric: &String| paper.figures.get(metric).copied();
            let shown = |value: Option<String>| html! { (value.unwrap_or("–".to_owned())) };
            let line = |first: String, of: &dyn Fn(&String) -> Option<String>| {
                let mut cells = vec![html! { em { (first) } }];
                cells.extend(plan.metrics.iter().map(|metric| shown(of(metric))));
                cells.extend(last.iter().map(|_| html! {}));
                cells
            };
            rows.push(line("the paper".to_owned(), &|metric| {
                Some(format!("{:.4}", theirs(metric)?))
            }));
            for row in self.rows.iter().filter(|row| row.paper) {
                rows.push(line(format!("{} less the paper", row.title), &|metric| {
                    let ours = row.figures.get(metric)?.mean;
                    Some(format!("{:+.4}", ours - theirs(metric)?))
                }));
            }
        }
        table(
            &format!("Figures on {}", self.heading()),
            &head("row", plan, last),
            &rows,
        )
    }

    fn differences(&self, plan: &Plan) -> Result<Markup> {
        let parts = self
            .baselines()
            .into_iter()
            .map(|best| self.less(plan, best));
        let parts: Vec<Markup> = parts.collect::<Result<_>>()?;
        let others: Vec<String> = self.not_compared().collect();
        Ok(html! {
            @for part in &parts { (part) }
            @if !others.is_empty() { p { (NOT_COMPARED) ": " (others.join("; ")) "." } }
        })
    }

    /// The rows that are compared with one baseline.
    fn less(&self, plan: &Plan, best: &str) -> Result<Markup> {
        let compared = self
            .rows
            .iter()
            .filter_map(|row| Some((row, row.less(best)?)));
        let compared: Vec<(&Cells, &BTreeMap<String, Difference>)> = compared.collect();
        let cell = |differences: &BTreeMap<String, Difference>, metric: &String| {
            let Some(d) = differences.get(metric) else {
                return html! { "–" };
            };
            let difference = format!("{:+.4}", d.difference);
            let sure = d.low > 0.0 || d.high < 0.0;
            html! {
                @if sure { strong { (difference) } } @else { (difference) }
                " " small { (format!("({:+.4} – {:+.4})", d.low, d.high)) }
            }
        };
        let rows = compared.iter().map(|(row, differences)| {
            let mut cells = vec![html! { (row.title) }];
            cells.extend(plan.metrics.iter().map(|metric| cell(differences, metric)));
            cells
        });
        let rows: Vec<Vec<Markup>> = rows.collect();
        let label = format!(
            "Less {best}, with 95 % paired intervals; bold where the interval leaves out 0"
        );
        Ok(html! {
            h3 { "Less the best baseline, " (best) }
            div.plots { @for drawn in DRAWN { (differences_plot(&compared, best, drawn)?) } }
            (table(&label, &head("row", plan, &[]), &rows))
        })
    }

    /// Whose targets both the best row and another find.
    fn overlaps(&self) -> Result<Markup> {
        let found = self.rows.iter().filter_map(|row| Some((row, row.overlap?)));
        let found: Vec<(&Cells, Overlap)> = found.collect();
        let (Some(best), false) = (&self.best, found.is_empty()) else {
            return Ok(html! {});
        };
        let name = |row: &Cells| match &row.title == best {
            true => format!("{best}, another seed"),
            false => row.title.clone(),
        };
        let drawn: Vec<Row> = found
            .iter()
            .map(|(row, overlap)| Row {
                name: name(row),
                colour: row.colour(),
                point: Some(Point {
                    value: overlap.of_best,
                    interval: None,
                }),
                parts: vec![],
            })
            .collect();
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let told = found.iter().map(|(row, overlap)| {
            let share = percent(overlap.of_best);
            format!("{} {share}", name(row))
        });
        let alt = format!(
            "Share of the hits of {best} that each row has too: {}",
            told.collect::<Vec<_>>().join(", ")
        );
        let axis = Axis {
            label: "share of the best row’s hits",
            zero: true,
            ..PLAIN
        };
        let plot = plot::forest(&alt, &axis, &drawn, &[])?;
        let rows = found.iter().map(|(row, overlap)| {
            let shares = [
                overlap.of_best,
                overlap.both,
                overlap.alone,
                overlap.best_alone,
            ];
            let mut cells = vec![html! { (name(row)) }];
            cells.extend(shares.map(|share| html! { (percent(share)) }));
            cells
        });
        let rows: Vec<Vec<Markup>> = rows.collect();
        let titles = [
            "row",
            "of the best row’s hits",
            "both",
            "this row alone",
            "the best row alone",
        ];
        let label =
            format!("Hits at {K} in common with {best}: of its hits, and as shares of all users");
        Ok(html! {
            h3 { "Whose hits they are" }
            p {
                "A user is a hit where the target is among the first " (K) ". What this row alone hits is what the best row, "
                (best) ", could gain from it. Runs are compared with those of the same seed; the best row with its own of "
                "another seed, which is how far any row can agree with it."
            }
            div.plots {
                (figure(&format!("Hits of {best} that others have"), &plot, ""))
                (table(&label, &titles.map(|title| html! { (title) }), &rows))
            }
        })
    }

    fn seeds_table(&self, plan: &Plan) -> Markup {
        let mut rows = vec![];
        for row in &self.rows {
            let seeds = row.figures.values().next().map(|cell| cell.seeds.keys());
            for seed in seeds.into_iter().flatten() {
                let mut cells = vec![html! { (row.title) ", seed " (seed) }];
                cells.extend(plan.metrics.iter().map(|metric| {
                    let value = row
                        .figures
                        .get(metric)
                        .and_then(|cell| cell.seeds.get(seed));
                    html! { (value.map_or("–".to_owned(), |value| format!("{value:.4}"))) }
                }));
                rows.push(cells);
            }
        }
        let label = format!("Every seed on {}", self.heading());
        table(&label, &head("run", plan, &[]), &rows)
    }

    fn runs(&self) -> Markup {
        let mut runs: Vec<&Source> = vec![];
        for source in self.rows.iter().flat_map(|row| &row.runs) {
            // A setting that changes no file leaves another run's digest, but is another command.
            if runs.iter().all(|other| other.command != source.command) {
                runs.push(source);
            }
        }
        html! {
            p.quiet { (PLACES.replace('`', "")) }
            ul.runs {
                @for run in runs {
                    li { code { (run.command) } br; span.quiet { (duration(run.seconds)) ", " code { (run.digest) } } }
                }
            }
        }
    }
}

/// One metric's differences with their intervals, and where there would be none.
fn differences_plot(
    compared: &[(&Cells, &BTreeMap<String, Difference>)],
    best: &str,
    (metric, title): (&str, &str),
) -> Result<Markup> {
    let rows: Vec<(Row, Difference)> = compared
        .iter()
        .filter_map(|(row, differences)| {
            let d = *differences.get(metric)?;
            let row = Row {
                name: row.title.clone(),
                colour: row.colour(),
                point: Some(Point {
                    value: d.difference,
                    interval: Some((d.low, d.high)),
                }),
                parts: vec![],
            };
            Some((row, d))
        })
        .collect();
    let told = rows.iter().map(|(row, d)| {
        format!(
            "{} {:+.4} ({:+.4} to {:+.4})",
            row.name, d.difference, d.low, d.high
        )
    });
    let alt = format!(
        "{title} less that of {best}: {}",
        told.collect::<Vec<_>>().join(", ")
    );
    let mark = Mark {
        at: 0.0,
        name: "no difference".to_owned(),
        colour: Colour::Ink,
    };
    let rows: Vec<Row> = rows.into_iter().map(|(row, _)| row).collect();
    let plot = plot::forest(&alt, &PLAIN, &rows, &[mark])?;
    Ok(figure(&format!("{title}, difference"), &plot, ""))
}

impl Cells {
    /// What it is drawn in.
    fn colour(&self) -> Colour {
        match (self.baseline, self.list) {
            (true, _) | (false, List::Popularity) => Colour::Popularity,
            (false, List::Merged) => Colour::Merged,
            (false, List::Behaviour) => Colour::Behaviour,
            (false, List::Semantic) => Colour::Semantic,
            (false, List::Direct) => Colour::Other(0),
        }
    }
}

/// A head of the plan's metrics between other columns.
fn head(first: &str, plan: &Plan, last: &[&str]) -> Vec<Markup> {
    let metrics = plan.metrics.iter().map(String::as_str);
    let all = [first]
        .into_iter()
        .chain(metrics)
        .chain(last.iter().copied());
    all.map(|title| html! { (title) }).collect()
}

#[cfg(test)]
mod tests {
    use eager_data::Paper;

    use super::super::section::Cell;
    use super::*;

    fn cells(title: &str, seeds: [f64; 2]) -> Cells {
        let cell = Cell {
            mean: (seeds[0] + seeds[1]) / 2.0,
            deviation: Some(0.0123),
            seeds: BTreeMap::from([(1, seeds[0]), (2, seeds[1])]),
        };
        let figures = DRAWN.map(|(metric, _)| (metric.to_owned(), cell.clone()));
        let source = |seed| Source {
            command: format!("eager pipeline demo --run {title}-{seed}"),
            digest: format!("digest of {title} {seed}"),
            seconds: 60.0,
        };
        Cells {
            title: title.to_owned(),
            paper: false,
            baseline: false,
            list: List::Merged,
            users: 1234,
            figures: BTreeMap::from(figures),
            against: None,
            difference: None,
            other_targets: false,
            overlap: None,
            runs: vec![source(1), source(2)],
        }
    }

    /// Two seeds, a paper, two baselines of different users, a dataset without a run.
    #[test]
    fn seeds_paper_and_two_baselines_are_drawn_and_told() {
        let plan: Plan = toml::from_str(
            "title = 'A & B'\nabout = \"One.\\n\\nTwo.\"\ndatasets = []\nmetrics = ['recall@10', 'ndcg@5']\nseeds = 2\nrows = []",
        )
        .unwrap();
        let less = |against: &str| {
            let d = Difference {
                difference: 0.01,
                low: -0.002,
                high: 0.022,
            };
            let all = DRAWN.map(|(metric, _)| (metric.to_owned(), d));
            (Some(against.to_owned()), Some(BTreeMap::from(all)))
        };
        let mut rows = vec![
            cells("first", [0.05, 0.07]),
            cells("second", [0.04, 0.05]),
            cells("ours", [0.081, 0.091]),
            cells("ours later", [0.06, 0.07]),
            cells("<alone>", [0.0312, 0.0321]),
        ];
        (rows[0].baseline, rows[1].baseline) = (true, true);
        (rows[2].against, rows[2].difference) = less("first");
        (rows[3].against, rows[3].difference) = less("second");
        (rows[2].paper, rows[4].other_targets) = (true, true);
        let table = Table {
            dataset: "demo".to_owned(),
            group: Some("a rule".to_owned()),
            users: 1234,
            text_encoders: vec!["lsa".to_owned()],
            best: Some("ours".to_owned()),
            rows,
            paper: Some(Paper {
                source: "a paper".to_owned(),
                figures: BTreeMap::from([("recall@10".to_owned(), 0.0777)]),
            }),
        };
        let empty = Table {
            dataset: "none".to_owned(),
            group: None,
            users: 0,
            text_encoders: vec![],
            best: None,
            rows: vec![],
            paper: None,
        };
        let page = page(&plan, &[table, empty], "mine", "eager tables a/mine.toml").unwrap();
        for part in [
            "A &amp; B",
            "<p>One.</p><p>Two.</p>",
            "<a href=\"#demo--a-rule\">demo, a rule</a>",
            "No run is there yet.",
            "<td>0.0860 ± 0.0123</td>",
            "paper 0.0777",
            "+0.0083",
            "Less the best baseline, first",
            "Less the best baseline, second",
            "+0.0100 <small>(-0.0020 – +0.0220)</small>",
            "same users and targets: &lt;alone&gt; (1,234 users).",
            "&lt;alone&gt;, seed 2",
            "0.0312",
            "<code>digest of ours 2</code>",
            "a baseline",
            "the merged list",
        ] {
            assert!(page.contains(part), "{part}");
        }
        // Recall and NDCG of five rows with two seeds each, and a plot a metric for each baseline.
        assert_eq!(page.matches("<svg ").count(), 6);
        assert_eq!(page.matches("<circle").count(), 2 * 5 * 3 + 4);
        // Bold is an interval that leaves out 0, and none does.
        assert!(!page.contains("<strong>"));
    }

    #[test]
    fn runs_are_told_by_their_commands_and_the_paper_where_a_row_is_it() {
        let plan: Plan = toml::from_str(
            "title = 'x'\ndatasets = []\nmetrics = ['recall@10']\nseeds = 2\nrows = []",
        )
        .unwrap();
        let mut rows = vec![cells("a", [0.1, 0.2]), cells("b", [0.1, 0.2])];
        // Such as a rule for ties on data without ties.
        let digest = rows[0].runs[0].digest.clone();
        rows[1].runs[0].digest = digest;
        // Another list of the same run.
        rows.push(cells("a", [0.3, 0.4]));
        let mut table = Table {
            dataset: "demo".to_owned(),
            group: None,
            users: 1234,
            text_encoders: vec!["lsa".to_owned()],
            best: None,
            rows,
            paper: Some(Paper {
                source: "a source".to_owned(),
                figures: BTreeMap::from([("recall@10".to_owned(), 0.0777)]),
            }),
        };
        let page = |table: &Table| page(&plan, std::slice::from_ref(table), "x", "x").unwrap();
        let without = page(&table);
        assert!(!without.contains("a source") && !without.contains("0.0777"));
        for run in ["a-1", "a-2", "b-1", "b-2"] {
            let command = format!("<code>eager pipeline demo --run {run}</code>");
            assert_eq!(without.matches(&command).count(), 1, "{run}");
        }
        table.rows[0].paper = true;
        let with = page(&table);
        assert!(with.contains("Paper: a source.") && with.contains("paper 0.0777"));
    }
}
