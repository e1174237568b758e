//! Which columns say what an item is, and in what order they make its text.

use super::names;
use super::roles::{ASKED, HOLDS, NAMED, Role};
use super::sample::{Column, Content, Sample};
use crate::item::FIELDS;
use crate::source::Columns;
use crate::{DataError, Result};

/// Most further columns that are taken unasked.
const MOST: usize = 8;

/// Puts the columns of `source` that describe an item into `columns`: those `asked` for, else those that look like it. Where the
/// table is not `apart` from the interactions, only what follows from the item counts. Their roles, and the parts of the text
/// in order.
pub(super) fn describe(
    source: &Sample,
    apart: bool,
    asked: &[String],
    columns: &mut Columns,
) -> Result<(Vec<Role>, Vec<String>)> {
    let mut left = match asked {
        [] => free(source, apart, columns),
        asked => named(source, asked)?,
    };
    let mut roles = Vec::new();
    let mut parts = Vec::new();
    let mut take = |role, column: &Column, why| {
        roles.push(Role {
            role,
            column: column.name.clone(),
            file: source.path.clone(),
            why,
        });
        let field = if role == "extra" { &column.name } else { role };
        parts.push((column.name.clone(), format!("{{{field}}}")));
    };
    for (role, names, fits) in names::ABOUT {
        let fitting = left.iter().filter(|c| fits(c));
        let placed = fitting.filter_map(|&c| Some((names.place(&c.name)?, c)));
        let named = placed.min_by_key(|(place, _)| *place);
        let named = named.map(|(_, c)| (c, if asked.is_empty() { NAMED } else { ASKED }));
        let held = || {
            let unasked = *role == "title" && apart && asked.is_empty();
            let mut left = left.iter().filter(|c| unasked && titles(c));
            Some((*left.next()?, HOLDS))
        };
        let Some((column, why)) = named.or_else(held) else {
            continue;
        };
        left.retain(|c| c.name != column.name);
        *slot(columns, role) = Some(column.name.clone());
        if *role == "categories" {
            source
                .separator(&column.name)
                .clone_into(&mut columns.separator);
        }
        take(role, column, why);
    }
    for column in further(source, left, apart, asked)? {
        columns.extra.push(column.name.clone());
        take(
            "extra",
            column,
            if asked.is_empty() { HOLDS } else { ASKED },
        );
    }
    // In the order that was asked for.
    parts.sort_by_key(|(column, _)| asked.iter().position(|name| name == column));
    Ok((roles, parts.into_iter().map(|(_, part)| part).collect()))
}

/// Whether a column whose name says nothing holds names of items: some words, hardly ever the same.
fn titles(column: &Column) -> bool {
    let text = column.examples.join("\n");
    let count = |kind: fn(char) -> bool| text.chars().filter(|&c| kind(c)).count();
    // More letters than digits: neither a code nor a price.
    let words = text.contains(' ') && count(char::is_alphabetic) > count(char::is_numeric);
    let mut named = names::ABOUT.iter().map(|(_, names, _)| names);
    column.content == Content::Text
        && words
        && column.length <= 100.0
        && column.distinct * 10 >= column.filled * 9
        && !names::OTHER.has(&column.name)
        && !named.any(|names| names.has(&column.name))
}

/// The columns that may describe an item.
fn free<'a>(source: &'a Sample, apart: bool, columns: &Columns) -> Vec<&'a Column> {
    let key = columns.id();
    let taken = [Some(&columns.user), columns.timestamp.as_ref()];
    let about = |c: &&Column| {
        let own = apart || (!taken.contains(&Some(&c.name)) && source.follows(&c.name, key));
        own && c.name != key && c.content != Content::Empty
    };
    source.columns.iter().filter(about).collect()
}

fn named<'a>(source: &'a Sample, asked: &[String]) -> Result<Vec<&'a Column>> {
    asked
        .iter()
        .map(|name| source.wanted(name, "--text"))
        .collect()
}

/// Those of the columns left that the text can use under their own names.
fn further<'a>(
    source: &Sample,
    left: Vec<&'a Column>,
    apart: bool,
    asked: &[String],
) -> Result<Vec<&'a Column>> {
    let writable = |c: &&Column| {
        let name = c.name.as_str();
        // As the template reads names: without blanks around them.
        !FIELDS.contains(&name) && !name.contains(['{', '}', '|']) && name.trim() == name
    };
    if !asked.is_empty() {
        let Some(column) = left.iter().find(|c| !writable(c)) else {
            return Ok(left);
        };
        let name = &column.name;
        let value = (name == "price").then(|| source.no_number(name));
        return Err(DataError::Table {
            path: source.path.clone(),
            message: match value.flatten() {
                Some((line, value)) => format!(
                    "column `price` is no number: {value} (line {line}); write prices as 1284.99, or call the column \
                     something else to have it as it stands"
                ),
                None => format!(
                    "column `{name}` ({}) cannot be a part of the text under this name; rename it",
                    column.examples.join(", ")
                ),
            },
        });
    }
    // Short texts that come again: colours, authors, kinds.
    let telling = |c: &&Column| {
        c.content == Content::Text
            && c.length <= 40.0
            && c.distinct * 2 <= c.filled
            && !names::OTHER.has(&c.name)
    };
    let further = left
        .into_iter()
        .filter(|c| apart && writable(c) && telling(c));
    Ok(further.take(MOST).collect())
}

fn slot<'a>(columns: &'a mut Columns, role: &str) -> &'a mut Option<String> {
    match role {
        "title" => &mut columns.title,
        "brand" => &mut columns.brand,
        "categories" => &mut columns.categories,
        "price" => &mut columns.price,
        "description" => &mut columns.description,
        _ => &mut columns.keywords,
    }
}
