//! The pipeline: from arguments to a run's folder, through the stages, to the table.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use eager_data::{Manifest, Places};

use crate::baseline::{Kind, TIGER};
use crate::cli::{self, RunArgs, Usage};
use crate::config::Config;
use crate::report::Report;
use crate::run::{Run, Stage, read_json, write_atomic};
use crate::stages::{self, Context};
use crate::{overrides, page, table};

/// Does the stages up to `until`, and prints the table, or the folder of a stage before `eval`.
///
/// # Errors
/// [`Usage`] where dataset or settings are wrong; else whatever a stage fails with.
pub fn run(args: &RunArgs, until: Stage) -> Result<()> {
    let (run, ctx) = begin(args, None)?;
    stages(&run, &ctx, until)?;
    if until == Stage::Eval {
        page::write(run.root());
    }
    print(&run, until, args.json)
}

/// Trains and evaluates a next-item model in a run of its own, and prints the table.
///
/// # Errors
/// As [`run`].
pub fn baseline(args: &RunArgs, kind: Kind) -> Result<()> {
    let (run, ctx) = begin(args, Some(kind.name()))?;
    let (data, dataset) = stages::data::run(&run, &ctx)?;
    let model = stages::baseline::train(&run, &ctx, Stage::Model, kind, &dataset, &data)?;
    stages::baseline::evaluate_stage(&run, &ctx, kind, &dataset, &data, &model)?;
    page::write(run.root());
    print(&run, Stage::Eval, args.json)
}

/// Trains and evaluates TIGER in a run of its own, and prints the table.
///
/// # Errors
/// As [`run`].
pub fn tiger(args: &RunArgs) -> Result<()> {
    let (run, ctx) = begin(args, Some(TIGER))?;
    let (data, dataset) = stages::data::run(&run, &ctx)?;
    let text = stages::text::run(&run, &ctx, &data, &dataset)?;
    let codes = stages::tiger::codes(&run, &ctx, &text)?;
    let model = stages::tiger::train(&run, &ctx, &dataset, &data, &codes)?;
    stages::tiger::evaluate(&run, &ctx, &dataset, &data, &codes, &model)?;
    page::write(run.root());
    print(&run, Stage::Eval, args.json)
}

/// Opens the run's folder and leaves its settings there. A run of no name of its own is called `name`, or as its config.
fn begin(args: &RunArgs, name: Option<&str>) -> Result<(Run, Context)> {
    let (ctx, root) = prepare(args, name).map_err(|error| Usage::new(&error))?;
    let run = Run::open(&root)?
        .with_device(args.device.name())
        .with_reuse(args.reuse.as_deref());
    let config = toml::to_string(&ctx.config).context("the config cannot be written as TOML")?;
    write_atomic(&root.join("config.toml"), config.as_bytes())?;
    tracing::info!("run {}", root.display());
    Ok((run, ctx))
}

/// The stages one after the other, each with the records of those that it reads.
fn stages(run: &Run, ctx: &Context, until: Stage) -> Result<()> {
    let (data, dataset) = stages::data::run(run, ctx)?;
    if until == Stage::Data {
        return Ok(());
    }
    if until == Stage::Behaviour {
        stages::behaviour::run(run, ctx, &data, &dataset)?;
        return Ok(());
    }
    // Before the vectors that take minutes to train: a text encoder may not be there to be had.
    let text = stages::text::run(run, ctx, &data, &dataset)?;
    if until == Stage::Text {
        return Ok(());
    }
    let behaviour = stages::behaviour::run(run, ctx, &data, &dataset)?;
    let codes = stages::codes::run(run, ctx, &behaviour, &text)?;
    if until == Stage::Codes {
        return Ok(());
    }
    let vectors = [&behaviour, &text];
    let model = stages::model::run(run, ctx, &dataset, &data, vectors, &codes)?;
    if until == Stage::Model {
        return Ok(());
    }
    let encoder = stages::text::origin(&run.folder(Stage::Text))?.name;
    stages::eval::run(run, ctx, &dataset, &encoder, &data, &model)?;
    Ok(())
}

/// The settings that `--config` names, on a dataset, with those of `--set`.
///
/// # Errors
/// When there is no such config, or a setting is none.
pub(crate) fn config(name: &str, sets: &[String], manifest: &Manifest) -> Result<Config> {
    let (base, file) = match name {
        "paper" => (Config::paper(manifest), None),
        "plus" => (Config::plus(manifest), None),
        "official" => (Config::official(manifest), None),
        path if Path::new(path).is_file() => (Config::paper(manifest), Some(Path::new(path))),
        _ => bail!("--config {name}: neither `paper`, `plus`, `official` nor a file"),
    };
    overrides::resolve(&base, &manifest.settings, file, sets)
}

/// Everything that can be wrong with the arguments, before anything is made.
fn prepare(args: &RunArgs, name: Option<&str>) -> Result<(Context, PathBuf)> {
    let manifest = Manifest::find(&args.dataset)?;
    let mut config = config(&args.config, &args.sets, &manifest)?;
    let default_name = match Path::new(&args.config).file_stem() {
        Some(stem) => stem.to_string_lossy().into_owned(),
        None => args.config.clone(),
    };
    if let Some(seed) = args.seed {
        config.seed = seed;
    }
    if let Some(encoder) = &args.text_encoder {
        config.text.encoder.clone_from(encoder);
    }
    config.validate().context("config")?;
    if let Some(other) = args.reuse.as_ref().filter(|other| !other.is_dir()) {
        bail!("--reuse {}: is no folder of a run", other.display());
    }
    // Before anything is made, and before what an older command made is given up for it.
    if config.text.vectors.is_none() {
        eager_text::check(&config.text.encoder)?;
    }
    let default_name = name.map_or(default_name, str::to_owned);
    let name = args.name.clone().unwrap_or(default_name);
    check_name(&name)?;
    let root = args.out.join(&manifest.name).join(name);
    let ctx = Context {
        device: args.device.open()?,
        places: Places::new(args.data_dir.as_deref()),
        seed: config.seed,
        manifest,
        config,
    };
    Ok((ctx, root))
}

/// Makes sure that a run can be called so.
///
/// # Errors
/// When the name is none of a folder.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let one = Path::new(name).components().count() == 1;
    ensure!(
        one && !name.starts_with('.') && !name.contains('\\'),
        "--run {name}: it becomes a folder: use letters, digits, - and _"
    );
    Ok(())
}

/// The result, on standard output.
fn print(run: &Run, until: Stage, json: bool) -> Result<()> {
    let folder = run.folder(until);
    let text = match (until, json) {
        (Stage::Eval, true) => read(&folder.join("metrics.json"))?,
        (_, true) => read(&folder.join("stage.json"))?,
        (Stage::Eval, false) => {
            let path = folder.join("metrics.json");
            let report: Option<Report> = read_json(&path)?;
            table::render(&report.with_context(|| format!("{}: not there", path.display()))?)
        }
        (_, false) => folder.display().to_string(),
    };
    cli::print(text.trim_end())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))
}
