//! The whole of a user's files, read as the data stage reads them, but past their faults: what is there, what is
//! wrong with it and where, and what the filter would leave.

mod seen;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::Result;
use crate::acquire::Progress;
use crate::guess::Guess;
use crate::item::TextTemplate;
use crate::log::Numbering;
use crate::read::table::{read_interactions, read_items};
use seen::{Reading, Seen};

/// What a reading of the whole files found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Survey {
    /// Rows of the interactions, those at fault included.
    pub rows: usize,
    /// Interactions in them.
    pub interactions: usize,
    /// Users.
    pub users: usize,
    /// Items that occur in interactions.
    pub items: usize,
    /// Rows of the items' table, where there is one.
    pub item_rows: Option<usize>,
    /// First and last time, as read, and what they seem to count in; `None` without times.
    pub times: Option<Span>,
    /// Interactions a user, in the middle user.
    pub median_length: f64,
    /// Interactions with an item that the user had before …
    pub repeats: usize,
    /// … and those of them at the same time, as a row that is there twice.
    pub duplicates: usize,
    /// Items of interactions without a row in the items' table, and the first of them.
    pub undescribed: Option<Missing>,
    /// Items whose text the template cannot fill, and the first of them.
    pub without_text: Option<Missing>,
    /// Different texts of the others.
    pub texts: usize,
    /// What filters would leave, the strictest first.
    pub filters: Vec<Left>,
    /// What is wrong, by file and kind.
    pub faults: Vec<Faults>,
}

/// From when to when.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    /// The first time, as the file has it (a date in seconds since 1970).
    pub first: f64,
    /// The last time.
    pub last: f64,
    /// The unit of most times.
    pub unit: Unit,
    /// Times that seem to be in another unit, with the line of the first.
    pub other_units: Vec<(Unit, usize, usize)>,
}

/// What numbers since 1970 count, told by their size.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Too small for seconds of this age: places in an order, days, years.
    Unknown,
    /// Seconds.
    Seconds,
    /// Thousandths.
    Milliseconds,
    /// Millionths.
    Microseconds,
    /// Thousand-millionths.
    Nanoseconds,
}

/// Items that lack something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// How many.
    pub count: usize,
    /// The first by appearance.
    pub item: String,
    /// Line of the interactions where it appears.
    pub line: usize,
}

/// What a filter leaves.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Fewest interactions of a user.
    pub user_core: usize,
    /// Fewest interactions of an item.
    pub item_core: usize,
    /// Users left: as many test and validation targets has the leave-one-out split.
    pub users: usize,
    /// Items left.
    pub items: usize,
    /// Interactions left, the two targets of each user included.
    pub interactions: usize,
}

/// Faults of one kind in one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// The file.
    pub file: PathBuf,
    /// What is wrong, in short.
    pub kind: String,
    /// How often.
    pub count: usize,
    /// Line (in Parquet: row) and words of the first few.
    pub first: Vec<(usize, String)>,
    /// Whether the reading of the file ended here.
    pub ended: bool,
}

/// Reads the files of `guess` whole.
///
/// # Errors
/// When a file cannot be read at all. What is wrong inside one is found, not failed with.
pub fn survey(
    guess: &Guess,
    template: &TextTemplate,
    progress: &mut dyn FnMut(Progress),
) -> Result<Survey> {
    let mut seen = Seen::new(progress);
    let log = &guess.interactions;
    let read = read_interactions(&log.table(), &guess.columns, &mut seen);
    let read = seen.past(read, Reading::Interactions)?;
    let none = Numbering::default();
    let ids = read.as_ref().map_or(&none, |read| &read.items);
    let catalogue = match &guess.items {
        None => Some(ids.bare_items()),
        Some(items) => {
            let repeated = items.path == log.path;
            seen.reading = if repeated {
                Reading::Again
            } else {
                Reading::Items
            };
            seen.described = vec![false; ids.len()];
            let read = read_items(&items.table(), &guess.columns, ids, repeated, &mut seen);
            seen.past(read, seen.reading)?
        }
    };
    let apart = seen.reading == Reading::Items;
    let log = read
        .zip(catalogue)
        .map(|(read, catalogue)| read.with(catalogue));
    Ok(seen.tell(log, template, apart))
}
impl Survey {
    /// Whether the pipeline can read the files to their end.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

impl Unit {
    /// The unit of a time that lies between 1973 and 2286.
    fn of(time: f64) -> Self {
        let units = [
            (1e8, Self::Unknown),
            (1e10, Self::Seconds),
            (1e13, Self::Milliseconds),
            (1e16, Self::Microseconds),
        ];
        let found = units.into_iter().find(|(end, _)| time < *end);
        found.map_or(Self::Nanoseconds, |(_, unit)| unit)
    }

    /// So many are a second; `None` where it is not known.
    #[must_use]
    pub fn a_second(self) -> Option<f64> {
        match self {
            Self::Unknown => None,
            Self::Seconds => Some(1.0),
            Self::Milliseconds => Some(1e3),
            Self::Microseconds => Some(1e6),
            Self::Nanoseconds => Some(1e9),
        }
    }
}
impl Span {
    /// First and last time in UTC, to the second; `None` where the unit is not known.
    #[must_use]
    pub fn dates(&self) -> Option<[String; 2]> {
        let date = |time: f64| {
            let seconds = (time / self.unit.a_second()?).floor() as i64;
            let date = TimeZone::UTC.to_datetime(Timestamp::from_second(seconds).ok()?);
            Some(date.to_string().replace('T', " "))
        };
        Some([date(self.first)?, date(self.last)?])
    }
}
