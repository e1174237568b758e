//! Which table holds the interactions, and which column means what.

use std::path::{Path, PathBuf};

use super::Guess;
use super::ask::{no_interactions, no_times, table, undecided};
use super::describe::describe;
use super::names::{self, Names};
use super::sample::{Column, Content, Sample};
use crate::source::Columns;
use crate::{DataError, Result};

/// What the user has decided.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The file of interactions.
    pub interactions: Option<PathBuf>,
    /// Column of the interactions with the user.
    pub user: Option<String>,
    /// Column of the interactions with the item.
    pub item: Option<String>,
    /// Column of the interactions with the time.
    pub time: Option<String>,
    /// The rows are in order, whatever columns there are.
    pub no_time: bool,
    /// Column of the items with the id.
    pub id: Option<String>,
    /// Columns that make the items' text, in order; empty: those that look like it.
    pub text: Vec<String>,
}

/// What a column was taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// `user`, `item`, `time`, `id`, `title`, … as the manifest has it.
    pub role: &'static str,
    /// The column.
    pub column: String,
    /// The file that it is in.
    pub file: PathBuf,
    /// Why.
    pub why: &'static str,
}

pub(super) const NAMED: &str = "by its name";
pub(super) const ASKED: &str = "as asked";
pub(super) const HOLDS: &str = "by what it holds";
const LEFT: &str = "the only other column of ids";

/// Decides what is what among one or two samples.
///
/// # Errors
/// As [`guess`](super::guess).
pub fn assign(mut samples: Vec<Sample>, asked: &Asked) -> Result<Guess> {
    if samples.len() > 2 {
        return Err(DataError::Asked {
            path: samples[2].path.clone(),
            message: "a third file; give one of interactions, and one of items if there is one (of several files of one kind make one first)"
                .to_owned(),
        });
    }
    let which = which(&samples, asked)?;
    let interactions = samples.remove(which);
    let items = samples.pop();
    let mut found = Found {
        interactions: &interactions,
        items: items.as_ref(),
        asked,
        roles: Vec::new(),
    };
    let (user, item) = found.user_and_item()?;
    let timestamp = found.time(&user, &item)?;
    let mut columns = Columns::new(user, item);
    columns.timestamp = timestamp;
    if items.is_some() {
        columns.id = Some(found.id(&columns.item)?);
    }
    let mut roles = found.roles;
    let source = items.as_ref().unwrap_or(&interactions);
    let (about, text) = describe(source, items.is_some(), &asked.text, &mut columns)?;
    roles.extend(about);
    // Without a table of items, rows of interactions may say what the item is.
    let items = items.or_else(|| (!text.is_empty()).then(|| interactions.clone()));
    Ok(Guess {
        interactions,
        items,
        columns,
        roles,
        text,
    })
}

/// The place of the sample with the interactions.
fn which(samples: &[Sample], asked: &Asked) -> Result<usize> {
    if let Some(path) = &asked.interactions {
        let place = samples.iter().position(|sample| sample.path == *path);
        return place.ok_or_else(|| DataError::Asked {
            path: path.clone(),
            message: "is not among the files".to_owned(),
        });
    }
    let tier = |sample: &Sample| {
        let named = asked
            .user
            .as_ref()
            .is_some_and(|user| sample.column(user).is_some());
        let best = sample
            .columns
            .iter()
            .filter(|c| ids(c))
            .filter_map(|c| names::USER.tier(&c.name));
        best.min()
            .map_or(0, |tier| 9 - tier)
            .max(if named { 10 } else { 0 })
    };
    let columns = |sample: &Sample| {
        let path = sample.path.display();
        format!("{path}:\n{}", table(&sample.columns))
    };
    let tiers: Vec<usize> = samples.iter().map(tier).collect();
    let best = tiers.iter().copied().max().unwrap_or_default();
    let mut places = (0..samples.len()).filter(|&place| tiers[place] == best);
    match (places.next(), places.next(), samples.first()) {
        (Some(place), None, _) => Ok(place),
        (_, _, None) => Err(DataError::Prepare("no file to look at".to_owned())),
        (_, _, Some(first)) => Err(DataError::Table {
            path: first.path.clone(),
            message: format!(
                "is this the file of interactions, or {}? Its column of users could not be told; name the file with \
                 --interactions FILE and the column with --user COLUMN\n{}",
                samples[1].path.display(),
                samples.iter().map(columns).collect::<String>().trim_end()
            ),
        }),
    }
}

/// Whether a column may hold ids.
fn ids(column: &Column) -> bool {
    matches!(
        column.content,
        Content::Whole | Content::Text | Content::Times | Content::Dates
    ) && column.length <= 64.0
}

/// Whether every row has another value in a column.
fn once(sample: &Sample, name: &str) -> bool {
    let column = sample.column(name);
    column.is_some_and(|column| column.distinct == sample.rows)
}

struct Found<'a> {
    interactions: &'a Sample,
    items: Option<&'a Sample>,
    asked: &'a Asked,
    roles: Vec<Role>,
}

