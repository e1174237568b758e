//! What an installation puts beside the binary: completions for shells, and manual pages.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::{Cli, Output, print};

/// A script on standard output.
#[derive(Debug, Args)]
#[command(after_long_help = COMPLETIONS)]
pub struct Completions {
    /// For which shell
    pub shell: Shell,
}

/// Pages in a folder.
#[derive(Debug, Args)]
#[command(after_long_help = MAN)]
pub struct Man {
    /// Folder to write them to: eager.1, eager-recommend.1, …
    pub folder: PathBuf,
}

const COMPLETIONS: &str = "Examples:
  eager completions bash > ~/.local/share/bash-completion/completions/eager
  eager completions zsh > ~/.zfunc/_eager        # with fpath+=~/.zfunc before compinit
  eager completions fish > ~/.config/fish/completions/eager.fish";

const MAN: &str = "Examples:
  eager man ~/.local/share/man/man1 && man eager-recommend";

impl Completions {
    /// Writes it.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn run(&self) -> Result<()> {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut Cli::command(), "eager", &mut script);
        Output.write_all(&script).context("standard output")
    }
}

impl Man {
    /// Writes them and prints the folder.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub fn run(&self) -> Result<()> {
        let failed = || format!("{}: cannot write", self.folder.display());
        std::fs::create_dir_all(&self.folder).with_context(failed)?;
        let command = Cli::command().disable_help_subcommand(true);
        clap_mangen::generate_to(command, &self.folder).with_context(failed)?;
        print(self.folder.display())
    }
}
