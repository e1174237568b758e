//! Fetching a preset's files into the hub's cache with the hub's own client library.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::Hub;
use crate::Download;
use crate::presets::Preset;

/// Longest wait for the first answer: without a network it is over quickly.
const REACH: Duration = Duration::from_secs(6);
/// Longest wait for the next bytes of a file.
const PATIENCE: Duration = Duration::from_secs(60);
/// Times that a broken transfer is taken up again.
const RETRIES: usize = 3;
/// Bytes from one report to the next.
const STEP: u64 = 1 << 20;

impl Hub {
    /// Fetches what is missing of the preset into the cache.
    ///
    /// # Errors
    /// Words for the user: what was tried, and how it ended.
    pub fn fetch(
        &self,
        preset: &Preset,
        progress: &mut dyn FnMut(Download),
    ) -> Result<PathBuf, String> {
        if self.offline {
            return Err(
                "its files are not in the hub's cache, and HF_HUB_OFFLINE forbids fetching them"
                    .to_owned(),
            );
        }
        let (Some(cache), Some(folder)) = (&self.cache, self.snapshot(preset)) else {
            return Err("there is no home folder for the hub's cache; set HF_HOME".to_owned());
        };
        let api = self.api(cache.clone())?;
        let repo = Repo::with_revision(
            preset.repo.to_owned(),
            RepoType::Model,
            preset.revision.to_owned(),
        );
        reach(&api.repo(repo.clone()).url("modules.json"))?;
        'files: for file in preset.files() {
            if file.names.iter().any(|name| folder.join(name).is_file()) {
                continue;
            }
            for name in file.names {
                let label = format!("{}/{name}", preset.name);
                match one(&api, repo.clone(), name, &label, progress) {
                    Ok(()) => continue 'files,
                    Err(Failure::Absent) => {}
                    Err(Failure::Other(words)) => {
                        return Err(format!(
                            "{label}: {words}; what was fetched is kept, run it again to go on"
                        ));
                    }
                }
            }
            if !file.optional {
                return Err(format!("the hub has no {} of it", file.names.join(" or ")));
            }
        }
        // The hub may name another commit than the one asked for only if the revision were a branch.
        self.cached(preset)
            .ok_or_else(|| format!("the hub's files are not in {} afterwards", folder.display()))
    }

    fn api(&self, cache: PathBuf) -> Result<Api, String> {
        // No token: the presets are public, and a stale one is refused even for those.
        let mut builder = ApiBuilder::from_cache(Cache::new(cache))
            .with_progress(false)
            .with_retries(RETRIES)
            .with_token(None);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        builder.build().map_err(|error| error.to_string())
    }
}

/// Asks for `url`'s head: the downloads themselves have no time limit of their own.
fn reach(url: &str) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(REACH))
        .max_redirects(0)
        .http_status_as_error(false)
        .build()
        .into();
    match agent.head(url).call() {
        Err(error) => Err(format!("the hub cannot be reached ({error})")),
        Ok(response) if response.status().as_u16() >= 400 => {
            Err(format!("the hub answers with status {}", response.status()))
        }
        Ok(_) => Ok(()),
    }
}

enum Failure {
    /// The repository has no such file.
    Absent,
    Other(String),
}

enum Message {
    Bytes { done: u64, total: u64 },
    End(Result<PathBuf, ApiError>),
}

