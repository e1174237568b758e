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

/// What would change every vector without a word is refused.
#[test]
fn default_prompts_and_other_poolings_are_refused() {
    let prompt = |folder: &Path| {
        let path = folder.join("config_sentence_transformers.json");
        let text = r#"{"prompts": {"query": "query: "}, "default_prompt_name": "query"}"#;
        std::fs::write(path, text).unwrap();
    };
    let error = refused(
        prompt,
        &[
            "config_sentence_transformers.json",
            "default prompt `query`",
        ],
    );
    assert!(matches!(error, TextError::Unsupported { .. }), "{error}");
    let pooling = |text: &'static str| {
        move |folder: &Path| std::fs::write(folder.join("1_Pooling/config.json"), text).unwrap()
    };
    for (text, found) in [
        (r#"{"pooling_mode": "max"}"#, "pooling `max`"),
        (r#"{"pooling_mode": ["mean"]}"#, "pooling_mode [\"mean\"]"),
        (
            r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#,
            "pooling `cls_token + mean_tokens`",
        ),
        (r#"{"pooling_mode_mean_tokens": false}"#, "pooling ``"),
    ] {
        let error = refused(pooling(text), &["1_Pooling", found, "`mean` or `cls`"]);
        assert!(matches!(error, TextError::Unsupported { .. }), "{error}");
    }
}

#[test]
fn the_longest_text_is_that_of_the_tokenizer_where_the_model_says_nothing() {
    let limits = |folder: &Path, length: &str| {
        std::fs::remove_file(folder.join("sentence_bert_config.json")).unwrap();
        let text = format!("{{\"model_max_length\": {length}}}");
        std::fs::write(folder.join("tokenizer_config.json"), text).unwrap();
    };
    let folder = common::copy();
    limits(folder.path(), "5");
    let encoder = SentenceEncoder::open(folder.path(), &Device::Cpu).unwrap();
    assert_eq!(encoder.max_tokens(), 5);
    let ids = encoder.token_ids(&["red matte lipstick"]).unwrap();
    assert_eq!(ids[0].len(), 5, "{ids:?}");
    // What transformers writes where there is no limit.
    let error = refused(
        |folder| limits(folder, "1e30"),
        &["sentence_bert_config.json", "max_seq_length"],
    );
    assert!(matches!(error, TextError::Missing { .. }), "{error}");
    let short = |folder: &Path| edit(&folder.join("sentence_bert_config.json"), "48", "2");
    let error = refused(short, &["max_seq_length is 2, expected 3"]);
    assert!(matches!(error, TextError::Inconsistent { .. }), "{error}");
}

#[test]
fn texts_are_in_lower_case_where_the_model_says_so() {
    let folder = common::copy();
    let path = folder.path().join("sentence_bert_config.json");
    edit(&path, "\"do_lower_case\": false", "\"do_lower_case\": true");
    let lower = SentenceEncoder::open(folder.path(), &Device::Cpu).unwrap();
    let as_is = SentenceEncoder::open(&common::fixture(), &Device::Cpu).unwrap();
    let encode = |encoder: &SentenceEncoder, text: &str| {
        let row = encoder.encode(&[text], &mut |_| {}).unwrap();
        row.to_vec2::<f32>().unwrap()
    };
    assert_eq!(encode(&lower, "ABC"), encode(&lower, "abc"));
    assert_ne!(encode(&as_is, "ABC"), encode(&as_is, "abc"));
    assert_eq!(encode(&lower, "abc"), encode(&as_is, "abc"));
    assert_ne!(lower.digest(), as_is.digest(), "other vectors");
}

/// Against the product of the last layer's input, which is what comes out where the layer is the identity.
#[test]
fn a_dense_layer_with_a_bias_and_tanh_is_the_plain_product() {
    let texts = ["red matte lipstick", "nude lip gloss", "football goal net"];
    let encode = |folder: &Path| {
        let encoder = SentenceEncoder::open(folder, &Device::Cpu).unwrap();
        let rows = encoder.encode(&texts, &mut |_| {}).unwrap();
        rows.to_vec2::<f32>().unwrap()
    };
    // A layer of twice the unit matrix: normalised, its input comes out.
    let folder = common::copy();
    let dense = |config: &str, weight: &[Vec<f32>], bias: Option<&[f32]>| {
        let shape = (weight.len(), weight[0].len());
        let weight = Tensor::from_vec(weight.concat(), shape, &Device::Cpu).unwrap();
        let mut tensors = std::collections::HashMap::from([("linear.weight".to_owned(), weight)]);
        if let Some(bias) = bias {
            let bias = Tensor::from_slice(bias, bias.len(), &Device::Cpu).unwrap();
            tensors.insert("linear.bias".to_owned(), bias);
        }
        let path = folder.path().join("2_Dense");
        candle_core::safetensors::save(&tensors, path.join("model.safetensors")).unwrap();
        std::fs::write(path.join("config.json"), config).unwrap();
    };
    let unit: Vec<Vec<f32>> = (0..32)
        .map(|i| (0..32).map(|j| if i == j { 2.0 } else { 0.0 }).collect())
        .collect();
    let identity = r#"{"in_features": 32, "out_features": 32, "bias": false, "activation_function": "torch.nn.modules.linear.Identity"}"#;
    dense(identity, &unit, None);
    let inputs = encode(folder.path());

    // The same input, normalised first, goes through a layer with a bias; its activation is named, or the default.
    let modules = folder.path().join("modules.json");
    let text = std::fs::read_to_string(&modules).unwrap();
    let mut list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let normalize = list[3].clone();
    list.insert(2, normalize);
    std::fs::write(&modules, serde_json::to_string(&list).unwrap()).unwrap();
    let weight: Vec<Vec<f32>> = (0..4)
        .map(|i| {
            (0..32)
                .map(|j| ((i * 7 + j * 3) % 11) as f32 - 5.0)
                .collect()
        })
        .collect();
    let bias = [0.5f32, -1.0, 0.25, 2.0];
    for activation in [
        r#", "activation_function": "torch.nn.modules.activation.Tanh""#,
        "",
    ] {
        let config =
            format!("{{\"in_features\": 32, \"out_features\": 4, \"bias\": true{activation}}}");
        dense(&config, &weight, Some(&bias[..]));
        for (found, input) in encode(folder.path()).iter().zip(&inputs) {
            let product = weight.iter().zip(bias).map(|(weight, bias)| {
                let sum: f32 = weight.iter().zip(input).map(|(w, x)| w * x).sum();
                (sum + bias).tanh()
            });
            let product: Vec<f32> = product.collect();
            let length = product.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert_eq!(found.len(), 4);
            for (found, expected) in found.iter().zip(&product) {
                assert!((found - expected / length).abs() < 1e-5);
            }
        }
    }
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
