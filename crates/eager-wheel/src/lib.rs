#![doc = include_str!("../README.md")]

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Ways to start pip; the first that is there is used.
const PIPS: [&[&str]; 4] = [
    &["python3", "-m", "pip"],
    &["pip3"],
    &["pip"],
    &["python", "-m", "pip"],
];

/// Why there is no wheel.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    /// The folder cannot be written or read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no pip.
    #[error("no pip on this machine; install Python with pip")]
    NoPip,
    /// pip is there and does not start.
    #[error("`{pip}` does not start: {source}")]
    Start {
        /// How it was started.
        pip: String,
        /// What the system said.
        source: io::Error,
    },
    /// pip said no.
    #[error(
        "`{pip} download` failed: {said}; check that pip reaches a package index (pip config list)"
    )]
    Failed {
        /// How it was started.
        pip: String,
        /// Its errors.
        said: String,
    },
    /// pip said yes, and there is nothing.
    #[error("pip reported success but left no wheel; run it again")]
    NoWheel,
}

/// Downloads the wheel of `requirement` (`name==version`) whose SHA-256 is `sha256` into the folder `into`; its path.
///
/// # Errors
/// When there is no pip, it cannot fetch that wheel, or its digest is another.
pub fn download(requirement: &str, sha256: &str, into: &Path) -> Result<PathBuf, WheelError> {
    let list = into.join("requirements.txt");
    let text = format!("{requirement} --hash=sha256:{sha256}\n");
    std::fs::write(&list, text).map_err(|source| WheelError::Io {
        path: list.clone(),
        source,
    })?;
    for command in PIPS {
        let Some((program, first)) = command.split_first() else {
            continue;
        };
        let pip = command.join(" ");
        let output = Command::new(program)
            .args(first)
            .args(["download", "--no-deps", "--only-binary", ":all:"])
            .args(["--require-hashes", "--no-input", "--quiet"])
            .args(["--disable-pip-version-check", "--ignore-requires-python"])
            // pip's own defaults wait for minutes where there is no network.
            .args(["--timeout", "8", "--retries", "1"])
            .arg("--dest")
            .arg(into)
            .arg("--requirement")
            .arg(&list)
            .output();
        match output {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(WheelError::Start { pip, source }),
            Ok(output) if output.status.success() => return newest(into),
            Ok(output) => {
                let words = String::from_utf8_lossy(&output.stderr);
                if !words.contains("No module named pip") {
                    let said = errors(&words);
                    return Err(WheelError::Failed { pip, said });
                }
            }
        }
    }
    Err(WheelError::NoPip)
}

/// pip's lines that say ERROR, or all it said.
fn errors(words: &str) -> String {
    let faults: Vec<&str> = words.lines().filter(|l| l.contains("ERROR")).collect();
    if faults.is_empty() {
        words.trim().to_owned()
    } else {
        faults.join("; ")
    }
}

/// The wheel in `folder`.
fn newest(folder: &Path) -> Result<PathBuf, WheelError> {
    let entries = std::fs::read_dir(folder).map_err(|source| WheelError::Io {
        path: folder.to_owned(),
        source,
    })?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "whl"))
        .max()
        .ok_or(WheelError::NoWheel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pip_says_is_cut_to_its_errors() {
        let words = "WARNING: old\nERROR: no matching distribution\nhint\nERROR: hashes differ\n";
        assert_eq!(
            errors(words),
            "ERROR: no matching distribution; ERROR: hashes differ"
        );
        assert_eq!(errors(" broken \n"), "broken");
    }

    #[test]
    fn a_folder_without_wheel_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("requirements.txt"), "").unwrap();
        assert!(matches!(newest(folder.path()), Err(WheelError::NoWheel)));
        let wheel = folder.path().join("some-1.0-py3-none-any.whl");
        std::fs::write(&wheel, "").unwrap();
        assert_eq!(newest(folder.path()).unwrap(), wheel);
        let gone = folder.path().join("gone");
        let error = newest(&gone).unwrap_err().to_string();
        assert!(error.contains("gone"), "{error}");
        // The list cannot be written: nothing is started.
        assert!(matches!(
            download("some==1.0", "0", &gone),
            Err(WheelError::Io { .. })
        ));
    }
}
