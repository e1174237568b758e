//! Cargo, asked about this workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// The workspace's folder.
///
/// # Errors
/// When xtask does not lie in one.
pub fn root() -> Result<&'static Path> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.context("xtask does not lie in a workspace")
}

/// The cargo that started this, in the workspace's folder.
///
/// # Errors
/// As [`root`].
pub fn cargo() -> Result<Command> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()?);
    Ok(cargo)
}

/// `cargo build` in release mode; what it makes is found by [`built`].
///
/// # Errors
/// As [`root`].
pub fn build() -> Result<Command> {
    let mut build = cargo()?;
    build.args(["build", "--release", "--locked"]);
    // Said, so that no configuration can put it elsewhere.
    build.arg("--target-dir").arg(target()?);
    Ok(build)
}

/// Where [`build`] leaves a program; an example is `examples/NAME`.
///
/// # Errors
/// As [`root`].
pub fn built(program: &str) -> Result<PathBuf> {
    let path = target()?.join("release").join(program);
    Ok(path.with_extension(std::env::consts::EXE_EXTENSION))
}

fn target() -> Result<PathBuf> {
    let given = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    Ok(root()?.join(given.unwrap_or_else(|| "target".into())))
}
