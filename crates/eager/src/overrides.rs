//! A config from four places: a base in the program, the dataset's settings over it, a TOML file over both,
//! `--set a.b.c=value` over all.
//!
//! A key that nothing knows is an error that names where it came from, its whole path and the keys that there are; so the
//! config types deny unknown fields, and this module finds which of the keys was to blame.

use std::num::{IntErrorKind, ParseIntError};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use eager_data::plain_words;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

const UNWRITABLE: &str = "the config cannot be written as TOML";

/// `base` with the keys of `dataset` (a manifest's settings), then of `file`, then of `sets` (each `a.b.c=value`) in place
/// of its own.
///
/// Tables are merged key by key; anything else, arrays too, replaces what was there. The value of a set is read as TOML
/// (`0.5`, `true`, `[1, 2]`, `"text"`), and as plain text where it is no TOML, so that `--set text.encoder=lsa` needs no
/// quotes.
///
/// # Errors
/// When the file cannot be read or is no TOML, a set is not `key=value`, a key or value is none that `T` knows, or a list
/// stands for a table.
pub fn resolve<T: Serialize + DeserializeOwned>(
    base: &T,
    dataset: &Table,
    file: Option<&Path>,
    sets: &[String],
) -> Result<T> {
    let table = Table::try_from(base).context(UNWRITABLE)?;
    let mut table = checked::<T>(table, dataset.clone(), "[settings] of the manifest")?;
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: cannot read the config", path.display()))?;
        let over: Table =
            toml::from_str(&text).with_context(|| format!("{}: no TOML", path.display()))?;
        table = checked::<T>(table, over, &path.display().to_string())?;
    }
    for set in sets {
        let over = parse_set(set)?;
        table = checked::<T>(table, over, &format!("--set {set}"))?;
    }
    table.try_into().context("the config")
}

/// `under` with `over` merged into it, if that is a `T`.
fn checked<T: Serialize + DeserializeOwned>(
    under: Table,
    over: Table,
    origin: &str,
) -> Result<Table> {
    let no_list_for_a_table = |tables: &Table| match list_for_table(tables, &over) {
        Some((path, table)) => Err(has_keys(origin, &path.join("."), &keys_of(table, &path))),
        None => Ok(()),
    };
    no_list_for_a_table(&under)?;
    let mut merged = under.clone();
    merge(&mut merged, over.clone());
    let error = match merged.clone().try_into::<T>() {
        Ok(read) => {
            // A choice with keys that was not chosen before, such as `ties = { shuffle = [1] }`.
            no_list_for_a_table(&Table::try_from(&read).context(UNWRITABLE)?)?;
            return Ok(merged);
        }
        Err(error) => error,
    };
    // The first key that fails alone is the one to name; where none does, only their combination is wrong.
    for (path, value) in leaves(&over) {
        let mut alone = under.clone();
        merge(&mut alone, nest(&path, value.clone()));
        if let Err(error) = alone.try_into::<T>() {
            let name = path.join(".");
            if let Some(keys) = keys_below::<T>(&under, &path, &value, error.message()) {
                return Err(has_keys(origin, &name, &keys));
            }
            let hint = nearest(&under, &path, error.message());
            let message = plain_words(error.message());
            return Err(anyhow!("{origin}: `{name}`: {message}{hint}"));
        }
    }
    Err(anyhow!("{origin}: {}", plain_words(error.message())))
}

fn has_keys(origin: &str, name: &str, keys: &str) -> anyhow::Error {
    anyhow!("{origin}: `{name}` has keys of its own; set {keys}")
}

/// The table's keys, with the path to them.
fn keys_of(table: &Table, path: &[String]) -> String {
    let name = path.join(".");
    let keys: Vec<String> = table.keys().map(|key| format!("`{name}.{key}`")).collect();
    keys.join(", ")
}

/// The table among `tables` that has a list in its place in `over`, and its path. serde would take the list's values for the
/// table's keys, in their order.
fn list_for_table<'a>(tables: &'a Table, over: &Table) -> Option<(Vec<String>, &'a Table)> {
    over.iter().find_map(|(key, value)| {
        let table = tables.get(key)?.as_table()?;
        let (mut path, table) = match value {
            Value::Array(_) => (vec![], table),
            Value::Table(over) => list_for_table(table, over)?,
            _ => return None,
        };
        path.insert(0, key.clone());
        Some((path, table))
    })
}

fn merge(into: &mut Table, over: Table) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(over)) => merge(into, over),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Every value that is no table (or an empty one), with its path.
fn leaves(table: &Table) -> Vec<(Vec<String>, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                for (mut path, value) in leaves(inner) {
                    path.insert(0, key.clone());
                    found.push((path, value));
                }
            }
            value => found.push((vec![key.clone()], value.clone())),
        }
    }
    found
}