/// Fetches one file. The transfer has its own thread, so that one that stalls can be given up.
fn one(
    api: &Api,
    repo: Repo,
    name: &'static str,
    label: &str,
    progress: &mut dyn FnMut(Download),
) -> Result<(), Failure> {
    let (sender, messages) = mpsc::channel();
    let repo = api.repo(repo);
    let report = Report {
        sender: sender.clone(),
        done: 0,
        total: 0,
        told: 0,
    };
    std::thread::spawn(move || {
        let end = repo.download_with_progress(name, report);
        // Nobody listens any more once the transfer has been given up.
        let _ = sender.send(Message::End(end));
    });
    loop {
        match messages.recv_timeout(PATIENCE) {
            Ok(Message::Bytes { done, total }) => progress(Download {
                what: label,
                done,
                total: Some(total),
            }),
            Ok(Message::End(Ok(_))) => return Ok(()),
            Ok(Message::End(Err(ApiError::RequestError(error))))
                if matches!(*error, ureq::Error::StatusCode(404)) =>
            {
                return Err(Failure::Absent);
            }
            Ok(Message::End(Err(error))) => return Err(Failure::Other(error.to_string())),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let seconds = PATIENCE.as_secs();
                return Err(Failure::Other(format!("no bytes for {seconds} seconds")));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Failure::Other("the transfer's thread ended".to_owned()));
            }
        }
    }
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
        let (done, total) = (self.done, self.total);
        let _ = self.sender.send(Message::Bytes { done, total });
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::presets::Preset;

    /// What the hub of the tests has under `name`; it lacks the optional files.
    fn content(name: &str) -> Option<String> {
        match name {
            "config_sentence_transformers.json" | "tokenizer_config.json" => None,
            _ => Some(format!("the content of {name}")),
        }
    }

    /// Answers one request as the hub does: the commit, an etag, and the bytes from where they are asked for.
    fn answer(stream: TcpStream, preset: &Preset, log: &mpsc::Sender<String>) {
        let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let request = lines.next().unwrap_or_default();
        let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let range = headers.iter().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let value = value.strip_prefix("bytes=")?;
            name.eq_ignore_ascii_case("range").then(|| value.to_owned())
        });
        let path = request.split(' ').nth(1).unwrap_or_default();
        let prefix = format!("/{}/resolve/{}/", preset.repo, preset.revision);
        let file = path
            .strip_prefix(&prefix)
            .and_then(|name| Some((name, content(name)?)));
        let reply = match file {
            None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                .to_owned(),
            Some((name, content)) => {
                let (first, last) = range.as_deref().unwrap_or("0-").split_once('-').unwrap();
                let first: usize = first.parse().unwrap();
                let last = last.parse().unwrap_or(content.len() - 1);
                let part = if request.starts_with("HEAD") {
                    ""
                } else {
                    &content[first..=last]
                };
                log.send(format!("{name} from {first}")).unwrap();
                format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\n\
                     ETag: \"{}\"\r\nX-Repo-Commit: {}\r\nConnection: close\r\n\r\n{part}",
                    last + 1 - first,
                    content.len(),
                    name.replace('/', "-"),
                    preset.revision,
                )
            }
        };
        // The other side may have hung up.
        let _ = (&stream).write_all(reply.as_bytes());
    }

    #[test]
    fn files_are_fetched_once_and_a_broken_transfer_is_taken_up() {
        let preset = Preset::of("minilm").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Hub {
            cache: Some(folder.path().to_owned()),
            endpoint: Some(format!("http://{}/", listener.local_addr().unwrap())),
            offline: false,
        };
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), preset, &sender);
            }
        });
        // What an interrupted run left: the first ten bytes of the weights.
        let blobs = folder
            .path()
            .join("models--sentence-transformers--all-MiniLM-L6-v2/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        let weights = content("model.safetensors").unwrap();
        std::fs::write(blobs.join("model.part"), &weights[..10]).unwrap();

        let mut told = Vec::new();
        let mut progress = |d: Download| told.push((d.what.to_owned(), d.done, d.total));
        let snapshot = hub.fetch(preset, &mut progress).unwrap();
        for file in preset.files() {
            let (name, expected) = (file.names[0], content(file.names[0]));
            assert_eq!(
                std::fs::read_to_string(snapshot.join(name)).ok(),
                expected,
                "{name}"
            );
        }
        let size = weights.len() as u64;
        let end = ("minilm/model.safetensors".to_owned(), size, Some(size));
        assert_eq!(told.last(), Some(&end));
        let asked: Vec<String> = requests.try_iter().collect();
        assert_eq!(
            asked.last().map(String::as_str),
            Some("model.safetensors from 10")
        );
        // Whole now: no further request.
        assert_eq!(hub.cached(preset), Some(snapshot));
        assert_eq!(requests.try_iter().count(), 0);
    }

    #[test]
    fn an_unreachable_hub_is_given_up_quickly() {
        let folder = tempfile::tempdir().unwrap();
        // A port that was free a moment ago: the connection is refused.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let hub = Hub {
            cache: Some(folder.path().to_owned()),
            endpoint: Some(format!("http://127.0.0.1:{port}")),
            offline: false,
        };
        let preset = Preset::of(crate::DEFAULT_ENCODER).unwrap();
        let start = std::time::Instant::now();
        let words = hub.fetch(preset, &mut |_| {}).unwrap_err();
        assert!(words.contains("cannot be reached"), "{words}");
        assert!(start.elapsed().as_secs() < 10);

        let offline = Hub {
            offline: true,
            ..hub
        };
        let words = offline.fetch(preset, &mut |_| {}).unwrap_err();
        assert!(words.contains("HF_HUB_OFFLINE"), "{words}");
    }
}
