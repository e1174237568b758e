//! The command line of `eager`, which `cargo xtask` hands its commands to: options, exit codes, where output goes.
//!
//! Results go to standard output, everything else (log, progress, reports on the way) to standard error. Exit code 0: done;
//! 1: something failed; 2: wrong usage, which includes a config or dataset that is none, a device that is not there, and a
//! place that is taken.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, anyhow};
use candle_core::Device;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::baseline::Baseline;
use crate::bundle::{Export, Inspect};
use crate::catalogue::Catalog;
#[cfg(feature = "hub")]
use crate::hub::{Pull, Push};
use crate::init::Init;
use crate::page::{self, ReportArgs};
use crate::recommend::Recommend;
use crate::run::Stage;
use crate::serve::{LogFormat, Serve};
use crate::shell::{Completions, Man};
use crate::tables::{self, Tables};
use crate::{logs, pipeline};

/// EAGER, the two-stream generative recommender (KDD 2024): from a dataset to the paper's table.
///
/// The pipeline has six stages, each of which leaves its artefacts and a `stage.json` in its own folder of the run. What is
/// done is skipped, what was interrupted goes on from its last checkpoint, what was made from other inputs is made again.
#[derive(Debug, Parser)]
#[command(name = "eager", version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How much to say.
    #[command(flatten)]
    pub verbosity: Verbosity,
}

/// Subcommands of `eager`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Your own files looked at: which column is what, what is wrong and where; and a manifest of them
    Init(Init),
    /// All stages, then a table: ours, the paper's, the difference
    Pipeline(Pipeline),
    /// Stage 1: histories and items, filtered and ordered
    Data(RunArgs),
    /// Stages 1 and 2: behaviour vectors of the items, by a DIN
    Behaviour(RunArgs),
    /// Stages 1 and 3: semantic vectors of the items, from their texts
    Text(RunArgs),
    /// Stages 1–4: two trees of codes, and how good they are
    Codes(RunArgs),
    /// Stages 1–5: the model, trained
    Model(RunArgs),
    /// Stages 1–6: figures on the test set, as `pipeline`
    Eval(RunArgs),
    /// A model that EAGER is compared with: trained and evaluated on the same data, with the same figures
    #[command(subcommand)]
    Baseline(Baseline),
    /// Lists of items for histories, by a trained run or a bundle
    Recommend(Recommend),
    /// Bundles and runs over HTTP
    Serve(Serve),
    /// A trained run as a bundle: one folder with everything that recommending needs
    Export(Export),
    /// A bundle to a model repository of the Hugging Face hub, with a model card
    #[cfg(feature = "hub")]
    Push(Push),
    /// A bundle from a model repository of the Hugging Face hub
    #[cfg(feature = "hub")]
    Pull(Pull),
    /// What a bundle holds, and whether it is whole
    Inspect(Inspect),
    /// Tables over many runs: what is missing is run, what is there is reused
    Tables(Tables),
    /// Items added to a bundle or removed, without training
    #[command(subcommand)]
    Catalog(Catalog),
    /// A run as a page to look at: figures, curves, streams, calibration, codes, users
    Report(ReportArgs),
    /// What makes a shell complete this command's words
    Completions(Completions),
    /// Manual pages, one a subcommand
    Man(Man),
}

/// All stages of a dataset, or the first few.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Pipeline {
    /// What to run, and where.
    #[command(flatten)]
    pub run: RunArgs,
    /// Last stage to do
    #[arg(long, value_name = "STAGE", default_value = "eval")]
    pub until: Stage,
}

