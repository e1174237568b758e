//! The workspace's own automation: `cargo xtask test` is everything that must hold before a change is merged, `cargo xtask
//! bench` the speed beside named peers, `cargo xtask python` the Python package. Any other subcommand is `eager`'s: `cargo
//! xtask pipeline …` is `eager pipeline …` built in release mode. Nothing here computes; it calls cargo, `eager` and Python.

mod bench;
mod cargo;
mod checks;
mod eager;
mod environment;
mod python;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Automation for the EAGER workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110, after_help = OF_EAGER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// For a command of `eager`: say nothing but warnings and errors, and show no progress
    #[arg(short, long)]
    quiet: bool,
    /// For a command of `eager`: say more
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Formatting, lints, all tests and the documentation, in release mode
    ///
    /// Release mode because the code tested is then the code shipped, and the numeric tests are slow without optimisation.
    /// Tests that need the benchmark data take them from EAGER_DATA_DIR, those that need a model from EAGER_SHARED_DIR, or
    /// both from ../shared, those of the page want a Chromium; what is not there is skipped, and said.
    Test,
    /// Speed beside PyTorch, scikit-learn, faiss and sentence-transformers: `cargo xtask bench -- train --rounds 3`
    ///
    /// Installs the peers into target/bench-python (pip and PyPI), unless --python names a Python that has them.
    Bench(bench::Bench),
    /// The Python package: its wheel into dist/, installed into a clean environment, tested, the notebook executed
    Python(python::Python),
    #[command(external_subcommand)]
    Eager(Vec<OsString>),
}

const OF_EAGER: &str = "\
Every other command is one of `eager`, which is built in release mode for it. Among them:
  cargo xtask pipeline DATASET   from a dataset to the paper's table
  cargo xtask baseline MODEL     a model that EAGER is compared with
  cargo xtask tables TABLE       the tables of docs/results: what is missing is run, what is there is reused
  cargo xtask pipeline --help    eager's own help

On a GPU: cargo run --release -p xtask --features cuda -- pipeline DATASET --device cuda

Exit code: 0 done, 1 failed, 2 wrong usage; of a command of `eager` its own.";

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Test => checks::run()?,
        Command::Bench(bench) => bench.run()?,
        Command::Python(python) => python.run()?,
        Command::Eager(args) => {
            let flags = [(cli.quiet, "--quiet"), (cli.verbose, "--verbose")];
            let flags = flags.into_iter().filter(|(given, _)| *given);
            let flags = flags.map(|(_, flag)| OsString::from(flag));
            return eager::run(flags.chain(args.iter().cloned()));
        }
    }
    Ok(ExitCode::SUCCESS)
}
