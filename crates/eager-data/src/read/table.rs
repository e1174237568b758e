//! A log from two tables: interactions, and (where there is one) items.

use std::collections::HashMap;
use std::path::Path;

use super::rows::{self, Cell, Kind, Wanted};
use crate::error::LineFault;
use crate::log::{Clock, Event, Log, Numbering, TIME, valid_time};
use crate::source::Columns;
use crate::{Item, Result};

/// Reads both tables; `kind` says what each is written in.
pub(super) fn read(
    interactions: &Path,
    items: Option<&Path>,
    columns: &Columns,
    kind: impl Fn(&Path) -> Result<Kind>,
) -> Result<Log> {
    let (mut events, mut users, mut raw_items) =
        (Vec::new(), Numbering::default(), Numbering::default());
    let mut wanted = vec![
        Wanted {
            name: &columns.user,
            required: true,
        },
        Wanted {
            name: &columns.item,
            required: true,
        },
    ];
    wanted.extend(columns.timestamp.as_deref().map(|name| Wanted {
        name,
        required: true,
    }));
    // Without times, the place in the user's own history stands for one.
    let mut lengths: Vec<u32> = Vec::new();
    rows::read(interactions, kind(interactions)?, &wanted, &mut |row, _| {
        let user = users.number(&required(row, 0, &columns.user)?.text());
        let item = raw_items.number(&required(row, 1, &columns.item)?.text());
        let time = match &columns.timestamp {
            Some(name) => {
                let cell = required(row, 2, name)?;
                let bad = || LineFault::bad(name, cell.text(), TIME);
                cell.number().and_then(valid_time).ok_or_else(bad)?
            }
            None => {
                lengths.resize(lengths.len().max(user as usize + 1), 0);
                lengths[user as usize] += 1;
                f64::from(lengths[user as usize] - 1)
            }
        };
        events.push(Event { user, item, time });
        Ok(())
    })?;
    let clock = if columns.timestamp.is_some() {
        Clock::Absolute
    } else {
        Clock::Rank
    };
    let catalogue = match items {
        Some(path) => describe(path, kind(path)?, columns, &raw_items)?,
        None => raw_items.bare_items(),
    };
    if events.is_empty() {
        return Err(crate::DataError::Empty {
            path: interactions.to_owned(),
        });
    }
    Ok(Log {
        events,
        users: users.into_names(),
        items: catalogue,
        clock,
    })
}

/// The items of `raw_items` with what the table at `path` says of them. Rows of other items are checked and left.
fn describe(
    path: &Path,
    kind: Kind,
    columns: &Columns,
    raw_items: &Numbering,
) -> Result<Vec<Item>> {
    let mut catalogue = raw_items.bare_items();
    let mut lines: HashMap<String, usize> = HashMap::new();
    let id = Some(columns.id());
    let named = [
        id,
        columns.title.as_deref(),
        columns.brand.as_deref(),
        columns.categories.as_deref(),
        columns.price.as_deref(),
        columns.description.as_deref(),
        columns.keywords.as_deref(),
    ];
    let names: Vec<Option<&str>> = named
        .into_iter()
        .chain(columns.extra.iter().map(|name| Some(name.as_str())))
        .collect();
    // A field without a column of its own reads the id's column, and is then left empty.
    let wanted: Vec<Wanted> = names
        .iter()
        .map(|name| Wanted {
            name: name.unwrap_or(columns.id()),
            required: true,
        })
        .collect();
    rows::read(path, kind, &wanted, &mut |row, line| {
        let id = required(row, 0, columns.id())?.text();
        if let Some(&first) = lines.get(&id) {
            return Err(LineFault::DuplicateItem { item: id, first });
        }
        if let Some(number) = raw_items.find(&id) {
            let cell = |place: usize| names[place].and_then(|_| row[place].as_ref());
            let text = |place: usize| cell(place).map(Cell::text);
            let price = match cell(4) {
                Some(cell) => Some(price(cell, names[4].unwrap_or_default())?),
                None => None,
            };
            catalogue[number as usize] = Item {
                id: id.clone(),
                title: text(1),
                brand: text(2),
                categories: cell(3).map_or_else(Vec::new, |cell| split(cell, &columns.separator)),
                price,
                description: text(5),
                keywords: text(6),
                extra: columns
                    .extra
                    .iter()
                    .enumerate()
                    .filter_map(|(i, name)| Some((name.clone(), text(7 + i)?)))
                    .collect(),
            };
        }
        lines.insert(id, line);
        Ok(())
    })?;
    Ok(catalogue)
}

fn required<'a>(
    row: &'a [Option<Cell>],
    place: usize,
    name: &str,
) -> std::result::Result<&'a Cell, LineFault> {
    row.get(place)
        .and_then(Option::as_ref)
        .ok_or_else(|| LineFault::MissingField(name.to_owned()))
}

