//! A folder of lists: part files, each written beside its place and renamed, and a manifest that says what they are of. A
//! command that was stopped goes on after the last part that the manifest has.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum as _;
use eager_bundle::ListKind;
use eager_data::digest::sha256_file;
use eager_data::plain_words;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::lists::{Format, ListWriter};
use super::users::{Unknown, Users};
use super::{Pace, Recommend, Scorer, usage};
use crate::run::write_by;

/// Number of the manifest's form.
const FORM: u32 = 1;

/// Readers of a folder of Parquet pass over names that begin with `_`.
const MANIFEST: &str = "_manifest.json";

/// `_manifest.json`: what the lists are of and what parts there are. Equal commands write equal bytes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Number of the manifest's form.
    pub form: u32,
    /// Version of the program.
    pub eager: String,
    /// The recommender.
    pub bundle: Named,
    /// The users.
    pub input: Input,
    /// How lists are made.
    pub settings: Settings,
    /// Whether all users have their lists.
    pub complete: bool,
    /// The parts, in the users' order.
    pub parts: Vec<Part>,
}

/// A bundle.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// SHA-256 of its `bundle.json`; of a run, that of the bundle that it would be exported as.
    pub digest: String,
}

/// Where users come from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// SHA-256 of the file.
    pub sha256: String,
    /// Users in it.
    pub users: u64,
}

/// How lists are made, as far as it changes them.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What parts are written in.
    pub format: Format,
    /// Users of a part; the last one may have fewer.
    pub part_users: usize,
    /// Length of a list.
    pub k: usize,
    /// Which list.
    pub list: ListKind,
    /// Whether items of the history are left out.
    pub exclude_seen: bool,
    /// SHA-256 of the file of allowed items.
    pub allow: Option<String>,
    /// SHA-256 of the file of denied items.
    pub deny: Option<String>,
    /// Categories let through; all where there is none.
    pub categories: Vec<String>,
    /// Whether items are explained.
    pub explain: bool,
    /// What became of unknown ids.
    pub unknown: Unknown,
    /// What stood between ids.
    pub separator: Option<String>,
    /// Where it was computed.
    pub device: String,
}

/// A file of lists.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name.
    pub file: String,
    /// Users whose lists it has, in the order of the input.
    pub users: u64,
    /// Rows; of JSON lines, lines.
    pub rows: u64,
    /// SHA-256.
    pub sha256: String,
}

impl Manifest {
    fn done(&self) -> u64 {
        self.parts.iter().map(|part| part.users).sum()
    }

    /// What differs between the two but for the parts, a line each.
    fn differences(&self, other: &Self) -> Result<Vec<String>> {
        let flat = |manifest: &Self| -> Result<Vec<(String, serde_json::Value)>> {
            let mut flat = vec![];
            let value = serde_json::to_value(manifest)?;
            for (name, value) in value.as_object().into_iter().flatten() {
                match value {
                    serde_json::Value::Object(inner) => flat.extend(
                        inner
                            .iter()
                            .map(|(key, value)| (format!("{name}.{key}"), value.clone())),
                    ),
                    _ if name == "parts" || name == "complete" => {}
                    value => flat.push((name.clone(), value.clone())),
                }
            }
            Ok(flat)
        };
        let pairs = flat(self)?.into_iter().zip(flat(other)?);
        let differing = pairs.filter(|(a, b)| a != b);
        Ok(differing
            .map(|((name, there), (_, now))| format!("{name} is {there} there, {now} now"))
            .collect())
    }
}

