//! Large files into the storage behind a repository, by the batch interface of Git LFS: what is stored already is passed
//! over, the rest is sent in one piece or in those that the hub asks for, and then said to be there.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, SeekFrom};

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::SendBody;
use ureq::http::HeaderMap;

use crate::client::{Call, Client};
use crate::push::{BRANCH, Local, call};
use crate::{HubError, Progress, RepositoryName, Result};

const LFS: &str = "application/vnd.git-lfs+json";

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

/// What to do for one file.
#[derive(Deserialize)]
struct Object {
    oid: String,
    /// Nothing, where the file is stored already.
    #[serde(default)]
    actions: Option<Actions>,
    #[serde(default)]
    error: Option<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    message: String,
}

#[derive(Deserialize)]
struct Actions {
    upload: Action,
    #[serde(default)]
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    /// Headers; or, for a file in pieces, `chunk_size` and the address of each by its number.
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

impl Action {
    /// Texts among the headers, but for the length, which is known here.
    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let texts = self.header.iter();
        let texts = texts.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        texts.filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"))
    }

    /// Bytes of a piece and the pieces' addresses in order, where the file is to be sent in pieces.
    fn pieces(&self) -> Option<(u64, Vec<&str>)> {
        let size = self.header.get("chunk_size")?;
        let size = size.as_u64().or_else(|| size.as_str()?.parse().ok())?;
        let numbered = self.headers();
        let mut numbered: Vec<(u64, &str)> = numbered
            .filter_map(|(name, address)| Some((name.parse().ok()?, address)))
            .collect();
        numbered.sort_unstable();
        Some((
            size,
            numbered.into_iter().map(|(_, address)| address).collect(),
        ))
    }
}

impl Client {
    /// Sees to it that every file is in the storage.
    pub(crate) fn store(
        &self,
        repository: &RepositoryName,
        locals: &[&Local],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        // Two files of one content are stored once, as the first of them.
        let mut by_digest: HashMap<&str, &Local> = HashMap::new();
        for local in locals {
            by_digest.entry(&local.sha256).or_insert(local);
        }
        if by_digest.is_empty() {
            return Ok(());
        }
        let mut objects: Vec<_> = by_digest
            .values()
            .map(|l| json!({"oid": l.sha256, "size": l.bytes}))
            .collect();
        objects.sort_by_key(|object| object["oid"].to_string());
        let body = json!({
            "operation": "upload", "transfers": ["basic", "multipart"], "objects": objects, "hash_algo": "sha256",
            "ref": {"name": BRANCH},
        });
        let url = format!(
            "{}/{repository}.git/info/lfs/objects/batch",
            self.endpoint()
        );
        let answer = self.ask(call(repository), || {
            let request = self.signed(self.agent.post(&url)).header("accept", LFS);
            request.header("content-type", LFS).send(body.to_string())
        })?;
        let batch: Batch = Self::json(call(repository), answer)?;
        let mut answered = HashMap::new();
        for object in &batch.objects {
            answered.insert(object.oid.as_str(), object);
        }
        // In the order of the files, so that two pushes do the same.
        for local in locals
            .iter()
            .filter(|l| std::ptr::eq(**l, by_digest[l.sha256.as_str()]))
        {
            let call = Call {
                file: &local.file.name,
                storage: true,
                ..call(repository)
            };
            let fault = |fault: &str| HubError::Answer {
                what: format!("{repository}/{}", local.file.name),
                fault: fault.to_owned(),
            };
            let object = answered.get(local.sha256.as_str());
            let object = object.ok_or_else(|| fault("the storage says nothing of it"))?;
            if let Some(Refused { message }) = &object.error {
                return Err(HubError::Forbidden {
                    what: format!("{repository}/{}", local.file.name),
                    said: message.clone(),
                });
            }
            let Some(actions) = &object.actions else {
                continue;
            };
            match actions.upload.pieces() {
                Some((size, pieces))
                    if size > 0 && pieces.len() as u64 == local.bytes.div_ceil(size) =>
                {
                    self.send_pieces(call, local, &actions.upload.href, (size, &pieces), progress)?;
                }
                Some(_) => return Err(fault("the pieces are not those of the file")),
                None => {
                    let whole = (0, local.bytes);
                    self.send(
                        call,
                        local,
                        (&actions.upload.href, whole),
                        Some(&actions.upload),
                        progress,
                    )?;
                }
            }
            if let Some(verify) = &actions.verify {
                self.verify(call, local, verify)?;
            }
        }
        Ok(())
    }

    fn send_pieces(
        &self,
        call: Call<'_>,
        local: &Local,
        href: &str,
        (size, pieces): (u64, &[&str]),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let mut parts = Vec::new();
        for (number, address) in (1..).zip(pieces) {
            let first = (number - 1) * size;
            let part = (first, size.min(local.bytes - first));
            let headers = self.send(call, local, (address, part), None, progress)?;
            let tag = headers.get("etag").and_then(|tag| tag.to_str().ok());
            let tag = tag.ok_or_else(|| HubError::Answer {
                what: format!("{}/{}", call.repository, call.file),
                fault: format!("piece {number} came without an etag"),
            })?;
            parts.push(json!({"partNumber": number, "etag": tag}));
        }
        let body = json!({"oid": local.sha256, "parts": parts}).to_string();
        self.ask(call, || {
            let request = self.agent.post(href).header("accept", LFS);
            request.header("content-type", LFS).send(&body)
        })?;
        Ok(())
    }

    /// Sends `length` bytes from `first` on to the storage, which knows by the address alone who may.
    fn send(
        &self,
        call: Call<'_>,
        local: &Local,
        (address, (first, length)): (&str, (u64, u64)),
        action: Option<&Action>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<HeaderMap> {
        let mut file = local.file.open()?;
        let answer = self.ask(call, || {
            file.seek(SeekFrom::Start(first))?;
            let mut counted = Counted {
                inner: (&mut file).take(length),
                done: first,
                told: &mut |done| {
                    progress(Progress {
                        file: call.file,
                        done,
                        total: local.bytes,
                    });
                },
            };
            // The storage takes no body of unknown length.
            let mut request = self.agent.put(address).header("content-length", length);
            for (name, value) in action.iter().flat_map(|action| action.headers()) {
                request = request.header(name, value);
            }
            request.send(SendBody::from_reader(&mut counted))
        })?;
        Ok(answer.headers().clone())
    }

    fn verify(&self, call: Call<'_>, local: &Local, verify: &Action) -> Result<()> {
        let body = json!({"oid": local.sha256, "size": local.bytes}).to_string();
        self.ask(call, || {
            let mut request = self.agent.post(&verify.href);
            // The token is for the hub alone.
            if verify.href.starts_with(&format!("{}/", self.endpoint())) {
                request = self.signed(request);
            }
            for (name, value) in verify.headers() {
                request = request.header(name, value);
            }
            request.header("content-type", LFS).send(&body)
        })?;
        Ok(())
    }
}

/// Tells how many bytes passed.
struct Counted<'a, R> {
    inner: R,
    done: u64,
    told: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.done += bytes as u64;
        (self.told)(self.done);
        Ok(bytes)
    }
}
