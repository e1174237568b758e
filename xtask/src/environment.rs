//! Virtual environments of Python, and programs that must succeed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// A virtual environment in `folder` with what `requirements` names, made where it is not there, and made anew where the
/// requirements have changed. Gives its interpreter.
///
/// # Errors
/// When `python` cannot make one, or pip cannot install.
pub fn with_requirements(python: &Path, folder: &Path, requirements: &Path) -> Result<PathBuf> {
    let wanted = std::fs::read_to_string(requirements)
        .with_context(|| format!("{}: cannot read", requirements.display()))?;
    let installed = folder.join("requirements.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|have| have == wanted) {
        return Ok(interpreter(folder));
    }
    eprintln!(
        "installing {} into {} (once)",
        requirements.display(),
        folder.display()
    );
    let made = new(python, folder)?;
    install(&made, &[Path::new("--requirement"), requirements])?;
    // Last, so that an interrupted installation is done again.
    std::fs::write(&installed, wanted)
        .with_context(|| format!("{}: cannot write", installed.display()))?;
    Ok(made)
}

/// A virtual environment in `folder` with pip alone, whatever was there before. Gives its interpreter.
///
/// # Errors
/// When `python` is none, or has no `venv` or pip to make one with.
pub fn new(python: &Path, folder: &Path) -> Result<PathBuf> {
    let shown = python.display();
    let asked = Command::new(python)
        .args(["-c", "import venv, ensurepip"])
        .output();
    let asked = asked.with_context(|| {
        format!("cannot start {shown}; install Python 3.9 or newer, or name one with --python PATH")
    })?;
    if !asked.status.success() {
        bail!(
            "{shown} cannot make virtual environments: {}; install its venv and pip (Debian: python3-venv), or name \
             another Python with --python PATH",
            String::from_utf8_lossy(&asked.stderr)
                .lines()
                .last()
                .unwrap_or("it does not say why")
        );
    }
    run(Command::new(python)
        .args(["-m", "venv", "--clear"])
        .arg(folder))?;
    Ok(interpreter(folder))
}

/// Installs with the interpreter's pip.
///
/// # Errors
/// When pip fails.
pub fn install(python: &Path, what: &[&Path]) -> Result<()> {
    run(Command::new(python)
        .args(["-m", "pip", "install", "--quiet"])
        .args(what))
}

/// A program of a virtual environment.
#[must_use]
pub fn program(folder: &Path, name: &str) -> PathBuf {
    match cfg!(windows) {
        true => folder.join("Scripts").join(name),
        false => folder.join("bin").join(name),
    }
}

fn interpreter(folder: &Path) -> PathBuf {
    program(folder, "python")
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot start {program}; is it installed?"))?;
    ensure!(status.success(), "{program} failed ({status})");
    Ok(())
}