/// What to run, and where.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A preset (amazon-beauty, amazon-sports, amazon-toys, yelp, movielens-100k, demo) or a manifest file of your own
    ///
    /// `demo` is generated and needs nothing; the form of a manifest is described in docs/datasets.md.
    pub dataset: String,

    /// Settings: `paper`, `plus` (ours, beyond the paper), `official` (what the authors' code runs), or a TOML file
    ///
    /// A file changes some keys of `paper`; a run's `config.toml` has all of them, and can be given here.
    #[arg(long, value_name = "NAME|FILE", default_value = "paper")]
    pub config: String,

    /// Change one setting, such as `codes.behaviour.branching=64`; may be given again
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,

    /// The run's name; otherwise that of the config
    ///
    /// Another config under the same name takes the place of the one before, as far as they differ.
    #[arg(long = "run", value_name = "NAME")]
    pub name: Option<String>,

    /// Folder of all runs; this one's is DIR/DATASET/NAME
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,

    /// Folder of another run whose stages are copied where they are what this one would make
    ///
    /// So an ablation of the model does not train the vectors again.
    #[arg(long, value_name = "RUN")]
    pub reuse: Option<PathBuf>,

    /// Folder with a folder a dataset, for files that are not to be fetched
    #[arg(long, value_name = "DIR", env = "EAGER_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// What makes the semantic vectors: sentence-t5-base (the paper's), -large, -xl, -xxl, minilm, lsa, or a model folder
    ///
    /// `lsa` downloads nothing. The same as --set text.encoder=….
    #[arg(long, value_name = "NAME|DIR")]
    pub text_encoder: Option<String>,

    /// Where tensors live
    ///
    /// cuda and metal need a binary that was built with the feature of that name (cargo build --release --features cuda).
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceKind,

    /// Seed of everything that is drawn; the same as --set seed=N
    // TOML, as which it is saved, has no larger numbers.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,

    /// Print eval/metrics.json instead of the table (after an earlier stage: its stage.json instead of its folder)
    #[arg(long)]
    pub json: bool,
}

/// How much goes to standard error.
#[derive(Copy, Clone, Debug, Args)]
pub struct Verbosity {
    /// Say nothing but warnings and errors, and show no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

impl Verbosity {
    /// Starts the log.
    pub fn init(self) {
        logs::init(self.level());
    }

    fn level(self) -> i8 {
        i8::from(self.verbose) - i8::from(self.quiet)
    }
}

/// Devices by name.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
    /// The first Apple GPU.
    Metal,
}

impl DeviceKind {
    /// The name on the command line and in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// [`Usage`] when this build or this machine has none.
    pub fn open(self) -> Result<Device> {
        let device = match self {
            Self::Cpu => return Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            Self::Cuda => eager_ops::gpu(0),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda => Device::new_cuda(0),
            Self::Metal => Device::new_metal(0),
        };
        let name = self.name();
        let device = device.with_context(|| {
            format!("no {name} device: it takes a build with `--features {name}` and a machine that has one")
        });
        device.map_err(|error| Usage::new(&error).into())
    }
}

/// Does what was asked for.
///
/// # Errors
/// Whatever went wrong; [`exit_code`] tells usage from failure.
pub fn run(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Serve(Serve {
            log_format: LogFormat::Json,
            ..
        }) => logs::init_json(cli.verbosity.level()),
        _ => cli.verbosity.init(),
    }
    let (args, until) = match &cli.command {
        Command::Pipeline(pipeline) => (&pipeline.run, pipeline.until),
        Command::Data(args) => (args, Stage::Data),
        Command::Behaviour(args) => (args, Stage::Behaviour),
        Command::Text(args) => (args, Stage::Text),
        Command::Codes(args) => (args, Stage::Codes),
        Command::Model(args) => (args, Stage::Model),
        Command::Eval(args) => (args, Stage::Eval),
        Command::Init(args) => return args.run(),
        Command::Baseline(baseline) => return baseline.run(),
        Command::Recommend(args) => return args.run(),
        Command::Serve(args) => return args.run(),
        Command::Export(args) => return args.run(),
        #[cfg(feature = "hub")]
        Command::Push(args) => return args.run(),
        #[cfg(feature = "hub")]
        Command::Pull(args) => return args.run(),
        Command::Inspect(args) => return args.run(),
        Command::Tables(args) => return tables::run(args),
        Command::Catalog(args) => return args.run(),
        Command::Report(args) => return page::run(args),
        Command::Completions(args) => return args.run(),
        Command::Man(args) => return args.run(),
    };
    pipeline::run(args, until)
}

/// An error that the user's arguments are to blame for.
#[derive(Debug)]
pub struct Usage(String);

