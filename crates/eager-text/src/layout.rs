//! A model folder in the sentence-transformers layout: what `modules.json` and the small JSON files
//! beside it say, checked and turned into types.
//!
//! Only what the item encoders need is read: a `t5` or `bert` transformer, one pooling, then dense
//! and normalising modules in any number. Everything else is refused by name. No weights are read.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Result, TextError};

/// How the token vectors of a text become one vector.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The mean over all tokens, special tokens included.
    Mean,
    /// The first token's vector.
    Cls,
}

/// What a [`Head::Dense`] applies after its product.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Identity,
    Tanh,
}

/// A module after the pooling, in the order of `modules.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Dense {
        dir: PathBuf,
        inputs: usize,
        outputs: usize,
        bias: bool,
        activation: Activation,
    },
    Normalize,
}

/// The transformer's family, with its `config.json`.
#[derive(Clone, Debug)]
pub(crate) enum Architecture {
    T5(candle_transformers::models::t5::Config),
    Bert(candle_transformers::models::bert::Config),
}

/// A model folder, read but for tokenizer and weights.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Where the transformer's files are.
    pub transformer: PathBuf,
    pub architecture: Architecture,
    /// The longest token sequence, special tokens included; what is beyond is cut off.
    pub max_tokens: usize,
    /// Texts are lower-cased before they are tokenised.
    pub lower_case: bool,
    pub pooling: Pooling,
    /// The file that names the pooling.
    pub pooling_config: PathBuf,
    pub head: Vec<Head>,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// `sentence_bert_config.json`; the file and each of its fields may be absent.
#[derive(Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

/// `1_Pooling/config.json`: a flag for every mode, or since sentence-transformers 5 its name.
#[derive(Deserialize)]
struct PoolingConfig {
    pooling_mode: Option<serde_json::Value>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// `2_Dense/config.json`; the defaults are those of the `Dense` module's constructor.
#[derive(Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    activation_function: Option<String>,
    #[serde(default)]
    use_residual: bool,
}

fn yes() -> bool {
    true
}

impl Layout {
    /// Reads a model folder's description.
    ///
    /// # Errors
    /// When a file is missing or malformed, or asks for what this crate does not compute.
    pub fn read(folder: &Path) -> Result<Self> {
        let modules_path = folder.join("modules.json");
        let modules: Vec<Module> = read_json(
            &modules_path,
            "a model folder in the sentence-transformers layout names its modules there",
        )?;
        let unsupported = |found: String| TextError::Unsupported {
            path: modules_path.clone(),
            found,
            supported: "Transformer, Pooling, then Dense and Normalize modules",
        };
        let mut kinds = modules.iter().map(|m| {
            let name = m.kind.strip_prefix("sentence_transformers.");
            let last = name.and_then(|n| n.rsplit('.').next()).unwrap_or(&m.kind);
            (last.to_owned(), folder.join(&m.path))
        });

        let transformer = match kinds.next() {
            Some((kind, dir)) if kind == "Transformer" => dir,
            other => return Err(unsupported(format!("{} as first module", named(other)))),
        };
        let (pooling, pooling_config) = match kinds.next() {
            Some((kind, dir)) if kind == "Pooling" => read_pooling(&dir)?,
            other => return Err(unsupported(format!("{} as second module", named(other)))),
        };
        let mut head = Vec::new();
        for (kind, dir) in kinds {
            head.push(match kind.as_str() {
                "Dense" => read_dense(dir)?,
                "Normalize" => Head::Normalize, // its folder need not exist
                _ => return Err(unsupported(format!("module `{kind}`"))),
            });
        }

        refuse_default_prompt(folder)?;
        let architecture = read_architecture(&transformer)?;
        let (max_tokens, lower_case) = read_limits(&transformer, &architecture)?;
        let layout = Self {
            transformer,
            architecture,
            max_tokens,
            lower_case,
            pooling,
            pooling_config,
            head,
        };
        layout.check_widths(&modules_path)?;
        Ok(layout)
    }

    /// Width of the vectors that come out.
    pub fn dim(&self) -> usize {
        let dense = self.head.iter().rev().find_map(|h| match h {
            Head::Dense { outputs, .. } => Some(*outputs),
            Head::Normalize => None,
        });
        dense.unwrap_or_else(|| self.architecture.width())
    }

    fn check_widths(&self, path: &Path) -> Result<()> {
        let mut width = self.architecture.width();
        for module in &self.head {
            if let Head::Dense {
                dir,
                inputs,
                outputs,
                ..
            } = module
            {
                if *inputs != width {
                    return Err(TextError::Inconsistent {
                        path: path.to_path_buf(),
                        problem: format!(
                            "{} takes vectors of width {inputs}, the module before it gives {width}",
                            dir.display()
                        ),
                    });
                }
                width = *outputs;
            }
        }
        Ok(())
    }
}

impl Architecture {
    /// Width of the token vectors.
    pub fn width(&self) -> usize {
        match self {
            Self::T5(config) => config.d_model,
            Self::Bert(config) => config.hidden_size,
        }
    }

    /// The number of rows of the token table.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::T5(config) => config.vocab_size,
            Self::Bert(config) => config.vocab_size,
        }
    }
}

fn named(module: Option<(String, PathBuf)>) -> String {
    module.map_or("nothing".to_owned(), |(kind, _)| format!("`{kind}`"))
}

/// Reads `path` as JSON; `why` says who needs it.
fn read_json<T: DeserializeOwned>(path: &Path, why: &str) -> Result<T> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(TextError::Missing {
                path: path.to_path_buf(),
                why: why.to_owned(),
            });
        }
        Err(e) => return Err(TextError::io("read", path)(e)),
    };
    serde_json::from_str(&text).map_err(|source| TextError::Json {
        path: path.to_path_buf(),
        source,
    })
}

