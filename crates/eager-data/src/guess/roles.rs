//! Which table holds the interactions, and which column means what.

use std::path::{Path, PathBuf};

use super::Guess;
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

const NAMED: &str = "by its name";
const ASKED: &str = "as asked";
const HOLDS: &str = "by what it holds";
const LEFT: &str = "the only other column of ids";

/// Decides what is what among one or two samples.
///
/// # Errors
/// As [`guess`](super::guess).
pub fn assign(mut samples: Vec<Sample>, asked: &Asked) -> Result<Guess> {
    if samples.len() > 2 {
        return Err(DataError::Table {
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
    let text = found.text(&mut columns)?;
    let roles = found.roles;
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
        return place.ok_or_else(|| DataError::Table {
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
                 --interactions FILE and the column with --user COLUMN\n{}{}",
                samples[1].path.display(),
                table(&first.columns),
                table(&samples[1].columns)
            ),
        }),
    }
}

/// Whether a column may hold ids.
fn ids(column: &Column) -> bool {
    matches!(
        column.content,
        Content::Whole | Content::Text | Content::Times
    ) && column.length <= 64.0
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
                c.content != Content::Times && c.distinct < c.filled && !names::OTHER.has(&c.name)
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
                Content::Text => {
                    return Err(DataError::Table {
                        path: log.path.clone(),
                        message: format!(
                            "column `{}` is called as if it held times, but has {}: write numbers, or dates as 2024-05-31 or \
                             2024-05-31T18:30:00Z; or give another column with --time COLUMN, or --no-time where the rows are in order",
                            column.name,
                            column.examples.join(", ")
                        ),
                    });
                }
            }
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
        let same = items.column(item).filter(|_| self.asked.id.is_none());
        let found = match same {
            Some(column) => Some((column.name.clone(), "called as in the interactions")),
            None => named(items, &self.asked.id, &names::ID, "id", unique, |_| false)?,
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

    /// Puts the columns that describe an item into `columns`; the parts of its text.
    fn text(&mut self, columns: &mut Columns) -> Result<Vec<String>> {
        let source = self.items.unwrap_or(self.interactions);
        let (key, apart) = (columns.id().to_owned(), self.items.is_some());
        let own = |c: &&Column| {
            c.name != key && c.content != Content::Empty && (apart || source.follows(&c.name, &key))
        };
        let taken = [Some(&columns.user), columns.timestamp.as_ref()];
        let taken: Vec<String> = taken.into_iter().flatten().cloned().collect();
        let free = |c: &&Column| apart || !taken.contains(&c.name);
        let mut left: Vec<&Column> = source.columns.iter().filter(own).filter(free).collect();
        if !self.asked.text.is_empty() {
            left.clear();
            for name in &self.asked.text {
                left.push(
                    source
                        .column(name)
                        .ok_or_else(|| absent(source, name, "--text"))?,
                );
            }
        }
        let why = if self.asked.text.is_empty() {
            NAMED
        } else {
            ASKED
        };
        let mut parts = Vec::new();
        for (role, names, fits) in names::ABOUT {
            let mut fitting: Vec<(usize, &Column)> = left
                .iter()
                .filter(|c| fits(c))
                .filter_map(|&c| Some((names.place(&c.name)?, c)))
                .collect();
            fitting.sort_by_key(|(place, _)| *place);
            let Some(&(_, column)) = fitting.first() else {
                continue;
            };
            left.retain(|c| c.name != column.name);
            let slot = match *role {
                "title" => &mut columns.title,
                "brand" => &mut columns.brand,
                "categories" => {
                    columns.separator = source.separator(&column.name).to_owned();
                    &mut columns.categories
                }
                "price" => &mut columns.price,
                "description" => &mut columns.description,
                _ => &mut columns.keywords,
            };
            *slot = Some(column.name.clone());
            self.note(role, &column.name, &source.path, why);
            parts.push((column.name.clone(), format!("{{{role}}}")));
        }
        let asked = !self.asked.text.is_empty();
        let short = |c: &&&Column| {
            asked
                || (apart
                    && c.content == Content::Text
                    && c.length <= 40.0
                    && c.distinct * 2 <= c.filled)
        };
        let extra = left
            .iter()
            .filter(short)
            .filter(|c| asked || !names::OTHER.has(&c.name));
        for column in extra.take(if asked { usize::MAX } else { 8 }) {
            columns.extra.push(column.name.clone());
            self.note(
                "extra",
                &column.name,
                &source.path,
                if asked { ASKED } else { HOLDS },
            );
            parts.push((column.name.clone(), format!("{{{}}}", column.name)));
        }
        // In the order that was asked for.
        let order =
            |part: &(String, String)| self.asked.text.iter().position(|name| *name == part.0);
        parts.sort_by_key(order);
        Ok(parts.into_iter().map(|(_, part)| part).collect())
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
        let column = sample.column(name);
        let column = column.ok_or_else(|| absent(sample, name, &format!("--{what}")))?;
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

/// It cannot be told which column is the `what`: `among` some, or any.
fn undecided(sample: &Sample, what: &str, option: &str, among: &[&Column]) -> DataError {
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

fn absent(sample: &Sample, name: &str, option: &str) -> DataError {
    DataError::Table {
        path: sample.path.clone(),
        message: format!(
            "{option} {name}: there is no such column; there are\n{}",
            table(&sample.columns).trim_end()
        ),
    }
}

/// Columns with some of their values.
fn table(columns: &[Column]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guess::guess;

    /// Files of a few rows; the guess, and its roles as `role=column`.
    fn guessed(
        files: &[(&str, &str)],
        asked: &Asked,
    ) -> std::result::Result<(Guess, Vec<String>), String> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = files
            .iter()
            .map(|(name, text)| {
                let path = folder.path().join(name);
                std::fs::write(&path, text).unwrap();
                path
            })
            .collect();
        let guess = guess(&paths, asked).map_err(|error| error.to_string())?;
        let roles = guess
            .roles
            .iter()
            .map(|role| format!("{}={}", role.role, role.column));
        Ok((guess.clone(), roles.collect()))
    }

    const ASKED: fn() -> Asked = Asked::default;

    /// Headers as they are met, with rows of their kind.
    #[test]
    fn realistic_headers_are_understood() {
        for (files, roles) in [
            // MovieLens
            (
                &[
                    (
                        "ratings.csv",
                        "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,1029,3.0,1260759179\n2,31,4.0,1260759182\n",
                    ),
                    (
                        "movies.csv",
                        "movieId,title,genres\n31,Dangerous Minds (1995),Drama\n1029,Dumbo (1941),Animation|Children\n",
                    ),
                ][..],
                &[
                    "user=userId",
                    "item=movieId",
                    "time=timestamp",
                    "id=movieId",
                    "title=title",
                    "categories=genres",
                ][..],
            ),
            // Amazon 2014
            (
                &[
                    (
                        "reviews.jsonl",
                        "{\"reviewerID\": \"A1\", \"asin\": \"B1\", \"helpful\": [0, 0], \"overall\": 5.0, \"reviewTime\": \"07 23, 2014\", \"unixReviewTime\": 1406073600}\n{\"reviewerID\": \"A1\", \"asin\": \"B2\", \"overall\": 5.0, \"reviewTime\": \"07 24, 2014\", \"unixReviewTime\": 1406160000}\n",
                    ),
                    (
                        "meta.jsonl",
                        "{\"asin\": \"B1\", \"title\": \"Nail file\", \"brand\": \"OPI\", \"price\": 3.5}\n{\"asin\": \"B2\", \"title\": \"Polish\", \"price\": 4}\n",
                    ),
                ],
                &[
                    "user=reviewerID",
                    "item=asin",
                    "time=unixReviewTime",
                    "id=asin",
                    "title=title",
                    "brand=brand",
                    "price=price",
                ],
            ),
            // Amazon 2023: two names for an item, and the items' table tells which
            (
                &[
                    (
                        "Beauty.jsonl",
                        "{\"rating\": 5.0, \"title\": \"Great\", \"text\": \"…\", \"images\": [], \"asin\": \"B1\", \"parent_asin\": \"P1\", \"user_id\": \"AG\", \"timestamp\": 1588687728923, \"verified_purchase\": true}\n{\"rating\": 1.0, \"title\": \"Meh\", \"asin\": \"B2\", \"parent_asin\": \"P1\", \"user_id\": \"AH\", \"timestamp\": 1588687728924}\n",
                    ),
                    (
                        "meta_Beauty.jsonl",
                        "{\"main_category\": \"All Beauty\", \"title\": \"Brush\", \"average_rating\": 4.5, \"features\": [], \"store\": \"Acme\", \"categories\": [], \"details\": {\"a\": \"b\"}, \"parent_asin\": \"P1\"}\n{\"main_category\": \"All Beauty\", \"title\": \"Comb\", \"average_rating\": 4.5, \"store\": \"Acme\", \"parent_asin\": \"P2\"}\n",
                    ),
                ],
                &[
                    "user=user_id",
                    "item=parent_asin",
                    "time=timestamp",
                    "id=parent_asin",
                    "title=title",
                    "brand=store",
                    "categories=categories",
                    "description=features",
                    "extra=main_category",
                ],
            ),
            // A shop's export: other names, dates, a semicolon
            (
                &[
                    (
                        "orders.csv",
                        "Order No;Customer;SKU;Qty;Ordered At\n17;c1;s1;1;2024-05-01 10:00\n18;c2;s2;2;2024-05-02 11:30\n19;c1;s2;1;2024-05-03 12:00\n",
                    ),
                    (
                        "articles.csv",
                        "id;name;Category Path;colour;image_url\ns1;Shirt;Clothes > Shirts;red;http://x/1\ns2;Hat;Clothes > Hats;red;http://x/2\ns3;Cap;Clothes > Hats;blue;http://x/3\ns4;Tie;Clothes > Ties;blue;http://x/4\n",
                    ),
                ],
                &[
                    "user=Customer",
                    "item=SKU",
                    "time=Ordered At",
                    "id=id",
                    "title=name",
                    "categories=Category Path",
                    "extra=colour",
                ],
            ),
            // Last.fm: the file of items first
            (
                &[
                    (
                        "artists.tsv",
                        "id\tname\turl\n1\tMoi dix Mois\thttp://x\n2\tDiary of Dreams\thttp://y\n",
                    ),
                    (
                        "user_artists.tsv",
                        "userID\tartistID\tweight\n2\t1\t13883\n2\t2\t11690\n3\t1\t11351\n",
                    ),
                ],
                &["user=userID", "item=artistID", "id=id", "title=name"],
            ),
            // Order lines that say what the item is; the review of a line is not the item's
            (
                &[(
                    "lines.csv",
                    "customer_id,stock_code,product_name,comment,invoice_date\nc1,s1,Shirt,fine,2024-05-01\nc2,s2,Hat,bad,2024-05-01\nc2,s1,Shirt,too small,2024-05-02\nc1,s2,Hat,ok,2024-05-03\n",
                )],
                &[
                    "user=customer_id",
                    "item=stock_code",
                    "time=invoice_date",
                    "title=product_name",
                ],
            ),
            // Only one column is named; the other is the one left, and the time is told by what it holds
            (
                &[(
                    "log.csv",
                    "visitor,thing,when\na,x,1600000000\na,y,1600000001\nb,x,1600000002\nb,y,1600000003\n",
                )],
                &["user=visitor", "item=thing", "time=when"],
            ),
            // RecBole
            (
                &[
                    (
                        "a.inter",
                        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t881250949\n1\t3\t4\t881250950\n",
                    ),
                    (
                        "a.item",
                        "item_id:token\tmovie_title:token_seq\tclass:token_seq\n2\tGolden Eye\tAction Thriller\n3\tFour Rooms\tThriller\n",
                    ),
                ],
                &[
                    "user=user_id",
                    "item=item_id",
                    "time=timestamp",
                    "id=item_id",
                    "title=movie_title",
                    "categories=class",
                ],
            ),
        ] {
            let (_, found) = guessed(files, &ASKED()).unwrap();
            assert_eq!(found, roles, "{}", files[0].0);
        }
    }

    #[test]
    fn separators_and_sources_are_told() {
        let files = [
            ("orders.csv", "user;sku\nc1;s1\nc2;s2\nc1;s2\n"),
            ("items.csv", "sku,path\ns1,a > b\ns2,a > c\n"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let paths = files.map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        });
        let guess = guess(&paths, &ASKED()).unwrap();
        assert_eq!(
            (guess.columns.separator.as_str(), guess.text.as_slice()),
            (">", &["{categories}".to_owned()][..])
        );
        let source = guess.source(folder.path()).unwrap();
        let names: Vec<_> = source
            .files()
            .iter()
            .map(|f| (f.name.clone(), f.delimiter))
            .collect();
        assert_eq!(
            names,
            [
                ("orders.csv".to_owned(), Some(';')),
                ("items.csv".to_owned(), None)
            ]
        );
        let elsewhere = tempfile::tempdir().unwrap();
        let source = guess.source(elsewhere.path()).unwrap();
        assert!(Path::new(&source.files()[0].name).is_absolute());
    }

    #[test]
    fn what_cannot_be_told_is_asked_with_what_there_is() {
        let plain = "a,b,c\nx,p,1600000000\ny,q,1600000001\nx,q,1600000002\n";
        let two = "user,sku,product_id\nu1,s1,17\nu1,s2,18\nu2,s1,17\n";
        for (files, words) in [
            (
                &[("log.csv", plain)][..],
                &["--user COLUMN and --item COLUMN", "  a  x, y", "1600000000"][..],
            ),
            (
                &[("log.csv", two)],
                &["which column is the item", "--item COLUMN", "sku", "17, 18"],
            ),
            (
                &[(
                    "log.csv",
                    "user,item,date,time\nu,i,2024-05-01,1600000000\nu,j,2024-05-01,1600000000\n",
                )],
                &["--time COLUMN", "date", "time"],
            ),
            (
                &[(
                    "log.csv",
                    "user,item,date\nu,i,31.12.2023\nu,j,31.12.2023\n",
                )],
                &["31.12.2023", "2024-05-31", "--no-time"],
            ),
            (
                &[
                    ("log.csv", "user,item\nu,i\nu,j\n"),
                    ("items.csv", "a,b\n1,x\n2,y\n"),
                ],
                &["items.csv", "--id COLUMN"],
            ),
            (
                &[("x.csv", "a,b\n1,x\n2,y\n"), ("y.csv", "c,d\n1,x\n2,y\n")],
                &["--interactions FILE", "x.csv", "y.csv"],
            ),
            (
                &[
                    ("x.csv", "user,item\n1,x\n"),
                    ("y.csv", "id,d\n1,x\n"),
                    ("z.csv", "c,d\n1,x\n"),
                ],
                &["z.csv", "third"],
            ),
        ] {
            let message = guessed(files, &ASKED()).unwrap_err();
            for word in words {
                assert!(message.contains(word), "`{word}` in: {message}");
            }
        }
        let asked = Asked {
            user: Some("a".to_owned()),
            item: Some("b".to_owned()),
            ..ASKED()
        };
        let (_, roles) = guessed(&[("log.csv", plain)], &asked).unwrap();
        assert_eq!(roles, ["user=a", "item=b", "time=c"]);
        let asked = Asked {
            item: Some("sku".to_owned()),
            no_time: true,
            text: vec!["colour".to_owned(), "sku_name".to_owned()],
            ..ASKED()
        };
        let items = "sku,sku_name,colour,words\ns1,Shirt,red,many\ns2,Hat,blue,words\n";
        let (guess, roles) = guessed(&[("log.csv", two), ("items.csv", items)], &asked).unwrap();
        assert_eq!(
            roles,
            [
                "user=user",
                "item=sku",
                "id=sku",
                "title=sku_name",
                "extra=colour"
            ]
        );
        assert_eq!(guess.text, ["{colour}", "{title}"]);
        let asked = Asked {
            user: Some("nobody".to_owned()),
            ..ASKED()
        };
        let message = guessed(&[("log.csv", two)], &asked).unwrap_err();
        assert!(
            message.contains("--user nobody") && message.contains("product_id"),
            "{message}"
        );
    }
}
