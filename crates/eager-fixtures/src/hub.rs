//! A stand-in for the Hugging Face hub on a port of this machine: repositories with commits, the storage behind them, and
//! the refusals of both. It keeps to what the public interface says and its Python client expects; it knows the owner `me`
//! with the tokens [`WRITES`] and [`READS`].

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A token that may do everything with the repositories of `me`.
pub const WRITES: &str = "hf_writes";
/// A token that may read them.
pub const READS: &str = "hf_reads";

/// Bytes from which on a file is stored in pieces, and of a piece.
pub const PIECE: usize = 4096;

/// A hub, until the process ends.
#[derive(Clone, Debug)]
pub struct MockHub {
    /// Its address.
    pub endpoint: String,
    known: Arc<Mutex<Known>>,
}

/// What goes wrong, in which request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Bytes after which every file that is downloaded breaks off.
    pub cut_after: Option<usize>,
    /// Pieces and files that the storage takes before it answers with status 503 for good.
    pub stores: Option<usize>,
    /// Whether the storage loses the last byte of what it says that it has.
    pub loses: bool,
    /// Whether somebody else commits between the look at a branch and the commit.
    pub overtaken: bool,
}

/// What a repository has at a commit.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Its name.
    pub oid: String,
    /// Its message.
    pub message: String,
    /// Its files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Those that lie in the storage, with their digests.
    pub stored: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Known {
    endpoint: String,
    repositories: BTreeMap<String, Repository>,
    storage: HashMap<String, Vec<u8>>,
    pieces: HashMap<(String, usize), Vec<u8>>,
    requests: Vec<String>,
    faults: Faults,
    puts: usize,
}

#[derive(Debug, Default)]
struct Repository {
    private: bool,
    commits: Vec<Commit>,
}

impl MockHub {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let known = Arc::new(Mutex::new(Known {
            endpoint: endpoint.clone(),
            ..Known::default()
        }));
        let app = axum::Router::new()
            .fallback(handle)
            .with_state(known.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, app).await.unwrap();
            });
        });
        Self { endpoint, known }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Commits of a repository from the first on; none where there is no such repository.
    #[must_use]
    pub fn commits(&self, repository: &str) -> Vec<Commit> {
        let known = self.known();
        let found = known.repositories.get(repository);
        found.map_or(vec![], |found| found.commits.clone())
    }

    /// Whether a repository is private.
    #[must_use]
    pub fn private(&self, repository: &str) -> bool {
        self.known()
            .repositories
            .get(repository)
            .is_some_and(|found| found.private)
    }

    /// Commits one file over the interface's head.
    ///
    /// # Panics
    /// When there is no such repository.
    pub fn put(&self, repository: &str, name: &str, content: &[u8]) {
        self.known()
            .repositories
            .get_mut(repository)
            .unwrap()
            .add("by hand", |commit| {
                commit.stored.remove(name);
                commit.files.insert(name.to_owned(), content.to_vec());
            });
    }

    /// What goes wrong from now on.
    pub fn set(&self, faults: Faults) {
        let mut known = self.known();
        (known.faults, known.puts) = (faults, 0);
    }

    /// Requests since the last call: method, path, and the range where one is asked for.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.known().requests)
    }
}

impl Repository {
    fn add(&mut self, message: &str, change: impl FnOnce(&mut Commit)) -> String {
        let mut commit = self.commits.last().cloned().unwrap_or_default();
        change(&mut commit);
        message.clone_into(&mut commit.message);
        let seed = format!("{} {} {:?}", commit.oid, commit.message, commit.files);
        commit.oid = sha256(seed.as_bytes())[..40].to_owned();
        self.commits.push(commit.clone());
        commit.oid
    }

    fn at(&self, revision: &str) -> Option<&Commit> {
        match revision {
            "main" => self.commits.last(),
            oid => self.commits.iter().find(|commit| commit.oid == oid),
        }
    }
}

