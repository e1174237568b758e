//! McAuley's 2014 Amazon files: `reviews_<Category>_5.json.gz` (JSON lines, grouped by item in ASIN order) and
//! `meta_<Category>.json.gz` (a Python literal a line). Of an item's category paths the first is kept.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::json::json_fault;
use super::lines::Lines;
use super::python::{self, Literal};
use crate::error::LineFault;
use crate::log::{Clock, Event, Events, Log, Numbering, TIME, valid_time};
use crate::{Item, Result};

/// The fields of a review that are used; the others are skipped.
#[derive(Deserialize)]
struct Review {
    #[serde(rename = "reviewerID")]
    reviewer: String,
    asin: String,
    #[serde(rename = "unixReviewTime")]
    time: f64,
}

pub(super) fn read(reviews: &Path, metadata: &Path) -> Result<Log> {
    let (mut events, mut users, mut items) = (
        Events::default(),
        Numbering::default(),
        Numbering::default(),
    );
    let mut lines = Lines::open(reviews)?;
    while let Some(line) = lines.next()? {
        let review: Review = match serde_json::from_str(line) {
            Ok(review) => review,
            Err(error) => return Err(lines.at(json_fault(&error))),
        };
        for (field, value) in [("reviewerID", &review.reviewer), ("asin", &review.asin)] {
            if value.is_empty() {
                return Err(lines.at(LineFault::MissingField(field.to_owned())));
            }
        }
        let Some(time) = valid_time(review.time) else {
            return Err(lines.at(LineFault::bad("unixReviewTime", review.time, TIME)));
        };
        events.push(Event {
            user: users.number(&review.reviewer),
            item: items.number(&review.asin),
            time,
        });
    }
    let catalogue = describe(metadata, &items)?;
    Ok(Log {
        events,
        users: users.into_names(),
        items: catalogue,
        clock: Clock::Absolute,
    })
}

/// The reviewed items with what the metadata say of them. Lines of other items are checked and left.
fn describe(path: &Path, reviewed: &Numbering) -> Result<Vec<Item>> {
    let mut catalogue = reviewed.bare_items();
    let mut first_lines: HashMap<String, usize> = HashMap::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let item = match python::parse(line).and_then(|value| item(&value)) {
            Ok(item) => item,
            Err(fault) => return Err(lines.at(fault)),
        };
        if let Some(&first) = first_lines.get(&item.id) {
            return Err(lines.at(LineFault::DuplicateItem {
                item: item.id,
                first,
            }));
        }
        first_lines.insert(item.id.clone(), lines.number());
        if let Some(number) = reviewed.find(&item.id) {
            catalogue[number as usize] = item;
        }
    }
    Ok(catalogue)
}

fn item(value: &Literal) -> std::result::Result<Item, LineFault> {
    let text = |field: &str| match value.get(field) {
        None | Some(Literal::None) => Ok(None),
        Some(Literal::Text(text)) => Ok(Some(text.clone()).filter(|text| !text.trim().is_empty())),
        Some(other) => Err(LineFault::bad(field, format!("{other:?}"), "a string")),
    };
    let price = match value.get("price") {
        None | Some(Literal::None) => None,
        Some(Literal::Number(price)) if *price >= 0.0 => Some(*price),
        Some(other) => {
            return Err(LineFault::bad(
                "price",
                format!("{other:?}"),
                "a number, not negative",
            ));
        }
    };
    Ok(Item {
        id: text("asin")?.ok_or_else(|| LineFault::MissingField("asin".to_owned()))?,
        title: text("title")?,
        brand: text("brand")?,
        categories: categories(value.get("categories"))?,
        price,
        description: text("description")?,
        ..Item::default()
    })
}

