//! Public files into the hub's cache, laid out as its Python client lays it out, with the hub's own client library.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use crate::{Hub, HubError, Progress, Result};

/// Longest wait for the first answer: without a network it is over quickly.
const REACH: Duration = Duration::from_secs(6);
/// Longest wait for the next bytes of a file.
const PATIENCE: Duration = Duration::from_secs(60);
/// Times that a broken transfer is taken up again.
const RETRIES: usize = 3;
/// Bytes from one report to the next.
const STEP: u64 = 1 << 20;

/// A public repository's files of one commit, on the way into the cache.
pub struct Fetch {
    api: Api,
    repo: Repo,
}

impl Hub {
    /// Starts fetching files of a commit of a public repository into the cache. Asks for `file` first, as the downloads
    /// themselves have no limit of time.
    ///
    /// # Errors
    /// When the environment forbids it, there is no place for the cache, or the hub cannot be reached.
    pub fn fetch(&self, repository: &str, commit: &str, file: &str) -> Result<Fetch> {
        if self.offline {
            return Err(HubError::Offline);
        }
        let cache = self.cache.clone().ok_or(HubError::NoCache)?;
        // No token: what is fetched here is public, and a stale one is refused even for that.
        let builder = ApiBuilder::from_cache(Cache::new(cache))
            .with_progress(false)
            .with_retries(RETRIES)
            .with_token(None)
            .with_endpoint(self.address().to_owned());
        let unreachable = |reason: String| HubError::Unreachable {
            endpoint: self.address().to_owned(),
            reason,
        };
        let api = builder
            .build()
            .map_err(|error| unreachable(error.to_string()))?;
        let repo = Repo::with_revision(repository.to_owned(), RepoType::Model, commit.to_owned());
        reach(&api.repo(repo.clone()).url(file)).map_err(unreachable)?;
        Ok(Fetch { api, repo })
    }
}

impl Fetch {
    /// Fetches a file, or what an earlier attempt left to fetch of it. The transfer has its own thread, so that one that
    /// stalls can be given up.
    ///
    /// # Errors
    /// [`HubError::NoFile`] where the repository has none of that name; else how the transfer ended.
    pub fn file(&self, name: &str, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let (sender, messages) = mpsc::channel();
        let report = Report {
            sender: sender.clone(),
            done: 0,
            total: 0,
            told: 0,
        };
        let (repo, file) = (self.api.repo(self.repo.clone()), name.to_owned());
        std::thread::spawn(move || {
            let end = repo.download_with_progress(&file, report);
            // Nobody listens any more once the transfer has been given up.
            let _ = sender.send(Message::End(end));
        });
        let (mut done, mut total) = (0, 0);
        let reason = loop {
            match messages.recv_timeout(PATIENCE) {
                Ok(Message::Bytes(now, all)) => {
                    (done, total) = (now, all);
                    progress(Progress {
                        file: name,
                        done,
                        total,
                    });
                }
                Ok(Message::End(Ok(_))) => return Ok(()),
                Ok(Message::End(Err(ApiError::RequestError(error))))
                    if matches!(*error, ureq::Error::StatusCode(404)) =>
                {
                    return Err(HubError::NoFile {
                        repository: self.repo.url(),
                        file: name.to_owned(),
                    });
                }
                Ok(Message::End(Err(error))) => break error.to_string(),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    break format!("no bytes for {} seconds", PATIENCE.as_secs());
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    break "the transfer's thread ended".to_owned();
                }
            }
        };
        Err(HubError::Broken {
            file: name.to_owned(),
            done,
            total,
            reason,
        })
    }
}

/// Asks for `url`'s head; the reason if there is no good answer.
fn reach(url: &str) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(REACH))
        .max_redirects(0)
        .http_status_as_error(false)
        .build()
        .into();
    match agent.head(url).call() {
        Err(error) => Err(error.to_string()),
        Ok(response) if response.status().as_u16() >= 400 => {
            Err(format!("it answers with status {}", response.status()))
        }
        Ok(_) => Ok(()),
    }
}

enum Message {
    /// Bytes that are there, and in all.
    Bytes(u64, u64),
    End(Result<PathBuf, ApiError>),
}

struct Report {
    sender: mpsc::Sender<Message>,
    done: u64,
    total: u64,
    /// Bytes that were last told.
    told: u64,
}

impl Report {
    fn tell(&mut self) {
        self.told = self.done;
        let _ = self.sender.send(Message::Bytes(self.done, self.total));
    }
}

impl hf_hub::api::Progress for Report {
    fn init(&mut self, size: usize, _: &str) {
        (self.done, self.total) = (0, size as u64);
        self.tell();
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        if self.done >= self.told + STEP || self.done == self.total {
            self.tell();
        }
    }

    fn finish(&mut self) {}
}
