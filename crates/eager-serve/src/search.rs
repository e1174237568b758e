//! Items by the words of their titles and ids.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use eager_bundle::Item;

/// Each item's words in lower case, a blank before each: a word begins with `q` where the text has `" q"`.
pub(crate) struct TitleSearch(Vec<String>);

impl TitleSearch {
    pub(crate) fn new(items: &[Item]) -> Self {
        let text = |item: &Item| {
            let mut text = String::new();
            let title = item.title.as_deref().unwrap_or_default();
            for word in words(title).chain(words(&item.id)) {
                let _ = write!(text, " {word}");
            }
            text
        };
        Self(items.iter().map(text).collect())
    }

    /// Numbers of the items of which every word of `q` begins a word; ascending. Without a word that is every item.
    pub(crate) fn find(&self, q: &str) -> impl Iterator<Item = u32> {
        let wanted = beginnings(q);
        let texts = (0..).zip(&self.0);
        texts
            .filter(move |(_, text)| wanted.iter().all(|word| text.contains(word.as_str())))
            .map(|(item, _)| item)
    }
}

/// What a text has in it in which every word of `q` begins a word: each once, however often the word is there.
fn beginnings(q: &str) -> BTreeSet<String> {
    words(q).map(|word| format!(" {word}")).collect()
}

/// Runs of letters and digits, in lower case.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_begins_one() {
        let item = |id: &str, title: Option<&str>| Item {
            title: title.map(str::to_owned),
            ..Item::new(id)
        };
        let search = TitleSearch::new(&[
            item("B01", Some("OPI Nail-Lacquer, Émeraude")),
            item("B02", Some("Nail file")),
            item("x-7", None),
        ]);
        let find = |q: &str| search.find(q).collect::<Vec<u32>>();
        assert_eq!(find(""), [0, 1, 2]);
        assert_eq!(find(" - "), [0, 1, 2]);
        assert_eq!(find("nail"), [0, 1]);
        assert_eq!(find("NA lac"), [0]);
        assert_eq!(find("lac na"), [0]);
        assert_eq!(find("acquer"), [] as [u32; 0]);
        assert_eq!(find("éme"), [0]);
        assert_eq!(find("b0"), [0, 1]);
        assert_eq!(find("X-7"), [2]);
        assert_eq!(beginnings(&"nail NAIL-".repeat(1000)).len(), 1);
    }
}
