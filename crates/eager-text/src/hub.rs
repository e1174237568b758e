//! Model folders of the hub: from the hub's own cache, laid out as its Python client lays it out, or fetched into it.
//!
//! The environment is honoured as that client does: `HF_HUB_CACHE` or `HF_HOME` for the cache, `HF_ENDPOINT` for a
//! mirror, `HF_HUB_OFFLINE` for the cache alone. A broken transfer is taken up where it stopped, now and by a later run.

use std::path::PathBuf;

use crate::presets::Preset;

/// The hub as the environment describes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hub {
    /// Folder of the hub's cache; `None` where there is no home folder.
    pub cache: Option<PathBuf>,
    /// Address of a mirror.
    #[cfg_attr(not(feature = "hub"), allow(dead_code))]
    pub endpoint: Option<String>,
    /// Only the cache is looked at.
    #[cfg_attr(not(feature = "hub"), allow(dead_code))]
    pub offline: bool,
}

impl Hub {
    pub fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = || Some(std::env::home_dir()?.join(".cache").join("huggingface"));
        let cache = variable("HF_HUB_CACHE").map(PathBuf::from).or_else(|| {
            let home = variable("HF_HOME").map(PathBuf::from).or_else(home)?;
            Some(home.join("hub"))
        });
        let offline = variable("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
        });
        Self {
            cache,
            endpoint: variable("HF_ENDPOINT"),
            offline,
        }
    }

    /// Where the preset's snapshot is or will be.
    fn snapshot(&self, preset: &Preset) -> Option<PathBuf> {
        let repo = format!("models--{}", preset.repo.replace('/', "--"));
        let snapshots = self.cache.as_ref()?.join(repo).join("snapshots");
        Some(snapshots.join(preset.revision))
    }

    /// The preset's folder in the cache, where all its files are.
    pub fn cached(&self, preset: &Preset) -> Option<PathBuf> {
        let folder = self.snapshot(preset)?;
        let there = |names: &[&str]| names.iter().any(|name| folder.join(name).is_file());
        let all = preset
            .files()
            .all(|file| file.optional || there(file.names));
        all.then_some(folder)
    }
}

#[cfg(not(feature = "hub"))]
impl Hub {
    /// Says that this build fetches nothing.
    pub fn fetch(&self, _: &Preset, _: &mut dyn FnMut(crate::Download)) -> Result<PathBuf, String> {
        Err(
            "this build does not fetch from the hub; build eager-text with its feature `hub`"
                .to_owned(),
        )
    }
}

#[cfg(feature = "hub")]
mod fetch;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_counts_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub {
            cache: Some(folder.path().to_owned()),
            ..Hub::default()
        };
        let preset = Preset::of("minilm").unwrap();
        assert_eq!(hub.cached(preset), None);
        let snapshot = hub.snapshot(preset).unwrap();
        assert!(snapshot.ends_with(format!(
            "models--sentence-transformers--all-MiniLM-L6-v2/snapshots/{}",
            preset.revision
        )));
        for file in preset.files().filter(|file| !file.optional) {
            assert_eq!(hub.cached(preset), None);
            let path = snapshot.join(file.names[0]);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        assert_eq!(hub.cached(preset), Some(snapshot));
        assert_eq!(Hub::default().cached(preset), None);
    }
}
