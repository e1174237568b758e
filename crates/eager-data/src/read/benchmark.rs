//! The plain benchmark form: `sequences.txt`, `items.jsonl`, and where there are any `gaps.txt` and `users.tsv`.
//!
//! Ids count up from 1 in both files, a line each; histories are oldest first and already filtered, so a history too
//! short for the split is a fault of the file.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::json::json_fault;
use super::lines::Lines;
use super::short;
use crate::error::{LineFault, MIN_HISTORY};
use crate::log::{Clock, Event, Events, Log, valid_time};
use crate::{Item, Result};

/// Where the files lie.
pub(super) struct Files<'a> {
    pub(super) sequences: &'a Path,
    pub(super) items: &'a Path,
    pub(super) gaps: Option<&'a Path>,
    pub(super) users: Option<&'a Path>,
}

pub(super) fn read(files: &Files) -> Result<Log> {
    let items = read_items(files.items)?;
    let (sequences, ids) = read_sequences(files.sequences, files.items, items.len())?;
    let users = match files.users {
        Some(path) => read_users(path, files.sequences, ids.len())?,
        None => ids,
    };
    let times = files
        .gaps
        .map(|path| read_gaps(path, files.sequences, &sequences))
        .transpose()?;
    let clock = if times.is_some() {
        Clock::SinceFirst
    } else {
        Clock::Rank
    };
    let mut events = Events::default();
    for (user, sequence) in sequences.iter().enumerate() {
        for (place, &item) in sequence.iter().enumerate() {
            let time = times
                .as_ref()
                .map_or(place as f64, |times| times[user][place]);
            events.push(Event {
                user: user as u32,
                item,
                time,
            });
        }
    }
    Ok(Log {
        events,
        users,
        items,
        clock,
    })
}

/// A line of `items.jsonl`; fields of other names are left.
#[derive(Deserialize)]
struct Line {
    id: usize,
    #[serde(default, alias = "business_id")]
    asin: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    brand: Option<String>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    price: Option<f64>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    keywords: Option<String>,
}

fn read_items(path: &Path) -> Result<Vec<Item>> {
    let (mut items, mut first_lines) = (Vec::new(), HashMap::new());
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let line: Line = match serde_json::from_str(line) {
            Ok(line) => line,
            Err(error) => return Err(lines.at(json_fault(&error))),
        };
        if line.id != lines.number() {
            if (1..lines.number()).contains(&line.id) {
                return Err(lines.at(LineFault::DuplicateItem {
                    item: line.id.to_string(),
                    first: line.id,
                }));
            }
            return Err(lines.at(LineFault::OutOfOrder {
                found: line.id.to_string(),
                expected: lines.number(),
            }));
        }
        if line.price.is_some_and(|price| price < 0.0) {
            return Err(lines.at(LineFault::bad(
                "price",
                line.price.unwrap_or_default(),
                "a number, not negative",
            )));
        }
        let id = line.asin.unwrap_or_else(|| line.id.to_string());
        if let Some(first) = first_lines.insert(id.clone(), lines.number()) {
            return Err(lines.at(LineFault::DuplicateItem { item: id, first }));
        }
        items.push(Item {
            id,
            title: line.title,
            brand: line.brand,
            categories: line.categories,
            price: line.price,
            description: line.description,
            keywords: line.keywords,
            ..Item::default()
        });
    }
    Ok(items)
}

/// Histories as item numbers from 0, and the users' ids as written.
fn read_sequences(
    path: &Path,
    items: &Path,
    n_items: usize,
) -> Result<(Vec<Vec<u32>>, Vec<String>)> {
    let (mut sequences, mut ids) = (Vec::new(), Vec::new());
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let (user, rest) = split_user(line).map_err(|field| {
            LineFault::MissingField(field.to_owned()).at(path, sequences.len() + 1)
        })?;
        let sequence = rest
            .map(|item| match item.parse::<usize>() {
                Ok(id) if (1..=n_items).contains(&id) => Ok((id - 1) as u32),
                Ok(_) => Err(LineFault::UnknownItem {
                    item: item.to_owned(),
                    items: short(items),
                }),
                Err(_) => Err(LineFault::bad(
                    "item",
                    item,
                    "an item's id: a whole number from 1",
                )),
            })
            .collect::<std::result::Result<Vec<_>, _>>();
        let user = user.to_owned();
        let sequence = sequence.map_err(|fault| lines.at(fault))?;
        in_order(&user, &lines)?;
        if sequence.len() < MIN_HISTORY {
            return Err(lines.at(LineFault::ShortUser {
                user,
                found: sequence.len(),
            }));
        }
        sequences.push(sequence);
        ids.push(user);
    }
    Ok((sequences, ids))
}