/// Makes what is missing of the folder's parts.
pub(super) fn write(
    folder: &Path,
    format: Format,
    args: &Recommend,
    scorer: &Scorer<'_>,
    users: &Users<'_>,
) -> Result<()> {
    let Some(sha256) = users.digest()? else {
        return Err(usage(format!(
            "standard input cannot be read again, which going on in a folder takes; give --out a file ({}.parquet), or \
             save the users in a file first",
            folder.display()
        )));
    };
    let Some(total) = users.check()? else {
        bail!("the users cannot be counted")
    };
    let bundle = scorer.bundle;
    let digest = |file: &PathBuf| sha256_file(file);
    let wanted = Manifest {
        form: FORM,
        eager: env!("CARGO_PKG_VERSION").to_owned(),
        bundle: Named {
            name: bundle.manifest().name.clone(),
            digest: bundle.digest().to_owned(),
        },
        input: Input {
            sha256,
            users: total,
        },
        settings: Settings {
            format,
            part_users: args.part_users.get(),
            k: args.k.get(),
            list: args.list,
            exclude_seen: args.exclude_seen,
            allow: args.allow.as_ref().map(digest).transpose()?,
            deny: args.deny.as_ref().map(digest).transpose()?,
            categories: args.category.clone(),
            explain: args.explain,
            unknown: args.unknown,
            separator: args.separator.clone(),
            device: args.device.name().to_owned(),
        },
        complete: false,
        parts: vec![],
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: cannot make the folder", folder.display()))?;
    let _lock = lock(folder)?;
    let mut manifest = go_on(folder, wanted, args.force)?;
    remove_unfinished(folder)?;
    if manifest.complete {
        tracing::info!("{}: all {total} users have their lists", folder.display());
        return Ok(());
    }
    let mut done = manifest.done();
    if done > 0 {
        tracing::info!("going on after {done} of {total} users");
    }
    save(folder, &manifest)?;
    let mut pace = Pace::new(Some(total), done);
    let size = args.part_users.get();
    users.each_batch(done, size, &mut |part| {
        let mut part = part.into_iter().peekable();
        let mut made = Part {
            file: format!("part-{:05}.{}", manifest.parts.len(), format.name()),
            users: part.len() as u64,
            rows: 0,
            sha256: String::new(),
        };
        let path = folder.join(&made.file);
        write_whole(&path, |file| {
            let mut writer = ListWriter::new(format, file, scorer.shape())?;
            while part.peek().is_some() {
                let batch = part
                    .by_ref()
                    .take(scorer.filter.queries_at_a_time())
                    .collect();
                let lists = scorer.lists(batch)?;
                made.rows += writer.write(bundle, &lists)?;
                pace.advance(lists.len());
            }
            writer.finish()
        })?;
        made.sha256 = sha256_file(&path)?;
        done += made.users;
        manifest.parts.push(made);
        manifest.complete = done == total;
        save(folder, &manifest)
    })?;
    if !manifest.complete {
        bail!(
            "the users' file changed while it was read: {done} users of {total}; give the command again with --force"
        )
    }
    Ok(())
}

/// The manifest of what is there already, if it is of the same command; otherwise the new one.
fn go_on(folder: &Path, wanted: Manifest, force: bool) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    if !path.exists() {
        let mut others = names(folder)?.into_iter();
        if let Some(other) = others.find(|name| !name.starts_with('.')) {
            bail!(
                "{}: is no folder of lists: it has {other:?} and no {MANIFEST}; give a new one",
                folder.display()
            )
        }
        return Ok(wanted);
    }
    if force {
        clear(folder)?;
        return Ok(wanted);
    }
    let bytes = std::fs::read(&path).with_context(|| format!("{}: cannot read", path.display()))?;
    // An object and no list, whose values would be taken for the fields in their order.
    let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes);
    let found = object.and_then(|object| serde_json::from_value::<Manifest>(object.into()));
    let mut found = found.map_err(|error| {
        anyhow!(
            "{}: is not what this version writes ({}); give another folder, or --force to make all lists anew",
            path.display(),
            plain_words(&error.to_string())
        )
    })?;
    let differences = found.differences(&wanted)?;
    if !differences.is_empty() {
        bail!(
            "{}: has lists of another command: {}; give another folder, or --force to make all lists anew",
            folder.display(),
            differences.join("; ")
        )
    }
    let mut whole = 0;
    for part in &found.parts {
        let path = folder.join(&part.file);
        if !path.exists() || sha256_file(&path)? != part.sha256 {
            tracing::warn!(
                "{}: is missing or altered; made again with all that follow",
                path.display()
            );
            found.complete = false;
            break;
        }
        whole += 1;
    }
    found.parts.truncate(whole);
    Ok(found)
}

