//! The whole of a user's files read once, as the data stage reads them, but past their faults: what is there, what is
//! wrong with it and where, and what the filter would leave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::acquire::Progress;
use crate::error::LineFault;
use crate::guess::Guess;
use crate::item::TextTemplate;
use crate::log::{Event, Log, Numbering};
use crate::prepare::{Core, histories};
use crate::read::table::{Watch, read_interactions, read_items};
use crate::{Clock, DataError, Item, Result};

/// So many faults of a kind are kept with their line.
const KEPT: usize = 5;

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

/// The filters tried: those of the paper, and the mildest that the split allows.
const CORES: [(usize, usize); 3] = [(5, 5), (4, 3), (3, 1)];

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

/// Which table passes.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Reading {
    Interactions,
    Items,
    /// The interactions once more, for what they say of items: their faults are known.
    Again,
}

/// What is gathered while the files are read.
struct Seen<'a> {
    progress: &'a mut dyn FnMut(Progress),
    rows: usize,
    item_rows: usize,
    /// Line of each item's first interaction.
    first_lines: Vec<usize>,
    /// Whether each item has a row of its own.
    described: Vec<bool>,
    reading: Reading,
    span: Option<(f64, f64)>,
    /// Times by their seeming unit, and the line of the first.
    units: BTreeMap<Unit, (usize, usize)>,
    faults: BTreeMap<(PathBuf, String), Faults>,
}

impl Watch for Seen<'_> {
    fn progress(&mut self, progress: Progress) {
        (self.progress)(progress);
    }

    fn fault(
        &mut self,
        path: &Path,
        line: usize,
        fault: LineFault,
    ) -> std::result::Result<(), LineFault> {
        match self.reading {
            Reading::Interactions => self.rows += 1,
            Reading::Items => self.item_rows += 1,
            Reading::Again => return Ok(()),
        }
        self.note(path, line, &fault, false);
        Ok(())
    }

    fn event(&mut self, line: usize, event: &Event) {
        self.rows += 1;
        if event.item as usize == self.first_lines.len() {
            self.first_lines.push(line);
        }
        let (first, last) = self.span.get_or_insert((event.time, event.time));
        (*first, *last) = (first.min(event.time), last.max(event.time));
        let unit = self.units.entry(Unit::of(event.time)).or_insert((0, line));
        unit.0 += 1;
    }

    fn item(&mut self, _: usize, number: Option<u32>) {
        self.item_rows += 1;
        if let Some(described) = number.and_then(|number| self.described.get_mut(number as usize)) {
            *described = true;
        }
    }
}

