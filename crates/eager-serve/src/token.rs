//! The bearer token: read once, compared in constant time, never printed.

use std::fmt;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{Result, ServeError};

/// Shortest token that is taken.
const SHORTEST: usize = 16;

/// What a client shows as `Authorization: Bearer …`; kept as its SHA-256.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// Of its text, without the white space around it.
    ///
    /// # Errors
    /// When it has fewer than 16 characters, or one that cannot stand in a header. `origin` is named.
    pub fn new(text: &str, origin: &str) -> Result<Self> {
        let text = text.trim();
        let fault = if text.is_empty() {
            "is empty".to_owned()
        } else if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic()) {
            format!("has {bad:?} in it; a token is of visible ASCII characters")
        } else if text.len() < SHORTEST {
            format!(
                "has {} characters, at least {SHORTEST} are needed; `openssl rand -hex 32` makes a good one",
                text.len()
            )
        } else {
            return Ok(Self(Sha256::digest(text).into()));
        };
        Err(ServeError::Token {
            origin: origin.to_owned(),
            fault,
        })
    }

    /// The text of a file. Warns where others than its owner may read it.
    ///
    /// # Errors
    /// When the file cannot be read, and as [`new`](Self::new).
    pub fn read(path: &Path) -> Result<Self> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ServeError::Token {
            origin: origin.clone(),
            fault: format!("cannot be read: {error}"),
        })?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(path).map_or(0, |m| m.permissions().mode());
            if mode & 0o004 != 0 {
                tracing::warn!(
                    "{origin}: everyone on this machine can read the token; chmod 600 it"
                );
            }
        }
        Self::new(&text, &origin)
    }

    /// Whether a client showed it.
    pub(crate) fn is(&self, shown: &str) -> bool {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        self.0.ct_eq(&shown).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_alone_and_poor_ones_are_refused() {
        let token = Token::new(" 0123456789abcdef\n", "here").unwrap();
        assert!(token.is("0123456789abcdef"));
        assert!(!token.is("0123456789abcdeF") && !token.is("") && !token.is("0123456789abcdef "));
        assert!(!format!("{token:?}").contains("0123"));
        let said = |text| Token::new(text, "here").unwrap_err().to_string();
        assert!(said(" \n").contains("here is empty"));
        assert!(said("short").contains("5 characters"));
        assert!(said("0123456789 abcdefg").contains("' '"));
        let missing = Token::read(Path::new("no/such/file"))
            .unwrap_err()
            .to_string();
        assert!(missing.contains("no/such/file") && missing.contains("cannot be read"));
    }
}
