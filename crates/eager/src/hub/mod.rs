//! `eager push` and `eager pull`: bundles to and from model repositories of the Hugging Face hub.

mod card;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use candle_core::Device;
use clap::Args;
use eager_bundle::{Bundle, Manifest};
use eager_hub::{Client, Content, Expected, File, Hub, HubError, RepositoryName};

use crate::bundle;
use crate::cli::{free, print};
use crate::run::write_atomic;
use crate::stages::FileBars;

const MANIFEST: &str = "bundle.json";
const CARD: &str = "README.md";

/// A bundle to push.
#[derive(Debug, Args)]
#[command(after_long_help = ENVIRONMENT)]
pub struct Push {
    /// The bundle's folder
    pub bundle: PathBuf,
    /// The model repository, OWNER/NAME; it is made where it is missing
    pub repository: RepositoryName,
    /// If the repository is made, make it private
    #[arg(long)]
    pub private: bool,
    /// The commit's message; otherwise the bundle's name, revision and digest
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
}

/// A bundle to pull.
#[derive(Debug, Args)]
#[command(after_long_help = ENVIRONMENT)]
pub struct Pull {
    /// The model repository, OWNER/NAME
    pub repository: RepositoryName,
    /// The bundle's folder, which must not be there yet
    pub folder: PathBuf,
    /// A branch, a tag, or a commit
    #[arg(long, value_name = "REVISION", default_value = "main")]
    pub revision: String,
}

const ENVIRONMENT: &str = "\
Environment, as of the hub's Python client:
  HF_TOKEN        a token; otherwise the one that `hf auth login` saved (HF_TOKEN_PATH, HF_HOME)
  HF_ENDPOINT     address of another hub
  HF_HUB_OFFLINE  1: nothing is asked

Examples:
  eager push beauty my-name/beauty --private
  eager pull my-name/beauty beauty
  eager pull my-name/beauty beauty --revision 5f3c…
Interrupted? Give the same command again. See docs/hub.md.";

impl Push {
    /// Sends what the repository does not have, as one commit, and prints where it is.
    ///
    /// # Errors
    /// When the bundle is not whole, the token does not allow it, or a transfer fails; the repository's branch is then as it
    /// was.
    pub fn run(&self) -> Result<()> {
        let bundle = bundle::load(&self.bundle)?;
        let client = Hub::from_env().client()?;
        let name = &self.repository;
        match client.create(name, self.private)? {
            true => tracing::info!("{name}: made"),
            false if self.private => {
                tracing::warn!("{name} is there already: --private does not change who may see it");
            }
            false => {}
        }
        let manifest = bundle.manifest();
        let mut files = Vec::new();
        for file in manifest.files.keys().map(String::as_str).chain([MANIFEST]) {
            let content = Content::Path(self.bundle.join(file));
            files.push(File {
                name: file.to_owned(),
                content,
            });
        }
        if writes_card(&client, name)? {
            files.push(File {
                name: CARD.to_owned(),
                content: Content::Bytes(card::card(&bundle, name).into_bytes()),
            });
        }
        let message = self.message.clone().unwrap_or_else(|| {
            format!(
                "{}, revision {}, digest {}",
                manifest.name,
                manifest.revision,
                bundle.digest()
            )
        });
        let mut bars = FileBars::new("sending");
        let pushed = client.push(name, &message, &files, &mut |at| {
            bars.show(at.file, at.done, Some(at.total));
        })?;
        match pushed.changed {
            0 => tracing::info!("{name} has all of it already"),
            changed => tracing::info!("{changed} of {} files changed", files.len()),
        }
        print(format_args!(
            "{}/{name}/tree/{}",
            client.endpoint(),
            pushed.commit
        ))
    }
}

/// Whether the card is to be written: not over one that somebody has written or taken over.
fn writes_card(client: &Client, name: &RepositoryName) -> Result<bool> {
    match client.read(name, "main", CARD) {
        Err(HubError::NoFile { .. }) => Ok(true),
        Ok(found) if String::from_utf8_lossy(&found).contains(card::MARK) => Ok(true),
        Ok(_) => {
            tracing::info!("{CARD} of {name} is not one of `eager push`, and stays");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

impl Pull {
    /// Fetches the bundle beside its place, compares every file with its digest, renames the folder and prints it.
    ///
    /// # Errors
    /// [`Usage`](crate::cli::Usage) when the folder is there; when the repository is none of a bundle or may not be read, a
    /// transfer breaks off (the next command goes on), or a file is not what the bundle says.
    pub fn run(&self) -> Result<()> {
        let (name, folder) = (&self.repository, &self.folder);
        free(folder)?;
        let client = Hub::from_env().client()?;
        let commit = client.commit_of(name, &self.revision)?;
        let found = client.read(name, &commit, MANIFEST);
        let found = found.map_err(|error| match error {
            HubError::NoFile { .. } => anyhow::anyhow!(
                "{name} is no bundle: it has no {MANIFEST}; bundles come there with `eager push`"
            ),
            error => error.into(),
        })?;
        let (manifest, digest) = Manifest::parse(&found, Path::new(&format!("{name}/{MANIFEST}")))?;
        let part = part(folder);
        std::fs::create_dir_all(&part)
            .with_context(|| format!("{}: cannot make the folder", part.display()))?;
        let mut bars = FileBars::new("fetching");
        for (file, wanted) in &manifest.files {
            let wanted = Expected {
                bytes: wanted.bytes,
                sha256: &wanted.sha256,
            };
            let path = part.join(file);
            client.download(name, &commit, (file, wanted), &path, &mut |at| {
                bars.show(at.file, at.done, Some(at.total));
            })?;
        }
        let path = part.join(MANIFEST);
        write_atomic(&path, &found)?;
        Bundle::load(&part, &Device::Cpu)?;
        std::fs::rename(&part, folder)
            .with_context(|| format!("{}: cannot write", folder.display()))?;
        tracing::info!("commit {commit}, digest {digest}");
        print(folder.display())
    }
}

/// Where a bundle is until it is whole; the same for the next command, which goes on there.
fn part(folder: &Path) -> PathBuf {
    // Without a slash at the end, which would make it a folder within.
    let mut name = folder.components().as_path().as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}