/// The table in which only `path` has a value.
fn nest(path: &[String], value: Value) -> Table {
    let value = path.iter().rev().fold(value, |inner, key| {
        Value::Table(Table::from_iter([(key.clone(), inner)]))
    });
    match value {
        Value::Table(table) => table,
        _ => Table::new(), // an empty path; there is none
    }
}

fn parse_set(set: &str) -> Result<Table> {
    let form =
        || format!("--set {set}: expected key=value, such as --set codes.behaviour.branching=64");
    let (key, value) = set.split_once('=').with_context(form)?;
    let path: Vec<String> = key.trim().split('.').map(|k| k.trim().to_owned()).collect();
    if path.iter().any(String::is_empty) {
        return Err(anyhow!(form()));
    }
    // A value with a line break could bring further keys; then it is text.
    let parsed = toml::from_str::<Table>(&format!("value = {value}")).ok();
    let parsed = parsed.filter(|table| table.len() == 1 && !value.contains('\n'));
    let parsed = parsed.and_then(|mut table| table.remove("value"));
    let text = value.trim();
    // As text it would be of a wrong type, which tells nobody that it is too large.
    let too_large = |error: ParseIntError| *error.kind() == IntErrorKind::PosOverflow;
    ensure!(
        parsed.is_some() || !text.parse::<i64>().is_err_and(too_large),
        "--set {set}: the number is too large; the largest is {}",
        i64::MAX
    );
    let value = parsed.unwrap_or_else(|| Value::String(text.to_owned()));
    Ok(nest(&path, value))
}

/// The keys below `path`, where it was given one value but is a table, or a choice with keys (`split = "global-time"`).
fn keys_below<T: DeserializeOwned>(
    under: &Table,
    path: &[String],
    value: &Value,
    message: &str,
) -> Option<String> {
    let name = path.join(".");
    if message.contains("expected struct variant") {
        // Which keys it has, only its type knows: an empty table of it lacks the first.
        let choice = value.as_str()?;
        let mut alone = under.clone();
        let below = [path, &[choice.to_owned()]].concat();
        merge(&mut alone, nest(&below, Value::Table(Table::new())));
        let error = alone.try_into::<T>().err()?;
        let key = error.message().trim().strip_prefix("missing field `")?;
        return Some(format!("`{name}.{choice}.{}`", key.strip_suffix('`')?));
    }
    if !message.contains("expected struct") {
        return None;
    }
    let table = path
        .iter()
        .try_fold(under, |table, key| table.get(key)?.as_table())?;
    Some(keys_of(table, path))
}

/// `; did you mean …?` where a key of `path` is unknown and a known one is near.
fn nearest(known: &Table, path: &[String], message: &str) -> String {
    if !message.starts_with("unknown field") {
        return String::new();
    }
    let mut level = known;
    for (depth, key) in path.iter().enumerate() {
        match level.get(key) {
            Some(Value::Table(inner)) => level = inner,
            Some(_) => return String::new(),
            None => {
                let near = level.keys().map(|name| (distance(name, key), name)).min();
                return match near {
                    Some((edits, name)) if edits <= key.len().max(name.len()) / 3 => {
                        let mut meant = path[..depth].to_vec();
                        meant.push(name.clone());
                        format!("; did you mean `{}`?", meant.join("."))
                    }
                    _ => String::new(),
                };
            }
        }
    }
    String::new()
}

