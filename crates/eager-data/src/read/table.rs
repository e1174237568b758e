//! A log from two tables: interactions, and (where there is one) items.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use super::rows::{self, Cell, TableFile, Wanted};
use super::times::Times;
use crate::acquire::Progress;
use crate::error::LineFault;
use crate::log::{Clock, Event, Events, Log, Numbering};
use crate::source::Columns;
use crate::{Item, Result};

/// Who looks on while tables are read.
pub(crate) trait Watch {
    /// Hears now and then how far the reading is.
    fn progress(&mut self, progress: Progress);

    /// Says whether the reading goes on after a row at fault, without it.
    ///
    /// # Errors
    /// The fault, where it does not.
    fn fault(
        &mut self,
        path: &Path,
        line: usize,
        fault: LineFault,
    ) -> std::result::Result<(), LineFault>;

    /// Hears of every good row of the interactions …
    fn event(&mut self, _line: usize, _event: &Event) {}

    /// … of every item among them that has a row of its own, whatever else the row says …
    fn described(&mut self, _number: u32) {}

    /// … and of every good row of the items.
    fn item(&mut self) {}
}

/// The first fault ends the reading.
pub(super) struct Strict<'a>(pub(super) &'a mut dyn FnMut(Progress));

impl Watch for Strict<'_> {
    fn progress(&mut self, progress: Progress) {
        (self.0)(progress);
    }

    fn fault(
        &mut self,
        _: &Path,
        _: usize,
        fault: LineFault,
    ) -> std::result::Result<(), LineFault> {
        Err(fault)
    }
}

/// Reads both tables. Held are 16 bytes an interaction and every id once; the tables themselves pass row by row.
pub(super) fn read(
    interactions: &TableFile,
    items: Option<&TableFile>,
    columns: &Columns,
    watch: &mut impl Watch,
) -> Result<Log> {
    let read = read_interactions(interactions, columns, watch)?;
    let catalogue = match items {
        Some(items) => {
            let repeated = items.path == interactions.path;
            read_items(items, columns, &read.items, repeated, watch)?
        }
        None => read.items.bare_items(),
    };
    Ok(read.with(catalogue))
}

/// Reads the interactions.
pub(crate) fn read_interactions<'a>(
    table: &TableFile,
    columns: &'a Columns,
    watch: &mut impl Watch,
) -> Result<Gathered<'a>> {
    let mut read = Gathered::new(columns);
    let wanted = read.wanted();
    each_row(table, &wanted, watch, &mut |row, line, watch| {
        let event = read.event(row)?;
        read.events.push(event);
        watch.event(line, &event);
        Ok(())
    })?;
    if read.events.is_empty() {
        return Err(crate::DataError::NoRows {
            path: table.path.clone(),
        });
    }
    Ok(read)
}

/// Reads a table under the eyes of `watch`, who decides about faults of rows and of what `each` makes of them.
fn each_row<W: Watch>(
    TableFile { path, kind }: &TableFile,
    wanted: &[Wanted],
    watch: &mut W,
    each: &mut impl FnMut(&[Option<Cell>], usize, &mut W) -> std::result::Result<(), LineFault>,
) -> Result<()> {
    let watch = RefCell::new(watch);
    let name = super::short(path);
    let mut progress = |done, total| {
        watch.borrow_mut().progress(Progress {
            what: &name,
            done,
            total: Some(total),
        });
    };
    rows::read(path, *kind, wanted, &mut progress, &mut |row, line| {
        let watch = &mut **watch.borrow_mut();
        match row.and_then(|row| each(row, line, watch)) {
            Err(fault) => watch.fault(path, line, fault),
            Ok(()) => Ok(()),
        }
    })
}

/// What has been read of the interactions.
pub(crate) struct Gathered<'a> {
    columns: &'a Columns,
    events: Events,
    users: Numbering,
    pub(crate) items: Numbering,
    times: Times,
    /// Of every user, where there are no times: the place in the history stands for one.
    lengths: Vec<u32>,
}

impl<'a> Gathered<'a> {
    fn new(columns: &'a Columns) -> Self {
        Self {
            columns,
            events: Events::default(),
            users: Numbering::default(),
            items: Numbering::default(),
            times: Times::default(),
            lengths: Vec::new(),
        }
    }

    /// The log, where `items` are those of `self.items`.
    pub(crate) fn with(self, items: Vec<Item>) -> Log {
        Log {
            events: self.events,
            users: self.users.into_names(),
            items,
            clock: match self.columns.timestamp {
                Some(_) => Clock::Absolute,
                None => Clock::Rank,
            },
        }
    }

