//! A dataset described by one TOML file: where its files come from, how they are read, what must come out.
//!
//! The presets lie in the workspace's `datasets/` folder; anyone's own dataset is a file of the same form.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::item::TextTemplate;
use crate::prepare::PrepareConfig;
use crate::source::Source;
use crate::statistics::Expected;
use crate::{DataError, Result, plain_words};

/// One dataset's description, as `datasets/<name>.toml` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Short name: the folder under the data folder and under `runs/`.
    pub name: String,
    /// What the data are, for a reader.
    pub title: String,
    /// Where to read about them and on what terms they may be used.
    #[serde(default)]
    pub about: String,
    /// Ways to get the data, most wanted first.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
    /// Filter, order and tie rule.
    #[serde(default)]
    pub prepare: PrepareConfig,
    /// Item text.
    #[serde(default)]
    pub text: TextTemplate,
    /// Settings of a run that this dataset wants changed, such as a smaller model for a smaller catalogue, in the form of
    /// the run's own config; this crate does not look into it.
    #[serde(default)]
    pub settings: toml::Table,
    /// Figures that the prepared data must have. Absent: not checked.
    #[serde(default)]
    pub expected: Option<Expected>,
    /// Figures printed in the paper. Absent: the paper has none.
    #[serde(default)]
    pub paper: Option<Paper>,
    /// The manifest's own folder, where files that stand in no data folder are looked for; `None` for a preset.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
}

/// A row of a published table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// Publication and table, and how sure the figures are.
    pub source: String,
    /// Metric (`recall@10`, `ndcg@10`) → figure between 0 and 1.
    pub figures: BTreeMap<String, f64>,
}

/// The presets: name and text of the manifest.
const PRESETS: [(&str, &str); 6] = [
    (
        "amazon-beauty",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../datasets/amazon-beauty.toml"
        )),
    ),
    (
        "amazon-sports",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../datasets/amazon-sports.toml"
        )),
    ),
    (
        "amazon-toys",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../datasets/amazon-toys.toml"
        )),
    ),
    (
        "yelp",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../datasets/yelp.toml"
        )),
    ),
    (
        "movielens-100k",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../datasets/movielens-100k.toml"
        )),
    ),
    (
        "demo",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../datasets/demo.toml"
        )),
    ),
];

impl Manifest {
    /// Names of the presets.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// The preset of that name, or the manifest file at that path.
    ///
    /// # Errors
    /// When it is neither, or the file is no valid manifest.
    pub fn find(name_or_path: &str) -> Result<Self> {
        if let Some((name, text)) = PRESETS.iter().find(|(name, _)| *name == name_or_path) {
            return Self::parse(text, Path::new(name));
        }
        let path = Path::new(name_or_path);
        if path.is_file() {
            return Self::load(path);
        }
        Err(DataError::UnknownDataset {
            name: name_or_path.to_owned(),
            presets: Self::presets().collect::<Vec<_>>().join(", "),
        })
    }

