//! `cargo xtask tables`: many runs into the tables that researchers read. A table is a TOML file ([`Plan`]): rows are runs
//! (the command and what it changes), each on some datasets with some seeds. What is missing is run, by the very command
//! that stands under the table; what a run leaves for tables is kept beside them ([`Record`]), so that a table can be made
//! again, and compared user by user, where the run's folder is long gone.

mod child;
mod markdown;
mod overlap;
mod page;
mod plan;
mod record;
mod section;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use eager_data::Manifest;

use crate::cli::{Usage, print, quoted};
use crate::run::{write_atomic, write_json};

use child::{Children, this_program};

pub use plan::{List, Plan, Row};
pub use record::Record;
pub use section::{Cell, Table};

/// Which table, on what, from where.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Tables {
    /// main, ablation, metrics, codes, layers, protocol, time-split, or a TOML file of the same form (see tables/)
    pub table: String,

    /// These datasets instead of the table's
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub datasets: Vec<String>,

    /// These runs of the table, and those whose stages they take, alone; the other rows are filled from what is there
    #[arg(long, value_name = "RUN,…", value_delimiter = ',')]
    pub runs: Vec<String>,

    /// Seeds 1 to N instead of the table's number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: Option<u64>,

    /// Run nothing: the table of what is there
    #[arg(long)]
    pub collect: bool,

    /// Folder of all runs
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,

    /// Folder of the tables and of what they are made from
    #[arg(long, value_name = "DIR", default_value = "docs/results")]
    pub results: PathBuf,

    /// Folder with a folder a dataset, as for `pipeline`
    #[arg(long, value_name = "DIR", env = "EAGER_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// What makes the semantic vectors, as for `pipeline`; a row whose settings name one, or ready-made vectors, keeps its own
    #[arg(long, value_name = "NAME|DIR")]
    pub text_encoder: Option<String>,

    /// Where tensors live, as for `pipeline`
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: crate::cli::DeviceKind,
}

const EXAMPLES: &str = "\
Made in docs/results/:
  main.md, main.json          the table: mean ± standard deviation over seeds, paired differences, commands, digests
  main.html                   the same with plots, every seed, and whose hits the rows have in common: one file to open
  runs/DATASET/RUN-SEED.json  what a run left: figures, digests, versions, time
  runs/DATASET/RUN-SEED.ranks.csv.gz   the rank of every user's target in every list

Examples:
  cargo xtask tables main --datasets amazon-beauty --seeds 3
  cargo xtask tables ablation --data-dir ~/datasets --text-encoder ~/models/sentence-t5-base
  cargo xtask tables main --collect                 # no run: the table of what is there

Interrupted? Give the same command again: runs that are done are not done again, one that was begun goes on.";

