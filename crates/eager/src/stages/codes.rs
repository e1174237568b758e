//! Stage `codes`: two trees of codes, one over the behaviour vectors and one over the semantic vectors (paper §3.2), and
//! the report on them.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use eager_codes::{
    CodeTrie, CodesConfig, ItemCodes, ItemVectors, Overlap, QualityReport, ReportConfig, overlap,
};
use serde::{Deserialize, Serialize};

use super::Context;
use crate::config::TreesConfig;
use crate::logs::say;
use crate::run::{Run, Stage, StageRecord, read_json, write_atomic, write_json};
use crate::seed;

#[derive(Serialize)]
struct Settings<'a> {
    trees: &'a TreesConfig,
    report: &'a ReportConfig,
}

/// `report.json`: how good the codes are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodesReport {
    /// The tree over the behaviour vectors.
    pub behaviour: QualityReport,
    /// The tree over the semantic vectors.
    pub semantic: QualityReport,
    /// Agreement of the two.
    pub overlap: Overlap,
}

impl fmt::Display for CodesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "behaviour codes: {}\n\nsemantic codes: {}\n\n{}",
            self.behaviour, self.semantic, self.overlap
        )
    }
}

/// Makes `behaviour.safetensors`, `semantic.safetensors`, `report.json` and `report.txt`, unless that is done, and prints
/// the report. Each tree draws from its own seed.
///
/// # Errors
/// When the vectors cannot be read, are not of the same items, or cannot be clustered so; or a file cannot be written.
pub fn run(
    run: &Run,
    ctx: &Context,
    behaviour: &StageRecord,
    text: &StageRecord,
) -> Result<StageRecord> {
    let settings = Settings {
        trees: &ctx.config.codes,
        report: &ReportConfig::default(),
    };
    let upstream = [behaviour, text];
    let (record, _) = run.stage(
        Stage::Codes,
        &settings,
        ctx.seed,
        &upstream,
        &[],
        |folder| {
            let tree = |name: &str, from: Stage, config: &CodesConfig| -> Result<_> {
                let seed = seed::derive(ctx.seed, &format!("codes/{name}"));
                let vectors = ItemVectors::load(&run.folder(from).join("vectors.safetensors"))?;
                let checked = vectors.checked()?;
                let codes = ItemCodes::build(checked, config, seed)
                    .with_context(|| format!("the {name} tree"))?;
                let trie = CodeTrie::new(&codes)?;
                let report = QualityReport::new(checked, &trie, settings.report, seed)?;
                codes.save(&folder.join(format!("{name}.safetensors")))?;
                Ok((trie, report))
            };
            let trees = settings.trees;
            let (first, behaviour) = tree("behaviour", Stage::Behaviour, &trees.behaviour)?;
            let (second, semantic) = tree("semantic", Stage::Text, &trees.semantic)?;
            ensure!(
                first.n_items() == second.n_items(),
                "{} behaviour vectors, {} semantic vectors; both must be of the same items",
                first.n_items(),
                second.n_items()
            );
            let report = CodesReport {
                behaviour,
                semantic,
                overlap: overlap(&first, &second)?,
            };
            write_json(&folder.join("report.json"), &report)?;
            write_atomic(&folder.join("report.txt"), format!("{report}\n").as_bytes())
        },
    )?;
    let report: Option<CodesReport> = read_json(&run.folder(Stage::Codes).join("report.json"))?;
    if let Some(report) = report {
        say(&report.to_string());
    }
    Ok(record)
}