impl Usage {
    /// From an error with its causes.
    #[must_use]
    pub fn new(error: &anyhow::Error) -> Self {
        Self(chain(error))
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Makes sure that nothing is where a new folder is to be: said before the work, not after it.
///
/// # Errors
/// [`Usage`] where something is.
pub(crate) fn free(folder: &Path) -> Result<()> {
    if folder.exists() {
        let folder = folder.display();
        let words = anyhow!("{folder}: is there already; give another folder");
        return Err(Usage::new(&words).into());
    }
    Ok(())
}

/// Whether the reader of standard output went away, as `| head` does when it has its lines. The error cannot be asked: libraries
/// hide the cause in theirs, and other pipes break too.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// Standard output, for all that commands write there.
pub(crate) struct Output;

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        noted(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        noted(io::stdout().flush())
    }
}

fn noted<T>(result: io::Result<T>) -> io::Result<T> {
    result.inspect_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            UNREAD.store(true, Ordering::Relaxed);
        }
    })
}

/// Prints a result, with a line end, on standard output.
///
/// # Errors
/// When it cannot be written: the disk is full, or nobody reads on.
pub(crate) fn print(text: impl fmt::Display) -> Result<()> {
    writeln!(Output, "{text}").context("standard output: cannot write")
}

/// A word as a shell reads it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Prints an error, if there is one, as `error: …` and gives the process's exit code. That nobody reads on is no error.
pub fn exit_code(result: Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if UNREAD.load(Ordering::Relaxed) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", chain(&error));
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}

/// An error and its causes in one line each; a cause that the line above already tells is left out.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

const EXIT_CODES: &str = "Exit code: 0 done, 1 failed, 2 wrong usage. Results go to standard output, everything else to \
standard error.";

const EXAMPLES: &str = "\
Made in <out>/<dataset>/<run>/:
  config.toml   all settings of the run
  data/         items.jsonl, interactions.jsonl, dataset.json
  behaviour/    vectors.safetensors: a vector an item, from histories
  text/         vectors.safetensors: a vector an item, from texts
  codes/        behaviour.safetensors, semantic.safetensors, report.json, report.txt
  model/        the trained model, its checkpoints, metrics.jsonl, tensorboard/
  eval/         metrics.json: figures, intervals, streams, baselines, the paper's
  report.html   all of it to look at, in one file
and in each stage's folder stage.json: digest of the inputs, settings, seed, versions, time, memory.

Examples:
  eager pipeline demo --text-encoder lsa               the whole way in minutes, nothing downloaded
  eager pipeline amazon-beauty --data-dir ~/datasets   the paper's first table
  eager pipeline amazon-beauty --config official --device cuda
  eager pipeline demo --set codes.behaviour.branching=64 --run k64 --until codes
  eager pipeline demo --json -q | jq '.\"recall@10\"'
  tensorboard --logdir runs                            while it trains

Interrupted? Give the same command again.
Exit code: 0 done, 1 failed, 2 wrong usage. Results go to standard output, everything else to standard error.";

/// What the libraries below read from the environment once, before any code of ours runs, and what a program that trains
/// and decodes wants of it.
///
/// - candle's elementwise operations on large tensors share one spinning pool among all threads of a process, so that two
///   workers wait for each other (measured: a seventh of a search's time).
/// - mimalloc gives freed pages back to the system after a moment and gets them back zeroed; a training step frees and asks
///   for the same hundreds of megabytes (measured: a fourteenth of a step's time).
pub const RUNTIME: [(&str, &str); 2] =
    [("CANDLE_NUM_THREADS", "1"), ("MIMALLOC_PURGE_DELAY", "-1")];

/// Starts this program anew with the variables of [`RUNTIME`], unless both are set: safe code cannot set a variable of its
/// own process. Variables that are set stay as they are, and so does the process id.
pub fn with_runtime() {
    let missing = RUNTIME.map(|(name, _)| std::env::var_os(name).is_none());
    #[cfg(unix)]
    if missing.contains(&true)
        && let Ok(program) = std::env::current_exe()
    {
        use std::os::unix::process::CommandExt;
        let wanted = RUNTIME.into_iter().zip(missing);
        let error = std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .envs(wanted.filter_map(|(variable, missing)| missing.then_some(variable)))
            .exec();
        eprintln!("note: cannot start anew with {RUNTIME:?} ({error}); computing goes on, slower");
    }
}
