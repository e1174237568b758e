//! Fetching a file over HTTP: into `<name>.part`, resumed where it was cut, checked, then renamed. A file that changed upstream
//! in between is caught by its digest where the manifest has one, else by gzip's checksum and the expected statistics.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::acquire::{Progress, pinned};
use crate::{DataError, Result};

/// Times a broken transfer is taken up again before giving up; what is there stays for the next run.
const ATTEMPTS: usize = 4;
/// Longest wait for a connection, and for the next bytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fetches `url` to `to`.
///
/// # Errors
/// When the server cannot be reached or refuses, when the transfer breaks [`ATTEMPTS`] times (the part is kept), and
/// when the digest differs (the part is deleted).
pub(crate) fn fetch(
    url: &str,
    to: &Path,
    dataset: &str,
    sha256: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let fault = |message: String| DataError::Download {
        url: url.to_owned(),
        message,
    };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .http_status_as_error(false)
        .build()
        .into();
    let what = to
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match transfer(&agent, url, &part, &what, progress) {
            Ok(()) => {
                if let Err(error) = pinned(&part, dataset, sha256) {
                    std::fs::remove_file(&part).map_err(DataError::io(&part, "delete"))?;
                    return Err(error);
                }
                return std::fs::rename(&part, to).map_err(DataError::io(to, "write"));
            }
            Err(Broken::Final(error)) => return Err(error),
            Err(Broken::Transfer(words)) => last = words,
        }
    }
    let kept = std::fs::metadata(&part).map_or(0, |part| part.len());
    Err(fault(format!(
        "{last}; {kept} bytes are kept and the next run goes on from there"
    )))
}

/// Why a transfer stopped: what may pass, and what will not.
enum Broken {
    Transfer(String),
    Final(DataError),
}

impl From<DataError> for Broken {
    fn from(error: DataError) -> Self {
        Broken::Final(error)
    }
}

/// One request: what is missing of `part` is appended to it, or all of it is fetched anew.
fn transfer(
    agent: &ureq::Agent,
    url: &str,
    part: &Path,
    what: &str,
    progress: &mut dyn FnMut(Progress),
) -> std::result::Result<(), Broken> {
    let refused = |message: String| {
        Broken::Final(DataError::Download {
            url: url.to_owned(),
            message,
        })
    };
    let mut file = OpenOptions::new()
        .create(true)
        .append(false)
        .write(true)
        .truncate(false)
        .open(part)
        .map_err(DataError::io(part, "write"))?;
    let mut done = file
        .seek(SeekFrom::End(0))
        .map_err(DataError::io(part, "read"))?;
    let mut request = agent.get(url);
    if done > 0 {
        request = request.header("Range", format!("bytes={done}-"));
    }
    let response = match request.call() {
        Ok(response) => response,
        Err(error) => {
            if done == 0 {
                std::fs::remove_file(part).map_err(DataError::io(part, "delete"))?;
                return Err(refused(format!(
                    "cannot be reached ({error}); is this machine online?"
                )));
            }
            return Err(Broken::Transfer(format!("cannot be reached ({error})")));
        }
    };
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let status = response.status().as_u16();
    let length: Option<u64> = header("content-length").and_then(|text| text.parse().ok());
    let total = match status {
        200 => {
            restart(&mut file, part)?;
            done = 0;
            length
        }
        206 => match header("content-range").as_deref().and_then(content_range) {
            Some((start, total)) if start == done => total,
            _ => {
                restart(&mut file, part)?;
                return Err(Broken::Transfer(
                    "the server resumed at another place".to_owned(),
                ));
            }
        },
        // The part is as long as the file or longer: another edition, or whole but never renamed.
        416 => {
            restart(&mut file, part)?;
            return Err(Broken::Transfer(
                "the server has nothing after what is there".to_owned(),
            ));
        }
        other => {
            if done == 0 {
                std::fs::remove_file(part).map_err(DataError::io(part, "delete"))?;
            }
            return Err(refused(format!(
                "the server answers with status {other}; the file may have moved"
            )));
        }
    };
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        progress(Progress { what, done, total });
        match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => file
                .write_all(&buffer[..n])
                .map_err(DataError::io(part, "write"))?,
            Err(error) => {
                return Err(Broken::Transfer(format!(
                    "the transfer broke at byte {done} ({error})"
                )));
            }
        }
        done = file
            .stream_position()
            .map_err(DataError::io(part, "write"))?;
    }
    match total {
        Some(total) if done != total => Err(Broken::Transfer(format!(
            "the transfer ended at byte {done} of {total}"
        ))),
        _ => Ok(file.sync_all().map_err(DataError::io(part, "write"))?),
    }
}

fn restart(file: &mut File, part: &Path) -> Result<()> {
    file.set_len(0).map_err(DataError::io(part, "write"))?;
    file.seek(SeekFrom::Start(0))
        .map_err(DataError::io(part, "write"))?;
    Ok(())
}

