//! Users' histories from a table: a user a row, or an interaction a row; in any form that [`rows`] reads.

use std::collections::HashSet;
use std::path::Path;

use super::json;
use super::lines::Lines;
use super::rows::{self, Cell, Kind, TableFile, Wanted};
use crate::error::LineFault;
use crate::{DataError, Result};

/// One user of a table of histories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserHistory {
    /// The user as the table has it.
    pub user: String,
    /// Numbers of the items, oldest first. Empty where all ids of the user were left out, or there are none.
    pub items: Vec<u32>,
}

/// What a row is; where the columns do not tell, the first row decides for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    User,
    Interaction,
}

/// Lines of JSON that are looked at for the names of columns.
const LOOK: usize = 16;

/// Reads a table of histories, user by user: columns `user` and `history` (a list, or ids in one text with `separator`
/// between them, blanks where there is none), or columns `user` and `item`, an interaction a row: a user's rows together,
/// oldest first. Other columns are passed over. `-` is standard input as JSON lines; any other `path` is read as its name
/// says (`.csv`, `.tsv`, `.jsonl`, each also `.gz`; `.parquet`), and there `own` are names for users and items that stand in
/// where the table has no column `user` or `item`.
///
/// `number` gives the number of an id, `None` to leave it out, or says what is wrong with it; `none` is told the user of a row
/// without any id, and may refuse it; `each` is called for every user in the table's order. One user at a time is held, and
/// the names of those that were read.
///
/// # Errors
/// With file and line (in Parquet: row) of what cannot be read or is refused by `number` or `none`, or of a user who is there
/// twice; a table without users; whatever `each` returns, at once.
pub fn read_histories<E: From<DataError>>(
    path: &Path,
    own: Option<[&str; 2]>,
    separator: Option<&str>,
    number: &mut dyn FnMut(&str) -> std::result::Result<Option<u32>, LineFault>,
    none: &mut dyn FnMut(&str) -> std::result::Result<(), LineFault>,
    each: &mut dyn FnMut(UserHistory) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let table = match path == Path::new("-") {
        true => None,
        false => Some(TableFile::new(path, None)?),
    };
    let (names, mut form) = match &table {
        Some(table) => columns(table, own)?,
        None => (["user", "history", "item"], None),
    };
    let wanted = names.map(|name| Wanted {
        name,
        required: false,
    });
    let mut failed = None;
    let mut each = |user| {
        each(user).map_err(|error| {
            failed = Some(error);
            LineFault::Row("the reading was given up".to_owned())
        })
    };
    let mut seen = HashSet::new();
    let mut current: Option<UserHistory> = None;
    let mut on_row = |row: rows::Row, _: usize| {
        let row = row?;
        let user = rows::id(row, 0, names[0])?.into_owned();
        let (cell, found) = match (&row[1], &row[2], form) {
            (Some(history), _, None | Some(Row::User)) => (Some(history), Row::User),
            (_, Some(item), None | Some(Row::Interaction)) => (Some(item), Row::Interaction),
            (None, None, Some(form)) => (None, form),
            _ => return Err(LineFault::NoHistory),
        };
        form = Some(found);
        let named = cell.map_or_else(Vec::new, |cell| ids(cell, found, separator));
        if named.is_empty() {
            none(&user)?;
        }
        let mut items = Vec::new();
        for id in named {
            items.extend(number(&id)?);
        }
        if let Some(current) = &mut current
            && found == Row::Interaction
            && current.user == user
        {
            current.items.extend(items);
            return Ok(());
        }
        if !seen.insert(user.clone()) {
            return Err(LineFault::SplitUser(user));
        }
        match current.replace(UserHistory { user, items }) {
            Some(before) => each(before),
            None => Ok(()),
        }
    };
    let read = match &table {
        Some(TableFile { path, kind }) => {
            rows::read(path, *kind, &wanted, &mut |_, _| {}, &mut on_row)
        }
        None => json::read(Lines::standard_input(), &wanted, &mut on_row),
    };
    let read = read.and_then(|()| match current {
        Some(last) => each(last).map_err(|fault| fault.at(path, 0)),
        None => Err(DataError::NoRows {
            path: path.to_owned(),
        }),
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(read?),
    }
}

/// The names of the columns of users, histories and items; and what a row is, where they tell.
fn columns<'a>(
    table: &TableFile,
    own: Option<[&'a str; 2]>,
) -> Result<([&'a str; 3], Option<Row>)> {
    let there = rows::columns(table, LOOK)?;
    let has = |name: &str| there.iter().any(|column| column == name);
    let name = |usual: &'a str, own: Option<&'a str>| match own {
        Some(own) if !has(usual) && has(own) => own,
        _ => usual,
    };
    let user = name("user", own.map(|own| own[0]));
    let item = name("item", own.map(|own| own[1]));
    // JSON lines have no header: what one lacks is said of the line.
    if table.kind != Kind::Jsonl && !(has(user) && (has("history") || has(item))) {
        let own = own.filter(|own| *own != ["user", "item"]);
        let own = own.map(|[user, item]| format!(", or as in the dataset `{user}` and `{item}`"));
        let fault = LineFault::NoHistories {
            header: there.join(", "),
            own: own.unwrap_or_default(),
        };
        return Err(fault.at(&table.path, 1));
    }
    let form = match (has("history"), has(item)) {
        (true, false) => Some(Row::User),
        (false, true) => Some(Row::Interaction),
        _ => None,
    };
    Ok(([user, "history", item], form))
}

/// The ids of a cell, without blanks around them.
fn ids(cell: &Cell, row: Row, separator: Option<&str>) -> Vec<String> {
    let parts: Vec<String> = match (cell, row, separator) {
        (Cell::List(parts), ..) => parts.clone(),
        (Cell::Text(text), Row::User, None) => text.split_whitespace().map(str::to_owned).collect(),
        (Cell::Text(text), Row::User, Some(separator)) => {
            text.split(separator).map(str::to_owned).collect()
        }
        (one, ..) => vec![one.text().into_owned()],
    };
    let parts = parts.iter().map(|part| part.trim());
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Reads a file of ids, one a line; blank lines are passed over, and blanks around an id. A file without any gives none.
///
/// # Errors
/// As [`read_histories`].
pub fn read_ids(
    path: &Path,
    number: &mut dyn FnMut(&str) -> std::result::Result<Option<u32>, LineFault>,
) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    let mut read = || -> Result<()> {
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.next()? {
            let id = line.trim().to_owned();
            if !id.is_empty() {
                numbers.extend(number(&id).map_err(|fault| lines.at(fault))?);
            }
        }
        Ok(())
    };
    match read() {
        Ok(()) | Err(DataError::Empty { .. }) => Ok(numbers),
        Err(error) => Err(error),
    }
}

/// The ids in the column `column` of a table, row by row and written as those of a dataset's tables are; `path` is read as
/// its name says (`.csv`, `.tsv`, `.jsonl`, each also `.gz`; `.parquet`).
///
/// # Errors
/// With file and line (in Parquet: row) of what cannot be read, or of a row without an id; without that column.
pub fn read_id_column(path: &Path, column: &str) -> Result<Vec<String>> {
    let wanted = [Wanted {
        name: column,
        required: true,
    }];
    let (kind, mut ids) = (Kind::of(path)?, Vec::new());
    rows::read(path, kind, &wanted, &mut |_, _| {}, &mut |row, _| {
        ids.push(rows::id(row?, 0, column)?.into_owned());
        Ok(())
    })?;
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids are numbers here; above 99 there is none, above 199 it is left out.
    fn number(id: &str) -> std::result::Result<Option<u32>, LineFault> {
        match id.parse() {
            Ok(n @ 0..=99) => Ok(Some(n)),
            Ok(200..) => Ok(None),
            _ => Err(LineFault::Row(format!("item {id:?} is unknown"))),
        }
    }

    /// Users without an item are called `nobody…`, or refused.
    fn none(user: &str) -> std::result::Result<(), LineFault> {
        match user.starts_with("nobody") {
            true => Ok(()),
            false => Err(LineFault::Row(format!("user {user} has no item"))),
        }
    }

    fn read(
        name: &str,
        content: &[u8],
        separator: Option<&str>,
    ) -> std::result::Result<Vec<(String, Vec<u32>)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let (own, mut users) = (Some(["customer", "sku"]), Vec::new());
        read_histories::<DataError>(&path, own, separator, &mut number, &mut none, &mut |user| {
            users.push((user.user, user.items));
            Ok(())
        })
        .map(|()| users)
        .map_err(|error| error.to_string())
    }

    fn expected() -> Vec<(String, Vec<u32>)> {
        vec![("a".into(), vec![1, 2, 3]), ("b".into(), vec![7])]
    }

    #[test]
    fn every_form_gives_the_same_users() {
        for (name, content, separator) in [
            ("u.csv", "user,history\na,1 2  3\nb,7\n", None),
            ("u.csv", "history,user,x\n1|2|3,a,\n7 | ,b,\n", Some("|")),
            ("u.tsv", "user\thistory\na\t1,2,3\nb\t7\n", Some(",")),
            (
                "u.csv",
                "time,user,item\n0,a,1\n1,a,2\n1,a,3\n0,b,7\n",
                None,
            ),
            (
                "u.jsonl",
                "{\"user\": \"a\", \"history\": [\"1\", \"2\", \"3\"]}\n{\"user\": \"b\", \"history\": [7]}",
                None,
            ),
            // A mark of the byte order, blanks around ids and a blank last line, as spreadsheets and scripts leave them.
            (
                "u.jsonl",
                "\u{feff}{\"user\": \"a\", \"item\": \" 1\"}\n{\"user\": \" a\", \"item\": \"2 \"}\n\
                 {\"user\": \"a \", \"item\": 3}\n{\"user\": \"b\", \"item\": 7}\n\n",
                None,
            ),
            (
                "u.jsonl",
                "{\"user\": \"a\", \"item\": 1}\n{\"user\": \"a\", \"item\": \"2\"}\n\
                 {\"user\": \"a\", \"item\": 3}\n{\"user\": \"b\", \"item\": 7}",
                None,
            ),
            // The dataset's own names, where the usual ones are not there.
            ("u.csv", "sku,customer\n1,a\n2,a\n3,a\n7,b\n", None),
            ("u.csv", "customer,history\na,1 2 3\nb,7\n", None),
            (
                "u.csv",
                "user,customer,sku\na,x,1\na,y,2\na,z,3\nb,x,7\n",
                None,
            ),
            (
                "u.jsonl",
                "\n{\"customer\": \"a\", \"history\": [1, 2, 3]}\n{\"customer\": \"b\", \"history\": [7]}",
                None,
            ),
        ] {
            let users = read(name, content.as_bytes(), separator).unwrap();
            assert_eq!(users, expected(), "{content}");
        }
        let skipped = read("u.csv", b"user,history\na,1 200 3\nb,200\n", None);
        assert_eq!(
            skipped.unwrap(),
            [("a".into(), vec![1, 3]), ("b".into(), vec![])]
        );
    }

    /// Wherever they stand, whatever a row is, and if nobody has one.
    #[test]
    fn who_has_no_item_is_a_user_where_that_is_allowed() {
        let empty = |user: &str| (user.to_owned(), Vec::<u32>::new());
        let one = || ("a".to_owned(), vec![1]);
        for (name, content, expected) in [
            (
                "u.csv",
                "user,history\nnobody,\na,1\nnobody2,\n",
                vec![empty("nobody"), one(), empty("nobody2")],
            ),
            (
                "u.csv",
                "user,item\nnobody,\na,1\nnobody2,\nnobody2,\n",
                vec![empty("nobody"), one(), empty("nobody2")],
            ),
            (
                "u.csv",
                "user,item\nnobody,\nnobody,4\n",
                vec![("nobody".to_owned(), vec![4])],
            ),
            ("u.csv", "user,history\nnobody,\n", vec![empty("nobody")]),
            (
                "u.jsonl",
                "{\"user\": \"nobody\", \"history\": []}\n{\"user\": \"nobody2\"}",
                vec![empty("nobody"), empty("nobody2")],
            ),
        ] {
            let users = read(name, content.as_bytes(), None).unwrap();
            assert_eq!(users, expected, "{content}");
        }
    }

    #[test]
    fn faults_name_file_and_line() {
        for (name, content, words) in [
            (
                "u.csv",
                "user,history\na,1\nb,1 100\n",
                "u.csv:3: item \"100\" is unknown",
            ),
            ("u.csv", "user,item\na,1\na,100\n", "u.csv:3: item \"100\""),
            (
                "u.csv",
                "user,history\nb,1\na,\n",
                "u.csv:3: user a has no item",
            ),
            (
                "u.csv",
                "user,item\na,1\na,\n",
                "u.csv:3: user a has no item",
            ),
            (
                "u.csv",
                "user,things\na,1\n",
                "u.csv:1: the header has user, things; a table of users has `user` and `history`",
            ),
            (
                "u.jsonl",
                "{\"user\": \"a\", \"history\": []}",
                "u.jsonl:1: user a has no item",
            ),
            (
                "u.jsonl",
                "{\"user\": \"nobody\", \"things\": [1]}",
                "u.jsonl:1: no item in `history` or `item`",
            ),
            (
                "u.csv",
                "user,history\n,1\n",
                "u.csv:2: field `user` is missing",
            ),
            (
                "u.csv",
                "name,history\na,1\n",
                "or as in the dataset `customer` and `sku`: rename its columns",
            ),
            (
                "u.csv",
                "user,item\na,1\nb,1\na,2\n",
                "u.csv:4: user a is further up already",
            ),
            (
                "u.csv",
                "user,history\na,1\na,2\n",
                "u.csv:3: user a is further up already",
            ),
            (
                "u.jsonl",
                "{\"user\": \"a\", \"history\": [1]}\n{\"user\": \"b\", \"history\": [1]}\n{\"user\": \"a\", \"history\": [2]}",
                "u.jsonl:3: user a is further up already",
            ),
            (
                "u.jsonl",
                "{\"user\": \"a\", \"history\": [1]}\n{\"user\": \"a\", \"item\": 1}",
                "u.jsonl:2: no item in",
            ),
            (
                "u.csv",
                "user,history\n",
                "u.csv: there is no row below the header",
            ),
            ("u.xlsx", "x", "u.xlsx: what the table is written in"),
        ] {
            let message = read(name, content.as_bytes(), None).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn what_the_caller_refuses_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("u.csv");
        for content in ["user,history\na,1\nb,2\n", "user,item\na,1\nb,2\n"] {
            std::fs::write(&path, content).unwrap();
            for stop in ["a", "b"] {
                let mut seen = 0;
                let result = read_histories::<Box<dyn std::error::Error>>(
                    &path,
                    None,
                    None,
                    &mut number,
                    &mut none,
                    &mut |user| {
                        seen += 1;
                        if user.user == stop {
                            return Err("enough".into());
                        }
                        Ok(())
                    },
                );
                assert_eq!(result.unwrap_err().to_string(), "enough");
                assert_eq!(seen, if stop == "a" { 1 } else { 2 });
            }
        }
    }

    #[test]
    fn ids_stand_one_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allow.txt");
        std::fs::write(&path, "\u{feff}3\r\n\n 4 \n200\n").unwrap();
        assert_eq!(read_ids(&path, &mut number).unwrap(), [3, 4]);
        std::fs::write(&path, "3\n100\n").unwrap();
        let error = read_ids(&path, &mut number).unwrap_err().to_string();
        assert!(error.contains("allow.txt:2: item \"100\""), "{error}");
        // Nothing is sold out today.
        for none in ["", "\n"] {
            std::fs::write(&path, none).unwrap();
            assert!(read_ids(&path, &mut number).unwrap().is_empty());
        }
    }

    #[test]
    fn ids_stand_in_a_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "{\"x\": 1, \"id\": \" B1 \"}\n{\"id\": 7}\n").unwrap();
        assert_eq!(read_id_column(&path, "id").unwrap(), ["B1", "7"]);
        let error = read_id_column(&path, "x").unwrap_err().to_string();
        assert!(error.contains("a.jsonl:2: field `x` is missing"), "{error}");
    }
}