    /// Reads the manifest at `path`. Its files are looked for in the data folder, then beside the manifest.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML of this form (with its line), or contradicts itself.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(DataError::io(path, "read"))?;
        let mut manifest = Self::parse(&text, path)?;
        manifest.folder = Some(path.parent().map_or_else(PathBuf::new, Path::to_owned));
        Ok(manifest)
    }

    /// Reads a manifest's text; `path` is for messages.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let fault = |message: String| DataError::Manifest {
            path: path.to_owned(),
            message,
        };
        let manifest: Self = toml::from_str(text).map_err(|error: toml::de::Error| {
            // They stand below a drawing of the place.
            let words = error.message();
            fault(error.to_string().replace(words, &plain_words(words)))
        })?;
        let given = toml::from_str(text).map(Value::Table);
        if let (Ok(given), Ok(read)) = (given, Value::try_from(&manifest))
            && let Some(path) = list_for_section(&given, &read)
        {
            return Err(fault(format!(
                "`{path}` has keys of its own, and is a list here; write `key = value` for each below it"
            )));
        }
        manifest.validate(path)?;
        Ok(manifest)
    }

    /// Whether a dataset, or anything else that becomes a folder, can be called so.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
    }

    fn validate(&self, path: &Path) -> Result<()> {
        let fault = |message: String| DataError::Manifest {
            path: path.to_owned(),
            message,
        };
        if !Self::is_name(&self.name) {
            return Err(fault(format!(
                "`name` is `{}`; it becomes a folder: use letters, digits, - and _",
                self.name
            )));
        }
        if self.sources.is_empty() {
            return Err(fault("no `[[source]]`; give at least one".to_owned()));
        }
        for source in &self.sources {
            source.validate().map_err(fault)?;
        }
        self.prepare
            .validate()
            .map_err(|error| fault(error.to_string()))?;
        self.text.validate().map_err(fault)?;
        // The default parts name what a set may have; parts that somebody wrote are meant.
        if self.text.parts != TextTemplate::default().parts {
            let fields: BTreeSet<&str> = self.sources.iter().flat_map(Source::fields).collect();
            self.text.check(&fields).map_err(fault)?;
        }
        for (metric, figure) in self.paper.iter().flat_map(|paper| &paper.figures) {
            let known = metric.split_once('@').is_some_and(|(name, k)| {
                matches!(name, "recall" | "ndcg") && k.parse::<usize>().is_ok_and(|k| k > 0)
            });
            if !known || !(0.0..=1.0).contains(figure) {
                return Err(fault(format!(
                    "`[paper.figures] \"{metric}\" = {figure}`; write \"recall@10\" or \"ndcg@10\" and a share between 0 and 1"
                )));
            }
        }
        Ok(())
    }
}

