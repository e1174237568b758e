//! A recommender as a folder: `model.json` (form, configuration, sizes), `model.safetensors` (weights by name) and a file
//! of codes for each stream. Every file is written beside its place and renamed, `model.json` last.

use std::path::Path;

use candle_core::{Device, Tensor, safetensors};
use eager_codes::{CodeTrie, ItemCodes, write_whole};
use eager_model::{Catalogue, Eager, EagerConfig, PerStream, Stream, Weights};
use eager_ops::Ops;
use serde::{Deserialize, Serialize};

use crate::{InferError, Recommender, Result};

/// Number of the files' form; another one is refused.
const FORMAT: u32 = 1;

const MODEL: &str = "model.json";
const WEIGHTS: &str = "model.safetensors";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: u32,
    n_items: usize,
    /// Widths of the items' vectors.
    dims: PerStream<usize>,
    config: EagerConfig,
}

/// Read first, so that a later form is named as such.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

fn codes_file(stream: Stream) -> String {
    format!("{}.safetensors", stream.name())
}

fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> InferError {
    let path = path.to_owned();
    move |source| InferError::Io {
        path,
        action,
        source,
    }
}

fn fault(path: &Path, fault: impl ToString) -> InferError {
    InferError::File {
        path: path.to_owned(),
        fault: fault.to_string(),
    }
}

impl Recommender {
    /// Writes everything that [`load`](Self::load) needs into `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made or written to.
    pub fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(io(folder, "make the folder"))?;
        for stream in Stream::ALL {
            self.codes[stream].save(&folder.join(codes_file(stream)))?;
        }
        let tensors = self.model.parameters().tensors();
        let path = folder.join(WEIGHTS);
        let bytes = ::safetensors::serialize(tensors.iter(), None)
            .map_err(|error| io(&path, "write")(std::io::Error::other(error)))?;
        write_whole(&path, &bytes).map_err(io(&path, "write"))?;
        let width = |stream: Stream| -> Result<usize> {
            let name = format!("{}.projection.weight", stream.name());
            let missing = || InferError::Mismatch(format!("the model has no {name:?}"));
            Ok(tensors.get(&name).ok_or_else(missing)?.dim(0)?)
        };
        let description = Description {
            format: FORMAT,
            n_items: self.n_items(),
            dims: PerStream::try_from_fn(width)?,
            config: self.model.config().clone(),
        };
        let path = folder.join(MODEL);
        let text = serde_json::to_vec_pretty(&description)
            .map_err(|error| io(&path, "write")(error.into()))?;
        write_whole(&path, &text).map_err(io(&path, "write"))
    }

    /// Reads a folder of [`save`](Self::save), onto `device`, with the fused operations where they run.
    ///
    /// # Errors
    /// When a file is missing, cannot be read, or does not hold what it should.
    pub fn load(folder: &Path, device: &Device) -> Result<Self> {
        let path = folder.join(MODEL);
        let text = std::fs::read_to_string(&path).map_err(io(&path, "read"))?;
        let Form { format } = serde_json::from_str(&text).map_err(|e| fault(&path, e))?;
        if format != FORMAT {
            return Err(fault(
                &path,
                format!("form {format}, this program reads form {FORMAT}"),
            ));
        }
        let Description {
            n_items,
            dims,
            config,
            ..
        } = serde_json::from_str(&text).map_err(|e| fault(&path, e))?;

        let codes = PerStream::try_from_fn(|stream| {
            let path = folder.join(codes_file(stream));
            let codes = ItemCodes::load(&path)?;
            if codes.n_items() != n_items {
                let found = codes.n_items();
                return Err(fault(
                    &path,
                    format!("codes of {found} items, not {n_items}"),
                ));
            }
            Ok(codes)
        })?;
        let tries = PerStream::try_from_fn(|stream| CodeTrie::new(&codes[stream]))?;

        let path = folder.join(WEIGHTS);
        let bytes = std::fs::read(&path).map_err(io(&path, "read"))?;
        let tensors = safetensors::load_buffer(&bytes, device).map_err(|e| fault(&path, e))?;
        drop(bytes);
        let floats = |tensor: &Tensor| tensor.dtype() == candle_core::DType::F32;
        if let Some((name, tensor)) = tensors.iter().find(|(_, tensor)| !floats(tensor)) {
            let found = format!("{name:?} is {:?}, expected F32", tensor.dtype());
            return Err(fault(&path, found));
        }
        let catalogue = Catalogue {
            tries: PerStream::from_fn(|stream| &tries[stream]),
            dims,
        };
        let model = Eager::new(
            &config,
            &catalogue,
            Weights::saved(tensors, device).frozen(),
        )
        .map_err(|e| fault(&path, e))?;
        Self::of(model, codes, tries, Ops::default())
    }
}
