//! The workspace's own automation: `cargo xtask pipeline …` is `eager pipeline …` built in release mode, `cargo xtask test`
//! is everything that must hold before a change is merged, `cargo xtask bench` the speed beside named peers, `cargo xtask
//! python` the Python package. Nothing here computes; it calls `eager`, cargo and Python.

mod bench;
mod checks;
mod environment;
mod python;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use eager::baseline::Baseline;
use eager::cli::{Pipeline, Verbosity, exit_code};
use eager::tables::Tables;

/// As in the `eager` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Automation for the EAGER workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    verbosity: Verbosity,
}

#[derive(Subcommand)]
enum Command {
    /// From a dataset to the paper's table: the same as `eager pipeline`
    ///
    /// On a GPU: cargo run --release -p xtask --features cuda -- pipeline DATASET --device cuda
    Pipeline(Pipeline),
    /// A model that EAGER is compared with: the same as `eager baseline`
    #[command(subcommand)]
    Baseline(Baseline),
    /// The tables of docs/results: what is missing is run, what is there is reused
    Tables(Tables),
    /// Formatting, lints, all tests and the documentation, in release mode
    ///
    /// Release mode because the code tested is then the code shipped, the numeric tests are slow without optimisation, and
    /// one build serves this and the pipeline. Tests that need the benchmark data take them from EAGER_DATA_DIR, those that
    /// need a model from EAGER_SHARED_DIR, or both from ../shared; what is not there is skipped, and said.
    Test,
    /// Speed beside PyTorch, scikit-learn, faiss and sentence-transformers: `cargo xtask bench -- train --rounds 3`
    ///
    /// Installs the peers into target/bench-python (pip and PyPI), unless --python names a Python that has them.
    Bench(bench::Bench),
    /// The Python package: its wheel into dist/, installed into a clean environment, tested, the notebook executed
    Python(python::Python),
}

fn main() -> ExitCode {
    exit_code(run(&Cli::parse()))
}

fn run(cli: &Cli) -> Result<()> {
    cli.verbosity.init();
    match &cli.command {
        Command::Pipeline(pipeline) => {
            eager::cli::with_runtime();
            eager::pipeline::run(&pipeline.run, pipeline.until)
        }
        Command::Baseline(baseline) => {
            eager::cli::with_runtime();
            baseline.run()
        }
        Command::Tables(tables) => {
            eager::cli::with_runtime();
            eager::tables::run(tables)
        }
        Command::Test => checks::run(),
        Command::Bench(bench) => bench.run(),
        Command::Python(python) => python.run(),
    }
}
