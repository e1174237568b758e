//! A stand-in for the Hugging Face hub on a port of this machine: repositories with commits, the storage behind them, and
//! the refusals of both. It keeps to what the public interface says and its Python client expects; it knows the owner `me`
//! with the tokens [`WRITES`] and [`READS`].

mod repository;
mod storage;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response};
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
