//! What cannot be told is asked, with what there is to choose from.

use super::sample::{Column, Sample};
use crate::DataError;

/// It cannot be told which column is the `what`: `among` some, or any.
pub(super) fn undecided(sample: &Sample, what: &str, option: &str, among: &[&Column]) -> DataError {
    let all: Vec<Column> = match among {
        [] => sample.columns.clone(),
        some => some.iter().map(|&c| c.clone()).collect(),
    };
    DataError::Table {
        path: sample.path.clone(),
        message: format!(
            "which column is the {what}? Say it with {option} COLUMN; there {}\n{}",
            if among.is_empty() { "are" } else { "could be" },
            table(&all).trim_end()
        ),
    }
}

/// Columns with some of their values.
pub(super) fn table(columns: &[Column]) -> String {
    let width = columns
        .iter()
        .map(|c| c.name.chars().count())
        .max()
        .unwrap_or(0);
    let line = |c: &Column| {
        let mut values = c.examples.join(", ");
        if let Some((cut, _)) = values.char_indices().nth(60) {
            values.truncate(cut);
            values.push('…');
        }
        format!("  {:<width$}  {values}\n", c.name)
    };
    columns.iter().map(line).collect()
}