    fn wanted(&self) -> Vec<Wanted<'a>> {
        let names = [&self.columns.user, &self.columns.item].into_iter();
        names
            .chain(&self.columns.timestamp)
            .map(|name| Wanted {
                name,
                required: true,
            })
            .collect()
    }

    fn event(&mut self, row: &[Option<Cell>]) -> std::result::Result<Event, LineFault> {
        let user = rows::id(row, 0, &self.columns.user)?;
        let item = rows::id(row, 1, &self.columns.item)?;
        let time = match &self.columns.timestamp {
            Some(name) => Some(self.times.read(required(row, 2, name)?, name)?),
            None => None,
        };
        let user = self.users.number(&user);
        Ok(Event {
            user,
            item: self.items.number(&item),
            time: time.unwrap_or_else(|| f64::from(self.place(user))),
        })
    }

    fn place(&mut self, user: u32) -> u32 {
        let user = user as usize;
        self.lengths.resize(self.lengths.len().max(user + 1), 0);
        self.lengths[user] += 1;
        self.lengths[user] - 1
    }
}

/// The items of `raw_items` with what the table says of them. Rows of other items are checked and left. Where an item may
/// be `repeated`, its first row counts; else a second one is a fault.
pub(crate) fn read_items(
    table: &TableFile,
    columns: &Columns,
    raw_items: &Numbering,
    repeated: bool,
    watch: &mut impl Watch,
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
    each_row(table, &wanted, watch, &mut |row, line, watch| {
        let id = rows::id(row, 0, columns.id())?.into_owned();
        if let Some(&first) = lines.get(&id) {
            if repeated {
                return Ok(());
            }
            return Err(LineFault::DuplicateItem { item: id, first });
        }
        if let Some(number) = raw_items.find(&id) {
            watch.described(number);
            catalogue[number as usize] = item(&id, row, &names, columns)?;
        }
        watch.item();
        lines.insert(id, line);
        Ok(())
    })?;
    Ok(catalogue)
}

/// The item of a row of the items' table; `names` has the column of each place.
fn item(
    id: &str,
    row: &[Option<Cell>],
    names: &[Option<&str>],
    columns: &Columns,
) -> std::result::Result<Item, LineFault> {
    let cell = |place: usize| names[place].and_then(|_| row[place].as_ref());
    let text = |place: usize| cell(place).map(|cell| cell.text().into_owned());
    let price = match cell(4) {
        Some(cell) if !cell.is_unknown() => Some(price(cell, names[4].unwrap_or_default())?),
        _ => None,
    };
    let extra = columns.extra.iter().enumerate();
    Ok(Item {
        id: id.to_owned(),
        title: text(1),
        brand: text(2),
        categories: cell(3).map_or_else(Vec::new, |cell| split(cell, &columns.separator)),
        price,
        description: text(5),
        keywords: text(6),
        extra: extra
            .filter_map(|(i, name)| Some((name.clone(), text(7 + i)?)))
            .collect(),
    })
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
        let file = |path| TableFile::new(path, None).unwrap();
        let items = (!items.is_empty()).then(|| file(&b));
        read(&file(&a), items.as_ref(), columns, &mut Strict(&mut |_| {}))
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

    /// As those of a CSV file, whose fields are trimmed; an empty list is no id.
    #[test]
    fn ids_have_no_blanks_around_them() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.jsonl"), folder.path().join("b.jsonl"));
        let rows = "{\"u\": \"ann\", \"i\": \"x \"}\n{\"u\": \" ann\", \"i\": \"x\"}\n";
        std::fs::write(&a, rows).unwrap();
        std::fs::write(&b, "{\"i\": \" x\", \"n\": \"Ex\"}\n").unwrap();
        let file = |path| TableFile::new(path, None).unwrap();
        let columns = columns("title = \"n\"");
        let read = || {
            read(
                &file(&a),
                Some(&file(&b)),
                &columns,
                &mut Strict(&mut |_| {}),
            )
        };
        let log = read().unwrap();
        assert_eq!((log.users, log.items.len()), (vec!["ann".to_owned()], 1));
        assert_eq!(
            (&*log.items[0].id, log.items[0].title.as_deref()),
            ("x", Some("Ex"))
        );
        std::fs::write(&a, "{\"u\": [], \"i\": \"x\"}\n").unwrap();
        let message = read().unwrap_err().to_string();
        assert!(
            message.contains("a.jsonl:1: field `u` is missing"),
            "{message}"
        );
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
    fn a_word_for_an_unknown_price_is_none() {
        let columns = columns("price = \"p\"");
        for word in ["N/A", "na", "-", "NULL", " None "] {
            let log = log("u,i\na,x\n", &format!("i,p\nx,{word}\n"), &columns).unwrap();
            assert_eq!(log.items[0].price, None, "{word}");
        }
    }

    /// The table of interactions may say itself what the items are, in their first rows.
    #[test]
    fn one_table_can_be_both() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.txt");
        std::fs::write(&path, "u;i;n\na;x;Ex\nb;y;\na;x;other\n").unwrap();
        let file = TableFile::new(&path, Some(';')).unwrap();
        let columns = columns("title = \"n\"");
        let log = read(&file, Some(&file), &columns, &mut Strict(&mut |_| {})).unwrap();
        assert_eq!(log.events.len(), 3);
        assert_eq!(log.items[0].title.as_deref(), Some("Ex"));
        assert_eq!(log.items[1].title, None);
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
            (
                "u,i,t\n",
                good,
                "inter.csv: there is no row below the header",
            ),
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
