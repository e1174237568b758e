//! Where and with what a run was made.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// The machine, the programs, the day.
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub date: String,
    /// Name and version.
    pub versions: Vec<(String, String)>,
}

impl Machine {
    /// This machine, and the versions that `python` has.
    pub fn new(python: &Path) -> Result<Self> {
        let mut versions = vec![
            ("eager".to_owned(), commit()),
            ("rustc".to_owned(), rustc()),
        ];
        let peers = "import importlib.metadata as m, platform; print('python', platform.python_version()); \
            [print(p, m.version(p)) for p in ('torch', 'numpy', 'scikit-learn', 'faiss-cpu', 'sentence-transformers')]";
        let peers = said(python, &["-c", peers]);
        let pairs = peers.lines().filter_map(|line| line.split_once(' '));
        versions.extend(pairs.map(|(name, version)| (name.to_owned(), version.to_owned())));
        Ok(Self {
            processor: processor(),
            cores: std::thread::available_parallelism()
                .context("the number of cores")?
                .get(),
            date: said("date", &["+%Y-%m-%d"]),
            versions,
        })
    }

    /// The name of its file of results, without ending.
    pub fn file_name(&self) -> String {
        let name = format!("{} {} cores", self.processor, self.cores).to_lowercase();
        let words = name.split(|c: char| !c.is_ascii_alphanumeric());
        words
            .filter(|w| !w.is_empty())
            .collect::<Vec<_>>()
            .join("-")
    }
}

/// The processor's name, with what tells generations apart where the name does not.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    match (field("model name"), field("cpu family"), field("model\t")) {
        (Some(name), Some(family), Some(model)) => {
            format!("{name} (family {family}, model {model})")
        }
        (Some(name), ..) => name,
        _ => std::env::consts::ARCH.to_owned(),
    }
}

fn rustc() -> String {
    let version = said("rustc", &["--version"]);
    let version = version.split_whitespace().nth(1);
    version.unwrap_or_default().to_owned()
}

fn commit() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let git = |args: &[&str]| said("git", &[&["-C", root], args].concat());
    let changed = if git(&["status", "--porcelain", "--untracked-files=no"]).is_empty() {
        ""
    } else {
        " with changes"
    };
    format!("{}{changed}", git(&["rev-parse", "--short", "HEAD"]))
}

/// What a program prints; nothing where it cannot be run.
fn said(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    output.unwrap_or_default()
}
