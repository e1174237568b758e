//! The `eager` command; everything it does is in the library's `cli`.

use std::process::ExitCode;

use clap::Parser;
use eager::cli;

/// Training allocates and frees large buffers all the time, at which the system's allocator is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::with_runtime();
    cli::exit_code(cli::run(&cli::Cli::parse()))
}
