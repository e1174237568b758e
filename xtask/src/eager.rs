//! `cargo xtask pipeline …`, and every other command that is not of here: the program `eager`, built in release mode.
//!
//! A program beside this one, not a library within: cargo compiles a package's dependencies with the features that what it
//! is asked to build wants of them. With `eager` in it xtask would want others than the whole workspace does, and `cargo
//! xtask test` would compile nearly everything twice, once for itself and once for what it tests.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::cargo;

/// Features of `eager` that a build of xtask can have.
const FEATURES: [(&str, bool); 5] = [
    ("cuda", cfg!(feature = "cuda")),
    ("cudnn", cfg!(feature = "cudnn")),
    ("metal", cfg!(feature = "metal")),
    ("accelerate", cfg!(feature = "accelerate")),
    ("mkl", cfg!(feature = "mkl")),
];

/// Builds `eager` and becomes it; where a process cannot, its exit code is given when it has ended.
///
/// # Errors
/// When it cannot be built or started.
pub fn run(args: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let mut command = cargo::build()?;
    command.args(["--package", "eager"]);
    for (feature, _) in FEATURES.iter().filter(|(_, wanted)| *wanted) {
        command.args(["--features", feature]);
    }
    build(&mut command)?;
    let eager = cargo::built("eager")?;
    become_it(&eager, Command::new(&eager).args(args))
}

/// Runs cargo, which says what it compiles, and nothing where there was nothing to compile.
fn build(command: &mut Command) -> Result<()> {
    let chosen = ["CARGO_TERM_COLOR", "NO_COLOR"].map(std::env::var_os);
    if std::io::stderr().is_terminal() && chosen == [None, None] {
        // Cargo itself sees a pipe.
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let said = child.stderr.take().context("cargo has no standard error")?;
    for line in BufReader::new(said).split(b'\n') {
        let line = line.context("cannot read what cargo says")?;
        let line = String::from_utf8_lossy(&line);
        if !(line.contains("Finished") && line.contains("`release` profile")) {
            eprintln!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    ensure!(status.success(), "cargo could not build eager ({status})");
    Ok(())
}

/// In place of this process: whoever sends a signal or waits has to do with `eager` itself, which ends as it sees fit.
#[cfg(unix)]
fn become_it(program: &Path, command: &mut Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt as _;
    let error = command.exec();
    Err(error).with_context(|| format!("{}: cannot start", program.display()))
}

#[cfg(not(unix))]
fn become_it(program: &Path, command: &mut Command) -> Result<ExitCode> {
    let status = command.status();
    let status = status.with_context(|| format!("{}: cannot start", program.display()))?;
    std::process::exit(status.code().unwrap_or(1))
}
