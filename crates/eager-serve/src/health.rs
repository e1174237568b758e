//! Whether the process is alive, and whether it takes requests.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

/// A word for a probe.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    #[schema(example = "ready")]
    status: &'static str,
}

/// Whether the process answers at all
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "It does", body = Status)))]
pub(crate) async fn healthz() -> Json<Status> {
    Json(Status { status: "ok" })
}

/// Whether requests should be sent here
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "`ready`: every model is loaded", body = Status),
    (status = 503, description = "`draining`: the server is about to stop", body = Status),
))]
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, Json<Status>) {
    match app.draining() {
        true => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(Status { status: "draining" }),
        ),
        false => (StatusCode::OK, Json(Status { status: "ready" })),
    }
}