impl<'a> Seen<'a> {
    fn new(progress: &'a mut dyn FnMut(Progress)) -> Self {
        Self {
            progress,
            rows: 0,
            item_rows: 0,
            first_lines: Vec::new(),
            described: Vec::new(),
            reading: Reading::Interactions,
            span: None,
            units: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }

    fn note(&mut self, path: &Path, line: usize, fault: &LineFault, ended: bool) {
        let key = (path.to_owned(), fault.kind());
        let faults = self
            .faults
            .entry(key)
            .or_insert_with_key(|(file, kind)| Faults {
                file: file.clone(),
                kind: kind.clone(),
                count: 0,
                first: Vec::new(),
                ended: false,
            });
        faults.count += 1;
        faults.ended |= ended;
        if faults.first.len() < KEPT {
            faults.first.push((line, fault.to_string()));
        }
    }

    /// What was read; `None` where a fault ended the reading, which is noted, or no row was good.
    fn past<T>(&mut self, read: Result<T>, reading: Reading) -> Result<Option<T>> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(DataError::Line { path, line, fault }) => {
                if reading != Reading::Again {
                    self.note(&path, line, &fault, true);
                }
                Ok(None)
            }
            Err(DataError::Empty { .. }) if !self.faults.is_empty() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn tell(self, log: Option<Log>, template: &TextTemplate, apart: bool) -> Survey {
        let mut survey = Survey {
            rows: self.rows,
            interactions: 0,
            users: 0,
            items: 0,
            item_rows: apart.then_some(self.item_rows),
            times: None,
            median_length: 0.0,
            repeats: 0,
            duplicates: 0,
            undescribed: None,
            without_text: None,
            filters: Vec::new(),
            faults: self.faults.into_values().collect(),
        };
        let Some(log) = log else {
            return survey;
        };
        (survey.users, survey.items) = (log.users.len(), log.items.len());
        survey.interactions = log.events.len();
        if log.clock == Clock::Absolute {
            survey.times = span(self.span, &self.units);
        }
        if apart {
            let lacks = |number: usize| !self.described[number];
            survey.undescribed = missing(&log.items, &self.first_lines, lacks);
        }
        let lacks = |number: usize| template.fill(&log.items[number]).is_none();
        survey.without_text = missing(&log.items, &self.first_lines, lacks);
        survey.filters = CORES
            .map(|(user_core, item_core)| left(&log, user_core, item_core))
            .into();
        survey.count(log);
        survey
    }
}

impl Survey {
    /// Whether the pipeline can read the files to their end.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// Lengths and repeats, from all histories.
    fn count(&mut self, log: Log) {
        let timed = log.clock == Clock::Absolute;
        let (offsets, items, times) = histories(log);
        let mut lengths: Vec<usize> = offsets
            .windows(2)
            .map(|place| place[1] - place[0])
            .collect();
        let mut history = Vec::new();
        for place in offsets.windows(2) {
            history.clear();
            history.extend((place[0]..place[1]).map(|i| (items[i], times[i])));
            history.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
            for pair in history.windows(2) {
                self.repeats += usize::from(pair[0].0 == pair[1].0);
                self.duplicates += usize::from(timed && pair[0] == pair[1]);
            }
        }
        lengths.sort_unstable();
        let (low, high) = ((lengths.len() - 1) / 2, lengths.len() / 2);
        self.median_length = (lengths[low] + lengths[high]) as f64 / 2.0;
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

fn span(span: Option<(f64, f64)>, units: &BTreeMap<Unit, (usize, usize)>) -> Option<Span> {
    let (first, last) = span?;
    let (&unit, _) = units.iter().max_by_key(|(_, (count, _))| *count)?;
    let others = units.iter().filter(|(other, _)| **other != unit);
    Some(Span {
        first,
        last,
        unit,
        other_units: others
            .map(|(&other, &(count, line))| (other, count, line))
            .collect(),
    })
}

fn missing(items: &[Item], lines: &[usize], lacks: impl Fn(usize) -> bool) -> Option<Missing> {
    let mut lacking = (0..items.len()).filter(|&number| lacks(number));
    let first = lacking.next()?;
    Some(Missing {
        count: 1 + lacking.count(),
        item: items[first].id.clone(),
        line: lines.get(first).copied().unwrap_or_default(),
    })
}

fn left(log: &Log, user_core: usize, item_core: usize) -> Left {
    let core = Core::of(log, user_core, item_core);
    let count = |left: &[bool]| left.iter().filter(|left| **left).count();
    Left {
        user_core,
        item_core,
        users: count(&core.users),
        items: count(&core.items),
        interactions: core.interactions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guess::{Asked, guess};

    fn surveyed(files: &[(&str, &[u8])]) -> Survey {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = files
            .iter()
            .map(|(name, bytes)| {
                let path = folder.path().join(name);
                std::fs::write(&path, bytes).unwrap();
                path
            })
            .collect();
        let guess = guess(&paths, &Asked::default()).unwrap();
        let template = TextTemplate {
            parts: guess.text.clone(),
            fallback: guess.text.is_empty().then(|| "item {id}".to_owned()),
            ..TextTemplate::default()
        };
        survey(&guess, &template, &mut |_| {}).unwrap()
    }

    fn told(survey: &Survey) -> Vec<(String, String, usize, Vec<usize>)> {
        let faults = survey.faults.iter();
        faults
            .map(|faults| {
                let file = faults
                    .file
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                let lines = faults.first.iter().map(|(line, _)| *line).collect();
                (file, faults.kind.clone(), faults.count, lines)
            })
            .collect()
    }

    #[test]
    fn figures_are_those_of_the_files() {
        let log = "user_id,item_id,timestamp\n\
                   a,x,1600000000\na,y,1600000100\na,x,1600000000\nb,x,1600000300\nb,z,1600000400\nb,x,1600000500\nc,q,1600000600\n";
        let items = "item_id,title\nx,Ex\ny,Why\nz,\nother,Other\n";
        let survey = surveyed(&[("log.csv", log.as_bytes()), ("items.csv", items.as_bytes())]);
        assert!(survey.is_sound(), "{:?}", survey.faults);
        assert_eq!(
            (survey.rows, survey.interactions, survey.users, survey.items),
            (7, 7, 3, 4)
        );
        assert_eq!((survey.item_rows, survey.median_length), (Some(4), 3.0));
        assert_eq!((survey.repeats, survey.duplicates), (2, 1));
        let times = survey.times.unwrap();
        assert_eq!(
            (times.first, times.last, times.unit),
            (1.6e9, 1_600_000_600.0, Unit::Seconds)
        );
        assert_eq!(times.other_units, []);
        let dates = ["2020-09-13 12:26:40", "2020-09-13 12:36:40"].map(str::to_owned);
        assert_eq!(times.dates(), Some(dates));
        let missing = |count, item: &str, line| {
            Some(Missing {
                count,
                item: item.to_owned(),
                line,
            })
        };
        assert_eq!(survey.undescribed, missing(1, "q", 8));
        assert_eq!(survey.without_text, missing(2, "z", 6));
        let left: Vec<_> = survey
            .filters
            .iter()
            .map(|l| (l.users, l.items, l.interactions))
            .collect();
        assert_eq!(left, [(0, 0, 0), (0, 0, 0), (2, 3, 6)]);
    }

    /// Every kind of fault that a row can have, all of them in one reading, each with its line.
    #[test]
    fn every_fault_is_told_with_its_line() {
        let mut log = b"user_id,item_id,timestamp\n".to_vec();
        for i in 0..60 {
            log.extend(format!("u{},i{},{}\n", i % 7, i % 11, 1_600_000_000 + i).bytes());
        }
        log.extend(b"u1,i1,yesterday\nu1,,1600000000\nu1,i1\n,i1,1600000000\nu1,i\xff,1600000000\nu1,i1,-5\nu1,i1,1600000000,x\n");
        log.extend(b"u1,i1,1600000000000\nu1,i1,later\n");
        let mut items = b"item_id,title,price\n".to_vec();
        for i in 0..10 {
            items.extend(format!("i{i},\"Item, {i}\",{i}.5\n").bytes());
        }
        items.extend(b"i3,again,1\ni10,x,free\n,none,1\ni12,\"open,1\ni13,x,1\n");
        let survey = surveyed(&[("log.csv", &log), ("items.csv", &items)]);
        let expected = [
            ("items.csv", "field `item_id` is missing", 1, vec![14]),
            ("items.csv", "field `price` cannot be read", 1, vec![13]),
            ("items.csv", "item twice", 1, vec![12]),
            ("items.csv", "quote left open", 1, vec![15]),
            ("log.csv", "field `item_id` is missing", 1, vec![63]),
            (
                "log.csv",
                "field `timestamp` cannot be read",
                3,
                vec![62, 67, 70],
            ),
            ("log.csv", "field `user_id` is missing", 1, vec![65]),
            ("log.csv", "not UTF-8", 1, vec![66]),
            ("log.csv", "wrong number of fields", 2, vec![64, 68]),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(file, kind, count, lines)| (file.to_owned(), kind.to_owned(), count, lines))
            .collect();
        assert_eq!(told(&survey), expected);
        assert!(survey.faults[3].ended && !survey.faults[0].ended);
        assert_eq!(survey.rows, 69);
    }

    #[test]
    fn json_lines_and_a_cut_archive() {
        let lines = "{\"user\": 1, \"item\": 1, \"ts\": 1600000000000}\n{\"user\": 1, \"item\": {}}\n{\"user\": 1\n{\"user\": 1, \"item\": 2}\n{\"user\": 1, \"item\": 1, \"ts\": 1600000000}\n";
        let survey = surveyed(&[("a.jsonl", lines.as_bytes())]);
        let kinds: Vec<_> = survey
            .faults
            .iter()
            .map(|f| (f.kind.as_str(), f.first[0].0))
            .collect();
        assert_eq!(
            kinds,
            [
                ("field `item` cannot be read", 2),
                ("field `ts` is missing", 4),
                ("no JSON object", 3)
            ]
        );
        let times = survey.times.unwrap();
        assert_eq!(times.other_units.len(), 1, "two units: {times:?}");

        let text: String = (0..9_000u32)
            .map(|i| {
                format!(
                    "u{},i{},{}\n",
                    i % 71,
                    i.wrapping_mul(2_654_435_761) % 977,
                    1_600_000_000 + i
                )
            })
            .collect();
        let text = format!("user,item,time\n{text}");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, text.as_bytes()).unwrap();
        let gz = gz.finish().unwrap();
        let survey = surveyed(&[("a.csv.gz", &gz[..gz.len() / 2])]);
        assert_eq!(survey.faults.len(), 1);
        assert!(survey.faults[0].ended && survey.faults[0].kind == "cut short");
        assert!(survey.rows > 1_000);
    }
}
