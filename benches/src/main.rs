//! `eager-bench`: how fast ours is, as a ratio to a named peer on the same work, in the same run, with the same precision
//! and number of threads. See `benches/README.md`; `cargo xtask bench` sets everything up.

mod beauty;
mod flops;
mod jobs;
mod machine;
mod ours;
mod sides;
mod table;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use eager::cli;

use jobs::Bench;
use ours::Job;
use table::Table;
use workload::DeviceKind;

/// As in the `eager` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Speed beside named peers, on the same work in the same run
#[derive(Parser)]
#[command(name = "eager-bench", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything, and a file of results
    All(Options),
    /// A training step beside PyTorch, and its memory
    Train(Options),
    /// Beam search beside a cached one in PyTorch
    Search(Options),
    /// Recommending beside the official code's scheme, which encodes anew for every beam
    Official(Options),
    /// One k-means beside scikit-learn and faiss
    Kmeans(Options),
    /// Text encoding beside sentence-transformers
    Text(Options),
    /// Our side of a job
    #[command(hide = true)]
    Ours { job: Job, workload: PathBuf },
}

/// What is measured, and with what.
#[derive(Clone, Debug, Args)]
struct Options {
    /// Rounds of each side, by turns
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// Updates of a round of training
    #[arg(long, value_name = "N", default_value_t = 8)]
    steps: usize,
    /// Users of a round of search
    #[arg(long, value_name = "N", default_value_t = 1024)]
    users: usize,
    /// Threads of every side; our training has two shards, so more than 2 do not make it faster
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Where the training step is computed
    ///
    /// On cuda `all` is the training step alone, and its file of results is named by the GPU. It takes a build with
    /// `--features cuda` and a PyTorch that finds the GPU. A step is short there: --steps 100 makes rounds of a second.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceKind,
    /// Folder of datasets, with amazon-beauty in it; without it the files are looked for in the cache, else fetched
    #[arg(long, value_name = "DIR", env = "EAGER_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// A model folder of sentence-transformers (all-MiniLM-L6-v2); without it text encoding is left out
    #[arg(long, value_name = "DIR")]
    text_encoder: Option<PathBuf>,
    /// Python with benches/peers/requirements.txt installed
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// Folder of a pipeline run on amazon-beauty whose vectors and codes are used
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Leave torch.compile out, which takes minutes to compile and needs a C++ compiler
    #[arg(long)]
    no_compile: bool,
    /// Where `all` writes its results
    #[arg(long, value_name = "DIR", default_value = table::RESULTS)]
    results: PathBuf,
}

fn main() -> ExitCode {
    cli::with_runtime();
    cli::exit_code(run(Cli::parse().command))
}

/// A job of [`jobs`].
type Measure = fn(&Bench, &mut Table) -> Result<()>;

fn run(command: Command) -> Result<()> {
    let (options, jobs): (&Options, &[Measure]) = match &command {
        Command::Ours { job, workload } => return ours::run(*job, workload),
        Command::All(options) if options.device == DeviceKind::Cuda => (options, &[jobs::train]),
        Command::All(options) => (
            options,
            &[
                jobs::train,
                jobs::search,
                jobs::official,
                jobs::kmeans,
                jobs::text,
            ],
        ),
        Command::Train(options) => (options, &[jobs::train]),
        Command::Search(options) => (options, &[jobs::search]),
        Command::Official(options) => (options, &[jobs::official]),
        Command::Kmeans(options) => (options, &[jobs::kmeans]),
        Command::Text(options) => (options, &[jobs::text]),
    };
    ensure!(
        options.device == DeviceKind::Cpu || matches!(command, Command::All(_) | Command::Train(_)),
        "--device cuda: only the training step is measured on a GPU; use `train` or `all`"
    );
    let bench = Bench::new(options)?;
    let mut table = Table::default();
    table.note(bench.beauty.origin.clone());
    for job in jobs {
        job(&bench, &mut table)?;
    }
    print!("{}", table.markdown());
    if matches!(command, Command::All(_)) {
        if options.device == DeviceKind::Cuda {
            table.not_measured("beam search");
        }
        let machine = machine::Machine::new(&options.python, options.device)?;
        let path = table.write(&options.results, &machine)?;
        eprintln!("written: {}", path.display());
    }
    Ok(())
}