fn price(cell: &Cell, name: &str) -> std::result::Result<f64, LineFault> {
    let price = cell
        .number()
        .filter(|price| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| LineFault::bad(name, cell.text(), "a price: a finite number, not negative"))
}

fn split(cell: &Cell, separator: &str) -> Vec<String> {
    match cell {
        Cell::List(parts) => parts.clone(),
        other => {
            let text = other.text();
            let parts: Vec<&str> = if separator.is_empty() {
                vec![&text]
            } else {
                text.split(separator).collect()
            };
            parts
                .into_iter()
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(text: &str) -> Columns {
        toml::from_str(&format!("user = \"u\"\nitem = \"i\"\n{text}")).unwrap()
    }

    fn log(interactions: &str, items: &str, columns: &Columns) -> std::result::Result<Log, String> {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (
            folder.path().join("inter.csv"),
            folder.path().join("items.csv"),
        );
        std::fs::write(&a, interactions).unwrap();
        std::fs::write(&b, items).unwrap();
        read(
            &a,
            (!items.is_empty()).then_some(b.as_path()),
            columns,
            Kind::of,
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn items_are_joined_by_id() {
        let columns = columns(
            "timestamp = \"t\"\nid = \"key\"\ntitle = \"name\"\ncategories = \"c\"\nprice = \"p\"\nextra = [\"year\"]",
        );
        let log = log(
            "u,i,t\nbo,y,3\nal,x,1.5\nbo,x,4\n",
            "year,key,name,c,p\n1999,x,Ex,Drama | War|,7\n,other,,,\n2001,y,,,\n",
            &columns,
        )
        .unwrap();
        assert_eq!(log.users, ["bo", "al"]);
        assert_eq!(
            log.events
                .iter()
                .map(|e| (e.user, e.item, e.time))
                .collect::<Vec<_>>(),
            [(0, 0, 3.0), (1, 1, 1.5), (0, 1, 4.0)]
        );
        assert_eq!(log.clock, Clock::Absolute);
        assert_eq!(log.items[0].id, "y");
        assert_eq!(log.items[0].title, None);
        assert_eq!(log.items[1].title.as_deref(), Some("Ex"));
        assert_eq!(log.items[1].categories, ["Drama", "War"]);
        assert_eq!(log.items[1].price, Some(7.0));
        assert_eq!(log.items[1].extra["year"], "1999");
    }

    #[test]
    fn without_times_or_items_the_rows_are_the_order() {
        let log = log("i,u\nx,a\ny,b\nx,a\n", "", &columns("")).unwrap();
        assert_eq!(log.clock, Clock::Rank);
        assert_eq!(
            log.events.iter().map(|e| e.time).collect::<Vec<_>>(),
            [0.0, 0.0, 1.0]
        );
        assert_eq!(log.items, [Item::new("x"), Item::new("y")]);
    }

    #[test]
    fn faults_name_file_and_line() {
        let timed = columns("timestamp = \"t\"\ntitle = \"n\"\nprice = \"p\"");
        let good = "i,n,p\nx,,\n";
        for (interactions, items, words) in [
            (
                "u,i,t\na,x,-1\n",
                good,
                "inter.csv:2: field `t` is `-1`, expected a finite number of seconds",
            ),
            (
                "u,i,t\na,x,1\na,x,NaN\n",
                good,
                "inter.csv:3: field `t` is `NaN`",
            ),
            ("u,i,t\na,x,inf\n", good, "inter.csv:2: field `t` is `inf`"),
            (
                "u,i,t\na,x,yesterday\n",
                good,
                "inter.csv:2: field `t` is `yesterday`",
            ),
            ("u,i,t\na,,1\n", good, "inter.csv:2: field `i` is missing"),
            ("u,i,t\n,x,1\n", good, "inter.csv:2: field `u` is missing"),
            ("u,i\na,x\n", good, "inter.csv:1: no column `t`"),
            ("u,i,t\n", good, "inter.csv: the file is empty"),
            (
                "u,i,t\na,x,1\n",
                "i,n,p\nx,,\ny,,\nx,,\n",
                "items.csv:4: item x is already on line 2",
            ),
            (
                "u,i,t\na,x,1\n",
                "i,n,p\nx,,free\n",
                "items.csv:2: field `p` is `free`",
            ),
            (
                "u,i,t\na,x,1\n",
                "i,n,p\n,a,\n",
                "items.csv:2: field `i` is missing",
            ),
            ("u,i,t\na,x,1\n", "i,p\nx,1\n", "items.csv:1: no column `n`"),
        ] {
            let message = log(interactions, items, &timed).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}