/// Levenshtein's distance of two keys, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use eager_data::{Order, PrepareConfig, Ties};
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Config {
        seed: u64,
        text: Text,
        prepare: PrepareConfig,
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Text {
        encoder: String,
        rate: f64,
        depth: Option<usize>,
        widths: Vec<usize>,
    }

    fn set(sets: &[&str]) -> Result<Config> {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        resolve(&Config::default(), &Table::new(), None, &sets)
    }

    fn fault(sets: &[&str]) -> String {
        format!("{:#}", set(sets).unwrap_err())
    }

    #[test]
    fn sets_go_over_the_file_and_the_file_over_the_base() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my.toml");
        std::fs::write(&file, "seed = 3\n[text]\nrate = 0.5\nwidths = [1, 2]\n").unwrap();
        let base = Config {
            text: Text {
                encoder: "st5".to_owned(),
                widths: vec![9, 9, 9],
                ..Text::default()
            },
            ..Config::default()
        };
        let sets = ["seed=4".to_owned(), "text.depth=2".to_owned()];
        let config = resolve(&base, &Table::new(), Some(&file), &sets).unwrap();
        assert_eq!(config.seed, 4);
        assert_eq!(config.text.encoder, "st5");
        assert_eq!((config.text.rate, config.text.depth), (0.5, Some(2)));
        assert_eq!(config.text.widths, [1, 2]);
        assert_eq!(resolve(&config, &Table::new(), None, &[]).unwrap(), config);
    }

    #[test]
    fn a_value_is_toml_or_else_text() {
        assert_eq!(set(&["text.encoder=lsa"]).unwrap().text.encoder, "lsa");
        assert_eq!(set(&["text.encoder=\"a b\""]).unwrap().text.encoder, "a b");
        assert_eq!(
            set(&["text.encoder=./my/model"]).unwrap().text.encoder,
            "./my/model"
        );
        assert_eq!(set(&["text.encoder=a=b"]).unwrap().text.encoder, "a=b");
        assert_eq!(set(&["text.rate=1"]).unwrap().text.rate, 1.0);
        assert_eq!(set(&["text.widths=[3]"]).unwrap().text.widths, [3]);
        let shuffled = set(&["prepare.ties={shuffle={seed=1}}"]).unwrap().prepare;
        assert_eq!(shuffled.ties, Ties::Shuffle { seed: 1 });
        let file = set(&[
            "prepare.ties.shuffle.seed=1",
            "prepare.ties=file",
            "prepare.order=file",
        ]);
        let file = file.unwrap().prepare;
        assert_eq!((file.ties, file.order), (Ties::File, Order::File));
        let text = set(&["text.encoder=1\nseed = 2"]);
        assert_eq!(text.unwrap().seed, 0);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_its_neighbours() {
        let message = fault(&["text.encodr=lsa"]);
        assert_eq!(
            message,
            "--set text.encodr=lsa: `text.encodr`: unknown field `encodr`, expected one of `encoder`, `rate`, `depth`, \
             `widths`; did you mean `text.encoder`?"
        );
        let far = fault(&["optimiser.lr=1"]);
        assert!(
            far.ends_with("expected one of `seed`, `text`, `prepare`"),
            "{far}"
        );

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my.toml");
        std::fs::write(&file, "seed = 3\n[text]\nrate = 0.5\ndept = 3\n").unwrap();
        let error = resolve(&Config::default(), &Table::new(), Some(&file), &[]).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("my.toml: `text.dept`: unknown field `dept`"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (key, value, found) in [
            ("seed", "many", "string \"many\""),
            ("text.depth", "abc", "string \"abc\""),
            ("seed.x", "1", "keys with values"),
        ] {
            assert_eq!(
                fault(&[&format!("{key}={value}")]),
                format!(
                    "--set {key}={value}: `{key}`: found {found}, expected a whole number from 0 up"
                )
            );
        }
        let message = fault(&["seed=18446744073709551615"]);
        assert!(
            message.contains("too large; the largest is 9223372036854775807"),
            "{message}"
        );
        assert_eq!(
            fault(&["prepare.split=global-time"]),
            "--set prepare.split=global-time: `prepare.split` has keys of its own; set `prepare.split.global-time.quantile`"
        );
        assert_eq!(
            fault(&["text=lsa"]),
            "--set text=lsa: `text` has keys of its own; set `text.encoder`, `text.rate`, `text.widths`"
        );
        assert!(
            fault(&["prepare.order=best"])
                .contains("there is no `best`, expected `time` or `file`")
        );
        for set in ["seed", "=1", "text..rate=1"] {
            assert!(fault(&[set]).contains("expected key=value"), "{set}");
        }
    }

    /// serde would take its values for the section's keys, in their order.
    #[test]
    fn a_list_is_no_section() {
        let keys = "`text` has keys of its own; set `text.encoder`, `text.rate`, `text.widths`";
        for list in ["[]", "[\"lsa\"]", "[\"lsa\", 0.5]", "[1, 2]"] {
            let set = format!("text={list}");
            assert_eq!(fault(&[&set]), format!("--set {set}: {keys}"));
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my.toml");
        std::fs::write(&file, "seed = 3\ntext = [\"lsa\", 0.5]\n").unwrap();
        let refused = |dataset: &Table, file: Option<&Path>| {
            let refused = resolve(&Config::default(), dataset, file, &[]);
            refused.unwrap_err().to_string()
        };
        let error = refused(&Table::new(), Some(file.as_path()));
        assert!(error.ends_with(&format!("my.toml: {keys}")), "{error}");
        let dataset = toml::from_str("text = [\"lsa\"]").unwrap();
        let error = refused(&dataset, None);
        assert_eq!(error, format!("[settings] of the manifest: {keys}"));

        // Where the section is one of a choice that is not taken, too.
        let message = fault(&["prepare.ties={shuffle=[1]}"]);
        assert!(
            message.ends_with(
                "`prepare.ties.shuffle` has keys of its own; set `prepare.ties.shuffle.seed`"
            ),
            "{message}"
        );
        let message = fault(&["prepare=[5, 5]"]);
        assert!(message.contains("`prepare.user_core`"), "{message}");
        assert_eq!(set(&["text.widths=[3, 4]"]).unwrap().text.widths, [3, 4]);
    }
}
