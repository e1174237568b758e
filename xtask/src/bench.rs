//! `cargo xtask bench`: a Python environment with the peers, `eager-bench` built in release mode, and a run of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::cargo;
use crate::environment::{self, run};

/// What is run; everything but `--python` is `eager-bench`'s own.
#[derive(Args)]
pub struct Bench {
    /// A Python that has benches/peers/requirements.txt; without it one is made in target/bench-python, with pip
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Arguments of eager-bench, `all` where there are none: see `cargo xtask bench -- --help`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<String>,
}

impl Bench {
    /// Sets up and runs.
    ///
    /// # Errors
    /// When Python, pip or cargo fail, or a benchmark does.
    pub fn run(&self) -> Result<()> {
        let root = cargo::root()?;
        let mut args = self.args.clone();
        if !asks_for_help(&args) {
            let python = match &self.python {
                Some(python) => python.clone(),
                None => environment::with_requirements(
                    Path::new("python3"),
                    &root.join("target/bench-python"),
                    &root.join("benches/peers/requirements.txt"),
                )?,
            };
            if args.first().is_none_or(|arg| arg.starts_with('-')) {
                args.insert(0, "all".to_owned());
            }
            args.extend(["--python".to_owned(), python.display().to_string()]);
        }
        // The whole workspace, whose features are unified: nothing is compiled for this alone.
        run(cargo::build()?.arg("--workspace"))?;
        run(Command::new(cargo::built("eager-bench")?).args(args))
    }
}

fn asks_for_help(args: &[String]) -> bool {
    args.iter().any(|arg| arg == "--help" || arg == "-h")
}
