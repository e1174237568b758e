//! Ready-made vectors in the pipeline: the same vectors, from a file of any form, give the same codes as those computed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use eager_bundle::Bundle;
use eager_codes::ItemVectors;
use eager_data::Dataset;
use eager_model::Stream;
use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

const MANIFEST: &str = r#"
name = "mine"
title = "Mine"
[[source]]
format = "table"
interactions = { name = "log.csv" }
items = { name = "items.csv" }
columns = { user = "u", item = "i", timestamp = "t", title = "name" }
[prepare]
user_core = 3
item_core = 1
[text]
parts = ["{title}"]
[settings]
codes.behaviour.branching = 5
codes.semantic.branching = 5
behaviour.training = { max_epochs = 1, valid_users = 20 }
"#;

fn eager(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eager"))
        .args(args)
        .current_dir(folder)
        .env_remove("EAGER_DATA_DIR")
        .env("EAGER_CACHE_DIR", folder.join("cache"))
        .output()
        .unwrap()
}

fn codes(folder: &Path, run: &str, sets: &[&str]) -> Output {
    let mut args = vec!["codes", "mine.toml", "--text-encoder", "lsa", "--run", run];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    eager(folder, &args)
}

/// Forty users, thirty items.
fn write_dataset(folder: &Path) {
    let (mut log, mut items) = ("u,i,t".to_owned(), "i,name".to_owned());
    for event in 0..320u32 {
        let (user, place) = (event % 40, event / 40);
        write!(
            log,
            "\nu{user},i{},{place}",
            (user * 7 + place * place * 3 + place) % 30
        )
        .unwrap();
    }
    for item in 0..30 {
        write!(
            items,
            "\ni{item},word{} word{} and {item}",
            item % 5,
            item % 7
        )
        .unwrap();
    }
    std::fs::write(folder.join("log.csv"), log).unwrap();
    std::fs::write(folder.join("items.csv"), items).unwrap();
    std::fs::write(folder.join("mine.toml"), MANIFEST).unwrap();
}

/// The vectors of a stage under the ids of their items, in another order, with one of an item that nobody has.
fn write_vectors(folder: &Path, stage: &str) {
    let run = folder.join("runs/mine/computed");
    let dataset = Dataset::load(&run.join("data")).unwrap();
    let computed = ItemVectors::load(&run.join(stage).join("vectors.safetensors")).unwrap();
    let order = (0..computed.items() as u32).rev();
    let mut ids: Vec<String> = order
        .clone()
        .map(|item| dataset.items[item as usize].id.clone())
        .collect();
    let mut data: Vec<f32> = order.flat_map(|item| computed.row(item).to_vec()).collect();
    ids.insert(0, "of nobody".to_owned());
    data.splice(0..0, vec![9.0; computed.dim]);
    let tensor = Tensor::from_slice(&data, (ids.len(), computed.dim), &Device::Cpu).unwrap();
    let at = |extension: &str| folder.join(format!("{stage}.{extension}"));
    tensor.write_npy(at("npy")).unwrap();
    std::fs::write(at("ids.txt"), ids.join("\n")).unwrap();
    let listed = HashMap::from([("ids".to_owned(), serde_json::to_string(&ids).unwrap())]);
    std::fs::write(
        at("safetensors"),
        safetensors::serialize([("vectors", tensor)], Some(listed)).unwrap(),
    )
    .unwrap();
    write_parquet(&at("parquet"), &ids, &data, computed.dim);
}

