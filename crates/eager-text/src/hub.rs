//! Presets in the hub's cache, which its Python client shares, or fetched into it.

use std::path::PathBuf;

use eager_hub::Hub;
#[cfg(feature = "hub")]
use eager_hub::HubError;

use crate::Download;
use crate::presets::Preset;

/// The preset's folder in the cache, where all its files are.
pub(crate) fn cached(hub: &Hub, preset: &Preset) -> Option<PathBuf> {
    let folder = hub.snapshot(preset.repo, preset.revision)?;
    let there = |names: &[&str]| names.iter().any(|name| folder.join(name).is_file());
    let all = preset
        .files()
        .all(|file| file.optional || there(file.names));
    all.then_some(folder)
}

/// Fetches what is missing of the preset into the cache.
///
/// # Errors
/// Words for the user: what was tried, and how it ended.
#[cfg(feature = "hub")]
pub(crate) fn fetch(
    hub: &Hub,
    preset: &Preset,
    progress: &mut dyn FnMut(Download),
) -> Result<PathBuf, String> {
    let fetch = hub
        .fetch(preset.repo, preset.revision, "modules.json")
        .map_err(|error| format!("not in the hub's cache, and {error}"))?;
    let there = |name: &str| {
        let folder = hub.snapshot(preset.repo, preset.revision);
        folder.is_some_and(|folder| folder.join(name).is_file())
    };
    'files: for file in preset.files() {
        if file.names.iter().any(|name| there(name)) {
            continue;
        }
        for name in file.names {
            let label = format!("{}/{name}", preset.name);
            let found = fetch.file(name, &mut |at| {
                progress(Download {
                    what: &label,
                    done: at.done,
                    total: Some(at.total),
                });
            });
            match found {
                Ok(()) => continue 'files,
                Err(HubError::NoFile { .. }) => {}
                Err(error) => return Err(format!("{}: {error}", preset.name)),
            }
        }
        if !file.optional {
            return Err(format!("the hub has no {} of it", file.names.join(" or ")));
        }
    }
    // The hub may name another commit than the one asked for only if the revision were a branch.
    cached(hub, preset).ok_or_else(|| "the hub's files are not in its cache afterwards".to_owned())
}

/// Says that this build fetches nothing.
#[cfg(not(feature = "hub"))]
pub(crate) fn fetch(_: &Hub, _: &Preset, _: &mut dyn FnMut(Download)) -> Result<PathBuf, String> {
    Err(
        "this build does not fetch from the hub; build eager-text with its feature `hub`"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_counts_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub {
            cache: Some(folder.path().to_owned()),
            ..Hub::default()
        };
        let preset = Preset::of("minilm").unwrap();
        assert_eq!(cached(&hub, preset), None);
        let snapshot = hub.snapshot(preset.repo, preset.revision).unwrap();
        assert!(snapshot.ends_with(format!(
            "models--sentence-transformers--all-MiniLM-L6-v2/snapshots/{}",
            preset.revision
        )));
        for file in preset.files().filter(|file| !file.optional) {
            assert_eq!(cached(&hub, preset), None);
            let path = snapshot.join(file.names[0]);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        assert_eq!(cached(&hub, preset), Some(snapshot));
        assert_eq!(cached(&Hub::default(), preset), None);
    }
}

#[cfg(all(test, feature = "hub"))]
mod fetching {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;

    use super::*;

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
            ..Hub::default()
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
        let snapshot = fetch(&hub, preset, &mut progress).unwrap();
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
        assert_eq!(cached(&hub, preset), Some(snapshot));
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
            ..Hub::default()
        };
        let preset = Preset::of(crate::DEFAULT_ENCODER).unwrap();
        let start = std::time::Instant::now();
        let words = fetch(&hub, preset, &mut |_| {}).unwrap_err();
        assert!(words.contains("cannot be reached"), "{words}");
        assert!(start.elapsed().as_secs() < 10);

        let offline = Hub {
            offline: true,
            ..hub
        };
        let words = fetch(&offline, preset, &mut |_| {}).unwrap_err();
        assert!(words.contains("HF_HUB_OFFLINE"), "{words}");
    }
}
