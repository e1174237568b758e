//! An item of the catalogue and the text made of it for the semantic stream (paper §3.2: Sentence-T5 on item text).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::statistics::counted;
use crate::{DataError, Result};

/// Names of the fields in a template, but for further columns.
pub(crate) const FIELDS: [&str; 7] = [
    "id",
    "title",
    "brand",
    "categories",
    "price",
    "description",
    "keywords",
];

/// What is known of an item. Every field but the id may be absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The raw id: an ASIN, a business id, a film's number.
    pub id: String,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Maker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// Category path, root first, or a set of categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// Price in the source's currency (US dollars in the Amazon sets).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// Running text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words drawn from a longer text, where the text itself is not at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keywords: Option<String>,
    /// Further columns that the manifest names, such as the year of a film.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

impl Item {
    /// An item of which only the id is known.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            ..Self::default()
        }
    }

    /// The field of that name as text; `None` when it is absent or blank.
    /// Categories are joined by commas; prices have two decimals.
    fn field(&self, name: &str) -> Option<String> {
        let text = match name {
            "id" => Some(self.id.clone()),
            "title" => self.title.clone(),
            "brand" => self.brand.clone(),
            "categories" => Some(self.categories.join(", ")),
            "price" => self.price.map(|price| format!("{price:.2}")),
            "description" => self.description.clone(),
            "keywords" => self.keywords.clone(),
            other => self.extra.get(other).cloned(),
        }?;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(text)
    }
}

/// How an item becomes the sentence that the text encoder reads.
///
/// Each part is a piece of text with fields in braces: `"{title}"`, `"by {brand}"`, `"{title|keywords}"` (the first
/// that is known). A part with a field that is not known is dropped whole; the others are joined by `join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextTemplate {
    /// The parts in order.
    pub parts: Vec<String>,
    /// What stands between two parts.
    pub join: String,
    /// Values that mean "not known", such as the brand `Unknown`.
    pub missing: Vec<String>,
    /// Text of an item of which no part is left (fields allowed); without it such an item is an error.
    pub fallback: Option<String>,
}

impl Default for TextTemplate {
    /// Title (else keywords), brand, categories and price, as sentences: all fields that the Amazon sets have.
    /// The official code names its vectors `t5_fullfeat_norm` and has no script that makes them.
    fn default() -> Self {
        Self {
            parts: ["{title|keywords}", "{brand}", "{categories}", "{price}"]
                .map(str::to_owned)
                .into(),
            join: ". ".to_owned(),
            missing: vec!["Unknown".to_owned()],
            fallback: None,
        }
    }
}

impl TextTemplate {
    /// Checks that braces pair up and that there is something to fill.
    ///
    /// # Errors
    /// In words for the manifest's author.
    pub fn validate(&self) -> std::result::Result<(), String> {
        if self.parts.is_empty() && self.fallback.is_none() {
            return Err(
                "`[text] parts` is empty; name at least one, such as \"{title}\"".to_owned(),
            );
        }
        self.parts
            .iter()
            .chain(&self.fallback)
            .try_for_each(|part| pieces(part).map(drop))
    }

    /// Checks that what stands in braces is among the `fields` that the items may have: of `{a|b}` at least one, and the
    /// others are names of fields all the same.
    ///
    /// # Errors
    /// In words for the manifest's author.
    pub(crate) fn check(&self, fields: &BTreeSet<&str>) -> std::result::Result<(), String> {
        for part in self.parts.iter().chain(&self.fallback) {
            for piece in pieces(part)? {
                let Piece::Fields(names) = piece else {
                    continue;
                };
                let mut had = names.split('|').map(|name| fields.contains(name.trim()));
                let mut known = names.split('|').map(|name| {
                    let name = name.trim();
                    fields.contains(name) || FIELDS.contains(&name)
                });
                if !had.any(|had| had) || !known.all(|known| known) {
                    let fields: Vec<&str> = fields.iter().copied().collect();
                    return Err(format!(
                        "`[text]` names `{{{names}}}`, which no item has; the fields are {}: write one of them, or give a \
                         table's column that name in `columns`",
                        fields.join(", ")
                    ));
                }
            }
        }
        Ok(())
    }

    /// The item's text, or `None` when no part can be filled.
    #[must_use]
    pub fn fill(&self, item: &Item) -> Option<String> {
        let parts: Vec<String> = self
            .parts
            .iter()
            .filter_map(|part| self.fill_part(part, item))
            .collect();
        match &self.fallback {
            Some(fallback) if parts.is_empty() => self.fill_part(fallback, item),
            _ => (!parts.is_empty()).then(|| parts.join(&self.join)),
        }
    }