/// An answer that is no success: status, the hub's code, its words.
struct Refusal(u16, &'static str, String);

type Answer = Result<Response<Body>, Refusal>;

fn refuse<T>(status: u16, code: &'static str, words: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(status, code, words.into()))
}

async fn handle(State(known): State<Arc<Mutex<Known>>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let mut known = known.lock().unwrap();
    let range = parts
        .headers
        .get("range")
        .and_then(|range| range.to_str().ok());
    let range = range.map_or(String::new(), |range| format!(" {range}"));
    let request = format!("{} {path}{range}", parts.method);
    known.requests.push(request);
    let answer = known.answer(
        &parts.method,
        path.trim_start_matches('/'),
        &parts.headers,
        &body,
    );
    answer.unwrap_or_else(|Refusal(status, code, words)| {
        let answer = Response::builder().status(status);
        let answer = answer
            .header("x-error-code", code)
            .header("x-error-message", &words);
        answer
            .body(json!({ "error": words }).to_string().into())
            .unwrap()
    })
}

impl Known {
    fn answer(&mut self, method: &Method, path: &str, headers: &HeaderMap, body: &Bytes) -> Answer {
        let parts: Vec<&str> = path.split('/').collect();
        match (method.as_str(), &parts[..]) {
            ("POST", ["api", "repos", "create"]) => self.create(headers, body),
            ("GET", ["api", "models", owner, name, "revision", revision]) => {
                let repository = self.readable(&format!("{owner}/{name}"), headers)?;
                let Some(commit) = repository.at(revision) else {
                    return refuse(
                        404,
                        "RevisionNotFound",
                        format!("Invalid rev id: {revision}"),
                    );
                };
                let files: Vec<Value> = commit
                    .files
                    .keys()
                    .map(|name| json!({ "rfilename": name }))
                    .collect();
                good(
                    &json!({ "id": format!("{owner}/{name}"), "sha": commit.oid, "siblings": files,
                    "private": repository.private, "tags": [], "downloads": 0, "likes": 0 }),
                )
            }
            ("POST", ["api", "models", owner, name, "preupload", revision]) => {
                self.preupload(&format!("{owner}/{name}"), revision, headers, body)
            }
            ("POST", ["api", "models", owner, name, "commit", revision]) => {
                self.commit(&format!("{owner}/{name}"), revision, headers, body)
            }
            ("POST", ["api", "validate-yaml"]) => good(&json!({"errors": [], "warnings": []})),
            ("POST", [owner, name, "info", "lfs", "objects", "batch"]) => {
                let name = name.strip_suffix(".git").unwrap_or("");
                self.batch(&format!("{owner}/{name}"), headers, body)
            }
            ("POST", ["verify", owner, name]) => {
                self.writable(&format!("{owner}/{name}"), headers)?;
                let said: Value = parsed(body)?;
                match self.stored(&said) {
                    true => good(&json!({})),
                    false => refuse(404, "", "Object does not exist or is of another size"),
                }
            }
            ("PUT", ["storage", oid, signed, piece @ ..]) => {
                if *signed != signature(oid) {
                    return refuse(403, "", "SignatureDoesNotMatch");
                }
                self.put(oid, piece, headers, body)
            }
            ("POST", ["complete", oid]) => self.complete(oid, body),
            ("GET" | "HEAD", [owner, name, "resolve", revision, file @ ..]) => {
                let (repository, file) = (format!("{owner}/{name}"), file.join("/"));
                self.resolve(&repository, revision, &file, headers)
            }
            ("GET", ["cdn", oid]) => {
                if headers.contains_key("authorization") {
                    return refuse(400, "", "only one auth mechanism allowed");
                }
                match self.storage.get(*oid) {
                    Some(bytes) => self.bytes(bytes, headers),
                    None => refuse(404, "", "no such key"),
                }
            }
            _ => refuse(404, "", "no such page"),
        }
    }

    fn readable(&self, name: &str, headers: &HeaderMap) -> Result<&Repository, Refusal> {
        let token = token(headers);
        if token.is_some_and(|token| ![WRITES, READS].contains(&token)) {
            return refuse(401, "", "Invalid credentials in Authorization header");
        }
        match self.repositories.get(name) {
            Some(found) if !found.private || token.is_some() => Ok(found),
            // Who is nobody does not learn what is there.
            _ if token.is_none() => refuse(401, "RepoNotFound", "Invalid username or password."),
            _ => refuse(404, "RepoNotFound", "Repository not found"),
        }
    }

    fn writable(&mut self, name: &str, headers: &HeaderMap) -> Result<&mut Repository, Refusal> {
        self.readable(name, headers)?;
        match token(headers) {
            Some(WRITES) => Ok(self.repositories.get_mut(name).unwrap()),
            Some(_) => refuse(
                403,
                "",
                format!("you don't have the rights to write to {name}"),
            ),
            None => refuse(401, "", "Invalid username or password."),
        }
    }

    fn create(&mut self, headers: &HeaderMap, body: &Bytes) -> Answer {
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

    fn preupload(
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

    fn batch(&mut self, name: &str, headers: &HeaderMap, body: &Bytes) -> Answer {
        self.writable(name, headers)?;
        let asked: Value = parsed(body)?;
        if asked["operation"] != "upload" || asked["hash_algo"] != "sha256" {
            return refuse(422, "", "operation or hash_algo");
        }
        let mut objects = Vec::new();
        for object in asked["objects"].as_array().into_iter().flatten() {
            let (oid, size) = (
                text(object, "oid")?,
                object["size"].as_u64().unwrap_or(0) as usize,
            );
            let mut answer = json!({"oid": oid, "size": size, "authenticated": true});
            if !self.stored(object) {
                let (at, mut header) = (&self.endpoint, json!({}));
                let signed = format!("{at}/storage/{oid}/{}", signature(oid));
                let mut href = signed.clone();
                if size > PIECE {
                    href = format!("{at}/complete/{oid}");
                    header = json!({"chunk_size": PIECE.to_string()});
                    for piece in 1..=size.div_ceil(PIECE) {
                        header[format!("{piece:05}")] = format!("{signed}/{piece}").into();
                    }
                }
                answer["actions"] = json!({
                    "upload": {"href": href, "header": header},
                    "verify": {"href": format!("{at}/verify/{name}"), "header": {}},
                });
            }
            objects.push(answer);
        }
        good(&json!({ "objects": objects }))
    }

    /// The storage: it knows no tokens, and nothing of repositories.
    fn put(&mut self, oid: &str, piece: &[&str], headers: &HeaderMap, body: &Bytes) -> Answer {
        self.puts += 1;
        if self.faults.stores.is_some_and(|stores| self.puts > stores) {
            return refuse(503, "", "Please reduce your request rate.");
        }
        if headers.contains_key("authorization") {
            return refuse(400, "", "only one auth mechanism allowed");
        }
        if !headers.contains_key("content-length") {
            return refuse(411, "", "MissingContentLength");
        }
        let mut kept = body.to_vec();
        if self.faults.loses {
            kept.pop();
        }
        match piece {
            [] if sha256(body) != oid => return refuse(400, "", "XAmzContentSHA256Mismatch"),
            [] => {
                self.storage.insert(oid.to_owned(), kept);
            }
            [number] => {
                let number = number.parse().unwrap_or(0);
                self.pieces.insert((oid.to_owned(), number), kept);
            }
            _ => return refuse(404, "", "no such key"),
        }
        let tag = format!("\"{}\"", &sha256(body)[..32]);
        Ok(Response::builder()
            .header("etag", tag)
            .body(Body::empty())
            .unwrap())
    }

    fn complete(&mut self, oid: &str, body: &Bytes) -> Answer {
        let asked: Value = parsed(body)?;
        let mut whole = Vec::new();
        for (number, part) in (1..).zip(asked["parts"].as_array().into_iter().flatten()) {
            let Some(piece) = self.pieces.remove(&(oid.to_owned(), number)) else {
                return refuse(400, "", format!("InvalidPart {number}"));
            };
            let tag = format!("\"{}\"", &sha256(&piece)[..32]);
            if part["partNumber"] != number || (part["etag"] != tag && !self.faults.loses) {
                return refuse(400, "", format!("InvalidPart {number}: not its etag"));
            }
            whole.extend(piece);
        }
        if asked["oid"] != oid || (sha256(&whole) != oid && !self.faults.loses) {
            return refuse(400, "", "the pieces together have another digest");
        }
        self.storage.insert(oid.to_owned(), whole);
        good(&json!({}))
    }

    fn stored(&self, object: &Value) -> bool {
        let found = object["oid"].as_str().and_then(|oid| self.storage.get(oid));
        found.is_some_and(|found| object["size"] == found.len())
    }

    fn commit(&mut self, name: &str, revision: &str, headers: &HeaderMap, body: &Bytes) -> Answer {
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

    fn resolve(&self, name: &str, revision: &str, file: &str, headers: &HeaderMap) -> Answer {
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

    /// Bytes from where they are asked for; broken off where that is the fault.
    fn bytes(&self, content: &[u8], headers: &HeaderMap) -> Answer {
        let range = headers.get("range").and_then(|range| range.to_str().ok());
        let first = range.and_then(|range| range.strip_prefix("bytes=")?.split('-').next());
        let first: usize = first.and_then(|first| first.parse().ok()).unwrap_or(0);
        if first >= content.len() && first > 0 {
            return refuse(416, "", "InvalidRange");
        }
        let rest = Bytes::copy_from_slice(&content[first..]);
        let mut answer = Response::builder().header("content-length", rest.len());
        if range.is_some() {
            let (last, all) = (content.len() - 1, content.len());
            answer = answer.status(StatusCode::PARTIAL_CONTENT);
            answer = answer.header("content-range", format!("bytes {first}-{last}/{all}"));
        }
        let body = match self.faults.cut_after {
            Some(cut) if cut < rest.len() => {
                // A moment in between: what is sent together with the break may get lost with it.
                let broken = async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Err(std::io::Error::other("cut"))
                };
                let sent = stream::once(async move { Ok(rest.slice(..cut)) });
                Body::from_stream(sent.chain(stream::once(broken)))
            }
            _ => rest.into(),
        };
        Ok(answer.body(body).unwrap())
    }
}

fn good(value: &Value) -> Answer {
    Ok(Response::new(value.to_string().into()))
}

fn parsed<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).or_else(|error| refuse(400, "", error.to_string()))
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    let found = value[name].as_str();
    found.map_or_else(|| refuse(400, "", format!("no {name}")), Ok)
}

fn token(headers: &HeaderMap) -> Option<&str> {
    headers
        .get("authorization")?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// What an address of the storage must have.
fn signature(oid: &str) -> String {
    sha256(format!("signed {oid}").as_bytes())[..16].to_owned()
}

/// How Git names a file.
fn git(content: &[u8]) -> String {
    let whole = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
    hex(&<sha1::Sha1 as sha1::Digest>::digest(&whole))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
