//! Files into a repository as one commit: those that are there already by their digests are left out, small ones stand in
//! the commit, large ones are stored before it ([`transfer`](crate::transfer)).

use std::collections::HashMap;
use std::io::{Cursor, Read, Seek};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::client::{Call, Client};
use crate::download::hex;
use crate::{HubError, Progress, RepositoryName, Result};

/// The branch that is pushed to.
pub(crate) const BRANCH: &str = "main";
/// Bytes by which the hub judges whether a file is text.
const SAMPLE: usize = 512;

/// A file to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name in the repository.
    pub name: String,
    /// What is in it.
    pub content: Content,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// That of a file of this machine.
    Path(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The commit that has the files.
    pub commit: String,
    /// Files that changed; none, and there is no new commit.
    pub changed: usize,
}

pub(crate) trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// A file as it lies here.
pub(crate) struct Local<'a> {
    pub file: &'a File,
    pub bytes: u64,
    pub sha256: String,
}

impl File {
    pub(crate) fn open(&self) -> Result<Box<dyn ReadSeek + '_>> {
        Ok(match &self.content {
            Content::Bytes(bytes) => Box::new(Cursor::new(bytes)),
            Content::Path(path) => Box::new(std::fs::File::open(path).map_err(self.failed())?),
        })
    }

    pub(crate) fn failed(&self) -> impl FnOnce(std::io::Error) -> HubError + use<> {
        let path = match &self.content {
            Content::Path(path) => path.clone(),
            Content::Bytes(_) => self.name.clone().into(),
        };
        HubError::io(&path, "read")
    }

    fn all(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?
            .read_to_end(&mut bytes)
            .map_err(self.failed())?;
        Ok(bytes)
    }

    fn sample(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let sample = self.open()?.take(SAMPLE as u64).read_to_end(&mut bytes);
        sample.map_err(self.failed())?;
        Ok(bytes)
    }

    fn local(&self) -> Result<Local<'_>> {
        let mut hash = Sha256::new();
        let bytes = std::io::copy(&mut self.open()?, &mut hash).map_err(self.failed())?;
        Ok(Local {
            file: self,
            bytes,
            sha256: hex(&hash.finalize()),
        })
    }
}

/// What the hub says of a file before it is sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mode {
    path: String,
    upload_mode: String,
    /// Digest of the file of that name that is there: SHA-256 of a stored one, else Git's.
    #[serde(default)]
    oid: Option<String>,
}

impl Client {
    /// Makes a repository, unless it is there; says whether it made one.
    ///
    /// # Errors
    /// When there is no token, or it does not allow it.
    pub fn create(&self, repository: &RepositoryName, private: bool) -> Result<bool> {
        if !self.has_token() {
            return Err(HubError::NoToken {
                repository: repository.to_string(),
                endpoint: self.endpoint().to_owned(),
            });
        }
        // A token may have the right to write there, and none to make others.
        match self.commit_of(repository, BRANCH) {
            Err(HubError::NoRepository { .. }) => {}
            found => return found.map(|_| false),
        }
        let (organization, name) = repository.parts();
        let visibility = if private { "private" } else { "public" };
        let body = json!({
            "type": "model", "name": name, "organization": organization, "visibility": visibility,
        });
        let url = format!("{}/api/repos/create", self.endpoint());
        match self.ask(call(repository), || {
            self.post(&url, "application/json", &body.to_string())
        }) {
            // Made by somebody else meanwhile.
            Err(HubError::Status { status: 409, .. }) => Ok(false),
            answer => answer.map(|_| true),
        }
    }

