//! The first rows of a table, and what each column holds in them.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::ask::table;
use super::sniff::sniff;
use crate::error::LineFault;
use crate::read::rows::{self, Cell, Kind, TableFile, Wanted};
use crate::read::times::date;
use crate::{DataError, Result};

/// Rows looked at.
const ROWS: usize = 10_000;

/// A table as its first rows show it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The file.
    pub path: PathBuf,
    /// What separates its fields, where its name does not tell.
    pub delimiter: Option<char>,
    /// Rows looked at.
    pub rows: usize,
    /// The columns in their order.
    pub columns: Vec<Column>,
    pub(crate) kind: Kind,
    /// Their values, row by row …
    cells: Vec<Vec<Option<Cell>>>,
    /// … and the line of each row (in Parquet: its number).
    lines: Vec<usize>,
}

/// What a column holds in the rows that were looked at.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Values that are not blank.
    pub filled: usize,
    /// Different ones among them.
    pub distinct: usize,
    /// What most of them are.
    pub content: Content,
    /// The first few different values.
    pub examples: Vec<String>,
    /// Characters of a value, in the mean.
    pub length: f64,
}

/// What most values of a column are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Empty,
    /// Dates, or numbers that are plausible times since 1970 in some unit.
    Times,
    /// Dates that are not written as they are read: `31.12.2023`, `5/31/24 18:30`.
    Dates,
    /// Whole numbers.
    Whole,
    /// Numbers that are not all whole.
    Number,
    /// Lists.
    Lists,
    /// Texts.
    Text,
}

impl Sample {
    /// Looks at the first rows of `path`. Rows at fault are passed over.
    ///
    /// # Errors
    /// When it is no table that can be read, has no header, or no row.
    pub fn of(path: &Path) -> Result<Self> {
        let (table, delimiter) = sniff(path)?;
        let names = rows::columns(&table, ROWS)?;
        headed(&table, &names)?;
        let wanted: Vec<Wanted> = names
            .iter()
            .map(|name| Wanted {
                name,
                required: true,
            })
            .collect();
        let mut cells: Vec<Vec<Option<Cell>>> = Vec::new();
        let mut lines = Vec::new();
        let mut bad = None;
        let mut each = |row: rows::Row, line: usize| {
            match row {
                Ok(row) => {
                    cells.push(row.to_vec());
                    lines.push(line);
                }
                Err(fault) if bad.is_none() => bad = Some((line, fault)),
                Err(_) => {}
            }
            match cells.len() < ROWS {
                true => Ok(()),
                false => Err(LineFault::Row("enough was seen".to_owned())),
            }
        };
        let read = rows::read(path, table.kind, &wanted, &mut |_, _| {}, &mut each);
        // A file that breaks off further down is for the whole reading to tell, with what it holds before.
        if cells.is_empty() {
            read?;
            return Err(match bad {
                Some((line, fault)) => fault.at(path, line),
                None => DataError::NoRows {
                    path: path.to_owned(),
                },
            });
        }
        let column = |(place, name): (usize, &String)| {
            Column::of(name, cells.iter().filter_map(|row| row[place].as_ref()))
        };
        Ok(Self {
            path: path.to_owned(),
            delimiter,
            rows: cells.len(),
            columns: names.iter().enumerate().map(column).collect(),
            kind: table.kind,
            cells,
            lines,
        })
    }

    /// What the file is written in, for people.
    #[must_use]
    pub fn written(&self) -> String {
        match self.delimiter {
            Some('\t') => "CSV separated by tabs".to_owned(),
            Some(other) => format!("CSV separated by `{other}`"),
            None => self.kind.name().to_owned(),
        }
    }

