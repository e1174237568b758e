#![doc = include_str!("../README.md")]

#[cfg(feature = "network")]
mod cache;
#[cfg(feature = "network")]
mod client;
#[cfg(feature = "network")]
mod download;
mod error;
#[cfg(feature = "network")]
mod push;
mod repository;
#[cfg(feature = "network")]
mod transfer;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

#[cfg(feature = "network")]
pub use cache::Fetch;
#[cfg(feature = "network")]
pub use client::Client;
#[cfg(feature = "network")]
pub use download::Expected;
pub use error::{HubError, Result};
#[cfg(feature = "network")]
pub use push::{Content, File, Pushed};
pub use repository::RepositoryName;

const ENDPOINT: &str = "https://huggingface.co";

/// The hub as the environment describes it, in the words of its Python client.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    /// Folder of the cache: `HF_HUB_CACHE`, or `hub` in `HF_HOME`; `None` where there is no home folder.
    pub cache: Option<PathBuf>,
    /// `HF_ENDPOINT`: address of a mirror.
    pub endpoint: Option<String>,
    /// `HF_HUB_OFFLINE`: only the cache is looked at.
    pub offline: bool,
    /// `HF_TOKEN`, or the file that `hf auth login` leaves: `HF_TOKEN_PATH`, or `token` in `HF_HOME`. With one that cannot
    /// be sent there is no client.
    pub token: Option<Token>,
}

/// Says who asks. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(
    /// Its text; of one that cannot be sent, where it is from.
    Result<String, String>,
);

impl Token {
    /// From its text; `None` where there is nothing but white space. What is not of visible ASCII characters alone can be no
    /// token: a [`Hub`] with it has no client.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        Self::of(text, "the text given")
    }

    fn of(text: &str, place: &str) -> Option<Self> {
        let text = text.trim();
        let token = match text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(text.to_owned()),
            false => Err(place.to_owned()),
        };
        (!text.is_empty()).then_some(Self(token))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How far one file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file.
    pub file: &'a str,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

impl Hub {
    /// As the environment of this process describes it.
    #[must_use]
    pub fn from_env() -> Self {
        Self::of(&|name| std::env::var_os(name))
    }

    fn of(environment: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let path = |name: &str| variable(name).map(PathBuf::from);
        // What is not UTF-8 is not passed over for something else: it fails where it is used.
        let text = |name: &str| Some(variable(name)?.to_string_lossy().into_owned());
        let home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME");
            let caches = caches.or_else(|| Some(std::env::home_dir()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        });
        let in_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let saved = path("HF_TOKEN_PATH").or_else(|| in_home("token"));
        let saved = || {
            let path = saved?;
            let bytes = std::fs::read(&path).ok()?;
            let place = path.display().to_string();
            Token::of(&String::from_utf8_lossy(&bytes), &place)
        };
        let offline = text("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
        });
        Self {
            cache: path("HF_HUB_CACHE").or_else(|| in_home("hub")),
            endpoint: text("HF_ENDPOINT"),
            offline,
            token: match text("HF_TOKEN") {
                Some(text) => Token::of(&text, "HF_TOKEN"),
                None => saved(),
            },
        }
    }

    /// The hub's address, without a slash behind.
    #[must_use]
    pub fn address(&self) -> &str {
        let endpoint = self.endpoint.as_deref();
        endpoint.unwrap_or(ENDPOINT).trim_end_matches('/')
    }

    /// Where the cache has or will have a repository's files of a commit.
    #[must_use]
    pub fn snapshot(&self, repository: &str, commit: &str) -> Option<PathBuf> {
        let folder = format!("models--{}", repository.replace('/', "--"));
        let snapshots = self.cache.as_ref()?.join(folder).join("snapshots");
        Some(snapshots.join(commit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        Hub::of(&|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_environment_is_read_as_the_python_client_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("token"), "hf_saved\n").unwrap();
        std::fs::write(folder.path().join("other"), "hf_other").unwrap();

        let found = hub(&[("HF_HOME", home), ("HF_HUB_OFFLINE", "Yes")]);
        assert_eq!(found.cache, Some(folder.path().join("hub")));
        assert_eq!(found.token, Token::new("hf_saved"));
        assert!(found.offline && found.endpoint.is_none());
        assert_eq!(format!("{:?}", found.token), "Some(Token(…))");

        let other = folder.path().join("other");
        let other = other.to_str().unwrap();
        let found = hub(&[("HF_HOME", home), ("HF_TOKEN_PATH", other)]);
        assert_eq!(found.token, Token::new("hf_other"));
        let found = hub(&[("HF_HOME", home), ("HF_TOKEN", " hf_given ")]);
        assert_eq!(found.token, Token::new("hf_given"));

        let found = hub(&[("XDG_CACHE_HOME", home), ("HF_HUB_OFFLINE", "0")]);
        let cache = folder.path().join("huggingface/hub");
        assert_eq!(found.cache.as_ref(), Some(&cache));
        assert!(found.token.is_none() && !found.offline);
        let snapshot = cache.join("models--owner--name/snapshots/abc");
        assert_eq!(found.snapshot("owner/name", "abc"), Some(snapshot));
        assert_eq!(Hub::default().snapshot("owner/name", "abc"), None);
    }

    #[cfg(feature = "network")]
    #[test]
    fn a_token_that_cannot_be_sent_is_named_and_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let saved = folder.path().join("token");
        std::fs::write(&saved, "hf_saved\n").unwrap();
        let refused = |hub: &Hub, place: &str| {
            let error = hub.client().unwrap_err();
            assert!(matches!(error, HubError::TokenText { .. }), "{error}");
            let words = error.to_string();
            assert!(
                words.starts_with(place) && !words.contains("hf_"),
                "{words}"
            );
            let shown = format!("{:?}", hub.token);
            assert!(!shown.contains("hf_"), "{shown}");
        };
        for text in ["hf_a\nhf_b", "hf_a hf_b", "hf_ä", "hf_\u{7f}", "hf_\0"] {
            refused(&hub(&[("HF_HOME", home), ("HF_TOKEN", text)]), "HF_TOKEN: ");
        }
        let good = [("HF_HOME", home), ("HF_TOKEN", " hf_!~\r\n")];
        assert!(hub(&good).client().unwrap().has_token());
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStringExt as _;
            let found = Hub::of(&|name| match name {
                "HF_TOKEN" => Some(OsString::from_vec(b"hf_\xff".to_vec())),
                "HF_HOME" => Some(home.into()),
                _ => None,
            });
            refused(&found, "HF_TOKEN: ");
        }
        // The saved one likewise.
        for bytes in [&b"hf_a\nhf_b"[..], b"hf_\xff\n"] {
            std::fs::write(&saved, bytes).unwrap();
            refused(&hub(&[("HF_HOME", home)]), saved.to_str().unwrap());
        }
        std::fs::write(&saved, " \n").unwrap();
        let nobody = hub(&[("HF_HOME", home)]).client().unwrap();
        assert!(!nobody.has_token());
        let given = Hub {
            token: Token::new("hf_a\nhf_b"),
            ..Hub::default()
        };
        refused(&given, "the text given: ");
    }
}
