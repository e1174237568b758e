//! Stages `data`, `text` and `codes` on the generated dataset, with made-up behaviour vectors: what they leave, and that
//! doing them again changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use eager::config::Config;
use eager::run::{Run, Stage, StageRecord, read_json};
use eager::stages::{Context, codes, data, text};
use eager_codes::ItemCodes;
use eager_codes::ItemVectors;
use eager_data::{Manifest, Places};

fn context() -> Context {
    let manifest = Manifest::find("demo").unwrap();
    let mut config = Config::paper(&manifest);
    config.text.encoder = "lsa".to_owned();
    config.codes.behaviour.branching = 16;
    Context {
        seed: config.seed,
        manifest,
        config,
        places: Places::default(),
        device: Device::Cpu,
    }
}

/// Vectors that depend on the item alone, in place of a DIN's.
fn behaviour(run: &Run, data: &StageRecord, items: usize) -> StageRecord {
    let body = |folder: &Path| {
        let component = |i: usize| ((i * i % 9973) as f32 * 0.37).sin();
        let vectors = ItemVectors {
            dim: 8,
            data: (0..items * 8).map(component).collect(),
        };
        Ok(vectors.save(&folder.join("vectors.safetensors"), None)?)
    };
    run.stage(Stage::Behaviour, &(), 1, &[data], &[], body)
        .unwrap()
        .0
}

/// All stages there are; their outputs.
fn outputs(root: &Path, ctx: &Context) -> BTreeMap<Stage, BTreeMap<String, String>> {
    let run = Run::open(root).unwrap();
    let (data, dataset) = data::run(&run, ctx).unwrap();
    let behaviour = behaviour(&run, &data, dataset.items.len());
    let text = text::run(&run, ctx, &data, &dataset).unwrap();
    let codes = codes::run(&run, ctx, &behaviour, &text).unwrap();
    let records = [data, behaviour, text, codes];
    records.map(|r| (r.stage, r.outputs)).into()
}

#[test]
fn from_data_to_codes_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    let ctx = context();
    let made = outputs(&first, &ctx);
    let names: Vec<&String> = made[&Stage::Codes].keys().collect();
    let expected = [
        "behaviour.safetensors",
        "report.json",
        "report.txt",
        "semantic.safetensors",
    ];
    assert_eq!(names, expected);
    let written = |root: &Path, stage: &str| {
        let path = root.join(stage).join("stage.json");
        std::fs::metadata(path).unwrap().modified().unwrap()
    };
    let before = written(&first, "codes");
    assert_eq!(outputs(&first, &ctx), made);
    assert_eq!(written(&first, "codes"), before, "skipped");
    assert_eq!(outputs(&second, &ctx), made, "the same bytes elsewhere");

    let codes = ItemCodes::load(&first.join("codes/semantic.safetensors")).unwrap();
    let vectors = ItemVectors::load(&first.join("text/vectors.safetensors")).unwrap();
    assert_eq!(codes.n_items(), vectors.items());
    let report: codes::CodesReport = read_json(&first.join("codes/report.json"))
        .unwrap()
        .unwrap();
    // Codes of texts gather near texts: far more than chance.
    let level = &report.semantic.levels[0];
    assert!(level.neighbours_sharing > 5.0 * level.pairs_sharing);

    let mut other = ctx.clone();
    other.seed += 1;
    let changed = outputs(&first, &other);
    for stage in [Stage::Data, Stage::Behaviour, Stage::Text] {
        assert_eq!(changed[&stage], made[&stage]);
    }
    assert_ne!(changed[&Stage::Codes], made[&Stage::Codes]);
}
