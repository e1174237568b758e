//! Whether a run's records tell all that its stages left.

use std::path::Path;

use eager::run::{Stage, StageRecord, read_json};

/// What a stage writes is an output, or says how the outputs came about.
pub fn all_files(run: &Path) {
    let how = ["stage.json", "checkpoints", "tensorboard", "metrics.jsonl"];
    for stage in Stage::ALL {
        let folder = run.join(stage.name());
        let record: Option<StageRecord> = read_json(&folder.join("stage.json")).unwrap();
        let Some(record) = record else { continue };
        for entry in std::fs::read_dir(&folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let known = how.contains(&name.as_str()) || record.outputs.contains_key(&name);
            assert!(known, "{stage}/{name}");
        }
    }
}
