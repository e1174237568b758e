//! Token ids and vectors against those that sentence-transformers gave on the CPU in f32.
//!
//! The small fixture is kept with the tests. The two larger models lie in a folder beside the workspace, or in the one
//! that `EAGER_SHARED_DIR` names; without it their tests say so and pass.

use std::path::{Path, PathBuf};

use candle_core::Device;
use eager_text::{SentenceEncoder, TextEncoder};
use serde::Deserialize;

mod common;

/// Largest difference of one component.
const TOLERANCE: f32 = 1e-5;

struct Expected {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    #[serde(alias = "token_ids", alias = "input_ids")]
    ids: Vec<Vec<u32>>,
    #[serde(alias = "embeddings")]
    vectors: Vec<Vec<f32>>,
}

/// All texts in one call, of whatever lengths they are, forwards and backwards.
fn check(folder: &Path, expected: &Expected) {
    let encoder = SentenceEncoder::open(folder, &Device::Cpu).unwrap();
    let texts: Vec<&str> = expected.texts.iter().map(String::as_str).collect();
    assert_eq!(encoder.token_ids(&texts).unwrap(), expected.ids);
    let lengths: std::collections::BTreeSet<_> = expected.ids.iter().map(Vec::len).collect();
    assert!(lengths.len() > 3, "texts of several lengths: {lengths:?}");

    let mut done = 0;
    let forwards = encoder.encode(&texts, &mut |n| done = n).unwrap();
    assert_eq!(done, texts.len());
    assert_eq!(forwards.dims(), [texts.len(), encoder.dim()]);
    let reversed: Vec<&str> = texts.iter().rev().copied().collect();
    let backwards = encoder.encode(&reversed, &mut |_| {}).unwrap();
    let backwards = backwards.to_vec2::<f32>().unwrap().into_iter().rev();
    for found in [forwards.to_vec2().unwrap(), backwards.collect()] {
        let mut worst = 0f32;
        for (found, expected) in found.iter().zip(&expected.vectors) {
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(expected) {
                worst = worst.max((a - b).abs());
            }
        }
        println!("{}: largest difference {worst:.1e}", folder.display());
        assert!(worst <= TOLERANCE);
    }
}

fn golden(model: &str) {
    let shared = std::env::var_os("EAGER_SHARED_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let folder = shared.join("models").join(model);
    let Ok(text) = std::fs::read_to_string(folder.join("golden.json")) else {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    };
    let Golden {
        texts,
        ids,
        vectors,
    } = serde_json::from_str(&text).unwrap();
    let expected = Expected {
        texts,
        ids,
        vectors,
    };
    check(&folder, &expected);
}

#[test]
fn the_fixture_is_matched() {
    let text = std::fs::read_to_string(common::fixture().join("expected.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    let expected = Expected {
        texts: cases.iter().map(|case| case.text.clone()).collect(),
        ids: cases.iter().map(|case| case.ids.clone()).collect(),
        vectors: cases.into_iter().map(|case| case.embedding).collect(),
    };
    check(&common::fixture(), &expected);
}

#[test]
fn a_sentence_t5_with_the_real_tokenizer_is_matched() {
    golden("tiny-sentence-t5");
}

#[test]
fn minilm_is_matched() {
    golden("all-MiniLM-L6-v2");
}
