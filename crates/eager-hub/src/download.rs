//! A repository's files into a folder: whole by their digests, and taken up where a transfer broke off.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use ureq::http::StatusCode;

use crate::client::{Call, Client};
use crate::{HubError, Progress, RepositoryName, Result};

/// Times that a transfer may break off without a byte in between.
const TRIES: usize = 3;

/// What a file must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256, in lower-case hexadecimal.
    pub sha256: &'a str,
}

impl Client {
    /// The commit that a branch, a tag or the beginning of a commit names now.
    ///
    /// # Errors
    /// When the repository or the revision is not there, or may not be read; [`HubError::Revision`] for a text that is none.
    pub fn commit_of(&self, repository: &RepositoryName, revision: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
        }
        // A segment of these is none, or leads elsewhere.
        if ["", ".", ".."].contains(&revision) {
            let revision = revision.to_owned();
            return Err(HubError::Revision { revision });
        }
        let call = Call::new(repository, revision, "");
        let url = format!(
            "{}/api/models/{repository}/revision/{}",
            self.endpoint(),
            segment(revision)
        );
        let answer = self.ask(call, || self.signed(self.agent.get(&url)).call())?;
        Ok(Self::json::<Info>(call, answer)?.sha)
    }

    /// A small file of a commit (10 MB at the most).
    ///
    /// # Errors
    /// When it is not there, or the transfer breaks off.
    pub fn read(&self, repository: &RepositoryName, commit: &str, file: &str) -> Result<Vec<u8>> {
        let call = Call::new(repository, commit, file);
        let url = self.address(repository, commit, file);
        let mut answer = self.ask(call, || self.signed(self.agent.get(&url)).call())?;
        let bytes = answer.body_mut().read_to_vec();
        bytes.map_err(|error| HubError::Unreachable {
            endpoint: self.endpoint().to_owned(),
            reason: error.to_string(),
        })
    }

    /// Downloads a file of a commit to `path`. What is there already counts as its beginning, and is taken up; if the whole
    /// then is not as expected, it is fetched anew once.
    ///
    /// # Errors
    /// When it is not there, is not as expected (nothing is left then), or the transfer breaks off again and again (what
    /// came is left).
    pub fn download(
        &self,
        repository: &RepositoryName,
        commit: &str,
        (name, expected): (&str, Expected<'_>),
        path: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let failed = |action| HubError::io(path, action);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(failed("write"))?;
        let mut there = file.seek(SeekFrom::End(0)).map_err(failed("read"))?;
        let (mut resumed, mut stuck) = (there > 0, 0);
        loop {
            if there > expected.bytes {
                file.set_len(0).map_err(failed("write"))?;
                there = 0;
            }
            let broken = match there < expected.bytes {
                true => {
                    let call = Call::new(repository, commit, name);
                    self.rest(call, (&mut file, path), (there, expected.bytes), progress)?
                }
                false => None,
            };
            let done = file.seek(SeekFrom::End(0)).map_err(failed("read"))?;
            if let Some(reason) = broken {
                stuck = if done > there { 1 } else { stuck + 1 };
                there = done;
                if stuck < TRIES {
                    continue;
                }
                return Err(HubError::Broken {
                    file: name.to_owned(),
                    done,
                    total: expected.bytes,
                    reason,
                });
            }
            let fault = match (done == expected.bytes, digest(&mut file, path)?) {
                (true, found) if found == expected.sha256 => return Ok(()),
                (true, found) => format!("sha256 is {found}, expected {}", expected.sha256),
                (false, _) => format!("has {done} bytes, expected {}", expected.bytes),
            };
            file.set_len(0).map_err(failed("write"))?;
            there = 0;
            if !std::mem::take(&mut resumed) {
                drop(file);
                std::fs::remove_file(path).map_err(failed("remove"))?;
                let file = name.to_owned();
                return Err(HubError::Altered { file, fault });
            }
        }
    }

    /// What is missing of a file behind its first `there` bytes, of `total`; why it broke off, if it did.
    fn rest(
        &self,
        call: Call<'_>,
        (file, path): (&mut File, &Path),
        (there, total): (u64, u64),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<String>> {
        let url = self.address(call.repository, call.revision, call.file);
        let range = format!("bytes={there}-");
        let answer = self.ask(call, || {
            let request = self.signed(self.agent.get(&url));
            request.header("range", &range).call()
        });
        // The file ends here: it is shorter than it must be.
        if let Err(HubError::Status { status: 416, .. }) = answer {
            return Ok(None);
        }
        let mut answer = answer?;
        let mut done = match answer.status() {
            StatusCode::PARTIAL_CONTENT => there,
            _ => 0,
        };
        file.seek(SeekFrom::Start(done))
            .map_err(HubError::io(path, "write"))?;
        // One byte more than there may be, so that a longer file is noticed and an endless one ends.
        let body = answer.body_mut().with_config().limit(u64::MAX).reader();
        let mut body = body.take(total + 1 - done);
        let mut buffer = vec![0; 1 << 18];
        loop {
            let bytes = match body.read(&mut buffer) {
                Ok(0) if done < total => return Ok(Some("the connection was closed".to_owned())),
                Ok(0) => return Ok(None),
                Ok(bytes) => bytes,
                Err(error) => return Ok(Some(error.to_string())),
            };
            file.write_all(&buffer[..bytes])
                .map_err(HubError::io(path, "write"))?;
            done += bytes as u64;
            progress(Progress {
                file: call.file,
                done,
                total,
            });
        }
    }

    fn address(&self, repository: &RepositoryName, commit: &str, file: &str) -> String {
        let file: Vec<String> = file.split('/').map(segment).collect();
        let (commit, file) = (segment(commit), file.join("/"));
        format!("{}/{repository}/resolve/{commit}/{file}", self.endpoint())
    }
}

/// A text as one segment of an address: all but the unreserved characters of RFC 3986 escaped.
fn segment(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escaped).collect()
}

/// SHA-256 of the whole file.
fn digest(file: &mut File, path: &Path) -> Result<String> {
    let read = || HubError::io(path, "read");
    file.seek(SeekFrom::Start(0)).map_err(read())?;
    let mut hash = Sha256::new();
    std::io::copy(file, &mut hash).map_err(read())?;
    Ok(hex(&hash.finalize()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