/// The first of the category paths, a list of lists of strings.
fn categories(value: Option<&Literal>) -> std::result::Result<Vec<String>, LineFault> {
    let bad = |found: &Literal| {
        LineFault::bad(
            "categories",
            format!("{found:?}"),
            "a list of lists of strings",
        )
    };
    let paths = match value {
        None | Some(Literal::None) => return Ok(Vec::new()),
        Some(Literal::List(paths)) => paths,
        Some(other) => return Err(bad(other)),
    };
    let path = match paths.first() {
        None => return Ok(Vec::new()),
        Some(Literal::List(path)) => path,
        Some(other) => return Err(bad(other)),
    };
    path.iter()
        .map(|name| match name {
            Literal::Text(name) => Ok(name.clone()),
            other => Err(bad(other)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REVIEWS: &str = r#"{"reviewerID": "A1", "asin": "B1", "reviewText": "x", "overall": 5.0, "unixReviewTime": 20}
{"reviewerID": "A2", "asin": "B1", "unixReviewTime": 10}
{"reviewerID": "A1", "asin": "B2", "unixReviewTime": 20}
"#;
    const METADATA: &str = r#"{'asin': 'B2', 'title': "Nail's \"Polish\"", 'price': 3.04, 'categories': [['Beauty', 'Nails'], ['Else']], 'related': {'also_bought': ['B9']}}
{'asin': 'B9', 'salesRank': {'Beauty': 7}}
{'asin': 'B1', 'brand': '', 'description': 'caf\xe9', 'categories': [[]]}
"#;

    fn log(reviews: &str, metadata: &str) -> std::result::Result<Log, String> {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (
            folder.path().join("reviews.json"),
            folder.path().join("meta.json"),
        );
        std::fs::write(&a, reviews).unwrap();
        std::fs::write(&b, metadata).unwrap();
        read(&a, &b).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_reviews_in_file_order_and_their_items() {
        let log = log(REVIEWS, METADATA).unwrap();
        assert_eq!(log.users, ["A1", "A2"]);
        assert_eq!(
            log.events
                .iter()
                .map(|e| (e.user, e.item, e.time))
                .collect::<Vec<_>>(),
            [(0, 0, 20.0), (1, 0, 10.0), (0, 1, 20.0)]
        );
        assert_eq!(log.items.len(), 2);
        assert_eq!(
            log.items[0],
            Item {
                description: Some("café".into()),
                ..Item::new("B1")
            }
        );
        assert_eq!(log.items[1].title.as_deref(), Some("Nail's \"Polish\""));
        assert_eq!(log.items[1].categories, ["Beauty", "Nails"]);
        assert_eq!(log.items[1].price, Some(3.04));
    }

    #[test]
    fn faults_name_file_and_line() {
        let cut = |text: &str, from: &str, to: &str| {
            assert!(text.contains(from));
            text.replacen(from, to, 1)
        };
        for (reviews, metadata, words) in [
            (
                cut(REVIEWS, "\"asin\": \"B2\", ", ""),
                METADATA.to_owned(),
                "reviews.json:3: field `asin` is missing",
            ),
            (
                cut(REVIEWS, ": 10}", ": -10}"),
                METADATA.to_owned(),
                "reviews.json:2: field `unixReviewTime` is `-10`",
            ),
            (
                cut(REVIEWS, ": 10}", ": \"x\"}"),
                METADATA.to_owned(),
                "reviews.json:2: column",
            ),
            (
                cut(REVIEWS, ": 10}", ": NaN}"),
                METADATA.to_owned(),
                "reviews.json:2: column",
            ),
            (
                cut(REVIEWS, "\"A2\"", "\"\""),
                METADATA.to_owned(),
                "reviews.json:2: field `reviewerID` is missing",
            ),
            (
                REVIEWS.to_owned(),
                cut(METADATA, "'B9', 's", "'B9' 's"),
                "meta.json:2: column 26: `:` where `,` or `}`",
            ),
            (
                REVIEWS.to_owned(),
                cut(METADATA, "'asin': 'B9', ", ""),
                "meta.json:2: field `asin` is missing",
            ),
            (
                REVIEWS.to_owned(),
                cut(METADATA, "'asin': 'B1'", "'asin': 'B2'"),
                "meta.json:3: item B2 is already on line 1",
            ),
            (
                REVIEWS.to_owned(),
                cut(METADATA, "[[]]", "'Beauty'"),
                "meta.json:3: field `categories`",
            ),
            (
                REVIEWS.to_owned(),
                cut(METADATA, "3.04", "'free'"),
                "meta.json:1: field `price`",
            ),
            (
                String::new(),
                METADATA.to_owned(),
                "reviews.json: the file is empty",
            ),
        ] {
            let message = log(&reviews, &metadata).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}
