//! What is gathered while the files are read, and what it says when they are.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

use super::{Faults, Left, Missing, Span, Survey, Unit};
use crate::acquire::Progress;
use crate::error::LineFault;
use crate::item::TextTemplate;
use crate::log::{Event, Log};
use crate::prepare::{Core, histories};
use crate::read::table::Watch;
use crate::{Clock, DataError, Item, Result};

/// So many faults of a kind are kept with their line.
const KEPT: usize = 5;

/// The filters tried: those of the paper, and the mildest that the split allows.
const CORES: [(usize, usize); 3] = [(5, 5), (4, 3), (3, 1)];
/// Which table passes.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    Interactions,
    Items,
    /// The interactions once more, for what they say of items: the rows at fault are known, and passed over.
    Again,
}

/// What is gathered while the files are read.
pub(super) struct Seen<'a> {
    progress: &'a mut dyn FnMut(Progress),
    rows: usize,
    item_rows: usize,
    /// Line of each item's first interaction.
    first_lines: Vec<usize>,
    /// Whether each item has a row of its own.
    pub(super) described: Vec<bool>,
    pub(super) reading: Reading,
    span: Option<(f64, f64)>,
    /// Times by their seeming unit, and the line of the first.
    units: BTreeMap<Unit, (usize, usize)>,
    /// Lines of the interactions that are at fault.
    faulty: HashSet<usize>,
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
            Reading::Interactions => {
                self.rows += 1;
                self.faulty.insert(line);
            }
            Reading::Items => self.item_rows += 1,
            Reading::Again if self.faulty.contains(&line) => return Ok(()),
            Reading::Again => {}
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

    fn described(&mut self, number: u32) {
        if let Some(described) = self.described.get_mut(number as usize) {
            *described = true;
        }
    }

    fn item(&mut self) {
        self.item_rows += 1;
    }
}

impl<'a> Seen<'a> {
    pub(super) fn new(progress: &'a mut dyn FnMut(Progress)) -> Self {
        Self {
            progress,
            rows: 0,
            item_rows: 0,
            first_lines: Vec::new(),
            described: Vec::new(),
            reading: Reading::Interactions,
            span: None,
            units: BTreeMap::new(),
            faulty: HashSet::new(),
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
    pub(super) fn past<T>(&mut self, read: Result<T>, reading: Reading) -> Result<Option<T>> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(DataError::Line { path, line, fault }) => {
                // A second reading ends where the first one did.
                let mut known = self.faults.values();
                let known = known.any(|faults| faults.ended && faults.file == path);
                if reading != Reading::Again || !known {
                    self.note(&path, line, &fault, true);
                }
                Ok(None)
            }
            Err(DataError::Empty { .. } | DataError::NoRows { .. }) if !self.faults.is_empty() => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn tell(self, log: Option<Log>, template: &TextTemplate, apart: bool) -> Survey {
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
            texts: 0,
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
        // Of the texts themselves a large catalogue has too many to hold.
        let (mut texts, state) = (HashSet::new(), RandomState::new());
        let lacks = |number: usize| match template.fill(&log.items[number]) {
            Some(text) => {
                texts.insert(state.hash_one(text));
                false
            }
            None => true,
        };
        survey.without_text = missing(&log.items, &self.first_lines, lacks);
        survey.texts = texts.len();
        survey.filters = CORES
            .map(|(user_core, item_core)| left(&log, user_core, item_core))
            .into();
        survey.count(log);
        survey
    }
}
impl Survey {
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

/// Asks of every item once.
fn missing(
    items: &[Item],
    lines: &[usize],
    mut lacks: impl FnMut(usize) -> bool,
) -> Option<Missing> {
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
