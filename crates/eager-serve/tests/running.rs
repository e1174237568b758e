//! Over a real socket: models changed under load, and an end without a dropped request.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use common::{ITEMS, Served};
use eager_serve::Config;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// A server on a port of its own.
struct Running {
    served: Served,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(config: Config) -> Self {
        let served = Served::one(config);
        let listener = eager_serve::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let app = served.app.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .unwrap();
            let stopped = async { drop(stopped.await) };
            runtime
                .block_on(eager_serve::serve(app, listener, stopped))
                .unwrap();
        });
        Self {
            served,
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn stop(&mut self) {
        drop(self.stop.take());
    }

    fn join(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into()
}

fn post(agent: &ureq::Agent, url: &str, body: &Value) -> Result<(u16, Value), ureq::Error> {
    let request = agent.post(url).header("content-type", "application/json");
    let mut response = request.send(body.to_string())?;
    let text = response.body_mut().read_to_string()?;
    Ok((
        response.status().as_u16(),
        serde_json::from_str(&text).unwrap(),
    ))
}

/// Puts another bundle in the place of the one in `folder`, as one would with a link.
fn replace(folder: &std::path::Path, seed: u64) -> String {
    let old = folder.with_extension("old");
    let new = folder.with_extension("new");
    let mut bundle = eager_fixtures::bundle(ITEMS, seed);
    bundle.save(&new).unwrap();
    std::fs::rename(folder, &old).unwrap();
    std::fs::rename(&new, folder).unwrap();
    std::fs::remove_dir_all(&old).unwrap();
    bundle.digest().to_owned()
}

#[test]
fn models_change_under_load_without_a_failed_request() {
    let mut running = Running::start(Config {
        workers: 2,
        ..Config::default()
    });
    let (ending, answers) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (ending, answers, url) = (
                ending.clone(),
                answers.clone(),
                running.url("/v1/recommend"),
            );
            std::thread::spawn(move || {
                let agent = agent();
                let mut digests = std::collections::BTreeSet::new();
                let mut n = client;
                while !ending.load(Ordering::Relaxed) {
                    n += 1;
                    let body = json!({"history": [format!("i{}", n % ITEMS), "i3"], "k": 5});
                    let (status, answer) = post(&agent, &url, &body).unwrap();
                    assert_eq!(status, 200, "{answer}");
                    assert_eq!(answer["items"].as_array().unwrap().len(), 5);
                    digests.insert(answer["digest"].as_str().unwrap().to_owned());
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                digests
            })
        })
        .collect();
    let wait = |more: usize| {
        let (since, target) = (Instant::now(), answers.load(Ordering::Relaxed) + more);
        while answers.load(Ordering::Relaxed) < target {
            assert!(since.elapsed() < Duration::from_secs(60), "no answers");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let (agent, reload) = (agent(), running.url("/v1/admin/reload"));
    let folder = running.served.folder(0);
    let mut current = common::open(&folder).unwrap().digest().to_owned();
    let mut known = std::collections::BTreeSet::from([current.clone()]);
    for seed in 20..24 {
        wait(20);
        let digest = replace(&folder, seed);
        let (status, answer) = post(&agent, &reload, &json!({})).unwrap();
        assert_eq!(status, 200, "{answer}");
        let expected =
            json!({"model": "0", "digest": digest, "previous_digest": current, "changed": true});
        assert_eq!(answer, expected);
        known.insert(digest.clone());
        current = digest;
    }
    let (_, answer) = post(&agent, &reload, &json!({"model": "0"})).unwrap();
    assert_eq!(
        (&answer["changed"], &answer["digest"]),
        (&json!(false), &json!(current))
    );

    // Every file of a broken bundle is named, and the old model goes on.
    for name in [
        "model.safetensors",
        "items.jsonl",
        "bundle.json",
        "semantic-vectors.safetensors",
    ] {
        wait(10);
        let path = folder.join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let (status, answer) = post(&agent, &reload, &json!({})).unwrap();
        assert_eq!(
            (status, &answer["error"]["code"]),
            (409, &json!("not_reloaded")),
            "{answer}"
        );
        assert!(
            answer["error"]["message"].as_str().unwrap().contains(name),
            "{answer}"
        );
        std::fs::write(&path, bytes).unwrap();
        let body = json!({"history": ["i1"]});
        let (status, answer) = post(&agent, &running.url("/v1/recommend"), &body).unwrap();
        assert_eq!((status, &answer["digest"]), (200, &json!(current)));
    }
    wait(10);
    ending.store(true, Ordering::Relaxed);
    for client in clients {
        let digests = client.join().unwrap();
        assert!(digests.is_subset(&known) && digests.contains(&current));
    }
    running.stop();
    running.join();
}

#[test]
fn requests_under_way_are_answered_and_new_ones_refused() {
    let mut running = Running::start(Config {
        workers: 1,
        max_batch: 1,
        ..Config::default()
    });
    let url = running.url("/v1/recommend");
    let clients: Vec<_> = (0..40)
        .map(|n| {
            let url = url.clone();
            std::thread::spawn(move || {
                // Every item is scored, which takes its time.
                let body = json!({"history": [format!("i{n}")], "categories": ["all"], "k": 90});
                post(&agent(), &url, &body)
                    .map(|(status, answer)| (status, answer["items"].as_array().map(Vec::len)))
            })
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let metric = |name: &str| runtime.block_on(running.served.metric(name));
    let since = Instant::now();
    // The question for the metric is itself under way.
    while metric("eager_http_requests_under_way") < 2.0 && since.elapsed() < Duration::from_secs(30)
    {
    }
    running.stop();
    let since = Instant::now();
    while runtime.block_on(running.served.get("/readyz")).0 == StatusCode::OK {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "it is not draining"
        );
    }
    running.join();
    // Whoever was let in has an answer; whoever came too late was not connected.
    let answers: Vec<_> = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .collect();
    let answered: Vec<_> = answers.iter().flatten().collect();
    assert!(!answered.is_empty());
    assert!(
        answered.iter().all(|&&answer| answer == (200, Some(90))),
        "{answered:?}"
    );
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(
            matches!(error, ureq::Error::Io(_) | ureq::Error::ConnectionFailed),
            "{error}"
        );
    }
    assert!(std::net::TcpStream::connect(running.address).is_err());
}

#[test]
fn it_lingers_for_a_load_balancer() {
    let config = Config {
        linger: Duration::from_millis(1500),
        ..Config::default()
    };
    let mut running = Running::start(config);
    let agent = agent();
    let ready = |agent: &ureq::Agent, url: &str| {
        let mut response = agent.get(url).call().unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (
            response.status().as_u16(),
            serde_json::from_str::<Value>(&text).unwrap(),
        )
    };
    assert_eq!(
        ready(&agent, &running.url("/readyz")),
        (200, json!({"status": "ready"}))
    );
    running.stop();
    let since = Instant::now();
    while ready(&agent, &running.url("/readyz")).0 == 200 {
        assert!(
            since.elapsed() < Duration::from_secs(1),
            "it is not draining"
        );
    }
    assert_eq!(
        ready(&agent, &running.url("/readyz")),
        (503, json!({"status": "draining"}))
    );
    let (status, _) = post(
        &agent,
        &running.url("/v1/recommend"),
        &json!({"history": ["i1"]}),
    )
    .unwrap();
    assert_eq!(status, 200);
    running.join();
}
