//! The page at `/`: files that the program carries, each with a digest as its `ETag`.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest as _, Sha256};

use crate::App;

/// Path, form, content.
type File = (&'static str, &'static str, &'static [u8]);

/// A file below `/page/`.
macro_rules! file {
    ($name:literal, $form:expr) => {
        (
            concat!("/page/", $name),
            $form,
            include_bytes!(concat!("../page/", $name)),
        )
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Every file of the page.
const FILES: [File; 16] = [
    ("/", HTML, include_bytes!("../page/index.html")),
    file!("style.css", CSS),
    file!("icon.svg", "image/svg+xml"),
    file!("api.js", JS),
    file!("app.js", JS),
    file!("compare.js", JS),
    file!("dom.js", JS),
    file!("explanation.js", JS),
    file!("history.js", JS),
    file!("item.js", JS),
    file!("panel.js", JS),
    file!("recommendations.js", JS),
    file!("search.js", JS),
    file!("settings.js", JS),
    file!("state.js", JS),
    file!("tree.js", JS),
];

/// A page may load what this server has, and nothing else; nobody may frame it.
const GUARDS: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// Sets on an answer what keeps a page from loading anything from elsewhere.
pub(crate) async fn guard(mut response: Response) -> Response {
    for (name, value) in GUARDS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(crate) fn router() -> Router<Arc<App>> {
    FILES
        .into_iter()
        .fold(Router::new(), |router, (path, form, content)| {
            let digest = Sha256::digest(content);
            let tag: String = digest[..16]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let tag = format!("\"{tag}\"");
            router.route(
                path,
                get(move |request: Request| file(request, form, content, tag.clone())),
            )
        })
}

/// A file, unless the browser has it.
async fn file(
    request: Request,
    form: &'static str,
    content: &'static [u8],
    tag: String,
) -> Response {
    let known = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let known = known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag));
    let tag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
    let headers = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    match known {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, [(header::CONTENT_TYPE, form)], content).into_response(),
    }
}
