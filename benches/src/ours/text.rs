//! Texts to vectors by [`eager_text::SentenceEncoder`].

use std::path::Path;

use anyhow::Result;
use candle_core::Device;
use eager_text::{SentenceEncoder, TextEncoder};
use serde_json::json;

use super::serve;
use crate::workload::{self, Text};

pub fn run(path: &Path) -> Result<()> {
    let (settings, _) = workload::load::<Text>(path)?;
    let encoder = SentenceEncoder::open(&settings.encoder, &Device::Cpu)?;
    let texts: Vec<&str> = settings.texts.iter().map(String::as_str).collect();
    let vectors = encoder.encode(&texts[..settings.checked], &mut |_| {})?;
    let vectors: Vec<Vec<f32>> = vectors.to_vec2()?;
    serve(json!({ "vectors": vectors }), || {
        encoder.encode(&texts, &mut |_| {})?;
        Ok(texts.len())
    })
}