    fn fill_part(&self, part: &str, item: &Item) -> Option<String> {
        let mut out = String::new();
        for piece in pieces(part).ok()? {
            match piece {
                Piece::Words(words) => out.push_str(words),
                Piece::Fields(names) => {
                    let known =
                        |name: &str| item.field(name).filter(|text| !self.missing.contains(text));
                    out.push_str(&names.split('|').find_map(|name| known(name.trim()))?);
                }
            }
        }
        Some(out)
    }

    /// Every item's text, in the order of the items.
    ///
    /// # Errors
    /// When an item has none, with its id.
    pub fn fill_all(&self, items: &[Item]) -> Result<Vec<String>> {
        let texts: Vec<Option<String>> = items.iter().map(|item| self.fill(item)).collect();
        let without = texts.iter().filter(|text| text.is_none()).count();
        if let Some(first) = texts.iter().position(Option::is_none) {
            return Err(DataError::NoText {
                item: items[first].id.clone(),
                others: match without - 1 {
                    0 => " has".to_owned(),
                    more => format!(" and {} have", counted(more, "other")),
                },
                template: self.to_string(),
            });
        }
        Ok(texts.into_iter().flatten().collect())
    }
}

impl fmt::Display for TextTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.join(&self.join))
    }
}

enum Piece<'a> {
    Words(&'a str),
    Fields(&'a str),
}

/// Splits a part at its braces.
fn pieces(part: &str) -> std::result::Result<Vec<Piece<'_>>, String> {
    let (mut out, mut rest) = (Vec::new(), part);
    while let Some((words, after)) = rest.split_once('{') {
        let (names, after) = after
            .split_once('}')
            .ok_or_else(|| format!("`{part}`: a `{{` without its `}}`"))?;
        if names.trim().is_empty() || words.contains('}') {
            return Err(format!(
                "`{part}`: write fields as {{title}} or {{title|keywords}}"
            ));
        }
        out.extend([Piece::Words(words), Piece::Fields(names)]);
        rest = after;
    }
    if rest.contains('}') {
        return Err(format!("`{part}`: a `}}` without its `{{`"));
    }
    out.push(Piece::Words(rest));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item {
        Item {
            title: Some(" OPI  Lacquer ".into()),
            brand: Some("Unknown".into()),
            categories: vec!["Beauty".into(), "Nails".into()],
            price: Some(12.0),
            ..Item::new("B1")
        }
    }

    #[test]
    fn missing_fields_leave_no_trace() {
        let template = TextTemplate::default();
        assert_eq!(
            template.fill(&item()).unwrap(),
            "OPI Lacquer. Beauty, Nails. 12.00"
        );
        let bare = Item {
            title: None,
            price: None,
            keywords: Some("nail polish".into()),
            ..item()
        };
        assert_eq!(template.fill(&bare).unwrap(), "nail polish. Beauty, Nails");
    }

    #[test]
    fn words_go_with_their_field() {
        let template = TextTemplate {
            parts: vec![
                "{title} ({year})".into(),
                "{title}, n.d.".into(),
                "by {brand}".into(),
            ],
            missing: vec![],
            ..TextTemplate::default()
        };
        assert_eq!(
            template.fill(&item()).unwrap(),
            "OPI Lacquer, n.d.. by Unknown"
        );
        let mut dated = item();
        dated.extra.insert("year".into(), "1995".into());
        assert!(
            template
                .fill(&dated)
                .unwrap()
                .starts_with("OPI Lacquer (1995). ")
        );
    }

    #[test]
    fn an_item_without_text_is_an_error_or_the_fallback() {
        let (template, items) = (
            TextTemplate::default(),
            [item(), Item::new("X"), Item::new("Y")],
        );
        let message = template.fill_all(&items).unwrap_err().to_string();
        assert!(
            message.contains("item X and 1 other have no text by the template {title|keywords}"),
            "{message}"
        );
        let template = TextTemplate {
            fallback: Some("item {id}".into()),
            ..template
        };
        assert_eq!(template.fill_all(&items).unwrap()[2], "item Y");
    }

    #[test]
    fn unpaired_braces_are_refused() {
        for bad in ["{title", "title}", "{}", "a } {title}"] {
            let template = TextTemplate {
                parts: vec![bad.into()],
                ..TextTemplate::default()
            };
            assert!(template.validate().is_err(), "{bad}");
        }
        let nothing = TextTemplate {
            parts: vec![],
            ..TextTemplate::default()
        };
        assert!(nothing.validate().is_err());
        assert!(TextTemplate::default().validate().is_ok());
    }
}
