//! Names of repositories, checked before anything is asked.

use std::fmt;
use std::str::FromStr;

use crate::HubError;

/// A model repository's name: `OWNER/NAME`, as the hub allows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user or the organisation, and the name without it.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or(("", &self.0))
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepositoryName {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let refuse = |fault: &str| {
            Err(HubError::Name {
                name: text.to_owned(),
                fault: fault.to_owned(),
            })
        };
        if text.contains("://") {
            return refuse("is an address; leave out what stands before OWNER/NAME");
        }
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() != 2 {
            return refuse("has no owner, or too many slashes");
        }
        let edge = |c: char| c == '-' || c == '.';
        for part in &parts {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if part.is_empty() || part.len() > 96 || !part.chars().all(known) {
                return refuse("each part has 1 to 96 letters, digits, `-`, `_` and `.`");
            }
            if part.starts_with(edge) || part.ends_with(edge) {
                return refuse("no part begins or ends with `-` or `.`");
            }
        }
        if text.contains("--") || text.contains("..") || text.ends_with(".git") {
            return refuse("`--`, `..` and an ending `.git` are not allowed");
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_hub_allows() {
        for name in ["a/b", "my-org/Beauty_2.1", "0/x"] {
            assert_eq!(name.parse::<RepositoryName>().unwrap().as_str(), name);
        }
        let name: RepositoryName = "me/shop".parse().unwrap();
        assert_eq!(name.parts(), ("me", "shop"));
        let wrong = [
            ("shop", "no owner"),
            ("models/me/shop", "too many slashes"),
            ("me/", "1 to 96"),
            ("me/a b", "letters, digits"),
            ("me/-a", "begins or ends"),
            ("me/a..b", "not allowed"),
            ("me/a.git", "not allowed"),
            ("https://hub/me/shop", "leave out"),
        ];
        for (name, fault) in wrong {
            let words = name.parse::<RepositoryName>().unwrap_err().to_string();
            assert!(words.contains(name) && words.contains(fault), "{words}");
        }
    }
}
