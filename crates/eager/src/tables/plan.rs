//! What a table is made of: a TOML file.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use eager_data::Manifest;
use eager_infer::metrics::CUTOFFS;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::baseline::Baseline;
use crate::cli::{Cli, Command, Pipeline, RunArgs, quoted};
use crate::pipeline;
use crate::run::Stage;

/// A text encoder that nobody names.
const UNNAMED: &str = "(unnamed)";

/// The presets: name and text.
const PRESETS: [(&str, &str); 7] = [
    (
        "main",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tables/main.toml"
        )),
    ),
    (
        "ablation",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tables/ablation.toml"
        )),
    ),
    (
        "metrics",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tables/metrics.toml"
        )),
    ),
    (
        "codes",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tables/codes.toml"
        )),
    ),
    (
        "layers",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tables/layers.toml"
        )),
    ),
    (
        "protocol",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tables/protocol.toml"
        )),
    ),
    (
        "time-split",
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tables/time-split.toml"
        )),
    ),
];

/// A table: its rows on its datasets, with its seeds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Heading.
    pub title: String,
    /// What is compared and how, under the heading.
    #[serde(default)]
    pub about: String,
    /// Presets or manifest files, a section each.
    pub datasets: Vec<String>,
    /// The columns, such as `recall@10`.
    pub metrics: Vec<String>,
    /// Runs of each row, with seeds 1 to this.
    pub seeds: u64,
    /// The rows from top to bottom.
    pub rows: Vec<Row>,
}

/// A row: a run, and which of its lists is shown.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// First column.
    pub title: String,
    /// The run's name without its seed. Rows of one name are one run, and then say the same but for `title` and `list`.
    pub run: String,
    /// What it has in common with others, such as a rule of evaluation: rows of one group are one section on each dataset,
    /// and are compared with each other alone.
    #[serde(default)]
    pub group: Option<String>,
    /// Which of the run's lists.
    #[serde(default)]
    pub list: List,
    /// Subcommand that makes it.
    #[serde(default = "pipeline")]
    pub command: Vec<String>,
    /// Settings, as after `--set`.
    #[serde(default)]
    pub set: Vec<String>,
    /// Name of the config, as after `--config`.
    #[serde(default)]
    pub config: Option<String>,
    /// A run of this table, of the same seed, whose stages are taken where they are the same.
    #[serde(default)]
    pub reuse: Option<String>,
    /// Whether the others are compared with it: with the best of all such rows.
    #[serde(default)]
    pub baseline: bool,
    /// Whether the paper's figures are about this row.
    #[serde(default)]
    pub paper: bool,
}

fn pipeline() -> Vec<String> {
    vec!["pipeline".to_owned()]
}

/// A column of `ranks.csv`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum List {
    /// What the model recommends.
    #[default]
    Merged,
    /// EAGER's behaviour stream alone.
    Behaviour,
    /// EAGER's semantic stream alone.
    Semantic,
    /// The direct head alone, of a model that has one.
    Direct,
    /// The most popular items.
    Popularity,
}

impl List {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Merged,
        Self::Behaviour,
        Self::Semantic,
        Self::Direct,
        Self::Popularity,
    ];

    /// The column's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Behaviour => "behaviour",
            Self::Semantic => "semantic",
            Self::Direct => "direct",
            Self::Popularity => "popularity",
        }
    }
}

impl Plan {
    /// Whether it is the name of a preset.
    #[must_use]
    pub fn is_preset(name: &str) -> bool {
        PRESETS.iter().any(|(preset, _)| *preset == name)
    }

    /// A preset by its name, or a file.
    ///
    /// # Errors
    /// When there is neither, or it is not a table.
    pub fn find(name: &str) -> Result<Self> {
        if let Some((_, text)) = PRESETS.iter().find(|(preset, _)| *preset == name) {
            return Self::parse(text).with_context(|| format!("table {name}"));
        }
        let path = Path::new(name);
        if !path.is_file() {
            let presets: Vec<&str> = PRESETS.iter().map(|(preset, _)| *preset).collect();
            bail!(
                "{name}: neither a table ({}) nor a file",
                presets.join(", ")
            );
        }
        let text = std::fs::read_to_string(path).with_context(|| name.to_owned())?;
        Self::parse(&text).with_context(|| name.to_owned())
    }

