//! Stage `text`: semantic vectors of the items (paper: Sentence-T5 over the item's text), in `vectors.safetensors`.

use std::path::Path;

use anyhow::{Context as _, Result};
use eager_codes::ItemVectors;
use eager_data::digest::sha256_file;
use eager_data::{Dataset, TextTemplate};
use eager_text::{TextEncoder, encode_cached};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::{Context, FileBars};
use crate::logs::Progress;
use crate::run::{Run, Stage, StageRecord};
use crate::vectors::{self, Ready};

/// The stage's settings, as its record keeps them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The encoder as it was named.
    pub encoder: String,
    /// How an item becomes text.
    pub template: TextTemplate,
}

/// Which encoder made vectors: the metadata entry `encoder` of the file, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Origin {
    /// The encoder's own name.
    pub name: String,
    /// Digest of its weights.
    pub sha256: String,
}

/// The encoder that made a run's semantic vectors, as the vectors' file has it.
///
/// # Errors
/// When the file cannot be read, or says nothing of it.
pub fn origin(folder: &Path) -> Result<Origin> {
    let path = folder.join("vectors.safetensors");
    let named = || format!("{}: cannot read the encoder's name", path.display());
    let bytes = std::fs::read(&path).with_context(named)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).with_context(named)?;
    let origin = header.metadata().as_ref().and_then(|m| m.get("encoder"));
    serde_json::from_str(origin.with_context(named)?).with_context(named)
}

/// Encodes the items' texts, unless that is done.
///
/// A preset's name stands for its pinned weights, and `lsa` for what it makes of the data. A model folder can change under
/// its name, so that its digest is an input of the stage and it has to be there even where the stage is skipped. So can
/// ready-made vectors, which take the encoder's place; no item needs a text then.
///
/// # Errors
/// When an item has no text, the encoder cannot be had or fails, or the vectors cannot be written.
pub fn run(run: &Run, ctx: &Context, data: &StageRecord, dataset: &Dataset) -> Result<StageRecord> {
    if let Some(path) = &ctx.config.text.vectors {
        return ready(run, ctx, data, dataset, path);
    }
    let template = &ctx.manifest.text;
    let name = ctx.config.text.encoder.as_str();
    let texts = dataset.item_texts(template)?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut encoder = None;
    let mut extra = Vec::new();
    if Path::new(name).is_dir() {
        let opened = open(ctx, name, &texts)?;
        extra.push(("encoder", opened.digest().to_owned()));
        encoder = Some(opened);
    }
    let settings = Settings {
        encoder: name.to_owned(),
        template: template.clone(),
    };
    let (record, _) = run.stage(Stage::Text, &settings, 0, &[data], &extra, |folder| {
        let encoder = match encoder {
            Some(encoder) => encoder,
            None => open(ctx, name, &texts)?,
        };
        let mut progress = Progress::new("texts", texts.len() as u64, 0);
        let vectors = encode_cached(&*encoder, &texts, &text_places(ctx), &mut |done| {
            progress.set(done as u64);
        })?;
        progress.finish();
        let origin = Origin {
            name: encoder.name().to_owned(),
            sha256: encoder.digest().to_owned(),
        };
        let vectors = ItemVectors {
            dim: encoder.dim(),
            data: vectors.flatten_all()?.to_vec1()?,
        };
        let origin = Some(("encoder", serde_json::to_string(&origin)?));
        Ok(vectors.save(&folder.join("vectors.safetensors"), origin)?)
    })?;
    Ok(record)
}

/// Vectors from elsewhere; the file stands for the encoder.
fn ready(
    run: &Run,
    ctx: &Context,
    data: &StageRecord,
    dataset: &Dataset,
    path: &Path,
) -> Result<StageRecord> {
    let path = vectors::find(path, ctx)?;
    let origin = Origin {
        name: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        sha256: sha256_file(&path)?,
    };
    let settings = Settings {
        encoder: origin.name.clone(),
        template: ctx.manifest.text.clone(),
    };
    let digest = [("vectors", origin.sha256.clone())];
    let (record, _) = run.stage(Stage::Text, &settings, 0, &[data], &digest, |folder| {
        let vectors = Ready::read(&path)?.of_items(&dataset.items)?;
        let origin = Some(("encoder", serde_json::to_string(&origin)?));
        Ok(vectors.save(&folder.join("vectors.safetensors"), origin)?)
    })?;
    Ok(record)
}

fn open(ctx: &Context, name: &str, texts: &[&str]) -> Result<Box<dyn TextEncoder>> {
    let mut downloads = FileBars::new("fetching");
    let places = text_places(ctx);
    let opened = eager_text::open(name, texts, &places, &ctx.device, &mut |p| {
        downloads.show(p.what, p.done, p.total);
    });
    opened.with_context(|| format!("text encoder `{name}`"))
}

/// One cache folder for datasets and texts.
fn text_places(ctx: &Context) -> eager_text::Places {
    eager_text::Places {
        cache: ctx.places.cache.clone(),
    }
}
