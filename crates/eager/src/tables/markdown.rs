//! A table as Markdown: what stands in the repository.

use std::fmt::Write as _;

use super::section::{CHOSEN_BY, NOT_COMPARED, PLACES};
use super::{Plan, Table};

/// The whole table for a reader.
#[must_use]
pub fn markdown(plan: &Plan, sections: &[Table], name: &str, command: &str) -> String {
    let mut out = format!("# {}\n\n", plan.title);
    if !plan.about.is_empty() {
        let _ = writeln!(out, "{}\n", plan.about.trim());
    }
    let _ = writeln!(
        out,
        "A cell is the mean over seeds ± the standard deviation of one seed. A difference is to the best baseline of the \
         same users and targets by {CHOSEN_BY}, with its 95 % paired bootstrap interval over users; **bold** where the interval leaves out \
         0. Made by `{command}`; figures of every seed and all digits are in `{name}.json`.\n"
    );
    for section in sections {
        section.write(&mut out, plan);
    }
    out
}

/// A title in a cell, which a bar would end.
fn in_cell(title: &str) -> String {
    title.replace('|', "\\|")
}

impl Table {
    fn write(&self, out: &mut String, plan: &Plan) {
        let _ = writeln!(out, "## {}\n", self.heading());
        if self.users == 0 {
            out.push_str("No run is there yet.\n\n");
            return;
        }
        let _ = writeln!(
            out,
            "{} users; text encoder: {}.\n",
            indicatif::HumanCount(self.users as u64),
            self.text_encoders.join(", ")
        );
        let head = |out: &mut String, first: &str, last: &[&str]| {
            let mut names: Vec<&str> = plan.metrics.iter().map(String::as_str).collect();
            names.extend(last);
            let _ = writeln!(out, "| {first} | {} |", names.join(" | "));
            let _ = writeln!(out, "| --- |{}", " --- |".repeat(names.len()));
        };
        let last = self.last_columns();
        head(out, "", last);
        for row in &self.rows {
            let figure = |name: &String| {
                row.figures.get(name).map_or("–".to_owned(), |cell| {
                    let deviation = cell.deviation.map(|d| format!(" ± {d:.4}"));
                    format!("{:.4}{}", cell.mean, deviation.unwrap_or_default())
                })
            };
            let cells: Vec<String> = plan.metrics.iter().map(figure).collect();
            let seeds = row
                .figures
                .values()
                .next()
                .map_or(0, |cell| cell.seeds.len());
            let _ = write!(
                out,
                "| {} | {} | {seeds} |",
                in_cell(&row.title),
                cells.join(" | ")
            );
            if last.len() > 1 {
                let _ = write!(out, " {} |", indicatif::HumanCount(row.users as u64));
            }
            out.push('\n');
        }
        if let Some(paper) = &self.paper
            && self.rows.iter().any(|row| row.paper)
        {
            let figure = |name: &String| {
                let figure = paper.figures.get(name);
                figure.map_or("–".to_owned(), |figure| format!("{figure:.4}"))
            };
            let cells: Vec<String> = plan.metrics.iter().map(figure).collect();
            let empty = " |".repeat(last.len());
            let _ = writeln!(out, "| *the paper* | {} |{empty}", cells.join(" | "));
            for row in self.rows.iter().filter(|row| row.paper) {
                let difference = |name: &String| {
                    let pair = row.figures.get(name).zip(paper.figures.get(name));
                    pair.map_or("–".to_owned(), |(ours, theirs)| {
                        format!("{:+.4}", ours.mean - theirs)
                    })
                };
                let cells: Vec<String> = plan.metrics.iter().map(difference).collect();
                let _ = writeln!(
                    out,
                    "| *{} less the paper* | {} |{empty}",
                    in_cell(&row.title),
                    cells.join(" | ")
                );
            }
        }
        out.push('\n');
        for against in self.baselines() {
            head(out, &format!("less {}", in_cell(against)), &[]);
            for row in &self.rows {
                let Some(differences) = row.less(against) else {
                    continue;
                };
                let cell = |name: &String| {
                    let Some(d) = differences.get(name) else {
                        return "–".to_owned();
                    };
                    let text = format!("{:+.4} ({:+.4} – {:+.4})", d.difference, d.low, d.high);
                    if d.low > 0.0 || d.high < 0.0 {
                        format!("**{text}**")
                    } else {
                        text
                    }
                };
                let cells: Vec<String> = plan.metrics.iter().map(cell).collect();
                let _ = writeln!(out, "| {} | {} |", in_cell(&row.title), cells.join(" | "));
            }
            out.push('\n');
        }
        let others: Vec<String> = self.not_compared().collect();
        if !others.is_empty() {
            let _ = writeln!(out, "{NOT_COMPARED}: {}.\n", others.join("; "));
        }
        if let Some(paper) = &self.paper {
            let _ = writeln!(out, "The paper: {}.\n", paper.source);
        }
        let _ = writeln!(
            out,
            "{PLACES}\n\n| run | digest | hours |\n| --- | --- | --- |"
        );
        let mut seen = Vec::new();
        for source in self.rows.iter().flat_map(|row| &row.runs) {
            if !seen.contains(&&source.digest) {
                seen.push(&source.digest);
                let _ = writeln!(
                    out,
                    "| `{}` | `{}` | {:.2} |",
                    source.command,
                    &source.digest[..12.min(source.digest.len())],
                    source.seconds / 3600.0
                );
            }
        }
        out.push('\n');
    }
}