/// Times since each user's first interaction, summed from the gaps.
fn read_gaps(path: &Path, sequences_path: &Path, sequences: &[Vec<u32>]) -> Result<Vec<Vec<f64>>> {
    let mut times = Vec::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let (user, rest) = split_user(line)
            .map_err(|field| LineFault::MissingField(field.to_owned()).at(path, times.len() + 1))?;
        let mut now = 0.0;
        let moments = rest
            .map(|gap| {
                let seconds = gap.parse().ok().and_then(valid_time);
                now += seconds.ok_or_else(|| {
                    LineFault::bad(
                        "gap",
                        gap,
                        "seconds since the previous interaction: a finite number, not negative",
                    )
                })?;
                Ok(now)
            })
            .collect::<std::result::Result<Vec<f64>, LineFault>>();
        let user = user.to_owned();
        let moments = moments.map_err(|fault| lines.at(fault))?;
        in_order(&user, &lines)?;
        let expected = sequences.get(times.len()).map_or(0, Vec::len);
        if moments.len() != expected {
            return Err(lines.at(LineFault::Misaligned {
                user,
                found: moments.len(),
                expected,
                other: short(sequences_path),
            }));
        }
        times.push(moments);
    }
    whole(path, times.len(), sequences_path, sequences.len())?;
    Ok(times)
}

/// Raw ids of the users.
fn read_users(path: &Path, sequences_path: &Path, n_users: usize) -> Result<Vec<String>> {
    let mut users = Vec::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let Some((id, raw)) = line.split_once('\t').filter(|(_, raw)| !raw.is_empty()) else {
            return Err(lines.at(LineFault::MissingField("original id".to_owned())));
        };
        let (id, raw) = (id.to_owned(), raw.to_owned());
        in_order(&id, &lines)?;
        if users.len() == n_users {
            return Err(lines.at(LineFault::Misaligned {
                user: id,
                found: 1,
                expected: 0,
                other: short(sequences_path),
            }));
        }
        users.push(raw);
    }
    whole(path, users.len(), sequences_path, n_users)?;
    Ok(users)
}

