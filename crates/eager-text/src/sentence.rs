//! Sentence encoders: a T5 or BERT encoder, pooling, dense layers, L2 norm (Sentence-T5, Ni et al.
//! 2022, is the paper's semantic encoder; all-MiniLM is the BERT family's).
//!
//! Texts go through the transformer in batches of one exact length, so that no mask is needed; all is
//! computed in f32 whatever the weights are stored in. Nothing is trained.

use std::path::Path;

use candle_core::{D, Device, IndexOp, Tensor};
use candle_nn::{Linear, Module};

use crate::batches;
use crate::bert::Bert;
use crate::error::{Result, TextError};
use crate::layout::{Activation, Architecture, Head, Layout, Pooling};
use crate::t5::T5;
use crate::tokens::Tokens;
use crate::{TextEncoder, digest, weights};

/// Tokens of one batch on the CPU: enough to pay for packing the weights, small enough that the
/// widest activation (12 MB at MiniLM's 1,536) does not outgrow the caches by much.
const CPU_BATCH_TOKENS: usize = 1024;
/// Tokens of one batch on a GPU, where large products pay.
const GPU_BATCH_TOKENS: usize = 16_384;

/// A model in the sentence-transformers layout, ready to encode.
///
/// ```no_run
/// # fn main() -> Result<(), eager_text::TextError> {
/// use eager_text::{SentenceEncoder, TextEncoder};
/// let encoder = SentenceEncoder::open("models/all-MiniLM-L6-v2".as_ref(), &candle_core::Device::Cpu)?;
/// let vectors = encoder.encode(&["nail lacquer", "lip gloss"], &mut |_| {})?; // [2, 384]
/// # Ok(()) }
/// ```
pub struct SentenceEncoder {
    name: String,
    digest: String,
    dim: usize,
    max_tokens: usize,
    tokens: Tokens,
    transformer: Transformer,
    pooling: Pooling,
    head: Vec<HeadLayer>,
    device: Device,
}

enum Transformer {
    T5(T5),
    Bert(Bert),
}

enum HeadLayer {
    Dense(Linear, Activation),
    Normalize,
}

impl SentenceEncoder {
    /// Loads the model in `folder` onto `device`; its name is the folder's.
    ///
    /// The folder is laid out as sentence-transformers writes it: `modules.json`, the transformer
    /// (`config.json` with `model_type` `t5` or `bert`, `tokenizer.json`, `sentence_bert_config.json`,
    /// `model.safetensors`), `1_Pooling/config.json`, and for a dense layer `2_Dense/` with
    /// `config.json` and `model.safetensors`. A missing final `Normalize` module is added, because a
    /// [`TextEncoder`] gives unit rows.
    ///
    /// # Errors
    /// When a file is missing, damaged, or asks for what this crate does not compute.
    pub fn open(folder: &Path, device: &Device) -> Result<Self> {
        let name = folder
            .canonicalize()
            .ok()
            .unwrap_or_else(|| folder.to_path_buf());
        let name = name
            .file_name()
            .map_or("model".into(), |n| n.to_string_lossy().into_owned());
        Self::open_as(name, folder, device, None)
    }

    /// As [`SentenceEncoder::open`], under the given name; the transformer's weights must have the given sha256.
    pub(crate) fn open_as(
        name: String,
        folder: &Path,
        device: &Device,
        weights_sha256: Option<&str>,
    ) -> Result<Self> {
        let layout = Layout::read(folder)?;
        let digest = digest::of_folder(folder, &layout, weights_sha256)?;
        let dir = &layout.transformer;
        let vocabulary = layout.architecture.vocabulary();
        let tokens = Tokens::read(dir, layout.max_tokens, layout.lower_case, vocabulary)?;

        let weights_path = weights::locate(dir)?;
        let vb = weights::load(&weights_path, device)?;
        let transformer = match &layout.architecture {
            Architecture::T5(config) => T5::load(vb, config).map(Transformer::T5),
            Architecture::Bert(config) => Bert::load(vb, config).map(Transformer::Bert),
        }
        .map_err(TextError::weights(&weights_path))?;

        let mut head = Vec::new();
        for module in &layout.head {
            head.push(HeadLayer::load(module, device)?);
        }
        if !matches!(head.last(), Some(HeadLayer::Normalize)) {
            head.push(HeadLayer::Normalize);
        }
        Ok(Self {
            name,
            digest,
            dim: layout.dim(),
            max_tokens: layout.max_tokens,
            tokens,
            transformer,
            pooling: layout.pooling,
            head,
            device: device.clone(),
        })
    }