    pub(crate) fn table(&self) -> TableFile {
        TableFile {
            path: self.path.clone(),
            kind: self.kind,
        }
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The column that `option` names.
    pub(super) fn wanted(&self, name: &str, option: &str) -> Result<&Column> {
        self.column(name).ok_or_else(|| DataError::Asked {
            path: self.path.clone(),
            message: format!(
                "{option} {name}: there is no such column; there are\n{}",
                table(&self.columns).trim_end()
            ),
        })
    }

    /// Whether rows that agree in column `key` agree in column `name`: of those that could differ, 9 in 10.
    pub(super) fn follows(&self, name: &str, key: &str) -> bool {
        let place = |name| self.columns.iter().position(|column| column.name == name);
        let (Some(name), Some(key)) = (place(name), place(key)) else {
            return false;
        };
        let mut first = HashMap::new();
        let (mut again, mut same) = (0, 0);
        for row in &self.cells {
            let (Some(key), Some(value)) = (&row[key], &row[name]) else {
                continue;
            };
            let value = value.text();
            match first.entry(key.text()) {
                Entry::Vacant(new) => drop(new.insert(value)),
                Entry::Occupied(known) => {
                    again += 1;
                    same += usize::from(*known.get() == value);
                }
            }
        }
        again > 0 && same * 10 >= again * 9
    }

    /// The first value of a column that is no number, with its line; words for what is not known are passed over.
    pub(super) fn no_number(&self, name: &str) -> Option<(usize, Cow<'_, str>)> {
        let place = self.columns.iter().position(|column| column.name == name)?;
        let mut rows = self.lines.iter().zip(&self.cells);
        rows.find_map(|(&line, row)| {
            let cell = row[place].as_ref()?;
            let good = cell.number().is_some() || cell.is_unknown();
            (!good).then(|| (line, cell.text()))
        })
    }

    /// The separator of most texts in a column of categories.
    pub(super) fn separator(&self, name: &str) -> &'static str {
        let place = self.columns.iter().position(|column| column.name == name);
        let texts = place.map(|place| self.cells.iter().filter_map(move |row| row[place].as_ref()));
        let texts: Vec<_> = texts.into_iter().flatten().map(Cell::text).collect();
        let with = |separator: &&str| {
            texts
                .iter()
                .filter(|text| text.contains(*separator))
                .count()
        };
        let candidates = ["|", ">", ";", ","].into_iter().rev();
        candidates
            .filter(|one| with(one) > 0)
            .max_by_key(with)
            .unwrap_or("|")
    }
}

/// A first line that is a row, not names, would be lost, and its values taken for names.
fn headed(TableFile { path, kind }: &TableFile, names: &[String]) -> Result<()> {
    let refuse = |message: String| {
        Err(DataError::Table {
            path: path.clone(),
            message,
        })
    };
    if names.is_empty() {
        return refuse("no column that can be read".to_owned());
    }
    if !matches!(kind, Kind::Csv(_) | Kind::Tsv) {
        return Ok(());
    }
    let mut seen = HashSet::new();
    let value = |name: &&String| name.parse::<f64>().is_ok() || date(name).is_some();
    let values = names.iter().filter(value).count();
    if values * 2 >= names.len() {
        return refuse(format!(
            "the first line ({}) has values, not names; write a line with a name a column above it, such as \
             user_id,item_id,timestamp",
            names.join(", ")
        ));
    }
    match names
        .iter()
        .find(|name| !name.is_empty() && !seen.insert(*name))
    {
        Some(twice) => refuse(format!("two columns are called `{twice}`; rename one")),
        None => Ok(()),
    }
}

impl Column {
    fn of<'a>(name: &str, cells: impl Iterator<Item = &'a Cell>) -> Self {
        let (mut filled, mut characters, mut distinct) = (0, 0, HashSet::new());
        let (mut times, mut whole, mut numbers, mut lists) = (0, 0, 0, 0);
        let (mut dates, mut unknown) = (0, 0);
        let mut examples: Vec<String> = Vec::new();
        for cell in cells {
            let text = cell.text().into_owned();
            filled += 1;
            characters += text.chars().count();
            times += usize::from(is_time(cell));
            dates += usize::from(is_dated(&text));
            unknown += usize::from(cell.is_unknown());
            lists += usize::from(matches!(cell, Cell::List(_)));
            if let Some(number) = cell.number().filter(|number| number.is_finite()) {
                numbers += 1;
                whole += usize::from(number.fract() == 0.0 && !text.contains('.'));
            }
            if examples.len() < 3 && !examples.contains(&text) {
                examples.push(text.clone());
            }
            distinct.insert(text);
        }
        // So that a few values at fault, or words such as `N/A`, do not hide what the rest is.
        let known = filled - unknown;
        let most = |count: usize| known > 0 && count * 5 >= known * 4;
        let content = match () {
            () if filled == 0 => Content::Empty,
            () if most(times) => Content::Times,
            () if most(dates) => Content::Dates,
            () if most(whole) => Content::Whole,
            () if most(numbers) => Content::Number,
            () if most(lists) => Content::Lists,
            () => Content::Text,
        };
        Self {
            name: name.to_owned(),
            filled,
            distinct: distinct.len(),
            content,
            examples,
            length: characters as f64 / (filled as f64).max(1.0),
        }
    }
}

/// A date, or a number of seconds, milli-, micro- or nanoseconds since 1970 that lies between 1990 and 2100.
fn is_time(cell: &Cell) -> bool {
    match cell.number() {
        Some(number) => [1.0, 1e3, 1e6, 1e9]
            .iter()
            .any(|unit| (6.3e8..4.1e9).contains(&(number / unit))),
        None => matches!(cell, Cell::Text(text) if date(text).is_some()),
    }
}

