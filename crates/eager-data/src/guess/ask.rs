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

/// The table has no column that is called a user, and another `item` in every row: it may be one of items.
pub(super) fn no_interactions(sample: &Sample, item: &str) -> DataError {
    DataError::Table {
        path: sample.path.clone(),
        message: format!(
            "every row has another `{item}`, as in a table of items; give one of interactions too, or say with --user COLUMN \
             which column is the user; there are\n{}",
            table(&sample.columns).trim_end()
        ),
    }
}

/// A column that is like one of times, but cannot be read.
pub(super) fn no_times(sample: &Sample, column: &Column, like: &str) -> DataError {
    DataError::Table {
        path: sample.path.clone(),
        message: format!(
            "column `{}` {like}, but has {}: write numbers, or dates as 2024-05-31 or 2024-05-31T18:30:00Z; or give another \
             column with --time COLUMN, or --no-time where the rows are in order",
            column.name,
            column.examples.join(", ")
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