    fn parse(text: &str) -> Result<Self> {
        let plan: Self = toml::from_str(text)?;
        ensure!(!plan.rows.is_empty(), "there are no `[[rows]]`");
        ensure!(
            !plan.datasets.is_empty(),
            "`datasets` is empty, expected names of presets or files of manifests"
        );
        let of_rows = plan.rows.iter();
        let of_rows = of_rows.flat_map(|row| std::iter::once(&row.title).chain(&row.group));
        let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        if let Some(title) = std::iter::once(&plan.title)
            .chain(of_rows)
            .find(|title| title.contains(breaks))
        {
            bail!(
                "{title:?} has a line break or another control character; a title or group is one line"
            );
        }
        ensure!(plan.seeds > 0, "`seeds` is 0, expected 1 or more");
        let at = |k: &usize| [format!("recall@{k}"), format!("ndcg@{k}")];
        let known: Vec<String> = CUTOFFS.iter().flat_map(at).collect();
        if let Some(metric) = plan.metrics.iter().find(|metric| !known.contains(metric)) {
            bail!(
                "there is no metric {metric:?}; there are {}",
                known.join(", ")
            )
        }
        for (row, place) in plan.rows.iter().zip(0..) {
            // Titles are what a table calls its rows by.
            let same = |other: &&Row| other.title == row.title && other.group == row.group;
            ensure!(
                !plan.rows[..place].iter().any(|other| same(&other)),
                "two rows{} have the title {:?}; give one of them another",
                row.group
                    .as_deref()
                    .map_or_else(String::new, |group| format!(" of the group {group:?}")),
                row.title
            );
            let first = plan.rows.iter().find(|other| other.run == row.run);
            let made = |row: &Row| (row.command.clone(), row.set.clone(), row.config.clone());
            ensure!(
                first.is_none_or(|first| made(first) == made(row)),
                "run {:?} is made in two ways; give one of them another name",
                row.run
            );
            let known = |name: &String| plan.rows.iter().any(|other| &other.run == name);
            if let Some(other) = row.reuse.as_ref().filter(|name| !known(name)) {
                bail!("row {:?} reuses run {other:?}, which is no row", row.title);
            }
        }
        for row in &plan.rows {
            // As many steps as there are rows do not come to an end only in a circle.
            let next = |row: &&Row| {
                plan.rows
                    .iter()
                    .find(|other| Some(&other.run) == row.reuse.as_ref())
            };
            let steps = std::iter::successors(Some(row), next).take(plan.rows.len() + 1);
            ensure!(
                steps.count() <= plan.rows.len(),
                "row {:?} reuses, by way of others, itself",
                row.title
            );
        }
        Ok(plan)
    }

    /// The groups, in the order of their first rows.
    pub fn groups(&self) -> Vec<Option<&str>> {
        let mut groups = vec![];
        for group in self.rows.iter().map(|row| row.group.as_deref()) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }

    /// The first row of every run, those that others reuse first.
    pub fn distinct_runs(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = Vec::new();
        for row in &self.rows {
            if rows.iter().all(|other| other.run != row.run) {
                rows.push(row);
            }
        }
        rows.sort_by_key(|row| row.reuse.is_some());
        rows
    }

    /// Names of the runs.
    #[must_use]
    pub fn runs(&self) -> Vec<&str> {
        let rows = self.distinct_runs();
        rows.into_iter().map(|row| row.run.as_str()).collect()
    }
}

impl Row {
    /// Whether its semantic vectors are settled without the table's `--text-encoder`, which is not for it then: its settings,
    /// its config or the dataset's name an encoder or ready-made vectors.
    ///
    /// # Errors
    /// When there is no such command, config or setting.
    pub(super) fn has_own_text(&self, manifest: &Manifest) -> Result<bool> {
        let own = || -> Result<bool> {
            let (args, _) = self.run_args(manifest)?;
            // Below all that may name an encoder: it is still there where nothing does.
            let mut manifest = manifest.clone();
            let text = manifest.settings.entry("text");
            if let Value::Table(text) = text.or_insert_with(|| Value::Table(Table::new())) {
                text.entry("encoder")
                    .or_insert_with(|| Value::String(UNNAMED.to_owned()));
            }
            let text = pipeline::config(&args.config, &args.sets, &manifest)?.text;
            let named = args.text_encoder.is_some() || text.encoder != UNNAMED;
            Ok(named || text.vectors.is_some())
        };
        own().with_context(|| format!("row {:?}", self.title))
    }

    /// What its command is given, and whether that is a baseline's, whose model has no streams.
    fn run_args(&self, manifest: &Manifest) -> Result<(RunArgs, bool)> {
        let line = self.arguments(&manifest.name, 1);
        let cli = Cli::try_parse_from(std::iter::once("eager".to_owned()).chain(line))?;
        match cli.command {
            Command::Pipeline(Pipeline {
                run,
                until: Stage::Eval,
            })
            | Command::Eval(run) => Ok((run, false)),
            Command::Baseline(
                Baseline::Sasrec(run) | Baseline::Bsarec(run) | Baseline::Tiger(run),
            ) => Ok((run, true)),
            _ => bail!(
                "`command` is {:?}, which evaluates no model; expected `pipeline` as a whole, or a `baseline`",
                self.command.join(" ")
            ),
        }
    }