/// Whether a text looks like a date in whatever order: a day, a month and a year with one kind of separator, and maybe more
/// after them.
fn is_dated(text: &str) -> bool {
    let short =
        |part: &str| part.len() <= 2 && part.parse::<u8>().is_ok_and(|n| (1..=31).contains(&n));
    let year = |part: &str| matches!(part.len(), 2 | 4) && part.parse::<u16>().is_ok();
    let mut words = text.trim().split([' ', ',', 'T']);
    let date = words.next().unwrap_or_default();
    ['/', '.', '-'].into_iter().any(|separator| {
        let parts: Vec<&str> = date.split(separator).collect();
        let [first, month, last] = parts[..] else {
            return false;
        };
        short(month) && (short(first) && year(last) || year(first) && short(last))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, text: &str) -> std::result::Result<Sample, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Sample::of(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn columns_are_what_most_of_their_values_are() {
        let text = "id,when,day,stars,price,name,nothing\n\
                    a,1406073600,2014-07-23,5,1.5,one two,\nb,1406073601123,2014-07-23 10:00,4,2,three,\n\
                    c,1406073600,2015-01-01,4,2.5,four,\nd,1406073600,2015-01-01,1,3.5,five,\n\
                    e,soon,tomorrow,1,4.5,six,\n";
        let sample = sample("a.csv", text).unwrap();
        let content: Vec<Content> = sample.columns.iter().map(|c| c.content).collect();
        use Content::{Empty, Number, Text, Times, Whole};
        assert_eq!(content, [Text, Times, Times, Whole, Number, Text, Empty]);
        assert_eq!((sample.rows, sample.columns[3].distinct), (5, 3));
        assert_eq!(sample.columns[5].examples, ["one two", "three", "four"]);
    }

    #[test]
    fn dates_of_other_forms_are_told_from_numbers_and_codes() {
        for (text, dated) in [
            ("31.12.2023", true),
            ("29.10.2023 05:38", true),
            ("12/31/2023", true),
            ("5/31/24, 6:30 PM", true),
            ("31-12-2023T10:00", true),
            ("2023.12.31", true),
            ("2023-12", false),
            ("1.284,99", false),
            ("10.0.1", false),
            ("192.168.0.1", false),
            ("555-123-4567", false),
            ("SKU-01-2023", false),
            ("12-45-2023", false),
            ("12", false),
        ] {
            assert_eq!(is_dated(text), dated, "{text}");
        }
        let text = "day,price\n31.12.2023,1.5\n,N/A\n1.1.2024,2\n";
        let sample = sample("a.csv", text).unwrap();
        let content: Vec<Content> = sample.columns.iter().map(|c| c.content).collect();
        assert_eq!(content, [Content::Dates, Content::Number]);
    }

    #[test]
    fn a_file_without_names_is_told() {
        for (name, text, words) in [
            (
                "a.tsv",
                "196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
                "has values, not names",
            ),
            ("a.csv", "u,u\n1,2\n", "two columns are called `u`"),
            ("a.csv", "u,i\n", "no row below the header"),
            ("a.csv", "u,i\n1\n2\n", "a.csv:2: 1 field where"),
            ("a.jsonl", "{}\n{}\n", "no column"),
        ] {
            let message = sample(name, text).unwrap_err();
            assert!(
                message.contains(words) && message.contains(name),
                "{message}"
            );
        }
    }

    #[test]
    fn what_follows_from_a_key_and_what_separates_categories() {
        let text = "item,title,review,c\nx,Ex,good,a > b\ny,Why,bad,a\nx,Ex,meh,a > c\ny,Why,so so,b > d\n";
        let sample = sample("a.csv", text).unwrap();
        assert!(sample.follows("title", "item") && !sample.follows("review", "item"));
        assert!(!sample.follows("item", "review"), "nothing says so");
        assert_eq!(sample.separator("c"), ">");
        assert_eq!(sample.separator("title"), "|");
    }

    /// Fields that no reader takes are not among the columns.
    #[test]
    fn json_lines_have_the_fields_of_their_lines() {
        let text = "{\"u\": 1, \"ok\": true, \"s\": {\"a\": 1}}\n{\"u\": 2, \"i\": \"x\", \"tags\": [\"a\", \"b\"]}\n";
        let sample = sample("a.jsonl", text).unwrap();
        let names: Vec<&str> = sample.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["i", "tags", "u"]);
        assert_eq!(sample.columns[1].content, Content::Lists);
    }
}
