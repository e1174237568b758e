//! `cargo xtask test`: the checks one after the other, each with its time.
//!
//! All of them build in the release profile with the same flags, so that nothing is compiled for one of them alone.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::cargo;

/// Name, arguments of cargo, and what is added to its environment.
type Check = (
    &'static str,
    &'static [&'static str],
    Option<(&'static str, &'static str)>,
);

const CHECKS: [Check; 4] = [
    ("format", &["fmt", "--all", "--check"], None),
    (
        "lints",
        &[
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-Dwarnings",
        ],
        None,
    ),
    (
        "tests",
        &["test", "--release", "--workspace", "--locked"],
        None,
    ),
    (
        // In release mode too: it then reads what the lints have compiled.
        "documentation",
        &["doc", "--release", "--workspace", "--no-deps", "--locked"],
        Some(("RUSTDOCFLAGS", "-Dwarnings")),
    ),
];

/// Runs every check, also after one has failed.
///
/// # Errors
/// When one failed, with the names of all that did.
pub fn run() -> Result<()> {
    say_what_is_skipped(cargo::root()?);
    let (mut failed, mut lines) = (Vec::new(), Vec::new());
    for (name, args, environment) in CHECKS {
        eprintln!("\n== {name}: cargo {}", args.join(" "));
        let start = Instant::now();
        let status = cargo::cargo()?.args(args).envs(environment).status();
        let status = status.context("cannot start cargo")?;
        let seconds = start.elapsed().as_secs_f64();
        let result = if status.success() { "ok" } else { "FAILED" };
        if !status.success() {
            failed.push(name);
        }
        lines.push(format!("{name:<14} {result:<6} {seconds:>7.1} s"));
    }
    println!("\n{}", lines.join("\n"));
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Tests that need files from elsewhere pass without them; nobody should take that for a test.
fn say_what_is_skipped(root: &Path) {
    let there = |variable: &str, otherwise: &str| {
        let given = std::env::var_os(variable).filter(|folder| !folder.is_empty());
        given.is_some_and(|folder| Path::new(&folder).is_dir()) || root.join(otherwise).is_dir()
    };
    for (variable, otherwise, what) in [
        (
            "EAGER_DATA_DIR",
            "../shared/datasets",
            "the benchmark sets' statistics",
        ),
        (
            "EAGER_SHARED_DIR",
            "../shared",
            "parity with the original text encoders",
        ),
    ] {
        if !there(variable, otherwise) {
            eprintln!("skipped: {what} (neither {variable} nor {otherwise} is a folder)");
        }
    }
    // The names that `crates/eager-serve/tests/browser` looks for.
    const BROWSERS: [&str; 4] = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .any(|folder| BROWSERS.iter().any(|name| folder.join(name).is_file()));
    if !on_path && std::env::var_os("EAGER_CHROMIUM").is_none() {
        eprintln!(
            "skipped: the page of `eager serve` in a browser (no Chromium on the PATH, and EAGER_CHROMIUM is not set)"
        );
    }
}