/// Removes the parts and the manifest, and nothing else.
fn clear(folder: &Path) -> Result<()> {
    let parts = names(folder)?.into_iter().filter(|name| is_part(name));
    remove(folder, parts.chain([MANIFEST.to_owned()]))
}

/// Removes what a killed command was writing, see [`write_whole`].
fn remove_unfinished(folder: &Path) -> Result<()> {
    let unfinished = |name: &String| {
        let of = name
            .strip_prefix('.')
            .and_then(|name| name.rsplit_once('.'));
        of.is_some_and(|(of, _)| of == MANIFEST || is_part(of))
    };
    remove(folder, names(folder)?.into_iter().filter(unfinished))
}

fn is_part(name: &str) -> bool {
    let part = || {
        let (number, extension) = name.strip_prefix("part-")?.split_once('.')?;
        Format::from_str(extension, false).ok()?;
        number.parse::<u64>().ok()
    };
    part().is_some()
}

fn remove(folder: &Path, names: impl Iterator<Item = String>) -> Result<()> {
    for name in names {
        let path = folder.join(name);
        std::fs::remove_file(&path)
            .with_context(|| format!("{}: cannot remove", path.display()))?;
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let failed = || format!("{}: cannot list", folder.display());
    let mut names = vec![];
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn save(folder: &Path, manifest: &Manifest) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(manifest)?;
    bytes.push(b'\n');
    write_whole(&folder.join(MANIFEST), |mut file| {
        std::io::Write::write_all(&mut file, &bytes)?;
        Ok(file)
    })
}

/// Writes a file beside `path`, under a hidden name that nothing else has (`.NAME.` and random letters), syncs it, and renames
/// it; one that is not written to its end is removed.
pub(super) fn write_whole(
    path: &Path,
    write: impl FnOnce(NamedTempFile) -> Result<NamedTempFile>,
) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let written = |file| write(file).with_context(|| path.display().to_string());
    write_by(path, &format!(".{name}."), written)
}

/// Holds the folder against a second command, until it is dropped or the process ends.
fn lock(folder: &Path) -> Result<Option<File>> {
    // Only on Unix can a folder be opened as a file.
    if cfg!(not(unix)) {
        return Ok(None);
    }
    let file = File::open(folder).with_context(|| format!("{}: cannot open", folder.display()))?;
    match file.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => bail!(
            "{}: another command is writing there; wait for it, or give another folder",
            folder.display()
        ),
        // Some network file systems have no locks.
        Err(std::fs::TryLockError::Error(_)) => Ok(None),
        Ok(()) => Ok(Some(file)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn hidden_files_of_others_stay_and_unfinished_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let there = |name: &str| folder.path().join(name);
        let write = |text: &'static [u8]| {
            write_whole(&there("lists.csv"), |mut file| {
                file.write_all(text)?;
                Ok(file)
            })
        };
        std::fs::write(there(".lists.csv"), "mine").unwrap();
        for text in [&b"first"[..], b"second"] {
            write(text).unwrap();
            assert_eq!(std::fs::read(there("lists.csv")).unwrap(), text);
        }
        let failed = write_whole(&there("new.csv"), |mut file| {
            file.write_all(b"half")?;
            bail!("the rest is missing")
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(there(".lists.csv")).unwrap(), b"mine");
        assert_eq!(names(folder.path()).unwrap(), [".lists.csv", "lists.csv"]);

        let stay = [".part-1.txt.x", ".part-00001.csv", "part-00001.csv"];
        let go = ["._manifest.json.a1B2c3", ".part-00002.csv.Zz09aa"];
        for name in stay.into_iter().chain(go) {
            std::fs::write(there(name), "").unwrap();
        }
        remove_unfinished(folder.path()).unwrap();
        let mut left = [&stay[..], &[".lists.csv", "lists.csv"]].concat();
        left.sort_unstable();
        assert_eq!(names(folder.path()).unwrap(), left);
    }
}
