//! A server of random bundles, asked in the process or over a socket.
#![allow(dead_code)] // each test file uses a part

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use candle_core::Device;
use eager_bundle::Bundle;
use eager_serve::{App, Config, Source};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

pub const ITEMS: usize = 90;

/// An app of bundles saved in folders `0`, `1`, … and named so.
pub struct Served {
    pub app: Arc<App>,
    pub router: Router,
    root: TempDir,
}

pub fn open(folder: &Path) -> Result<Bundle, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Bundle::load(folder, &Device::Cpu)?)
}

impl Served {
    pub fn new(config: Config, bundles: impl IntoIterator<Item = Bundle>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let sources: Vec<Source> = (0..)
            .zip(bundles)
            .map(|(number, mut bundle)| {
                let folder = root.path().join(number.to_string());
                bundle.save(&folder).unwrap();
                Source {
                    name: Some(number.to_string()),
                    folder,
                }
            })
            .collect();
        let app = App::new(config, &sources, Box::new(open)).unwrap();
        Self {
            router: eager_serve::router(app.clone()),
            app,
            root,
        }
    }

    pub fn one(config: Config) -> Self {
        Self::new(config, [eager_fixtures::bundle(ITEMS, 7)])
    }

    pub fn folder(&self, number: usize) -> PathBuf {
        self.root.path().join(number.to_string())
    }

    pub async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        (
            head.status,
            head.headers,
            to_bytes(body, usize::MAX).await.unwrap().to_vec(),
        )
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, _, body) = self
            .send(Request::get(path).body(Body::empty()).unwrap())
            .await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub async fn post(&self, path: &str, body: impl ToString) -> (StatusCode, Value) {
        let (status, _, body) = self.send(json(path, body)).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, _, text) = self
            .send(Request::get("/metrics").body(Body::empty()).unwrap())
            .await;
        let text = String::from_utf8(text).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .parse()
            .unwrap()
    }
}

pub fn json(path: &str, body: impl ToString) -> Request<Body> {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    request.body(body.to_string().into()).unwrap()
}
