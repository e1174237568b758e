//! `eager serve` as a process: the lists of `eager recommend`, signals, and words for what does not start.

use std::io::{BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

fn eager(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eager"));
    command.args(args).env_remove("EAGER_TOKEN");
    command
}

/// A running server, killed when it is dropped.
struct Server {
    child: Child,
    log: BufReader<ChildStderr>,
    url: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut command = eager(&["serve", "--bind", "127.0.0.1:0"]);
        let mut child = command.args(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let url = line_with(&mut log, "listening on ");
        let url = url.rsplit("listening on ").next().unwrap().trim_end();
        let url = url.split('"').next().unwrap().to_owned();
        Self { child, log, url }
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &process]).status();
        assert!(sent.unwrap().success());
    }

    fn ask(&self, path: &str, body: Option<&Value>, token: Option<&str>) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let url = format!("{}{path}", self.url);
        let authorization = format!("Bearer {}", token.unwrap_or_default());
        let mut response = match body {
            Some(body) => agent
                .post(url)
                .header("content-type", "application/json")
                .header("authorization", authorization)
                .send(body.to_string()),
            None => agent.get(url).header("authorization", authorization).call(),
        }
        .unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (
            response.status().as_u16(),
            serde_json::from_str(&text).unwrap(),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line of the log that has `words` in it.
fn line_with(log: &mut impl std::io::BufRead, words: &str) -> String {
    let mut all = String::new();
    loop {
        let start = all.len();
        assert!(
            log.read_line(&mut all).unwrap() > 0,
            "no {words:?} in {all}"
        );
        if all[start..].contains(words) {
            return all.split_off(start);
        }
    }
}

fn save(folder: &Path, seed: u64) -> String {
    let mut bundle = eager_fixtures::bundle(60, seed);
    bundle.save(folder).unwrap();
    bundle.digest().to_owned()
}

#[test]
fn the_lists_of_recommend_until_it_is_told_to_stop() {
    let root = tempfile::tempdir().unwrap();
    let (folder, other) = (root.path().join("beauty"), root.path().join("other"));
    let first = save(&folder, 5);
    let second = save(&other, 6);
    let path = folder.to_str().unwrap();
    let named = format!("shop={path}");
    let mut server = Server::start(&[&named, "--log-format", "json"]);

    let history = "i3,i17,i40";
    let ids: Vec<&str> = history.split(',').collect();
    let recommend = ["recommend", path, "--history", history, "-k", "7", "--json"];
    let printed = eager(&recommend).output().unwrap();
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let body = json!({"history": ids, "k": 7});
    let (status, answer) = server.ask("/v1/recommend", Some(&body), None);
    assert_eq!((status, &answer["model"]), (200, &json!("shop")));
    let (printed, answered) = (
        printed["items"].as_array().unwrap(),
        answer["items"].as_array().unwrap(),
    );
    assert_eq!((printed.len(), answered.len()), (7, 7));
    for (printed, answered) in printed.iter().zip(answered) {
        assert_eq!(printed["id"], answered["item"]);
        for field in ["title", "score"] {
            assert_eq!(printed[field], answered[field], "{field}");
        }
    }
    // The log has the request under the id of the answer.
    let line = line_with(&mut server.log, "/v1/recommend");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["span"]["id"], &line["status"]),
        (&answer["request_id"], &json!(200))
    );

    #[cfg(unix)]
    {
        std::fs::rename(&folder, root.path().join("away")).unwrap();
        server.signal("HUP");
        line_with(&mut server.log, "the model that was there goes on");
        let digest =
            |server: &Server| server.ask("/v1/models", None, None).1["models"][0]["digest"].clone();
        assert_eq!(digest(&server), json!(first));
        std::fs::rename(&other, &folder).unwrap();
        server.signal("HUP");
        line_with(&mut server.log, &second);
        while digest(&server) != json!(second) {}

        server.signal("TERM");
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
        let mut rest = String::new();
        server.log.read_to_string(&mut rest).unwrap();
        assert!(
            rest.contains("SIGTERM") && rest.contains("stopped"),
            "{rest}"
        );
    }
}

#[test]
fn a_token_is_wanted_and_faults_are_said_before_anything_is_served() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("bundle");
    save(&folder, 5);
    let (bundle, token) = (folder.to_str().unwrap(), root.path().join("token"));
    let token = token.to_str().unwrap();
    std::fs::write(token, "correct-horse-battery\n").unwrap();
    let server = Server::start(&[bundle, "--token-file", token]);
    assert_eq!(server.ask("/v1/models", None, None).0, 401);
    assert_eq!(
        server
            .ask("/v1/models", None, Some("correct-horse-battery"))
            .0,
        200
    );
    assert_eq!(
        server
            .ask(
                "/v1/admin/reload",
                Some(&json!({})),
                Some("correct-horse-battery")
            )
            .0,
        200
    );

    let refused = |exit: i32, args: &[&str]| {
        let output = eager(&[&["serve"], args].concat()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(exit), 0),
            "{text}"
        );
        text
    };
    let taken = server.url.strip_prefix("http://").unwrap();
    assert!(refused(1, &[bundle, "--bind", taken]).contains(taken));
    std::fs::write(token, "\n").unwrap();
    assert!(
        refused(2, &[bundle, "--bind", "127.0.0.1:0", "--token-file", token]).contains("is empty")
    );
    assert!(refused(2, &[bundle, "--token-file", "no/such/file"]).contains("no/such/file"));
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        let held = std::ffi::OsStr::from_bytes(b"correct-horse-\xff");
        let mut serve = eager(&["serve", bundle, "--bind", "127.0.0.1:0"]);
        let output = serve.env("EAGER_TOKEN", held).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains("EAGER_TOKEN is not UTF-8") && !text.contains("correct"),
            "{text}"
        );
    }
    let missing = root.path().join("missing");
    assert!(
        refused(1, &[missing.to_str().unwrap(), "--bind", "127.0.0.1:0"])
            .contains("neither a bundle")
    );
    assert!(refused(1, &[bundle, bundle, "--bind", "127.0.0.1:0"]).contains("two models"));
    assert!(refused(2, &[bundle, "--timeout", "soon"]).contains("seconds"));
    let most = "18446744073709551615";
    assert!(refused(2, &[bundle, "--max-connections", most]).contains("too large"));
    assert!(refused(2, &[]).contains("BUNDLE|RUN"));
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[1..]).unwrap();
    assert!(refused(1, &[bundle, "--bind", "127.0.0.1:0"]).contains("model.safetensors"));
}
