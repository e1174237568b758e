//! `cargo xtask python`: the wheel, an environment that has nothing else, the tests, the types, the notebook.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::cargo;
use crate::environment::{self, run};

/// What the package is made and tested with.
#[derive(Args)]
#[command(after_long_help = STEPS)]
pub struct Python {
    /// The Python to make environments of: CPython 3.9 or newer, with venv and pip
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// The cargo profile of the wheel; `release` is quicker to build, and larger
    #[arg(long, value_name = "NAME", default_value = "dist")]
    profile: String,
    /// Make the wheel, and do nothing with it
    #[arg(long)]
    wheel_only: bool,
}

const STEPS: &str = "\
Made, with pip and a package index:
  dist/eager_rec-*.whl               the wheel, for every CPython from 3.9 on
  target/python/clean/               an environment with the wheel and what the tests use, made anew each time
  target/python/recommend.ipynb      python/notebooks/recommend.ipynb, executed there from top to bottom
The tests (python/tests) compare lists with those of the command `eager`, which is built for that; the types of
python/eager_rec are compared with the compiled module by mypy. The notebook needs a trained bundle: a run of the dataset
`demo` is made in target/python/runs where there is none.";

impl Python {
    /// Builds, installs, tests, executes.
    ///
    /// # Errors
    /// When Python, pip, cargo or a test fail.
    pub fn run(&self) -> Result<()> {
        let root = cargo::root()?;
        let package = root.join("python");
        let work = root.join("target/python");
        let wheel = self.wheel(root, &package, &work)?;
        println!("{}", wheel.display());
        if self.wheel_only {
            return Ok(());
        }
        let (eager, random_bundle) = programs()?;
        let clean = environment::new(&self.python, &work.join("clean"))?;
        environment::install(&clean, &[&wheel])?;
        let tests = package.join("requirements-test.txt");
        environment::install(&clean, &[Path::new("--requirement"), &tests])?;

        let bundle = removed(work.join("random"))?;
        run(Command::new(&random_bundle).arg(&bundle).arg("small"))?;
        let direct = removed(work.join("direct"))?;
        run(Command::new(&random_bundle).arg(&direct).arg("direct"))?;
        // Outside the package's folder, so that Python finds what was installed and nothing else.
        run(Command::new(&clean)
            .args(["-m", "pytest", "--config-file"])
            .args([&package.join("pyproject.toml"), &package.join("tests")])
            .current_dir(&work)
            .env("EAGER_TEST_BUNDLE", bundle)
            .env("EAGER_TEST_DIRECT", direct)
            .env("EAGER_COMMAND", &eager))?;
        run(Command::new(&clean)
            .args(["-m", "mypy.stubtest", "eager_rec"])
            .current_dir(&work))?;

        let executed = work.join("recommend.ipynb");
        run(Command::new(&clean)
            .arg(package.join("notebooks/execute.py"))
            .args([&package.join("notebooks/recommend.ipynb"), &executed])
            .env("EAGER_BUNDLE", demo_bundle(&eager, &work)?))?;
        println!("{}", executed.display());
        Ok(())
    }

    /// Builds the wheel into `dist/` and gives its path.
    fn wheel(&self, root: &Path, package: &Path, work: &Path) -> Result<PathBuf> {
        let tools = work.join("tools");
        let requirements = package.join("requirements-build.txt");
        environment::with_requirements(&self.python, &tools, &requirements)?;
        // Beside `dist/` first: there may be older ones.
        let made = removed(work.join("wheel"))?;
        run(Command::new(environment::program(&tools, "maturin"))
            .args(["build", "--locked", "--profile", &self.profile, "--out"])
            .arg(&made)
            .current_dir(package))?;
        let wheel = std::fs::read_dir(&made)
            .with_context(|| format!("{}: cannot list", made.display()))?
            .find_map(|entry| entry.ok().map(|entry| entry.path()))
            .with_context(|| format!("{}: maturin left no wheel", made.display()))?;
        let dist = root.join("dist");
        std::fs::create_dir_all(&dist)
            .with_context(|| format!("{}: cannot make the folder", dist.display()))?;
        let place = dist.join(wheel.file_name().unwrap_or_default());
        std::fs::rename(&wheel, &place)
            .with_context(|| format!("{}: cannot write", place.display()))?;
        Ok(place)
    }
}

/// The program `eager`, and the one that writes small bundles of models that were never trained; both of the same sources.
fn programs() -> Result<(PathBuf, PathBuf)> {
    let wanted = ["--bin", "eager", "--example", "random_bundle"];
    // Of the whole workspace, and with an example as the tests are: what `cargo xtask test` has compiled serves this too.
    run(cargo::build()?.arg("--workspace").args(wanted))?;
    let random_bundle = cargo::built("examples/random_bundle")?;
    Ok((cargo::built("eager")?, random_bundle))
}

/// A folder that is to be made, without what an earlier run left there.
fn removed(folder: PathBuf) -> Result<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("{}: cannot remove", folder.display()))?;
    }
    Ok(folder)
}

/// A bundle that was trained, in a minute where it is not there yet.
fn demo_bundle(eager: &Path, work: &Path) -> Result<PathBuf> {
    let runs = work.join("runs");
    run(Command::new(eager)
        .args(["pipeline", "demo", "--text-encoder", "lsa", "--out"])
        .arg(&runs))?;
    let bundle = removed(work.join("demo"))?;
    run(Command::new(eager)
        .arg("export")
        .args([&runs.join("demo/paper"), &bundle]))?;
    Ok(bundle)
}
