//! Whose lists are made: users of a table or of the run's own dataset, with their items as numbers, one batch at a time.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use eager_bundle::Bundle;
use eager_data::digest::sha256_file;
use eager_data::{Dataset, LineFault, UserHistory, counted, read_histories};
use serde::{Deserialize, Serialize};

use super::Recommend;
use crate::run::{Stage, records};

/// What to do with an id that the catalogue does not have, and with an empty history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Stop, with file and line
    Error,
    /// Leave it out: who has no other gets an empty list; say at the end how many there were
    Skip,
}

/// Ids to numbers.
pub(super) struct Ids<'a> {
    bundle: &'a Bundle,
    unknown: Unknown,
    /// Ids left out.
    skipped: Cell<u64>,
}

impl<'a> Ids<'a> {
    pub(super) fn new(bundle: &'a Bundle, unknown: Unknown) -> Self {
        Self {
            bundle,
            unknown,
            skipped: Cell::new(0),
        }
    }

    /// How many ids were left out since the last call.
    pub(super) fn take_skipped(&self) -> u64 {
        self.skipped.take()
    }

    /// The number of an id, or nothing where it is left out; or what is wrong with it.
    pub(super) fn number(&self, id: &str) -> Result<Option<u32>, String> {
        match (self.bundle.number(id.trim()), self.unknown) {
            (Ok(number), _) => Ok(Some(number)),
            (Err(_), Unknown::Skip) => {
                self.skipped.set(self.skipped.get() + 1);
                Ok(None)
            }
            (Err(error), Unknown::Error) => {
                Err(format!("{error} (`--unknown skip` leaves such ids out)"))
            }
        }
    }

    /// Lets a place without any id pass, or says by `words` what is wrong with it.
    pub(super) fn none(&self, words: &str) -> Result<(), String> {
        match self.unknown {
            Unknown::Skip => Ok(()),
            Unknown::Error => Err(format!("{words} (`--unknown skip` allows that)")),
        }
    }
}

enum Source {
    Table {
        path: PathBuf,
        /// What the run's own table calls users and items.
        own: Option<[String; 2]>,
    },
    StandardInput,
    Run {
        histories: Box<Dataset>,
        file: PathBuf,
    },
}

/// The users of a command, in their order.
pub(super) struct Users<'a> {
    source: Source,
    separator: Option<&'a str>,
    ids: Ids<'a>,
    /// Users of whom no item is known.
    without: Cell<u64>,
}

impl<'a> Users<'a> {
    pub(super) fn open(args: &'a Recommend, bundle: &'a Bundle, ids: Ids<'a>) -> Result<Self> {
        let source = match &args.users {
            Some(path) if path == Path::new("-") => Source::StandardInput,
            Some(path) => Source::Table {
                path: path.clone(),
                own: own_names(&args.run)?,
            },
            None => {
                let folder = args.run.join(Stage::Data.name());
                let histories = Box::new(Dataset::load(&folder)?);
                debug_assert_eq!(histories.items.len(), bundle.items().len());
                let file = folder.join("interactions.jsonl");
                Source::Run { histories, file }
            }
        };
        Ok(Self {
            source,
            separator: args.separator.as_deref(),
            ids,
            without: Cell::new(0),
        })
    }

    /// SHA-256 of the file that they are read from; `None` for standard input, which can be read once only.
    pub(super) fn digest(&self) -> Result<Option<String>> {
        Ok(match &self.source {
            Source::StandardInput => None,
            Source::Table { path: file, .. } | Source::Run { file, .. } => Some(sha256_file(file)?),
        })
    }

    /// Reads all of them once, so that what is wrong is said before hours are spent, and counts them; `None` for standard
    /// input.
    pub(super) fn check(&self) -> Result<Option<u64>> {
        let mut count = 0;
        match &self.source {
            Source::StandardInput => return Ok(None),
            Source::Run { histories, .. } => count = histories.users.len() as u64,
            Source::Table { .. } => self.each(&mut |_| {
                count += 1;
                Ok(())
            })?,
        }
        Ok(Some(count))
    }

    /// Calls `each` with `size` users at a time, in their order, from user `first` on.
    pub(super) fn each_batch(
        &self,
        first: u64,
        size: usize,
        each: &mut dyn FnMut(Vec<UserHistory>) -> Result<()>,
    ) -> Result<()> {
        let (mut place, mut batch) = (0, Vec::new());
        self.each(&mut |user| {
            place += 1;
            if place > first {
                batch.push(user);
            }
            match batch.len() < size {
                true => Ok(()),
                false => each(std::mem::take(&mut batch)),
            }
        })?;
        match batch.is_empty() {
            true => Ok(()),
            false => each(batch),
        }
    }

    fn each(&self, each: &mut dyn FnMut(UserHistory) -> Result<()>) -> Result<()> {
        self.ids.take_skipped();
        self.without.set(0);
        let (path, own) = match &self.source {
            Source::Table { path, own } => (path.as_path(), own.as_ref()),
            Source::StandardInput => (Path::new("-"), None),
            Source::Run { histories, .. } => {
                for (user, items) in histories
                    .users
                    .iter()
                    .zip(histories.interactions.histories())
                {
                    each(UserHistory {
                        user: user.clone(),
                        items: items.iter().map(|item| item.0).collect(),
                    })?;
                }
                return Ok(());
            }
        };
        let own = own.map(|[user, item]| [user.as_str(), item.as_str()]);
        let mut number = |id: &str| self.ids.number(id).map_err(LineFault::Row);
        let mut none = |user: &str| {
            let none = self.ids.none(&format!("user {user:?} has no item here"));
            none.map_err(LineFault::Row)
        };
        let mut on_user = |user: UserHistory| {
            let without = u64::from(user.items.is_empty());
            self.without.set(self.without.get() + without);
            each(user)
        };
        read_histories(
            path,
            own,
            self.separator,
            &mut number,
            &mut none,
            &mut on_user,
        )
    }

    /// Says what was left out.
    pub(super) fn warn(&self) {
        let (ids, users) = (self.ids.take_skipped(), self.without.get());
        if ids > 0 {
            let ids = counted(ids, "id");
            tracing::warn!("not in the catalogue, and left out of histories: {ids}");
        }
        if users > 0 {
            let users = counted(users, "user");
            tracing::warn!("without a known item, and with an empty list: {users}");
        }
    }
}

/// The columns of users and items of the table that the run's dataset was made of; none of a bundle, which has no dataset.
fn own_names(run: &Path) -> Result<Option<[String; 2]>> {
    let records = records(run)?;
    let data = records.iter().find(|record| record.stage == Stage::Data);
    let columns = data.map(|data| &data.config["source"]["columns"]);
    let name = |of: &str| Some(columns?[of].as_str()?.to_owned());
    Ok(name("user").zip(name("item")).map(<[String; 2]>::from))
}
