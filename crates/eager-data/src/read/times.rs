//! Times of a table: numbers in any unit, or dates of ISO 8601.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::rows::Cell;
use crate::error::LineFault;
use crate::log::{TIME, valid_time};

/// How one column writes its times; the first row decides for all, as numbers and dates do not compare.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// A number in whatever unit.
    Number,
    /// A date, with or without a time of day; seconds since 1970 when read.
    Date,
}

/// Reads the times of one column.
#[derive(Default)]
pub(crate) struct Times {
    written: Option<Written>,
}

const EITHER: &str = "a number that is not negative, or a date as 2024-05-31, 2024-05-31 18:30:00 or 2024-05-31T18:30:00Z";
const DATE: &str = "a date from 1970 on as 2024-05-31, 2024-05-31 18:30:00 or 2024-05-31T18:30:00Z, as in the rows above";
const NUMBER: &str = "a finite number, not negative, as in the rows above";

impl Times {
    /// The time in a cell: the number, or a date's seconds since 1970. A date without a zone is taken to be in UTC.
    ///
    /// # Errors
    /// When it is none, lies before 1970, or is written otherwise than those above.
    pub(crate) fn read(&mut self, cell: &Cell, name: &str) -> std::result::Result<f64, LineFault> {
        let (time, written) = match (cell.number(), cell) {
            (Some(number), _) => (Some(number), Written::Number),
            (None, Cell::Text(text)) => (date(text), Written::Date),
            (None, _) => (None, Written::Date),
        };
        let expected = match (self.written, written) {
            (None, Written::Number) => TIME,
            (None, Written::Date) => EITHER,
            (Some(Written::Number), Written::Number) => TIME,
            (Some(Written::Number), Written::Date) => NUMBER,
            (Some(Written::Date), _) => DATE,
        };
        let agrees = self.written.is_none_or(|above| above == written);
        let good = time.filter(|_| agrees).and_then(valid_time);
        let time = good.ok_or_else(|| LineFault::bad(name, cell.text(), expected))?;
        self.written = Some(written);
        Ok(time)
    }
}

/// Seconds since 1970 of a date.
pub(crate) fn date(text: &str) -> Option<f64> {
    let text = text.trim();
    // As exports write them: `2024-05-31 18:30:00 UTC` is BigQuery's.
    let text = text.strip_suffix(" UTC").unwrap_or(text);
    let text: Cow<str> = match text.as_bytes() {
        [_, _, _, _, b'/', _, _, b'/', ..] => text.replacen('/', "-", 2).into(),
        _ => text.into(),
    };
    let zoned = || text.parse::<Timestamp>().ok();
    let civil = || {
        let date: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(date).ok()
    };
    Some(zoned().or_else(civil)?.as_nanosecond() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(times: &mut Times, text: &str) -> Result<f64, String> {
        let cell = Cell::Text(text.to_owned());
        times.read(&cell, "t").map_err(|fault| fault.to_string())
    }

    #[test]
    fn dates_are_seconds_since_1970() {
        for (text, seconds) in [
            ("1970-01-01", 0.0),
            ("2014-07-23", 1_406_073_600.0),
            ("2014-07-23 01:00", 1_406_077_200.0),
            ("2014-07-23T01:00:00.5", 1_406_077_200.5),
            ("2014-07-23T01:00:00Z", 1_406_077_200.0),
            ("2014-07-23T01:00:00+02:00", 1_406_070_000.0),
            ("2014-07-23 01:00:00+00:00", 1_406_077_200.0),
            ("2014-07-23 01:00:00 UTC", 1_406_077_200.0),
            ("2014-07-23 01:00:00.5 UTC", 1_406_077_200.5),
            ("2014/07/23", 1_406_073_600.0),
            ("2014/07/23 01:00:00", 1_406_077_200.0),
        ] {
            assert_eq!(read(&mut Times::default(), text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_or_not_like_the_rows_above_is_a_fault() {
        for (text, words) in [
            ("yesterday", "2024-05-31"),
            ("05/31/2024", "2024-05-31"),
            ("2024/31/05", "2024-05-31"),
            ("2014-02-30", "2024-05-31"),
            ("1900-01-01", "2024-05-31"),
            ("-1", "not negative"),
            ("nan", "finite"),
        ] {
            let message = read(&mut Times::default(), text).unwrap_err();
            assert!(
                message.contains(text) && message.contains(words),
                "{message}"
            );
        }
        let mut numbers = Times::default();
        assert_eq!(read(&mut numbers, "20140723"), Ok(20_140_723.0));
        assert!(
            read(&mut numbers, "2014-07-23")
                .unwrap_err()
                .contains("rows above")
        );
        assert_eq!(read(&mut numbers, "7"), Ok(7.0), "a fault decides nothing");
        let mut dates = Times::default();
        assert!(read(&mut dates, "2014-07-23").is_ok());
        assert!(
            read(&mut dates, "1406073600")
                .unwrap_err()
                .contains("rows above")
        );
    }
}