fn write_parquet(path: &Path, ids: &[String], data: &[f32], dim: usize) {
    let schema = "message m { required group vector (LIST) { repeated group list { required float element; } }
        required binary id (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let repetition: Vec<i16> = (0..data.len()).map(|i| i16::from(i % dim > 0)).collect();
    let levels = (Some(&vec![1; data.len()][..]), Some(&repetition[..]));
    column
        .typed::<FloatType>()
        .write_batch(data, levels.0, levels.1)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let texts: Vec<ByteArray> = ids.iter().map(|id| id.as_str().into()).collect();
    column
        .typed::<ByteArrayType>()
        .write_batch(&texts, None, None)
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn the_same_vectors_give_the_same_codes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_dataset(folder);
    let computed = codes(folder, "computed", &[]);
    assert!(
        computed.status.success(),
        "{}",
        String::from_utf8_lossy(&computed.stderr)
    );
    write_vectors(folder, "behaviour");
    write_vectors(folder, "text");
    let read = |run: &str, file: &str| {
        std::fs::read(folder.join("runs/mine").join(run).join(file)).unwrap()
    };
    for form in ["safetensors", "npy", "parquet"] {
        let sets = [
            format!("behaviour.vectors=behaviour.{form}"),
            format!("text.vectors=text.{form}"),
        ];
        let made = codes(folder, form, &[&sets[0], &sets[1]]);
        assert!(
            made.status.success(),
            "{form}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        for file in ["codes/behaviour.safetensors", "codes/semantic.safetensors"] {
            assert_eq!(read(form, file), read("computed", file), "{form}: {file}");
        }
        let record: serde_json::Value =
            serde_json::from_slice(&read(form, "text/stage.json")).unwrap();
        assert_eq!(record["config"]["encoder"], format!("text.{form}"));
        assert!(
            record["input_parts"].to_string().contains("vectors"),
            "{record}"
        );
        let again = codes(folder, form, &[&sets[0], &sets[1]]);
        assert!(String::from_utf8_lossy(&again.stderr).contains("behaviour: up to date"));
    }
    // Other content under the same name is another input.
    std::fs::copy(folder.join("text.npy"), folder.join("behaviour.npy")).unwrap();
    let other = codes(
        folder,
        "npy",
        &["behaviour.vectors=behaviour.npy", "text.vectors=text.npy"],
    );
    assert!(
        other.status.success()
            && !String::from_utf8_lossy(&other.stderr).contains("behaviour: up to date")
    );
    assert_ne!(
        read("npy", "codes/behaviour.safetensors"),
        read("computed", "codes/behaviour.safetensors")
    );
}

/// Of items that are added to a catalogue: by id in any order, or a row a line of the file of items.
#[test]
fn new_items_take_their_vectors_from_a_file_of_any_form() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut bundle = eager_fixtures::bundle(40, 3);
    bundle.save(&folder.join("shop")).unwrap();
    let items = "{\"id\": \"x1\"}\n{\"id\": \"x2\"}\n";
    std::fs::write(folder.join("new.jsonl"), items).unwrap();
    let dim = bundle.vectors(Stream::Semantic).dim;
    let row = |seed: f32| (0..dim).map(move |place| (seed * (place as f32 + 1.0)).sin());
    let data = |seeds: &[f32]| {
        seeds
            .iter()
            .flat_map(|&seed| row(seed))
            .collect::<Vec<f32>>()
    };
    let of = |seeds: &[f32]| {
        let shape = (seeds.len(), dim);
        Tensor::from_vec(data(seeds), shape, &Device::Cpu).unwrap()
    };
    let in_order = of(&[1.0, 2.0]);
    in_order
        .save_safetensors("vectors", folder.join("a.safetensors"))
        .unwrap();
    in_order.write_npy(folder.join("b.npy")).unwrap();
    of(&[2.0, 9.0, 1.0])
        .write_npy(folder.join("c.npy"))
        .unwrap();
    std::fs::write(folder.join("c.ids.txt"), "x2\nof nobody\nx1\n").unwrap();
    let ids = ["x2".to_owned(), "x1".to_owned()];
    write_parquet(&folder.join("d.parquet"), &ids, &data(&[2.0, 1.0]), dim);
    let add = |file: &str| {
        let (vectors, out) = (format!("semantic={file}"), format!("with-{file}"));
        let args = [
            "catalog",
            "add",
            "shop",
            "new.jsonl",
            "--vectors",
            &vectors,
            "--out",
            &out,
        ];
        (eager(folder, &args), folder.join(out))
    };
    let mut digests = Vec::new();
    for file in ["a.safetensors", "b.npy", "c.npy", "d.parquet"] {
        let (made, out) = add(file);
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success(), "{file}: {said}");
        let bundle = Bundle::load(&out, &Device::Cpu).unwrap();
        assert_eq!(
            bundle.vectors(Stream::Semantic).row(41),
            data(&[2.0]),
            "{file}"
        );
        digests.push(bundle.digest().to_owned());
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "the same vectors make the same bundle");

    of(&[1.0, 2.0, 3.0])
        .write_npy(folder.join("three.npy"))
        .unwrap();
    let (failed, out) = add("three.npy");
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        said.contains("3 vectors, and nothing that says") && said.contains("three.ids.txt"),
        "{said}"
    );
    assert!(!failed.status.success() && !out.exists());
}

#[test]
fn vectors_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_dataset(folder);
    let tensor = Tensor::new(&[[1.0f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    tensor.write_npy(folder.join("few.npy")).unwrap();
    std::fs::write(folder.join("few.ids.txt"), "i0\ni2\n").unwrap();
    for (set, words) in [
        (
            "behaviour.vectors=few.npy",
            "few.npy: no vector for item i7 and 27 others, of 30 items",
        ),
        ("behaviour.vectors=none.npy", "no file none.npy"),
    ] {
        let failed = codes(folder, "few", &[set]);
        assert_eq!(failed.status.code(), Some(1));
        let message = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(message.contains(words), "{message}");
        assert!(
            !folder
                .join("runs/mine/few/behaviour/vectors.safetensors")
                .exists()
        );
    }
}
