#![doc = include_str!("../README.md")]

mod batches;
mod bert;
mod cache;
mod digest;
mod error;
mod hub;
mod kernels;
mod layout;
mod lsa;
mod open;
mod ops;
mod places;
mod presets;
#[cfg(test)]
mod random;
mod sentence;
mod svd;
mod t5;
mod tokens;
mod weights;
mod wheel;

use candle_core::Tensor;

pub use cache::encode_cached;
pub use error::{Result, TextError};
pub use lsa::Lsa;
pub use open::{DEFAULT_ENCODER, check, open};
pub use places::{Download, Places};
pub use sentence::SentenceEncoder;

/// Something that turns texts into vectors.
pub trait TextEncoder: Send + Sync {
    /// The name to print beside every result: a preset's, `lsa`, or a folder's.
    fn name(&self) -> &str;

    /// Width of the vectors.
    fn dim(&self) -> usize;

    /// sha256 of everything that decides the vectors (weights, tokenizer, configuration; for `lsa`
    /// the catalogue and its configuration), lower-case hexadecimal.
    fn digest(&self) -> &str;

    /// Vectors of `texts` in their order: [texts.len(), dim], f32, on the CPU, each row of length 1
    /// (or 0 where the encoder finds nothing in the text).
    ///
    /// A row depends on its own text alone, up to the rounding of matrix products of different
    /// heights. `progress` is called on this thread with the number of texts done so far.
    ///
    /// # Errors
    /// When a text cannot be tokenised, or its vector is not finite, or the device fails.
    fn encode(&self, texts: &[&str], progress: &mut dyn FnMut(usize)) -> Result<Tensor>;
}