/// The path of what is given as a list and read as a section: serde took its values for the section's keys, in their order.
fn list_for_section(given: &Value, read: &Value) -> Option<String> {
    let below = |key: String, given, read| {
        let path = list_for_section(given, read)?;
        Some(if path.is_empty() {
            key
        } else {
            format!("{key}.{path}")
        })
    };
    match (given, read) {
        (Value::Array(_), Value::Table(_)) => Some(String::new()),
        (Value::Table(given), Value::Table(read)) => given
            .iter()
            .find_map(|(key, value)| below(key.clone(), value, read.get(key)?)),
        (Value::Array(given), Value::Array(read)) => {
            let mut pairs = given.iter().zip(read).enumerate();
            pairs.find_map(|(i, (given, read))| below(i.to_string(), given, read))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_named_as_its_file() {
        for name in Manifest::presets() {
            let manifest = Manifest::find(name).unwrap();
            assert_eq!(manifest.name, name);
            assert!(manifest.expected.is_some(), "{name}: expected figures");
            assert_eq!(
                manifest.paper.is_some(),
                name.starts_with("amazon-"),
                "{name}: paper's figures"
            );
        }
    }

    /// The example of `docs/datasets.md` is a manifest.
    #[test]
    fn the_documented_example_is_valid() {
        let docs = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/datasets.md"
        ));
        let example = docs
            .split("```toml\n")
            .find(|block| block.starts_with("# shop.toml"));
        let example = example.and_then(|block| block.split("```").next()).unwrap();
        let manifest = Manifest::parse(example, Path::new("shop.toml")).unwrap();
        assert_eq!(manifest.sources[0].files().len(), 2);
    }

    /// Unknown keys, wrong names and impossible figures are refused with the file and the key.
    #[test]
    fn faults_name_the_manifest_and_the_key() {
        let good = "name = \"mine\"\ntitle = \"t\"\n[[source]]\nformat = \"demo\"\n";
        assert!(Manifest::parse(good, Path::new("mine.toml")).is_ok());
        for (text, words) in [
            (format!("{good}[surprise]\n"), "surprise"),
            (format!("{good}seeds = 3\n"), "seeds"),
            (good.replace("mine", "../mine"), "becomes a folder"),
            (
                "name = \"a\"\ntitle = \"t\"\nsource = []\n".to_owned(),
                "at least one",
            ),
            (good.replace("demo", "xml"), "xml"),
            (format!("{good}[prepare]\nuser_core = 2\n"), "user_core"),
            (
                format!("{good}[prepare]\nuser_core = \"two\"\n"),
                "found string \"two\", expected a whole number from 0 up",
            ),
            (format!("{good}[text]\nparts = [\"{{title\"]\n"), "`{`"),
            (
                format!("{good}[text]\nparts = [\"{{titel}}\"]\n"),
                "`{titel}`",
            ),
            (
                format!("{good}[paper]\nsource = \"s\"\nfigures = {{ \"recall@10\" = 8.4 }}\n"),
                "recall@10",
            ),
            (
                format!("{good}[paper]\nsource = \"s\"\nfigures = {{ \"hits\" = 0.4 }}\n"),
                "hits",
            ),
        ] {
            let message = Manifest::parse(&text, Path::new("mine.toml"))
                .unwrap_err()
                .to_string();
            assert!(
                message.contains("mine.toml") && message.contains(words),
                "{text}: {message}"
            );
        }
        let message = Manifest::find("amazon-books").unwrap_err().to_string();
        assert!(
            message.contains("amazon-books") && message.contains("movielens-100k"),
            "{message}"
        );
    }

    /// serde would take a list for a section, and its values for the first keys.
    #[test]
    fn a_list_is_no_section() {
        let parse = |text: &str| {
            let manifest = Manifest::parse(text, Path::new("mine.toml"));
            manifest.map_err(|error| error.to_string())
        };
        let table = "name = \"mine\"\ntitle = \"t\"\n[[source]]\nformat = \"table\"\n\
                     interactions = { name = \"a.csv\" }\ncolumns = { user = \"u\", item = \"i\" }\n";
        assert!(parse(table).is_ok());
        let above = |line: &str| table.replace("[[source]]", &format!("{line}\n[[source]]"));
        let columns = |list: &str| table.replace("{ user = \"u\", item = \"i\" }", list);
        for (text, words) in [
            (above("prepare = [5, 5]"), "`prepare` has keys of its own"),
            (above("prepare = []"), "`prepare` has keys"),
            (
                above("prepare.ties = { shuffle = [1] }"),
                "`prepare.ties.shuffle` has keys",
            ),
            (
                above("prepare.split = { global-time = [0.9] }"),
                "`prepare.split.global-time` has keys",
            ),
            (above("text = [[\"{id}\"]]"), "`text` has keys"),
            (columns("[\"u\", \"i\"]"), "`source.0.columns` has keys"),
            // Of these serde reads none.
            (above("settings = [1]"), "found a list, expected"),
        ] {
            let message = parse(&text).unwrap_err();
            assert!(
                message.starts_with("mine.toml: ") && message.contains(words),
                "{text}: {message}"
            );
        }
        // The settings' own lists are the run's.
        let settings = parse(&above("settings = { behaviour = { windows = [1, 2] } }"));
        assert!(settings.is_ok());
    }

    /// A name in the text's braces that no item can have is an error, which says what names there are.
    #[test]
    fn the_text_names_what_the_items_have() {
        let parse = |columns: &str, items: &str, text: &str| {
            let manifest = format!(
                "name = \"mine\"\ntitle = \"t\"\n[[source]]\nformat = \"table\"\ninteractions = {{ name = \"a.csv\" }}\n\
                 {items}columns = {{ user = \"u\", item = \"i\"{columns} }}\n{text}"
            );
            Manifest::parse(&manifest, Path::new("mine.toml")).map_err(|error| error.to_string())
        };
        let columns = ", title = \"name\", extra = [\"colour\"]";
        let items = "items = { name = \"b.csv\" }\n";
        for parts in ["{title}, {colour}", "{ keywords | title }", "item {id}"] {
            let text = format!("[text]\nparts = [\"{parts}\"]\n");
            assert!(parse(columns, items, &text).is_ok(), "{parts}");
        }
        // What is not said is not meant.
        assert!(parse("", "", "").is_ok());
        for (parts, named) in [
            ("{titel}", "`{titel}`"),
            ("by {brand}", "`{brand}`"),
            ("{titel|title}", "`{titel|title}`"),
        ] {
            let text = format!("[text]\nparts = [\"{{title}}\", \"{parts}\"]\n");
            let message = parse(columns, items, &text).unwrap_err();
            assert!(
                message.contains(named) && message.contains("the fields are colour, id, title"),
                "{message}"
            );
        }
        let text = "[text]\nparts = [\"{title}\"]\n";
        let message = parse(columns, "", text).unwrap_err();
        assert!(message.contains("the fields are id:"), "{message}");
    }
}