/// Runs what is missing, writes the table and its page, and prints where they are.
///
/// # Errors
/// When the table's file is none, a run fails, or a file cannot be written.
pub fn run(args: &Tables) -> Result<()> {
    let plan = Plan::find(&args.table).map_err(|error| Usage::new(&error))?;
    let datasets = if args.datasets.is_empty() {
        plan.datasets.clone()
    } else {
        args.datasets.clone()
    };
    let seeds = args.seeds.unwrap_or(plan.seeds);
    // What is wrong with the last row of the last dataset is said before the first is run.
    let wrong = |error: anyhow::Error| Usage::new(&error);
    for wanted in &args.runs {
        if plan.rows.iter().all(|row| &row.run != wanted) {
            return Err(wrong(anyhow!(
                "--runs {wanted}: the table {} has no such run; it has {}",
                args.table,
                plan.runs().join(", ")
            ))
            .into());
        }
    }
    let mut manifests: Vec<(&str, Manifest)> = Vec::new();
    for name in &datasets {
        let manifest = Manifest::find(name).map_err(|error| wrong(error.into()))?;
        let mut before = manifests.iter();
        if let Some((before, _)) = before.find(|(_, other)| other.name == manifest.name) {
            return Err(wrong(anyhow!(
                "dataset {name}: its name is {}, as that of {before} before it; ask for each dataset once, and give manifests \
                 of your own different names",
                manifest.name
            ))
            .into());
        }
        for row in &plan.rows {
            row.check(&manifest).map_err(wrong)?;
        }
        manifests.push((name.as_str(), manifest));
    }
    let program = this_program().context("this program's own path")?;
    let children = Children::new().context("SIGTERM cannot be heard")?;
    let mut sections = Vec::new();
    for (name, manifest) in &manifests {
        let on = On {
            args,
            plan: &plan,
            manifest,
            named: name,
            program: &program,
            children: &children,
        };
        if !args.collect {
            for seed in 1..=seeds {
                for row in plan.distinct_runs() {
                    if args.runs.is_empty() || args.runs.contains(&row.run) {
                        on.obtain(row, seed)?;
                    }
                }
            }
        }
        let mut rows: Vec<(&Row, Vec<Record>)> = vec![];
        for row in &plan.rows {
            rows.push((row, on.records(row, seeds)?));
        }
        for group in plan.groups() {
            let rows = rows.iter().filter(|(row, _)| row.group.as_deref() == group);
            let rows: Vec<(&Row, &[Record])> = rows.map(|(row, of)| (*row, &of[..])).collect();
            sections.push(Table::new(group, &rows, manifest, &args.results)?);
        }
    }
    let stem = Path::new(&args.table).file_stem().unwrap_or_default();
    let name = stem.to_string_lossy();
    let path = |form: &str| args.results.join(format!("{name}.{form}"));
    std::fs::create_dir_all(&args.results)
        .with_context(|| format!("{}: cannot make the folder", args.results.display()))?;
    write_json(&path("json"), &sections)?;
    let command = args.command(&name);
    let text = markdown::markdown(&plan, &sections, &name, &command);
    write_atomic(&path("md"), text.as_bytes())?;
    let page = page::page(&plan, &sections, &name, &command)?;
    write_atomic(&path("html"), page.as_bytes())?;
    for form in ["md", "html"] {
        print(path(form).display())?;
    }
    Ok(())
}

impl Tables {
    /// What makes the same table of what is there.
    fn command(&self, name: &str) -> String {
        let mut command = match Plan::is_preset(&self.table) {
            true => format!("cargo xtask tables {name}"),
            false => format!("eager tables {}", quoted(&self.table)),
        };
        if !self.datasets.is_empty() {
            command += &format!(" --datasets {}", quoted(&self.datasets.join(",")));
        }
        if let Some(seeds) = self.seeds {
            command += &format!(" --seeds {seeds}");
        }
        command
    }
}

/// A table on one of its datasets.
struct On<'a> {
    args: &'a Tables,
    plan: &'a Plan,
    /// The dataset.
    manifest: &'a Manifest,
    /// What it was asked for as: its name, or its manifest's file.
    named: &'a str,
    /// What makes the runs.
    program: &'a Path,
    children: &'a Children,
}

