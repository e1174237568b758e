//! The data of every job: Amazon Beauty, prepared as the pipeline does, with item vectors and codes.
//!
//! Of a run's folder where one is given. Otherwise the vectors are random projections, made in a second where DIN and
//! Sentence-T5 take minutes: of the users who met an item (behaviour, 128 wide) and of the words of its text (semantic, 768
//! wide). Codes are clustered from them with the `paper` settings, so that the trees have a real shape.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::{Device, Tensor};
use eager_codes::{CodeTrie, CodesConfig, ItemCodes, ItemVectors};
use eager_data::{Dataset, Manifest, Places, Split};
use eager_model::{PerStream, Stream};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Everything that is drawn follows from it.
pub const SEED: u64 = 2024;

/// The dataset with its items' vectors and codes.
pub struct Beauty {
    pub dataset: Dataset,
    pub split: Split,
    pub vectors: PerStream<ItemVectors>,
    pub codes: PerStream<ItemCodes>,
    /// Where vectors and codes come from, for the notes.
    pub origin: String,
}

impl Beauty {
    /// From a folder of datasets (or the cache), and for vectors and codes a run's folder where one is given.
    pub fn load(data_dir: Option<&Path>, run: Option<&Path>) -> Result<Self> {
        let manifest = Manifest::find("amazon-beauty")?;
        let places = Places::new(data_dir);
        let prepare = &manifest.prepare;
        let dataset = Dataset::from_manifest(&manifest, prepare, &places, &mut |_| {})?;
        let split = Split::new(&dataset)?;
        let (vectors, codes) = match run {
            Some(run) => of_run(run)?,
            None => {
                let texts = dataset.item_texts(&manifest.text)?;
                let vectors = PerStream {
                    behaviour: projected(&users(&split), 128, SEED),
                    semantic: projected(&words(&texts), 768, SEED + 1),
                };
                let config = CodesConfig::default();
                let codes = PerStream::try_from_fn(|stream| {
                    anyhow::Ok(ItemCodes::build(vectors[stream].checked()?, &config, SEED)?)
                })?;
                (vectors, codes)
            }
        };
        let mut origin = match run {
            Some(_) => "Item vectors and codes are those of a pipeline run".to_owned(),
            None => {
                "Item vectors are random projections of users and of words, codes are clustered \
                from them with the `paper` settings"
                    .to_owned()
            }
        };
        for stream in Stream::ALL {
            let trie = CodeTrie::new(&codes[stream])?;
            let nodes: Vec<usize> = (0..=trie.levels()).map(|l| trie.level(l).len()).collect();
            origin += &format!("; {} tree, nodes by level: {nodes:?}", stream.name());
        }
        Ok(Self {
            dataset,
            split,
            vectors,
            codes,
            origin,
        })
    }

    /// The items' vectors as tensors.
    pub fn tensors(&self) -> Result<PerStream<Tensor>> {
        PerStream::try_from_fn(|stream| {
            let vectors = &self.vectors[stream];
            let shape = (vectors.items(), vectors.dim);
            Ok(Tensor::from_slice(&vectors.data, shape, &Device::Cpu)?)
        })
    }
}

fn of_run(run: &Path) -> Result<(PerStream<ItemVectors>, PerStream<ItemCodes>)> {
    let missing = || {
        format!(
            "--run {}: expected the folder of a run with stage `codes` done (eager pipeline amazon-beauty --until codes)",
            run.display()
        )
    };
    let vectors = PerStream::try_from_fn(|stream| {
        let stage = match stream {
            Stream::Behaviour => "behaviour",
            Stream::Semantic => "text",
        };
        ItemVectors::load(&run.join(stage).join("vectors.safetensors")).with_context(missing)
    })?;
    let codes = PerStream::try_from_fn(|stream| {
        let file = format!("codes/{}.safetensors", stream.name());
        ItemCodes::load(&run.join(file)).with_context(missing)
    })?;
    Ok((vectors, codes))
}

/// An item's features by number, with their weights.
type Features = Vec<Vec<(u64, f32)>>;

/// The users who met an item.
fn users(split: &Split) -> Features {
    let mut features = vec![vec![]; split.n_items()];
    for user in 0..split.n_users() {
        for item in split.train(user) {
            features[item.index()].push((user as u64, 1.0));
        }
    }
    features
}

/// The words of a text, the rarer the heavier (TF-IDF).
fn words(texts: &[String]) -> Features {
    let mut numbers: HashMap<String, u64> = HashMap::new();
    let mut counts: Vec<f32> = vec![];
    let texts: Vec<Vec<u64>> = texts
        .iter()
        .map(|text| {
            let lower = text.to_lowercase();
            let words = lower.split(|c: char| !c.is_alphanumeric());
            let words = words.filter(|word| !word.is_empty());
            let text: Vec<u64> = words
                .map(|word| {
                    let next = numbers.len() as u64;
                    *numbers.entry(word.to_owned()).or_insert(next)
                })
                .collect();
            counts.resize(numbers.len(), 0.0);
            for &word in &text.iter().copied().collect::<HashSet<_>>() {
                counts[word as usize] += 1.0;
            }
            text
        })
        .collect();
    let n = texts.len() as f32;
    let weigh = |word| (word, (n / counts[word as usize]).ln());
    let text = |text: Vec<u64>| text.into_iter().map(weigh).collect();
    texts.into_iter().map(text).collect()
}

/// Unit rows: the weighted sum of a random vector of ±1 for each of an item's features (Achlioptas 2003).
fn projected(features: &Features, dim: usize, seed: u64) -> ItemVectors {
    let mut data = Vec::with_capacity(features.len() * dim);
    let mut bits = vec![0u8; dim.div_ceil(8)];
    for features in features {
        let mut row = vec![0f32; dim];
        for &(feature, weight) in features {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(feature);
            rng.fill_bytes(&mut bits);
            for (i, x) in row.iter_mut().enumerate() {
                let sign = bits[i / 8] >> (i % 8) & 1;
                *x += if sign == 0 { weight } else { -weight };
            }
        }
        unit(&mut row);
        data.extend(row);
    }
    // Centred, or what all items have in common would make few clusters large and the tree deep.
    let n = features.len() as f32;
    let mut mean = vec![0f32; dim];
    for row in data.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / n);
    }
    for row in data.chunks_exact_mut(dim) {
        row.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m);
        unit(row);
    }
    ItemVectors { dim, data }
}

/// Scales to length 1, but for 0.
fn unit(row: &mut [f32]) {
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        row.iter_mut().for_each(|x| *x /= norm);
    }
}