    /// Brings files into a repository that is there, as one commit on its branch `main`. Files of other names stay. Until
    /// that commit nothing is changed.
    ///
    /// # Errors
    /// When the token does not allow it, a transfer fails, or the branch was changed meanwhile.
    pub fn push(
        &self,
        repository: &RepositoryName,
        message: &str,
        files: &[File],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pushed> {
        let head = self.commit_of(repository, BRANCH)?;
        let locals: Vec<Local> = files.iter().map(File::local).collect::<Result<_>>()?;
        let modes = self.modes(repository, &locals)?;
        let (mut stored, mut lines) = (Vec::new(), Vec::new());
        for local in &locals {
            let name = &local.file.name;
            let mode = modes.get(name).ok_or_else(|| HubError::Answer {
                what: repository.to_string(),
                fault: format!("nothing is said of {name}"),
            })?;
            // The storage takes no empty file.
            if mode.upload_mode == "lfs" && local.bytes > 0 {
                if mode.oid.as_ref() != Some(&local.sha256) {
                    stored.push(local);
                    lines.push(json!({"key": "lfsFile", "value": {
                        "path": name, "algo": "sha256", "oid": local.sha256, "size": local.bytes,
                    }}));
                }
            } else {
                let content = local.file.all()?;
                if mode.oid != Some(git_digest(&content)) {
                    lines.push(json!({"key": "file", "value": {
                        "path": name, "encoding": "base64", "content": BASE64.encode(content),
                    }}));
                }
            }
        }
        if lines.is_empty() {
            return Ok(Pushed {
                commit: head,
                changed: 0,
            });
        }
        self.store(repository, &stored, progress)?;
        let commit = self.commit(repository, message, &head, &lines)?;
        Ok(Pushed {
            commit,
            changed: lines.len(),
        })
    }

    /// How each file is to be sent, and what is there of its name.
    fn modes(
        &self,
        repository: &RepositoryName,
        locals: &[Local],
    ) -> Result<HashMap<String, Mode>> {
        #[derive(Deserialize)]
        struct Modes {
            files: Vec<Mode>,
        }
        let mut files = Vec::new();
        for local in locals {
            let sample = BASE64.encode(local.file.sample()?);
            files.push(json!({"path": local.file.name, "size": local.bytes, "sample": sample}));
        }
        let body = json!({ "files": files }).to_string();
        let url = format!(
            "{}/api/models/{repository}/preupload/{BRANCH}",
            self.endpoint()
        );
        let answer = self.ask(call(repository), || {
            self.post(&url, "application/json", &body)
        })?;
        let modes: Modes = Self::json(call(repository), answer)?;
        let named = modes
            .files
            .into_iter()
            .map(|mode| (mode.path.clone(), mode));
        Ok(named.collect())
    }

    /// Not sent again by itself: a commit whose answer was lost may have been made.
    fn commit(
        &self,
        repository: &RepositoryName,
        message: &str,
        head: &str,
        lines: &[serde_json::Value],
    ) -> Result<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Commit {
            commit_oid: String,
        }
        let header = json!({"key": "header", "value": {
            "summary": message, "description": "", "parentCommit": head,
        }});
        let lines = std::iter::once(&header).chain(lines);
        let body: String = lines.map(|line| format!("{line}\n")).collect();
        let url = format!(
            "{}/api/models/{repository}/commit/{BRANCH}",
            self.endpoint()
        );
        let answer = self.once(
            call(repository),
            self.post(&url, "application/x-ndjson", &body),
        )?;
        Ok(Self::json::<Commit>(call(repository), answer)?.commit_oid)
    }

    pub(crate) fn post(
        &self,
        url: &str,
        content_type: &str,
        body: &str,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let request = self.signed(self.agent.post(url));
        request.header("content-type", content_type).send(body)
    }
}

pub(crate) fn call(repository: &RepositoryName) -> Call<'_> {
    Call::new(repository, BRANCH, "")
}

/// How Git names a file's content.
fn git_digest(content: &[u8]) -> String {
    let header = format!("blob {}\0", content.len());
    let whole = [header.as_bytes(), content].concat();
    hex(&<Sha1 as sha1::Digest>::digest(&whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf 'hello\n' | git hash-object --stdin`, and the empty file's, which is in every book on Git.
    #[test]
    fn content_is_named_as_git_names_it() {
        assert_eq!(
            git_digest(b"hello\n"),
            "ce013625030ba8dba906f756967f9e9ca394464a"
        );
        assert_eq!(git_digest(b""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    }
}