/// `bytes 5-9/10` as first byte and total.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::mpsc;

    /// What the test server does with one request.
    enum Answer {
        /// Honours `Range` and sends at most so many bytes before it hangs up.
        Cut(usize),
        /// Ignores `Range` and sends all.
        Whole,
        /// Only a status.
        Status(u16),
    }

    /// Serves `content` on a loopback port, one answer a connection; the ranges asked for come back.
    fn serve(content: Vec<u8>, answers: Vec<Answer>) -> (String, mpsc::Receiver<Option<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/data.gz", listener.local_addr().unwrap());
        let (sender, ranges) = mpsc::channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut range = None;
                for line in BufReader::new(&stream).lines() {
                    let line = line.unwrap().to_ascii_lowercase();
                    if let Some(start) = line.strip_prefix("range: bytes=") {
                        range = Some(start.trim_end_matches('-').parse::<usize>().unwrap());
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                sender.send(range).unwrap();
                let mut stream = &stream;
                let (start, most) = match answer {
                    Answer::Cut(most) => (range.unwrap_or(0), most),
                    Answer::Whole => (0, usize::MAX),
                    Answer::Status(status) => {
                        write!(
                            stream,
                            "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                        )
                        .unwrap();
                        continue;
                    }
                };
                let rest = &content[start..];
                if start > 0 {
                    let (last, all) = (content.len() - 1, content.len());
                    write!(
                        stream,
                        "HTTP/1.1 206 X\r\nContent-Range: bytes {start}-{last}/{all}\r\n"
                    )
                    .unwrap();
                } else {
                    write!(stream, "HTTP/1.1 200 X\r\n").unwrap();
                }
                write!(
                    stream,
                    "Content-Length: {}\r\nConnection: close\r\n\r\n",
                    rest.len()
                )
                .unwrap();
                stream.write_all(&rest[..rest.len().min(most)]).unwrap();
            }
        });
        (url, ranges)
    }

    fn content() -> Vec<u8> {
        (0..300_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect()
    }

    #[test]
    fn a_cut_transfer_resumes_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("data.gz");
        let (url, ranges) = serve(
            content(),
            vec![
                Answer::Cut(100_000),
                Answer::Cut(100_000),
                Answer::Cut(usize::MAX),
            ],
        );
        let mut seen = Vec::new();
        fetch(&url, &to, "d", Some(&sha256(&content())), &mut |p| {
            seen.push((p.done, p.total))
        })
        .unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), content());
        assert_eq!(
            ranges.iter().collect::<Vec<_>>(),
            [None, Some(100_000), Some(200_000)]
        );
        assert_eq!(seen.last(), Some(&(300_000, Some(300_000))));
        assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        assert!(!folder.path().join("data.gz.part").exists());
    }

    #[test]
    fn a_part_of_an_earlier_run_is_used_and_a_server_without_ranges_starts_again() {
        for answer in [Answer::Cut(usize::MAX), Answer::Whole] {
            let folder = tempfile::tempdir().unwrap();
            let to = folder.path().join("data.gz");
            std::fs::write(folder.path().join("data.gz.part"), &content()[..7]).unwrap();
            let (url, ranges) = serve(content(), vec![answer]);
            fetch(&url, &to, "d", None, &mut |_| {}).unwrap();
            assert_eq!(std::fs::read(&to).unwrap(), content());
            assert_eq!(ranges.recv().unwrap(), Some(7));
        }
    }

    #[test]
    fn giving_up_keeps_the_part() {
        let folder = tempfile::tempdir().unwrap();
        let (url, _ranges) = serve(
            content(),
            (0..ATTEMPTS).map(|_| Answer::Cut(1_000)).collect(),
        );
        let message = fetch(&url, &folder.path().join("data.gz"), "d", None, &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("4000 bytes are kept") && message.contains(&url),
            "{message}"
        );
        assert_eq!(
            std::fs::metadata(folder.path().join("data.gz.part"))
                .unwrap()
                .len(),
            4_000
        );
    }

    #[test]
    fn a_wrong_digest_and_a_refusal_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("data.gz");
        let (url, _ranges) = serve(content(), vec![Answer::Whole, Answer::Status(404)]);
        let error = fetch(&url, &to, "d", Some(&"0".repeat(64)), &mut |_| {}).unwrap_err();
        assert!(matches!(error, DataError::Digest { .. }), "{error}");
        let message = fetch(&url, &to, "d", None, &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(message.contains("status 404"), "{message}");
        // Nothing listens any more.
        let message = fetch(&url, &to, "d", None, &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(message.contains("cannot be reached"), "{message}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_part_longer_than_the_file_is_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("data.gz");
        std::fs::write(folder.path().join("data.gz.part"), vec![9; 400_000]).unwrap();
        let (url, ranges) = serve(content(), vec![Answer::Status(416), Answer::Whole]);
        fetch(&url, &to, "d", None, &mut |_| {}).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), content());
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [Some(400_000), None]);
    }
}