impl Found<'_> {
    fn user_and_item(&mut self) -> Result<(String, String)> {
        let (log, asked) = (self.interactions, self.asked);
        let described = |c: &&Column| {
            self.items
                .is_some_and(|items| items.column(&c.name).is_some())
        };
        let user = named(log, &asked.user, &names::USER, "user", ids, |_| false)?;
        let item = named(log, &asked.item, &names::ITEM, "item", ids, described)?;
        // One of the two found, the other is the only column left that can be it.
        let rest = |taken: &str| -> Vec<&Column> {
            let left = log.columns.iter().filter(|c| c.name != taken && ids(c));
            left.filter(|c| {
                let time = matches!(c.content, Content::Times | Content::Dates);
                !time && c.distinct < c.filled && !names::OTHER.has(&c.name)
            })
            .collect()
        };
        let (user, item) = match (user, item) {
            (Some(user), Some(item)) => (user, item),
            (Some(user), None) => match rest(&user.0).as_slice() {
                [one] => (user, (one.name.clone(), LEFT)),
                some => return Err(undecided(log, "item", "--item", some)),
            },
            (None, Some(item)) => match rest(&item.0).as_slice() {
                _ if once(log, &item.0) => return Err(no_interactions(log, &item.0)),
                [one] => ((one.name.clone(), LEFT), item),
                some => return Err(undecided(log, "user", "--user", some)),
            },
            (None, None) => {
                return Err(undecided(
                    log,
                    "user, and which the item",
                    "--user COLUMN and --item",
                    &[],
                ));
            }
        };
        if user.0 == item.0 {
            return Err(undecided(
                log,
                "item, which cannot be the user's",
                "--item",
                &[],
            ));
        }
        for (role, (column, why)) in [("user", &user), ("item", &item)] {
            self.note(role, column, &self.interactions.path, why);
        }
        Ok((user.0, item.0))
    }

    fn time(&mut self, user: &str, item: &str) -> Result<Option<String>> {
        let (log, asked) = (self.interactions, self.asked);
        if asked.no_time {
            return Ok(None);
        }
        let free = |c: &&Column| c.name != user && c.name != item;
        let times = |c: &Column| free(&c) && c.content == Content::Times;
        let mut found = named(log, &asked.time, &names::TIME, "time", times, |_| false)?;
        if found.is_none() {
            let by_content: Vec<&Column> = log.columns.iter().filter(|c| times(c)).collect();
            found = match by_content.as_slice() {
                [] => None,
                [one] => Some((one.name.clone(), HOLDS)),
                some => return Err(undecided(log, "time", "--time", some)),
            };
        }
        let exact = |c: &&Column| names::TIME.tier(&c.name) == Some(0) && free(c);
        if let (None, Some(column)) = (&found, log.columns.iter().find(exact)) {
            match column.content {
                Content::Whole | Content::Number => found = Some((column.name.clone(), NAMED)),
                Content::Empty | Content::Lists | Content::Times => {}
                Content::Text | Content::Dates => {
                    return Err(no_times(log, column, "is called as if it held times"));
                }
            }
        }
        // Without a word, rows in any order would be taken for histories.
        let dated = |c: &&Column| c.content == Content::Dates && free(c);
        if let (None, Some(column)) = (&found, log.columns.iter().find(dated)) {
            return Err(no_times(log, column, "looks like dates"));
        }
        if let Some((column, why)) = &found {
            self.note("time", column, &log.path, why);
        }
        Ok(found.map(|(column, _)| column))
    }

    /// The column of the items' ids.
    fn id(&mut self, item: &str) -> Result<String> {
        let Some(items) = self.items else {
            return Ok(item.to_owned());
        };
        let unique = |c: &Column| ids(c) && c.distinct * 10 >= c.filled * 9 && c.filled > 0;
        // Called an id, but some are there twice: for the whole reading to tell, by their lines.
        let meant = |c: &Column| {
            let called = names::ID.tier(&c.name).is_some_and(|tier| tier < 2);
            ids(c) && called && c.distinct * 2 > c.filled
        };
        let asked = &self.asked.id;
        let by_name =
            |fits: fn(&Column) -> bool| named(items, asked, &names::ID, "id", fits, |_| false);
        let same = items.column(item).filter(|_| asked.is_none());
        let found = match same {
            Some(column) => Some((column.name.clone(), "called as in the interactions")),
            None => match by_name(unique)? {
                None => by_name(meant)?,
                found => found,
            },
        };
        let (column, why) = match found {
            Some(found) => found,
            None => {
                let unique: Vec<&Column> = items.columns.iter().filter(|c| unique(c)).collect();
                match unique.as_slice() {
                    [one] => (one.name.clone(), HOLDS),
                    some => return Err(undecided(items, "id", "--id", some)),
                }
            }
        };
        self.note("id", &column, &items.path, why);
        Ok(column)
    }

    fn note(&mut self, role: &'static str, column: &str, file: &Path, why: &'static str) {
        self.roles.push(Role {
            role,
            column: column.to_owned(),
            file: file.to_owned(),
            why,
        });
    }
}

/// The column that was asked for, or the one that is best named among those that fit, with why; `None` where no name says
/// anything. Of several equally well named, the `preferred` one.
fn named(
    sample: &Sample,
    asked: &Option<String>,
    names: &Names,
    what: &'static str,
    fits: impl Fn(&Column) -> bool,
    preferred: impl Fn(&&Column) -> bool,
) -> Result<Option<(String, &'static str)>> {
    if let Some(name) = asked {
        let column = sample.wanted(name, &format!("--{what}"))?;
        return Ok(Some((column.name.clone(), ASKED)));
    }
    let tiers = sample.columns.iter().filter(|c| fits(c));
    let tiers: Vec<(usize, &Column)> = tiers
        .filter_map(|c| Some((names.tier(&c.name)?, c)))
        .collect();
    let best = tiers.iter().map(|(tier, _)| *tier).min();
    let best: Vec<&Column> = tiers
        .iter()
        .filter(|(tier, _)| Some(*tier) == best)
        .map(|(_, c)| *c)
        .collect();
    let mut wanted = best.iter().filter(|c| preferred(c));
    match (best.as_slice(), wanted.next(), wanted.next()) {
        ([], ..) => Ok(None),
        ([one], ..) => Ok(Some((one.name.clone(), NAMED))),
        (_, Some(one), None) => Ok(Some((one.name.clone(), NAMED))),
        (some, ..) => Err(undecided(sample, what, &format!("--{what}"), some)),
    }
}
