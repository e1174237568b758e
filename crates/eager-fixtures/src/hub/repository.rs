//! Repositories: made, asked how files are to be sent, committed to, read.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::{Answer, Known, READS, WRITES, git, good, parsed, refuse, text, token};

impl Known {
    pub(super) fn create(&mut self, headers: &HeaderMap, body: &Bytes) -> Answer {
        let asked: Value = parsed(body)?;
        let (owner, name) = (text(&asked, "organization")?, text(&asked, "name")?);
        match token(headers) {
            None => return refuse(401, "", "Invalid username or password."),
            Some(WRITES) if owner == "me" => {}
            Some(WRITES | READS) => {
                let words = format!("You don't have the rights to create a model under {owner:?}");
                return refuse(403, "", words);
            }
            Some(_) => return refuse(401, "", "Invalid credentials in Authorization header"),
        }
        let name = format!("{owner}/{name}");
        if self.repositories.contains_key(&name) {
            return refuse(409, "", "You already created this model repo");
        }
        let repository = self.repositories.entry(name.clone()).or_default();
        repository.private = asked["visibility"] == "private";
        repository.add("initial commit", |commit| {
            let attributes = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n";
            commit
                .files
                .insert(".gitattributes".to_owned(), attributes.to_vec());
        });
        good(&json!({ "url": format!("{}/{name}", self.endpoint) }))
    }

    pub(super) fn preupload(
        &mut self,
        name: &str,
        revision: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Answer {
        let repository = self.writable(name, headers)?;
        let Some(head) = repository.at(revision) else {
            return refuse(404, "RevisionNotFound", "Invalid rev id");
        };
        let asked: Value = parsed(body)?;
        let mut files = Vec::new();
        for file in asked["files"].as_array().into_iter().flatten() {
            let path = text(file, "path")?;
            if BASE64.decode(text(file, "sample")?).is_err() || !file["size"].is_u64() {
                return refuse(400, "", "sample or size are not as expected");
            }
            let mode = if path.ends_with(".safetensors") {
                "lfs"
            } else {
                "regular"
            };
            let oid = match head.stored.get(path) {
                Some(oid) => Some(oid.clone()),
                None => head.files.get(path).map(|content| git(content)),
            };
            files
                .push(json!({"path": path, "uploadMode": mode, "shouldIgnore": false, "oid": oid}));
        }
        good(&json!({ "files": files }))
    }

    pub(super) fn commit(
        &mut self,
        name: &str,
        revision: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Answer {
        let overtaken = self.faults.overtaken;
        let repository = self.writable(name, headers)?;
        if revision != "main" {
            return refuse(404, "RevisionNotFound", "Invalid rev id");
        }
        if overtaken {
            repository.add("somebody else's", |_| {});
        }
        let head = repository.at("main").cloned().unwrap_or_default();
        if headers
            .get("content-type")
            .is_none_or(|kind| kind != "application/x-ndjson")
        {
            return refuse(415, "", "expected application/x-ndjson");
        }
        let lines = body
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty());
        let mut lines = lines.map(|line| parsed::<Value>(&Bytes::copy_from_slice(line)));
        let header = lines.next().transpose()?.unwrap_or_default();
        let summary = text(&header["value"], "summary")?.to_owned();
        let parent = &header["value"]["parentCommit"];
        if header["key"] != "header" || summary.is_empty() {
            return refuse(400, "", "the first line must be a header with a summary");
        }
        if parent.is_string() && *parent != head.oid {
            return refuse(
                412,
                "",
                "A commit has happened since. Please refresh and try again.",
            );
        }
        let mut changed = head;
        for line in lines {
            let line = line?;
            let (value, path) = (&line["value"], text(&line["value"], "path")?.to_owned());
            let content = match line["key"].as_str() {
                Some("file") => {
                    changed.stored.remove(&path);
                    let content = BASE64.decode(text(value, "content")?);
                    content.or_else(|_| refuse(400, "", format!("{path}: not base64")))?
                }
                Some("lfsFile") if value["algo"] == "sha256" && self.stored(value) => {
                    let oid = text(value, "oid")?.to_owned();
                    let content = self.storage[&oid].clone();
                    changed.stored.insert(path.clone(), oid);
                    content
                }
                Some("lfsFile") => {
                    return refuse(
                        400,
                        "",
                        format!("{path}: its LFS object is not in the storage"),
                    );
                }
                other => return refuse(400, "", format!("{path}: {other:?} is not known")),
            };
            changed.files.insert(path, content);
        }
        let repository = self.repositories.get_mut(name).unwrap();
        let oid = repository.add(&summary, |commit| *commit = changed);
        let url = format!("{}/{name}/commit/{oid}", self.endpoint);
        good(&json!({"success": true, "commitOid": oid, "commitUrl": url, "hookOutput": ""}))
    }

    pub(super) fn resolve(
        &self,
        name: &str,
        revision: &str,
        file: &str,
        headers: &HeaderMap,
    ) -> Answer {
        let repository = self.readable(name, headers)?;
        let Some(commit) = repository.at(revision) else {
            return refuse(404, "RevisionNotFound", "Invalid rev id");
        };
        let Some(content) = commit.files.get(file) else {
            return refuse(404, "EntryNotFound", "Entry not found");
        };
        let Some(oid) = commit.stored.get(file) else {
            let mut answer = self.bytes(content, headers)?;
            answer
                .headers_mut()
                .insert("etag", format!("\"{}\"", git(content)).parse().unwrap());
            answer
                .headers_mut()
                .insert("x-repo-commit", commit.oid.parse().unwrap());
            return Ok(answer);
        };
        // Another host: a token that is sent on would be seen there.
        let storage = self.endpoint.replace("127.0.0.1", "localhost");
        let answer = Response::builder().status(StatusCode::FOUND);
        let answer = answer
            .header("location", format!("{storage}/cdn/{oid}"))
            .header("x-repo-commit", &commit.oid)
            .header("x-linked-etag", format!("\"{oid}\""))
            .header("x-linked-size", content.len());
        Ok(answer.body(Body::empty()).unwrap())
    }
}
