//! Model folders that lack something, contradict themselves or are damaged: each error names the file and the fault.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use eager_text::{Places, SentenceEncoder, TextEncoder, TextError, open};

mod common;

fn error(folder: &Path) -> TextError {
    SentenceEncoder::open(folder, &Device::Cpu)
        .err()
        .expect("the folder should be refused")
}

/// The error after `damage`; it must contain all of `words`.
#[track_caller]
fn refused(damage: impl FnOnce(&Path), words: &[&str]) -> TextError {
    let folder = common::copy();
    damage(folder.path());
    let error = error(folder.path());
    for word in words {
        assert!(error.to_string().contains(word), "no `{word}` in: {error}");
    }
    error
}

/// Replaces the first `from` in a file by `to`.
fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "no `{from}` in {}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn missing_files_are_named() {
    let needed = [
        "modules.json",
        "config.json",
        "tokenizer.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "model.safetensors",
        "2_Dense/model.safetensors",
    ];
    for name in needed {
        let remove = |folder: &Path| std::fs::remove_file(folder.join(name)).unwrap();
        let error = refused(remove, &[&name.replace('/', std::path::MAIN_SEPARATOR_STR)]);
        assert!(
            matches!(error, TextError::Missing { .. }),
            "{name}: {error}"
        );
    }
}

#[test]
fn malformed_and_unsupported_configurations_are_named() {
    for name in ["modules.json", "config.json", "1_Pooling/config.json"] {
        let error = refused(|f| std::fs::write(f.join(name), "{").unwrap(), &[]);
        assert!(matches!(error, TextError::Json { .. }), "{name}: {error}");
    }
    let unsupported = |name: &str, from: &str, to: &str, words: &[&str]| {
        let error = refused(|folder| edit(&folder.join(name), from, to), words);
        assert!(matches!(error, TextError::Unsupported { .. }), "{error}");
    };
    unsupported(
        "config.json",
        "\"t5\"",
        "\"gpt2\"",
        &["`gpt2`", "`t5` or `bert`"],
    );
    unsupported("modules.json", "models.Dense", "models.LSTM", &["`LSTM`"]);
    unsupported("2_Dense/config.json", "Identity", "ReLU", &["ReLU", "Tanh"]);
}

#[test]
fn wrong_widths_are_named() {
    // The module before gives another width than the dense layer takes.
    let config = std::fs::read_to_string(common::fixture().join("2_Dense/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let (inputs, outputs) = (&config["in_features"], &config["out_features"]);
    let set = |folder: &Path, key: &str, value: u64| {
        let mut config = config.clone();
        config[key] = value.into();
        std::fs::write(folder.join("2_Dense/config.json"), config.to_string()).unwrap();
    };
    let error = refused(
        |folder| set(folder, "in_features", 7),
        &["width 7", &inputs.to_string()],
    );
    assert!(matches!(error, TextError::Inconsistent { .. }), "{error}");
    // The weights have another shape than the configuration says.
    let error = refused(
        |folder| set(folder, "out_features", 9),
        &["2_Dense", "9", &outputs.to_string()],
    );
    assert!(matches!(error, TextError::Weights { .. }), "{error}");
}

#[test]
fn damaged_weights_are_named() {
    for name in ["model.safetensors", "2_Dense/model.safetensors"] {
        let cut = |folder: &Path| {
            let path = folder.join(name);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() - 5]).unwrap();
        };
        let error = refused(cut, &["model.safetensors"]);
        assert!(matches!(error, TextError::Weights { .. }), "{error}");
    }
    let change = |folder: &Path, change: &dyn Fn(Tensor) -> Option<Tensor>| {
        let path = folder.join("2_Dense/model.safetensors");
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        let weight = tensors.remove("linear.weight").unwrap();
        if let Some(weight) = change(weight) {
            tensors.insert("linear.weight".to_owned(), weight);
        }
        candle_core::safetensors::save(&tensors, &path).unwrap();
    };
    let error = refused(|f| change(f, &|_| None), &["linear.weight"]);
    assert!(matches!(error, TextError::Weights { .. }), "{error}");
    let nan = |weight: Tensor| Some(weight.affine(f64::NAN, 0.0).unwrap());
    let error = refused(|f| change(f, &nan), &["linear.weight", "NaN"]);
    assert!(
        matches!(error, TextError::NotFiniteWeight { .. }),
        "{error}"
    );

    // Half precision is read as it is; only the digest tells the two apart.
    let folder = common::copy();
    let half = |weight: Tensor| Some(weight.to_dtype(DType::F16).unwrap());
    change(folder.path(), &half);
    let whole = SentenceEncoder::open(&common::fixture(), &Device::Cpu).unwrap();
    let half = SentenceEncoder::open(folder.path(), &Device::Cpu).unwrap();
    assert_ne!(whole.digest(), half.digest());
    let encode = |e: &SentenceEncoder| e.encode(&["lip gloss"], &mut |_| {}).unwrap();
    let difference = (encode(&whole) - encode(&half)).unwrap().abs().unwrap();
    assert!(difference.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-2);
}

#[test]
fn a_folder_is_opened_by_its_path_and_no_texts_give_no_rows() {
    let path = common::fixture();
    let (places, device) = (Places::default(), Device::Cpu);
    let encoder = open(path.to_str().unwrap(), &[], &places, &device, &mut |_| {}).unwrap();
    assert_eq!(encoder.name(), "st5-mini");
    assert_eq!(encoder.digest().len(), 64);
    let none = encoder.encode(&[], &mut |_| {}).unwrap();
    assert_eq!(none.dims(), [0, encoder.dim()]);

    let lsa = open("lsa", &["red lip gloss"], &places, &device, &mut |_| {}).unwrap();
    assert_eq!((lsa.name(), lsa.dim()), ("lsa", 1));
}
