//! `cargo xtask bench`: a Python environment with the peers, `eager-bench` built in release mode, and a run of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

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
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let root = root.context("xtask does not lie in a workspace")?;
        let python = match &self.python {
            Some(python) => python.clone(),
            None => environment(root)?,
        };
        let mut args = self.args.clone();
        if args.first().is_none_or(|arg| arg.starts_with('-')) && !asks_for_help(&args) {
            args.insert(0, "all".to_owned());
        }
        if !asks_for_help(&args) {
            args.extend(["--python".to_owned(), python.display().to_string()]);
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // The whole workspace, whose features are unified: nothing is compiled for this alone.
        run(Command::new(&cargo)
            .args(["build", "--release", "--workspace", "--locked"])
            .current_dir(root))?;
        let target = std::env::var_os("CARGO_TARGET_DIR");
        let target = target.map_or_else(|| root.join("target"), PathBuf::from);
        run(Command::new(target.join("release/eager-bench")).args(args))
    }
}

fn asks_for_help(args: &[String]) -> bool {
    args.iter().any(|arg| arg == "--help" || arg == "-h")
}

/// A virtual environment with the peers, made where it is not there, and made anew where the requirements have changed.
fn environment(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/bench-python");
    let requirements = root.join("benches/peers/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)
        .with_context(|| format!("{}: cannot read", requirements.display()))?;
    let (python, installed) = (folder.join("bin/python"), folder.join("requirements.txt"));
    if std::fs::read_to_string(&installed).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    eprintln!("installing the peers into {} (once)", folder.display());
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(&requirements))?;
    // Last, so that an interrupted installation is done again.
    std::fs::write(&installed, wanted)
        .with_context(|| format!("{}: cannot write", installed.display()))?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot start {program}; is it installed?"))?;
    ensure!(status.success(), "{program} failed ({status})");
    Ok(())
}
