//! `metrics.jsonl`: figures by step, one JSON object a line. The same run writes the same bytes, resumed or not.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use crate::run::write_atomic;

/// Writes lines such as `{"step":300,"loss":1.5}`, each as soon as it is logged.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens the file to be gone on with after step `resumed`: lines of later steps, and one that was cut, are dropped.
    /// Without `resumed` it starts empty.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(path: &Path, resumed: Option<u64>) -> Result<Self> {
        let before = match std::fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            before => before.with_context(|| format!("{}: cannot read", path.display()))?,
        };
        let kept: Vec<&[u8]> = before
            .split_inclusive(|&byte| byte == b'\n')
            .filter(|line| resumed.is_some_and(|resumed| step(line).is_some_and(|s| s <= resumed)))
            .collect();
        write_atomic(path, &kept.concat())?;
        let file = File::options().append(true).open(path);
        let file = file.with_context(|| format!("{}: cannot open", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Adds a line. A figure that is no number is `null`, as JSON has no word for it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn log(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut line = format!("{{\"step\":{step}");
        for &(name, value) in values {
            line.push_str(&format!(",{}:{}", Value::from(name), Value::from(value)));
        }
        line.push_str("}\n");
        let written = self.file.write_all(line.as_bytes());
        written.with_context(|| format!("{}: cannot write", self.path.display()))
    }
}

/// The step of a whole line.
fn step(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\n")?;
    let line: Map<String, Value> = serde_json::from_slice(line).ok()?;
    line.get("step")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_log_is_that_of_one_go() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, resumed) = (folder.path().join("whole"), folder.path().join("resumed"));
        let value = |step: u64| [("loss", 1.0 / step as f64), ("valid/recall@10", f64::NAN)];
        let mut log = MetricsLog::open(&whole, None).unwrap();
        for step in 1..=9 {
            log.log(step, &value(step)).unwrap();
        }
        std::fs::write(&resumed, "left over").unwrap();
        let mut log = MetricsLog::open(&resumed, None).unwrap();
        for step in 1..=7 {
            log.log(step, &value(step)).unwrap();
        }
        log.file.write_all(b"{\"step\":8,\"lo").unwrap(); // the power cut
        drop(log);
        let mut log = MetricsLog::open(&resumed, Some(5)).unwrap();
        for step in 6..=9 {
            log.log(step, &value(step)).unwrap();
        }
        let (whole, resumed) = (
            std::fs::read(whole).unwrap(),
            std::fs::read(resumed).unwrap(),
        );
        assert_eq!(whole, resumed);
        assert!(whole.starts_with(b"{\"step\":1,\"loss\":1.0,\"valid/recall@10\":null}\n"));
    }
}
