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
    /// `HF_TOKEN`, or the file that `hf auth login` leaves: `HF_TOKEN_PATH`, or `token` in `HF_HOME`.
    pub token: Option<Token>,
}

/// Says who asks. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// From its text; `None` where there is nothing but white space.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
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
        Self::of(&|name| std::env::var(name).ok())
    }

    fn of(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let path = |name: &str| variable(name).map(PathBuf::from);
        let home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME");
            let caches = caches.or_else(|| Some(std::env::home_dir()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        });
        let in_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let saved = path("HF_TOKEN_PATH").or_else(|| in_home("token"));
        let saved = || std::fs::read_to_string(saved?).ok();
        let offline = variable("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
        });
        Self {
            cache: path("HF_HUB_CACHE").or_else(|| in_home("hub")),
            endpoint: variable("HF_ENDPOINT"),
            offline,
            token: variable("HF_TOKEN")
                .or_else(saved)
                .and_then(|text| Token::new(&text)),
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
            found.map(|(_, value)| (*value).to_owned())
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
}