    /// Whether there can be such a run on a dataset, and such a list of it.
    ///
    /// # Errors
    /// When there is no such command, config or setting, no run can be called so, or its run does not leave the list.
    pub fn check(&self, manifest: &Manifest) -> Result<()> {
        let check = || -> Result<()> {
            let (args, baseline) = self.run_args(manifest)?;
            pipeline::check_name(&self.run_name(1))?;
            let config = pipeline::config(&args.config, &args.sets, manifest)?;
            config.validate()?;
            let left = |list: List| match list {
                List::Merged | List::Popularity => true,
                List::Behaviour | List::Semantic => !baseline,
                List::Direct => !baseline && config.model.direct_head,
            };
            let lists = List::ALL.into_iter().filter(|&list| left(list));
            let lists: Vec<&str> = lists.map(List::name).collect();
            let without = match baseline {
                true => "",
                false => " without `model.direct_head`",
            };
            ensure!(
                left(self.list),
                "`list` is {:?}, which `eager {}` does not leave{without}; expected one of {}",
                self.list.name(),
                self.command.join(" "),
                lists.join(", ")
            );
            Ok(())
        };
        check().with_context(|| format!("row {:?}", self.title))
    }

    /// The command's arguments but for places (`--out`, `--data-dir`, …).
    #[must_use]
    pub fn arguments(&self, dataset: &str, seed: u64) -> Vec<String> {
        let mut arguments = self.command.clone();
        arguments.push(dataset.to_owned());
        if let Some(config) = &self.config {
            arguments.extend(["--config".to_owned(), config.clone()]);
        }
        for set in &self.set {
            arguments.extend(["--set".to_owned(), set.clone()]);
        }
        arguments.extend([
            "--seed".to_owned(),
            seed.to_string(),
            "--run".to_owned(),
            self.run_name(seed),
        ]);
        arguments
    }

    /// The name of its run of a seed.
    fn run_name(&self, seed: u64) -> String {
        format!("{}-{seed}", self.run)
    }