/// The first field and the others.
fn split_user(
    line: &str,
) -> std::result::Result<(&str, std::str::SplitAsciiWhitespace<'_>), &'static str> {
    let mut fields = line.split_ascii_whitespace();
    fields.next().map(|user| (user, fields)).ok_or("user")
}

/// Users count up from 1, a line each.
fn in_order(user: &str, lines: &Lines) -> Result<()> {
    match user.parse::<usize>() {
        Ok(id) if id == lines.number() => Ok(()),
        _ => Err(lines.at(LineFault::OutOfOrder {
            found: user.to_owned(),
            expected: lines.number(),
        })),
    }
}

/// An aligned file has as many lines as the other.
fn whole(path: &Path, found: usize, other: &Path, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(LineFault::TooFewLines {
        expected,
        other: short(other),
    }
    .at(path, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQUENCES: &str = "1 1 2 3\n2 3 1 2 1\n";
    const ITEMS: &str = "{\"id\": 1, \"asin\": \"B3\", \"title\": \"One\"}\n{\"id\": 2, \"business_id\": \"B2\", \"price\": 2.5}\n{\"id\": 3, \"categories\": [\"a\", \"b\"]}\n";
    const GAPS: &str = "1 0 5 0\n2 0 0 86400 7\n";
    const USERS: &str = "1\tann\n2\tbob\n";

    fn log(
        sequences: &str,
        items: &str,
        gaps: &str,
        users: &str,
    ) -> std::result::Result<Log, String> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let (sequences, items) = (
            write("sequences.txt", sequences),
            write("items.jsonl", items),
        );
        let (gaps, users) = (write("gaps.txt", gaps), write("users.tsv", users));
        read(&Files {
            sequences: &sequences,
            items: &items,
            gaps: Some(&gaps),
            users: Some(&users),
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn reads_all_four_files() {
        let log = log(SEQUENCES, ITEMS, GAPS, USERS).unwrap();
        assert_eq!(log.users, ["ann", "bob"]);
        assert_eq!(
            log.items
                .iter()
                .map(|item| item.id.as_str())
                .collect::<Vec<_>>(),
            ["B3", "B2", "3"]
        );
        assert_eq!(log.items[2].categories, ["a", "b"]);
        let events: Vec<_> = log
            .events
            .iter()
            .map(|e| (e.user, e.item, e.time))
            .collect();
        assert_eq!(
            events,
            [
                (0, 0, 0.0),
                (0, 1, 5.0),
                (0, 2, 5.0),
                (1, 2, 0.0),
                (1, 0, 0.0),
                (1, 1, 86400.0),
                (1, 0, 86407.0)
            ]
        );
        assert_eq!(log.clock, Clock::SinceFirst);
    }

    #[test]
    fn faults_name_file_and_line() {
        for (sequences, items, gaps, users, words) in [
            (
                "1 1 2 3\n2 3 1 9 1\n",
                ITEMS,
                GAPS,
                USERS,
                "sequences.txt:2: item 9 is not in items.jsonl",
            ),
            (
                "1 1 2 3\n2 3 0 2 1\n",
                ITEMS,
                GAPS,
                USERS,
                "sequences.txt:2: item 0 is not in items.jsonl",
            ),
            (
                "1 1 2 x\n",
                ITEMS,
                GAPS,
                USERS,
                "sequences.txt:1: field `item` is `x`",
            ),
            (
                "2 1 2 3\n1 1 2 3\n",
                ITEMS,
                GAPS,
                USERS,
                "sequences.txt:1: id is 2, expected 1",
            ),
            (
                "1 1 2 3\n1 1 2 3\n",
                ITEMS,
                GAPS,
                USERS,
                "sequences.txt:2: id is 1, expected 2",
            ),
            (
                "1 1 2 3\n2 3 1\n",
                ITEMS,
                GAPS,
                USERS,
                "sequences.txt:2: user 2 has 2 interactions",
            ),
            (
                "1 1 2 3\n\n2 3 1 2 1\n",
                ITEMS,
                GAPS,
                USERS,
                "sequences.txt:2: field `user` is missing",
            ),
            ("", ITEMS, GAPS, USERS, "sequences.txt: the file is empty"),
            (
                SEQUENCES,
                "{\"id\": 1}\n{\"id\": 1}\n",
                GAPS,
                USERS,
                "items.jsonl:2: item 1 is already on line 1",
            ),
            (
                SEQUENCES,
                "{\"id\": 1}\n{\"id\": 3}\n",
                GAPS,
                USERS,
                "items.jsonl:2: id is 3, expected 2",
            ),
            (
                SEQUENCES,
                "{\"id\": 1, \"asin\": \"a\"}\n{\"id\": 2, \"asin\": \"a\"}\n",
                GAPS,
                USERS,
                "items.jsonl:2: item a is already on line 1",
            ),
            (
                SEQUENCES,
                "{\"title\": \"x\"}\n",
                GAPS,
                USERS,
                "items.jsonl:1: field `id` is missing",
            ),
            (
                SEQUENCES,
                "{\"id\": 1, \"price\": -1}\n",
                GAPS,
                USERS,
                "items.jsonl:1: field `price` is `-1`",
            ),
            (
                SEQUENCES,
                "{\"id\": 1\n",
                GAPS,
                USERS,
                "items.jsonl:1: column",
            ),
            (
                SEQUENCES,
                ITEMS,
                "1 0 5\n2 0 0 0 0\n",
                USERS,
                "gaps.txt:1: 2 values for user 1, but 3 in sequences.txt",
            ),
            (
                SEQUENCES,
                ITEMS,
                "1 0 5 0\n",
                USERS,
                "gaps.txt:1: the file ends here, but sequences.txt has 2 lines",
            ),
            (
                SEQUENCES,
                ITEMS,
                "1 0 5 0\n2 0 0 -1 0\n",
                USERS,
                "gaps.txt:2: field `gap` is `-1`",
            ),
            (
                SEQUENCES,
                ITEMS,
                "1 0 5 0\n2 0 NaN 1 0\n",
                USERS,
                "gaps.txt:2: field `gap` is `NaN`",
            ),
            (
                SEQUENCES,
                ITEMS,
                "1 0 5 0\n2 0 0 0 0\n3 0\n",
                USERS,
                "gaps.txt:3: 1 value for user 3, but 0",
            ),
            (
                SEQUENCES,
                ITEMS,
                GAPS,
                "1\tann\n",
                "users.tsv:1: the file ends here",
            ),
            (
                SEQUENCES,
                ITEMS,
                GAPS,
                "1 ann\n",
                "users.tsv:1: field `original id` is missing",
            ),
            (
                SEQUENCES,
                ITEMS,
                GAPS,
                "2\tann\n1\tbob\n",
                "users.tsv:1: id is 2, expected 1",
            ),
        ] {
            let message = log(sequences, items, gaps, users).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}
