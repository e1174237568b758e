//! A table as Markdown: what stands in the repository.

use std::fmt::Write as _;

use eager_data::Paper;

use super::section::{CHOSEN_BY, NOT_COMPARED, PLACES};
use super::{Plan, Table};

/// The whole table for a reader.
#[must_use]
pub fn markdown(plan: &Plan, sections: &[Table], name: &str, command: &str) -> String {
    let mut out = format!("# {}\n\n", as_text(&plan.title));
    if !plan.about.is_empty() {
        let _ = writeln!(out, "{}\n", plan.about.trim());
    }
    let _ = writeln!(
        out,
        "A cell is the mean over seeds ± the standard deviation of one seed. A difference is to the best baseline of the \
         same users and targets by {CHOSEN_BY}, with its 95 % paired bootstrap interval over users; **bold** where the interval leaves out \
         0. Made by {}; figures of every seed and all digits are in {}.\n",
        as_code(command),
        as_code(&format!("{name}.json"))
    );
    for section in sections {
        section.write(&mut out, plan);
    }
    out
}

/// A title outside of a cell. A `<` in it begins no tag; in backticks it is none anyway, and `&lt;` would be seen there.
fn as_text(title: &str) -> String {
    let mut parts: Vec<String> = title.split('`').map(str::to_owned).collect();
    let last = parts.len() - 1;
    for (place, part) in parts.iter_mut().enumerate() {
        // What stands between a pair of backticks, of which the last may have no other.
        if place % 2 == 0 || place == last {
            *part = part.replace('<', "&lt;");
        }
    }
    parts.join("`")
}

/// A command or a name as code, between more backticks than it has itself. A line break would end a cell, and is a space in
/// code anyway.
fn as_code(text: &str) -> String {
    let mut fences = (1..).map(|n| "`".repeat(n));
    let fence = fences.find(|fence| !text.contains(fence.as_str()));
    let fence = fence.unwrap_or_default();
    format!("{fence}{}{fence}", text.replace(['\n', '\r'], " "))
}

/// Markdown in a cell, which a bar would end, in code too.
fn in_cell(markdown: &str) -> String {
    markdown.replace('|', "\\|")
}

impl Table {
    /// The published figures, where one of the rows is what they are about.
    pub(super) fn published(&self) -> Option<&Paper> {
        let about = self.rows.iter().any(|row| row.paper);
        self.paper.as_ref().filter(|_| about)
    }

    fn write(&self, out: &mut String, plan: &Plan) {
        let _ = writeln!(out, "## {}\n", as_text(&self.heading()));
        if self.users == 0 {
            out.push_str("No run is there yet.\n\n");
            return;
        }
        let _ = writeln!(
            out,
            "{} users; text encoder: {}.\n",
            indicatif::HumanCount(self.users as u64),
            as_text(&self.text_encoders.join(", "))
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
                in_cell(&as_text(&row.title)),
                cells.join(" | ")
            );
            if last.len() > 1 {
                let _ = write!(out, " {} |", indicatif::HumanCount(row.users as u64));
            }
            out.push('\n');
        }
        if let Some(paper) = self.published() {
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
                    in_cell(&as_text(&row.title)),
                    cells.join(" | ")
                );
            }
        }
        out.push('\n');
        for against in self.baselines() {
            let less = format!("less {}", in_cell(&as_text(against)));
            head(out, &less, &[]);
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
                let title = in_cell(&as_text(&row.title));
                let _ = writeln!(out, "| {title} | {} |", cells.join(" | "));
            }
            out.push('\n');
        }
        let others: Vec<String> = self.not_compared().map(|row| as_text(&row)).collect();
        if !others.is_empty() {
            let _ = writeln!(out, "{NOT_COMPARED}: {}.\n", others.join("; "));
        }
        if let Some(paper) = self.published() {
            let _ = writeln!(out, "The paper: {}.\n", as_text(&paper.source));
        }
        let _ = writeln!(
            out,
            "{PLACES}\n\n| run | digest | hours |\n| --- | --- | --- |"
        );
        let mut seen = Vec::new();
        for source in self.rows.iter().flat_map(|row| &row.runs) {
            // A setting that changes no file leaves another run's digest, but is another command.
            if !seen.contains(&&source.command) {
                seen.push(&source.command);
                let _ = writeln!(
                    out,
                    "| {} | `{}` | {:.2} |",
                    in_cell(&as_code(&source.command)),
                    &source.digest[..12.min(source.digest.len())],
                    source.seconds / 3600.0
                );
            }
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::List;
    use super::super::section::{Cell, Cells, Source};
    use super::*;

    fn row(title: &str, command: &str) -> Cells {
        let cell = Cell {
            mean: 0.25,
            deviation: None,
            seeds: BTreeMap::from([(1, 0.25)]),
        };
        Cells {
            title: title.to_owned(),
            paper: false,
            baseline: false,
            list: List::Merged,
            users: 9,
            figures: BTreeMap::from([("recall@10".to_owned(), cell)]),
            against: None,
            difference: None,
            other_targets: true,
            overlap: None,
            runs: vec![Source {
                command: command.to_owned(),
                digest: "of equal files".to_owned(),
                seconds: 3600.0,
            }],
        }
    }

    fn written(title: &str, rows: Vec<Cells>) -> String {
        let text = format!(
            "title = '{title}'\ndatasets = []\nmetrics = ['recall@10']\nseeds = 1\nrows = []"
        );
        let plan: Plan = toml::from_str(&text).unwrap();
        let table = Table {
            dataset: "demo".to_owned(),
            group: Some(title.to_owned()),
            users: 9,
            text_encoders: vec!["lsa".to_owned()],
            best: None,
            rows,
            paper: Some(Paper {
                source: "a <paper>".to_owned(),
                figures: BTreeMap::from([("recall@10".to_owned(), 0.5)]),
            }),
        };
        markdown(&plan, &[table], "mine", "eager tables a`b.toml")
    }

    /// Such as a rule for ties on data without ties.
    #[test]
    fn runs_with_the_same_files_by_different_commands_are_both_there() {
        let rows = vec![row("a", "first"), row("b", "second"), row("c", "first")];
        let text = written("x", rows);
        let of = |command: &str| text.matches(&format!("| `{command}` |")).count();
        assert_eq!((of("first"), of("second")), (1, 1), "{text}");
    }

    #[test]
    fn titles_and_commands_begin_no_tag_and_end_no_cell() {
        let rows = vec![
            row("<b>a</b> | b & `c<d|e`", "eager --set 'a=b|c'"),
            row("d", "eager --set 'a=`<`\n'"),
        ];
        let text = written("n < m", rows);
        for part in [
            "# n &lt; m\n",
            "## demo, n &lt; m\n",
            "| &lt;b>a&lt;/b> \\| b & `c<d\\|e` | 0.2500 | 1 |",
            "targets: &lt;b>a&lt;/b> | b & `c<d|e` (9 users); d (9 users).",
            "| `eager --set 'a=b\\|c'` |",
            "| ``eager --set 'a=`<` '`` |",
            "Made by ``eager tables a`b.toml``; figures of every seed and all digits are in `mine.json`.",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(as_text("a ` < b"), "a ` &lt; b");
    }

    #[test]
    fn the_paper_is_named_where_a_row_is_what_it_is_about() {
        assert!(!written("x", vec![row("a", "a")]).contains("paper"));
        let mut ours = row("a", "a");
        ours.paper = true;
        let text = written("x", vec![ours]);
        assert!(text.contains("| *a less the paper* | -0.2500 |"), "{text}");
        assert!(text.contains("\nThe paper: a &lt;paper>.\n"), "{text}");
    }
}