/// As [`read_json`], but `None` where the file is absent.
fn read_optional_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if path.exists() {
        read_json(path, "it was there a moment ago").map(Some)
    } else {
        Ok(None)
    }
}

fn read_pooling(dir: &Path) -> Result<(Pooling, PathBuf)> {
    const SUPPORTED: &str = "`mean` or `cls`, one of them alone";
    let path = dir.join("config.json");
    let config: PoolingConfig = read_json(&path, "modules.json names a Pooling module there")?;
    let mode = match config.pooling_mode {
        Some(serde_json::Value::String(mode)) => mode,
        Some(other) => {
            let found = format!("pooling_mode {other}");
            return Err(TextError::Unsupported {
                path,
                found,
                supported: SUPPORTED,
            });
        }
        None => {
            let on = |(key, value): (&String, &serde_json::Value)| {
                value
                    .as_bool()?
                    .then(|| key.strip_prefix("pooling_mode_"))?
                    .map(str::to_owned)
            };
            config
                .rest
                .iter()
                .filter_map(on)
                .collect::<Vec<_>>()
                .join(" + ")
        }
    };
    match mode.as_str() {
        "mean" | "mean_tokens" => Ok((Pooling::Mean, path)),
        "cls" | "cls_token" => Ok((Pooling::Cls, path)),
        other => {
            let found = format!("pooling `{other}`");
            Err(TextError::Unsupported {
                path,
                found,
                supported: SUPPORTED,
            })
        }
    }
}

fn read_dense(dir: PathBuf) -> Result<Head> {
    let path = dir.join("config.json");
    let config: DenseConfig = read_json(&path, "modules.json names a Dense module there")?;
    if config.use_residual {
        let found = "a residual connection".to_owned();
        return Err(TextError::Unsupported {
            path,
            found,
            supported: "a plain linear layer",
        });
    }
    // The constructor's default activation is tanh.
    let name = config.activation_function.as_deref().unwrap_or("Tanh");
    let activation = match name.rsplit('.').next().unwrap_or(name) {
        "Identity" => Activation::Identity,
        "Tanh" => Activation::Tanh,
        _ => {
            let found = format!("activation `{name}`");
            return Err(TextError::Unsupported {
                path,
                found,
                supported: "Identity or Tanh",
            });
        }
    };
    let (inputs, outputs, bias) = (config.in_features, config.out_features, config.bias);
    Ok(Head::Dense {
        dir,
        inputs,
        outputs,
        bias,
        activation,
    })
}

fn read_architecture(dir: &Path) -> Result<Architecture> {
    let path = dir.join("config.json");
    let config: serde_json::Value = read_json(&path, "the transformer's shape is read from it")?;
    let model_type = config
        .get("model_type")
        .and_then(|m| m.as_str())
        .unwrap_or("none")
        .to_owned();
    let json = |source| TextError::Json {
        path: path.clone(),
        source,
    };
    match model_type.as_str() {
        "t5" => Ok(Architecture::T5(
            serde_json::from_value(config).map_err(json)?,
        )),
        "bert" => Ok(Architecture::Bert(
            serde_json::from_value(config).map_err(json)?,
        )),
        other => Err(TextError::Unsupported {
            path: path.clone(),
            found: format!("model_type `{other}`"),
            supported: "`t5` or `bert`",
        }),
    }
}

/// The longest token sequence: `max_seq_length`, else the tokenizer's `model_max_length`, capped by
/// the position table (the rule of sentence-transformers); and whether texts are lower-cased.
fn read_limits(dir: &Path, architecture: &Architecture) -> Result<(usize, bool)> {
    #[derive(Deserialize)]
    struct TokenizerConfig {
        model_max_length: Option<f64>, // transformers writes 1e30 for "none"
    }
    let path = dir.join("sentence_bert_config.json");
    let config: SentenceConfig = read_optional_json(&path)?.unwrap_or_default();
    let tokenizer: Option<TokenizerConfig> =
        read_optional_json(&dir.join("tokenizer_config.json"))?;
    let positions = match architecture {
        Architecture::Bert(config) => Some(config.max_position_embeddings),
        Architecture::T5(_) => None, // relative positions
    };
    let stated = config.max_seq_length.or_else(|| {
        let length = tokenizer
            .and_then(|t| t.model_max_length)
            .filter(|l| (1.0..1e6).contains(l));
        length.map(|l| l as usize).or(positions)
    });
    let Some(max_tokens) = stated else {
        let why = "neither it nor tokenizer_config.json says how many tokens a text may have; \
                   write {\"max_seq_length\": 256} into it";
        return Err(TextError::Missing {
            path,
            why: why.to_owned(),
        });
    };
    let most = positions.unwrap_or(usize::MAX);
    // Two special tokens and one of the text.
    if max_tokens < 3 || (config.max_seq_length.is_some() && max_tokens > most) {
        return Err(TextError::Inconsistent {
            path,
            problem: format!("max_seq_length is {max_tokens}, expected 3 to {most}"),
        });
    }
    Ok((max_tokens.min(most), config.do_lower_case))
}

/// A prompt that the model's authors put before every text would change every vector.
fn refuse_default_prompt(folder: &Path) -> Result<()> {
    #[derive(Deserialize)]
    struct PromptConfig {
        default_prompt_name: Option<String>,
    }
    let path = folder.join("config_sentence_transformers.json");
    match read_optional_json::<PromptConfig>(&path)?.and_then(|c| c.default_prompt_name) {
        None => Ok(()),
        Some(name) => Err(TextError::Unsupported {
            path,
            found: format!("default prompt `{name}`"),
            supported: "models that read the text as it is",
        }),
    }
}