    /// The command for a reader.
    #[must_use]
    pub fn command_line(&self, dataset: &str, seed: u64) -> String {
        let words = self.arguments(dataset, seed);
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        format!("eager {}", words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_tables_whose_settings_there_are() {
        for (name, _) in PRESETS {
            assert!(Plan::is_preset(name));
            let plan = Plan::find(name).unwrap();
            assert!(plan.rows.iter().any(|row| row.baseline), "{name}");
            for dataset in &plan.datasets {
                let manifest = Manifest::find(dataset).unwrap();
                for row in &plan.rows {
                    row.check(&manifest).unwrap();
                    let name_of_config = row.config.as_deref().unwrap_or("paper");
                    let config = |set| pipeline::config(name_of_config, set, &manifest).unwrap();
                    let (base, config) = (config(&[]), config(&row.set));
                    assert_eq!(config == base, row.set.is_empty(), "{name}: {}", row.title);
                }
            }
        }
    }

    #[test]
    fn a_run_has_one_way_of_being_made() {
        let text = |second: &str| {
            format!(
                "title = 'x'\ndatasets = ['demo']\nmetrics = ['ndcg@20']\nseeds = 1\n\
                 [[rows]]\ntitle = 'a'\nrun = 'r'\n[[rows]]\ntitle = 'b'\n{second}"
            )
        };
        let plan = Plan::parse(&text("run = 'r'\nlist = 'semantic'")).unwrap();
        assert_eq!(plan.runs(), ["r"]);
        let line = plan.rows[1].command_line("demo", 3);
        assert_eq!(line, "eager pipeline demo --seed 3 --run r-3");
        let words = ["a.b=1", "a={ b = 8 }", "it's", ""].map(quoted);
        assert_eq!(words, ["a.b=1", "'a={ b = 8 }'", r"'it'\''s'", "''"]);
        let manifest = Manifest::find("demo").unwrap();
        let message = |second: &str| {
            let plan = Plan::parse(&text(second)).unwrap();
            plan.rows[1]
                .check(&manifest)
                .err()
                .map(|error| format!("{error:#}"))
        };
        assert_eq!(message("run = 'r'"), None);
        let message = message("run = 'x/y'").unwrap();
        assert!(
            message.contains("--run x/y-1: it becomes a folder"),
            "{message}"
        );
        let refused = |second: &str| Plan::parse(&text(second)).unwrap_err().to_string();
        assert!(refused("run = 'r'\nset = ['a=1']").contains("made in two ways"));
        assert!(refused("run = 's'\nreuse = 't'").contains("which is no row"));
        assert!(refused("run = 's'\nreuse = 's'").contains("itself"));
        let plan = |change: [&str; 2]| {
            let text = text("run = 's'").replace(change[0], change[1]);
            Plan::parse(&text)
                .map(|plan| plan.rows.len())
                .map_err(|error| error.to_string())
        };
        assert_eq!(plan(["'b'", "'c'"]), Ok(2));
        assert!(
            plan(["'b'", "'a'"])
                .unwrap_err()
                .contains("have the title \"a\"")
        );
        assert_eq!(plan(["'b'", "'a'\ngroup = 'g'"]), Ok(2));
        let message = plan(["'ndcg@20'", "'ndcg@20', 'recal@10'"]).unwrap_err();
        assert!(
            message.contains("\"recal@10\"; there are recall@5, ndcg@5"),
            "{message}"
        );
        assert!(
            plan(["['demo']", "[]"])
                .unwrap_err()
                .contains("`datasets` is empty")
        );
        for change in [
            ["'b'", r#""b\n""#],
            ["'b'", r#""\u2028""#],
            ["'b'", "'b'\ngroup = \"g\\th\""],
            ["'x'", r#""x\r\ny""#],
        ] {
            let message = plan(change).unwrap_err();
            assert!(message.contains("is one line"), "{message}");
        }
    }

    #[test]
    fn a_list_that_the_run_does_not_leave_is_refused_before_it() {
        let manifest = Manifest::find("demo").unwrap();
        let check = |row: &str| {
            let row = format!("title = 'a'\nrun = 'a'\n{row}");
            let row: Row = toml::from_str(&row).unwrap();
            row.check(&manifest).map_err(|error| format!("{error:#}"))
        };
        let head = "set = ['model.direct_head=true', 'losses.direct=1']";
        let baseline = "command = ['baseline', 'sasrec']";
        for list in List::ALL.map(List::name) {
            let list = format!("list = '{list}'");
            assert_eq!(check(&format!("config = 'plus'\n{list}")), Ok(()));
            assert_eq!(check(&format!("{head}\n{list}")), Ok(()));
            let refused = check(&list).is_err();
            assert_eq!(refused, list.contains("direct"), "{list}");
            let refused = check(&format!("{baseline}\n{list}")).is_err();
            let common = list.contains("merged") || list.contains("popularity");
            assert_eq!(refused, !common, "{list}");
        }
        for (row, told) in [
            (
                "list = 'direct'",
                "does not leave without `model.direct_head`; expected one of merged, behaviour, semantic, popularity",
            ),
            (
                "command = ['baseline', 'tiger']\nconfig = 'plus'\nlist = 'direct'",
                "`eager baseline tiger` does not leave; expected one of merged, popularity",
            ),
            ("command = ['model']", "evaluates no model"),
            (
                "command = ['pipeline', '--until', 'codes']",
                "evaluates no model",
            ),
        ] {
            let message = check(row).unwrap_err();
            assert!(
                message.starts_with("row \"a\": ") && message.contains(told),
                "{message}"
            );
        }
        assert_eq!(check("command = ['eval']\nlist = 'semantic'"), Ok(()));
    }

    #[test]
    fn a_row_that_names_its_text_encoder_or_vectors_keeps_them() {
        let own = |row: &str, settings: &str| {
            let row: Row = toml::from_str(&format!("title = 'a'\nrun = 'a'\n{row}")).unwrap();
            let manifest = format!(
                "name = 'mine'\ntitle = 'Mine'\n[[source]]\nformat = 'demo'\n[settings]\n{settings}"
            );
            let manifest = Manifest::parse(&manifest, Path::new("mine.toml")).unwrap();
            row.has_own_text(&manifest).unwrap()
        };
        for row in [
            "",
            "config = 'plus'",
            "command = ['baseline', 'sasrec']",
            "set = ['model.dropout=0.2', 'text.vectors=']",
        ] {
            assert!(!own(row, "model.dropout = 0.1"), "{row}");
        }
        for row in [
            "set = ['text.encoder=lsa']",
            "set = ['text.encoder = lsa']",
            "set = ['text={encoder=\"lsa\"}']",
            "set = ['text.encoder=sentence-t5-base']", // the default, but by name
            "set = ['text.vectors=t.npy']",
            "command = ['pipeline', '--text-encoder', 'lsa']",
        ] {
            assert!(own(row, ""), "{row}");
        }
        for settings in ["text.encoder = 'lsa'", "text.vectors = 't.npy'"] {
            assert!(own("", settings), "{settings}");
        }
        assert!(!own("set = ['text.vectors=']", "text.vectors = 't.npy'"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lsa.toml");
        std::fs::write(&file, "[text]\nencoder = 'lsa'\n").unwrap();
        assert!(own(&format!("config = '{}'", file.display()), ""));
    }
}
