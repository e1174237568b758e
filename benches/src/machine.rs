//! Where and with what a run was made.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use eager::run::processor;

use crate::workload::DeviceKind;

/// The machine, the programs, the day.
pub struct Machine {
    processor: String,
    cores: usize,
    /// The GPU's name where one was measured.
    gpu: Option<String>,
    pub date: String,
    /// Name and version.
    pub versions: Vec<(String, String)>,
}

impl Machine {
    /// This machine as `device` was measured on it, and the versions that `python` has.
    pub fn new(python: &Path, device: DeviceKind) -> Result<Self> {
        let mut versions = vec![
            ("eager".to_owned(), commit()),
            ("rustc".to_owned(), rustc()),
        ];
        let peers = "import importlib.metadata as m, platform; print('python', platform.python_version()); \
            [print(p, m.version(p)) for p in ('torch', 'numpy', 'scikit-learn', 'faiss-cpu', 'sentence-transformers')]";
        let peers = said(python, &["-c", peers]);
        let pairs = peers.lines().filter_map(|line| line.split_once(' '));
        versions.extend(pairs.map(|(name, version)| (name.to_owned(), version.to_owned())));
        let mut gpu = None;
        if device == DeviceKind::Cuda {
            let (name, driver) = nvidia()?;
            versions.push(("NVIDIA driver".to_owned(), driver));
            gpu = Some(name);
        }
        // Where a binary was only brought to, there may be no rustc or git to ask.
        versions.retain(|(_, version)| !version.is_empty());
        Ok(Self {
            processor: processor(),
            gpu,
            cores: std::thread::available_parallelism()
                .context("the number of cores")?
                .get(),
            date: said("date", &["+%Y-%m-%d"]),
            versions,
        })
    }

    /// The GPU where one was measured, the processor, its cores.
    pub fn title(&self) -> String {
        let processor = format!("{}, {} cores", self.processor, self.cores);
        match &self.gpu {
            Some(gpu) => format!("{gpu} with {processor}"),
            None => processor,
        }
    }

    /// The name of its file of results, without ending: by the GPU where one was measured.
    pub fn file_name(&self) -> String {
        let name = self.gpu.clone().unwrap_or_else(|| self.title());
        let name = name.to_lowercase();
        let words = name.split(|c: char| !c.is_ascii_alphanumeric());
        words
            .filter(|w| !w.is_empty())
            .collect::<Vec<_>>()
            .join("-")
    }
}

/// Name and driver of the first NVIDIA GPU.
fn nvidia() -> Result<(String, String)> {
    let query = ["--query-gpu=name,driver_version", "--format=csv,noheader"];
    let found = said("nvidia-smi", &query);
    let first = found.lines().next().and_then(|gpu| gpu.split_once(", "));
    let (name, driver) = first.context("nvidia-smi does not name a GPU")?;
    Ok((name.to_owned(), driver.to_owned()))
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