    /// The most tokens of a text that are read, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The token ids that `texts` become: truncated to [`SentenceEncoder::max_tokens`], with special
    /// tokens, without padding.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn token_ids(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        self.tokens.ids(texts)
    }

    /// Vectors of texts that all have `length` tokens. `ids` [batch * length]; out: [batch, dim].
    fn forward(&self, ids: Vec<u32>, length: usize) -> Result<Tensor> {
        let batch = ids.len() / length;
        let ids = Tensor::from_vec(ids, (batch, length), &self.device)?;
        let hidden = match &self.transformer {
            Transformer::T5(model) => model.forward(&ids)?,
            Transformer::Bert(model) => model.forward(&ids)?,
        }; // [batch, length, width]
        let mut x = match self.pooling {
            Pooling::Mean => hidden.mean(1)?,
            Pooling::Cls => hidden.i((.., 0))?.contiguous()?,
        }; // [batch, width]
        for layer in &self.head {
            x = layer.forward(&x)?;
        }
        Ok(x)
    }
}

impl HeadLayer {
    fn load(module: &Head, device: &Device) -> Result<Self> {
        let Head::Dense {
            dir,
            inputs,
            outputs,
            bias,
            activation,
        } = module
        else {
            return Ok(Self::Normalize);
        };
        let path = weights::locate(dir)?;
        let vb = weights::load(&path, device)?.pp("linear");
        let linear = if *bias {
            candle_nn::linear(*inputs, *outputs, vb)
        } else {
            candle_nn::linear_no_bias(*inputs, *outputs, vb)
        };
        Ok(Self::Dense(
            linear.map_err(TextError::weights(&path))?,
            *activation,
        ))
    }

    /// `x` [batch, inputs] to [batch, outputs].
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Dense(linear, Activation::Identity) => linear.forward(x)?,
            Self::Dense(linear, Activation::Tanh) => linear.forward(x)?.tanh()?,
            Self::Normalize => {
                // The floor is PyTorch's `normalize`.
                let norm = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
                x.broadcast_div(&norm)?
            }
        })
    }
}

impl TextEncoder for SentenceEncoder {
    fn name(&self) -> &str {
        &self.name
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn encode(&self, texts: &[&str], progress: &mut dyn FnMut(usize)) -> Result<Tensor> {
        let ids = self.tokens.ids(texts)?;
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let (tokens, workers) = match self.device {
            Device::Cpu => (CPU_BATCH_TOKENS, rayon::current_num_threads()),
            _ => (GPU_BATCH_TOKENS, 1),
        };
        let batches = batches::by_length(&lengths, tokens);
        let mut rows = vec![0f32; texts.len() * self.dim];
        let mut done = 0;
        let work = |job: usize| -> Result<Vec<f32>> {
            let batch = &batches[job];
            let joined = batch.iter().flat_map(|&i| ids[i].iter().copied()).collect();
            Ok(self
                .forward(joined, lengths[batch[0]])?
                .flatten_all()?
                .to_vec1()?)
        };
        batches::run(batches.len(), workers, work, |job, vectors: Vec<f32>| {
            for (&i, vector) in batches[job].iter().zip(vectors.chunks_exact(self.dim)) {
                if !vector.iter().all(|x| x.is_finite()) {
                    return Err(TextError::NotFiniteVector {
                        encoder: self.name.clone(),
                        index: i,
                        text: texts[i].chars().take(60).collect(),
                    });
                }
                rows[i * self.dim..][..self.dim].copy_from_slice(vector);
            }
            done += batches[job].len();
            progress(done);
            Ok(())
        })?;
        Ok(Tensor::from_vec(
            rows,
            (texts.len(), self.dim),
            &Device::Cpu,
        )?)
    }
}
