//! What both sides are given: one safetensors file, the settings as JSON in its metadata.
//!
//! Names of tensors: `weights/<parameter>`, `vectors/<stream>` and `codes/<stream>` `[items, …]`; for sides that do not know
//! our trie `paths/<stream>` `[items, levels]` and `children/<stream>` `[nodes + 1]`, the first child of every node; and what
//! a job adds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};
use clap::ValueEnum;
use eager::cli;
use eager::train::generator::TrainingConfig;
use eager::train::objective::Items;
use eager::train::shards::Shards;
use eager_codes::{CodeTrie, ItemCodes};
use eager_infer::InferConfig;
use eager_losses::LossConfig;
use eager_model::{Catalogue, Eager, EagerConfig, PerStream, Stream, Weights};
use safetensors::SafeTensors;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The metadata's entry.
const SETTINGS: &str = "settings";

/// Tensors by name.
pub type Tensors = HashMap<String, Tensor>;

/// Where a training step is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor
    Cpu,
    /// The first NVIDIA GPU
    Cuda,
}

impl DeviceKind {
    /// Opens the device, as the `eager` command does.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => cli::DeviceKind::Cpu.open(),
            Self::Cuda => cli::DeviceKind::Cuda.open(),
        }
    }

    /// How ours cuts a batch there.
    pub fn shards(self, threads: usize) -> Result<Shards> {
        match self {
            Self::Cpu => Shards::with_workers(threads),
            Self::Cuda => Ok(Shards::whole()),
        }
    }
}

/// Updates on given batches.
#[derive(Serialize, Deserialize)]
pub struct Train {
    pub model: EagerConfig,
    pub losses: LossConfig,
    pub training: TrainingConfig,
    pub seed: u64,
    /// The prepared dataset, which our side makes its batches of.
    pub data: PathBuf,
    /// Updates a round.
    pub steps: usize,
    pub threads: usize,
    pub device: DeviceKind,
}

/// Recommendations for given histories.
#[derive(Serialize, Deserialize)]
pub struct Search {
    pub model: EagerConfig,
    pub infer: InferConfig,
    /// Items recommended to each.
    pub top: usize,
    /// The first so many histories' lists are compared.
    pub checked: usize,
    pub threads: usize,
}

/// One k-means of `points` from `start`.
#[derive(Serialize, Deserialize)]
pub struct Kmeans {
    /// Iterations to convergence, for peers that have no other end.
    pub iterations: usize,
    pub threads: usize,
}

/// Texts to vectors.
#[derive(Serialize, Deserialize)]
pub struct Text {
    /// Model folder.
    pub encoder: PathBuf,
    pub texts: Vec<String>,
    /// The first so many texts' vectors are compared.
    pub checked: usize,
    pub threads: usize,
}

/// Writes a workload.
pub fn save(path: &Path, settings: &impl Serialize, tensors: &Tensors) -> Result<()> {
    let metadata = HashMap::from([(SETTINGS.to_owned(), serde_json::to_string(settings)?)]);
    safetensors::serialize_to_file(tensors.iter(), Some(metadata), path)
        .with_context(|| format!("{}: cannot write", path.display()))
}

/// Reads a workload.
pub fn load<S: DeserializeOwned>(path: &Path) -> Result<(S, Tensors)> {
    let named = || format!("{}: not a workload of this program", path.display());
    let bytes = std::fs::read(path).with_context(named)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).with_context(named)?;
    let settings = header.metadata().as_ref().and_then(|m| m.get(SETTINGS));
    let settings = serde_json::from_str(settings.with_context(named)?).with_context(named)?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    Ok((settings, tensors))
}

/// A tensor of the workload, taken out.
pub fn take(tensors: &mut Tensors, name: &str) -> Result<Tensor> {
    let tensor = tensors.remove(name);
    tensor.with_context(|| format!("the workload has no `{name}`"))
}

/// The same as numbers, row-major.
pub fn take_ids(tensors: &mut Tensors, name: &str) -> Result<Vec<u32>> {
    Ok(take(tensors, name)?.flatten_all()?.to_vec1()?)
}

/// Ids as a tensor of one row each `width`.
pub fn ids(values: Vec<u32>, width: usize) -> Result<Tensor> {
    let rows = values.len() / width;
    Ok(Tensor::from_vec(values, (rows, width), &Device::Cpu)?)
}

/// The items' codes and vectors, as a workload has them.
pub fn put_items(
    tensors: &mut Tensors,
    codes: &PerStream<ItemCodes>,
    vectors: &PerStream<Tensor>,
) -> Result<()> {
    for stream in Stream::ALL {
        let (name, codes) = (stream.name(), &codes[stream]);
        let trie = CodeTrie::new(codes)?;
        let (items, levels) = (0..codes.n_items() as u32, codes.levels());
        let own: Vec<u32> = items.clone().flat_map(|i| codes.code(i)).copied().collect();
        let paths = items.flat_map(|i| trie.path(i)).copied().collect();
        let mut children: Vec<u32> = (0..trie.n_nodes() as u32)
            .map(|node| trie.children(node).start)
            .collect();
        children.push(trie.n_nodes() as u32);
        tensors.extend([
            (format!("codes/{name}"), ids(own, levels)?),
            (format!("paths/{name}"), ids(paths, levels)?),
            (format!("children/{name}"), ids(children, 1)?.squeeze(1)?),
            (format!("vectors/{name}"), vectors[stream].clone()),
        ]);
    }
    Ok(())
}

/// The items' codes and vectors out of a workload.
pub fn take_items(tensors: &mut Tensors) -> Result<(Items, PerStream<ItemCodes>)> {
    let codes = PerStream::try_from_fn(|stream| {
        let codes = take(tensors, &format!("codes/{}", stream.name()))?;
        let levels = codes.dim(1)?;
        let codes = codes.flatten_all()?.to_vec1()?;
        anyhow::Ok(ItemCodes::new(levels, codes, vec![], vec![])?)
    })?;
    let items = Items {
        tries: PerStream::try_from_fn(|stream| CodeTrie::new(&codes[stream]))?,
        vectors: PerStream::try_from_fn(|stream| {
            take(tensors, &format!("vectors/{}", stream.name()))
        })?,
    };
    Ok((items, codes))
}

/// Weights out of a workload, by their parameters' names.
pub fn take_weights(tensors: &mut Tensors) -> Tensors {
    let names: Vec<String> = tensors.keys().cloned().collect();
    let weight = |name: String| {
        let own = name.strip_prefix("weights/")?.to_owned();
        Some((own, tensors.remove(&name)?))
    };
    names.into_iter().filter_map(weight).collect()
}

/// The model of a configuration over the items.
pub fn model(config: &EagerConfig, items: &Items, weights: Weights) -> Result<Eager> {
    let catalogue = Catalogue {
        tries: PerStream::from_fn(|stream| &items.tries[stream]),
        dims: PerStream::try_from_fn(|stream| items.vectors[stream].dim(1))?,
    };
    Ok(Eager::new(config, &catalogue, weights)?)
}

/// Weights drawn from `seed`, into the workload.
pub fn put_weights(
    tensors: &mut Tensors,
    config: &EagerConfig,
    items: &Items,
    seed: u64,
) -> Result<()> {
    let model = model(config, items, Weights::random(seed, &Device::Cpu))?;
    for (name, tensor) in model.parameters().tensors() {
        debug_assert_eq!(tensor.dtype(), DType::F32);
        tensors.insert(format!("weights/{name}"), tensor);
    }
    Ok(())
}
