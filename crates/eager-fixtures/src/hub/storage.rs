//! The storage behind the repositories: what is to be sent how, files and pieces taken, bytes given.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::{Answer, Known, PIECE, good, parsed, refuse, sha256, signature, text};

impl Known {
    pub(super) fn batch(&mut self, name: &str, headers: &HeaderMap, body: &Bytes) -> Answer {
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
    pub(super) fn put(
        &mut self,
        oid: &str,
        piece: &[&str],
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Answer {
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

    pub(super) fn complete(&mut self, oid: &str, body: &Bytes) -> Answer {
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

    pub(super) fn stored(&self, object: &Value) -> bool {
        let found = object["oid"].as_str().and_then(|oid| self.storage.get(oid));
        found.is_some_and(|found| object["size"] == found.len())
    }

    /// Bytes from where they are asked for; broken off where that is the fault.
    pub(super) fn bytes(&self, content: &[u8], headers: &HeaderMap) -> Answer {
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