impl On<'_> {
    /// The table's `--text-encoder`, where it is for that row.
    fn text_encoder(&self, row: &Row) -> Result<Option<&str>> {
        let Some(encoder) = &self.args.text_encoder else {
            return Ok(None);
        };
        let own = row.has_own_text(self.manifest)?;
        Ok((!own).then_some(encoder.as_str()))
    }

    /// The records of a row's first seeds that are there.
    fn records(&self, row: &Row, seeds: u64) -> Result<Vec<Record>> {
        let asked = self.text_encoder(row)?;
        let asked = asked.and_then(|encoder| Path::new(encoder).file_name());
        let (results, dataset) = (&self.args.results, self.manifest.name.as_str());
        let mut records: Vec<Record> = vec![];
        for seed in 1..=seeds {
            let Some(record) = Record::find(results, dataset, &row.run, seed)? else {
                continue;
            };
            let path = Record::path(results, dataset, &row.run, seed);
            let (path, line) = (path.display(), row.command_line(self.named, seed));
            ensure!(
                record.command == line,
                "{path}: was made by `{}`, the table asks for `{line}`; delete it to run that, or rename the table's run",
                record.command
            );
            if let Some(asked) = asked {
                let same =
                    ["none", &asked.to_string_lossy()].contains(&record.text_encoder.as_str());
                ensure!(
                    same,
                    "{path}: its text encoder is {}, not {}; delete it to run that, or give the table another --results",
                    record.text_encoder,
                    asked.display()
                );
            }
            if let Some(first) = records.first() {
                ensure!(
                    record.text_encoder == first.text_encoder,
                    "{path}: its text encoder is {}, that of seed {} is {}, and no mean is to be of both; delete one to run it \
                 again with the other's --text-encoder, or give the table another --results",
                    record.text_encoder,
                    first.seed,
                    first.text_encoder
                );
                ensure!(
                    record.targets == first.targets,
                    "{path}: its users and their targets are not those of seed {}, so that one of the two is of data that were \
                     changed since, and no mean is to be of both; delete the older one to run it again, or give the table another \
                     --results",
                    first.seed
                );
            }
            records.push(record);
        }
        Ok(records)
    }

    /// Has a run's record, by running what is missing of it.
    fn obtain(&self, row: &Row, seed: u64) -> Result<()> {
        let there = self.records(row, seed)?;
        if there.iter().any(|record| record.seed == seed) {
            tracing::info!("{}/{}-{seed}: there", self.manifest.name, row.run);
            return Ok(());
        }
        let folder = self.make(row, seed)?;
        let record = Record::of_run(&folder, &row.run, &row.command_line(self.named, seed), seed)?;
        record.save(&self.args.results, &folder)?;
        // What it does not go with is said before the next run, not after the last.
        self.records(row, seed)?;
        Ok(())
    }

    /// Has a run's folder, after the runs that it takes stages from.
    fn make(&self, row: &Row, seed: u64) -> Result<PathBuf> {
        let folder = |run: &str| {
            self.args
                .out
                .join(&self.manifest.name)
                .join(format!("{run}-{seed}"))
        };
        let mut reuse = None;
        if let Some(other) = &row.reuse {
            let there = folder(other);
            let other = self.plan.rows.iter().find(|row| &row.run == other);
            let other = other.context("a run to be reused that is no row")?;
            // What was made for this run alone is kept as well.
            self.obtain(other, seed)?;
            // It must be there as a folder, not as a record alone.
            if !there.join("model").join("stage.json").exists() {
                self.make(other, seed)?;
            }
            reuse = Some(there);
        }
        self.execute(row, seed, reuse.as_deref())?;
        Ok(folder(&row.run))
    }

    /// This program again, with a run's command.
    fn execute(&self, row: &Row, seed: u64, reuse: Option<&Path>) -> Result<()> {
        let mut command = Command::new(self.program);
        command.args(row.arguments(self.named, seed));
        command.arg("--out").arg(&self.args.out).arg("--json");
        command.args(["--device", self.args.device.name()]);
        if let Some(folder) = &self.args.data_dir {
            command.arg("--data-dir").arg(folder);
        }
        if let Some(encoder) = self.text_encoder(row)? {
            command.args(["--text-encoder", encoder]);
        }
        if let Some(reuse) = reuse {
            command.arg("--reuse").arg(reuse);
        }
        if !tracing::enabled!(tracing::Level::INFO) {
            command.arg("--quiet");
        }
        command.stdout(std::process::Stdio::null());
        let line = row.command_line(self.named, seed);
        tracing::info!("{line}");
        let status = self
            .children
            .run(&mut command)
            .with_context(|| format!("cannot start `{line}`"))?;
        ensure!(
            status.success(),
            "`{line}` failed ({status}); the runs before it are kept"
        );
        Ok(())
    }
}
