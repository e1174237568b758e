//! `eager catalog`: items added to a bundle or removed from it without training, and how well added ones are found.

mod measure;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::Device;
use clap::{Args, Subcommand};
use eager_bundle::{AddConfig, Bundle, NewItems};
use eager_codes::ItemVectors;
use eager_data::Item;
use eager_model::Stream;
use eager_text::{Lsa, Places};

use crate::bundle;
use crate::cli::{DeviceKind, free, print};
use crate::logs::Progress;
use crate::stages::FileBars;
use crate::vectors::Ready;

pub use measure::Measure;

/// Subcommands of `eager catalog`.
#[derive(Debug, Subcommand)]
pub enum Catalog {
    /// A new bundle with further items: codes on the trees as they stand, rows from their nearest neighbours
    Add(Add),
    /// A new bundle without some of the items
    Remove(Remove),
    /// How often added items are found: a run's items held out, added again, and recommended to its test users
    Measure(Measure),
}

/// Items to add.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Add {
    /// The bundle's folder; it stays as it is
    pub bundle: PathBuf,
    /// A JSON Lines file: {"id": "…", "title": "…", "brand": "…", "categories": ["…"], "price": 1.5} a line, as in items.jsonl
    pub items: PathBuf,
    /// The new bundle's folder, which must not be there yet
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Ready-made vectors of the items, `semantic` or `behaviour`: .safetensors, .npy or .parquet
    ///
    /// By id where the file has ids, or the file beside it that ends in .ids.txt (see docs/datasets.md); otherwise a row
    /// is the item of its line.
    #[arg(long, value_name = "STREAM=FILE", value_parser = stream_file)]
    pub vectors: Vec<(Stream, PathBuf)>,
    /// Where the bundle's text encoder is now: a preset or a model folder with the same weights
    #[arg(long, value_name = "NAME|DIR")]
    pub text_encoder: Option<String>,
    /// Children that a node of the trees may have; otherwise as many as in training
    #[arg(long, value_name = "N")]
    pub branching: Option<usize>,
    /// Where the text encoder runs
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceKind,
}

const EXAMPLES: &str = "Examples:
  eager catalog add beauty new.jsonl --out beauty-2
  eager catalog add beauty new.jsonl --out beauty-2 --text-encoder models/all-MiniLM-L6-v2
  eager catalog add beauty new.jsonl --out beauty-2 --vectors semantic=new.safetensors
An item without a behaviour vector takes that of its nearest neighbour in the semantic view. See docs/catalogue.md.";

/// Items to remove.
#[derive(Debug, Args)]
pub struct Remove {
    /// The bundle's folder; it stays as it is
    pub bundle: PathBuf,
    /// A file with an id a line
    #[arg(required_unless_present = "item")]
    pub ids: Option<PathBuf>,
    /// An id; may be given again
    #[arg(long, value_name = "ID", conflicts_with = "ids")]
    pub item: Vec<String>,
    /// The new bundle's folder, which must not be there yet
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

impl Catalog {
    /// Does what was asked for.
    ///
    /// # Errors
    /// [`Usage`](crate::cli::Usage) when something is at `--out`, or there is no such device; when a file cannot be read or
    /// the change cannot be made. Nothing is left behind then.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Add(add) => add.run(),
            Self::Remove(remove) => remove.run(),
            Self::Measure(measure) => measure.run(),
        }
    }
}

impl Add {
    fn run(&self) -> Result<()> {
        free(&self.out)?;
        let device = self.device.open()?;
        let bundle = bundle::load(&self.bundle)?;
        let items = bundle.read_new_items(&self.items)?;
        let ready = |wanted: Stream| -> Result<Option<ItemVectors>> {
            let mut files = self.vectors.iter().filter(|(stream, _)| *stream == wanted);
            let Some((_, path)) = files.next() else {
                return Ok(None);
            };
            if files.next().is_some() {
                bail!("--vectors {}=… is given twice", wanted.name())
            }
            Ok(Some(Ready::read_for(path, &items)?))
        };
        let semantic = match ready(Stream::Semantic)? {
            Some(vectors) => vectors,
            None => self.encode(&bundle, &items, &device)?,
        };
        let new = NewItems {
            behaviour: ready(Stream::Behaviour)?,
            semantic,
            items,
        };
        let config = AddConfig {
            branching: self.branching,
            ..AddConfig::default()
        };
        let changed = bundle.with_items(&new, &config)?;
        tracing::info!(
            "{} items added to {}",
            new.items.len(),
            bundle.items().len()
        );
        save(changed, &self.out)
    }

    /// Semantic vectors of the items by the encoder that made the bundle's.
    fn encode(&self, bundle: &Bundle, items: &[Item], device: &Device) -> Result<ItemVectors> {
        let source = &bundle.manifest().text;
        if source.encoder == Lsa::NAME {
            bail!(
                "the bundle's text encoder is `lsa`, which is fitted on a catalogue and has no vectors for items outside \
                 it; give them with --vectors semantic=FILE, or train with another encoder"
            )
        }
        let texts = source.template.fill_all(items)?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let name = self.text_encoder.as_ref().unwrap_or(&source.encoder);
        let ways = "name the place of the same weights with --text-encoder, or give vectors with --vectors semantic=FILE";
        let mut downloads = FileBars::new("fetching");
        let encoder = eager_text::open(name, &texts, &Places::new(), device, &mut |p| {
            downloads.show(p.what, p.done, p.total);
        })
        .with_context(|| format!("the bundle's text encoder `{name}` cannot be had; {ways}"))?;
        if !source.sha256.is_empty() && encoder.digest() != source.sha256 {
            bail!(
                "text encoder `{name}` has the digest {}, the bundle's vectors were made by `{}` of digest {}; {ways}",
                encoder.digest(),
                source.encoder,
                source.sha256
            )
        }
        let mut progress = Progress::new("texts", texts.len() as u64, 0);
        let vectors = encoder.encode(&texts, &mut |done| progress.set(done as u64))?;
        progress.finish();
        Ok(ItemVectors {
            dim: encoder.dim(),
            data: vectors.flatten_all()?.to_vec1()?,
        })
    }
}

impl Remove {
    fn run(&self) -> Result<()> {
        free(&self.out)?;
        let bundle = bundle::load(&self.bundle)?;
        let items = match &self.ids {
            Some(path) => bundle.read_ids(path)?,
            None => {
                for (place, id) in self.item.iter().enumerate() {
                    ensure!(
                        !self.item[..place].contains(id),
                        "--item {id}: is given twice; give each id once"
                    );
                }
                bundle.numbers(&self.item)?
            }
        };
        let changed = bundle.without_items(&items)?;
        tracing::info!(
            "{} items left of {}",
            changed.items().len(),
            bundle.items().len()
        );
        save(changed, &self.out)
    }
}

fn save(mut bundle: Bundle, out: &Path) -> Result<()> {
    bundle.save(out)?;
    tracing::info!(
        "revision {}, digest {}",
        bundle.manifest().revision,
        bundle.digest()
    );
    print(out.display())
}

fn stream_file(text: &str) -> std::result::Result<(Stream, PathBuf), String> {
    let named = text.split_once('=').and_then(|(name, file)| {
        let stream = Stream::ALL
            .into_iter()
            .find(|stream| stream.name() == name)?;
        (!file.is_empty()).then(|| (stream, PathBuf::from(file)))
    });
    named.ok_or_else(|| "expected semantic=FILE or behaviour=FILE".to_owned())
}
