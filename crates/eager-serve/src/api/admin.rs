//! `POST /v1/admin/reload`: another model in the place of one, while requests go on.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::App;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::Body;

/// Which model to change.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReloadRequest {
    /// Name of the model; otherwise the first.
    model: Option<String>,
}

/// What is served now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReloadResponse {
    model: String,
    /// The bundle's digest.
    digest: String,
    /// That of the one before.
    previous_digest: String,
    changed: bool,
}

/// Opens a model's folder again
///
/// The new model is loaded beside the old one; every file is compared with its digest, and it is asked a question. Then it
/// takes the old one's place. Requests under way end with the model that they began with; where something fails the old
/// model goes on.
#[utoipa::path(
    post, path = "/v1/admin/reload", tag = "models", security(("token" = [])), request_body = ReloadRequest,
    responses(
        (status = 200, description = "The new model is served", body = ReloadResponse),
        (status = 403, description = "The server listens to other machines and has no token", body = ErrorBody),
        (status = 409, description = "The folder does not hold a sound model; the old one goes on", body = ErrorBody),
    ),
)]
pub(crate) async fn reload(
    State(app): State<Arc<App>>,
    Body(request): Body<ReloadRequest>,
) -> ApiResult<Json<ReloadResponse>> {
    // A task of its own: it ends, and is logged, whether or not the client waits.
    let task = tokio::spawn(async move { app.reload(request.model.as_deref()).await });
    let change = task.await.map_err(|_| ApiError::internal())??;
    let change = change.map_err(|error| {
        let message = format!("{error}; the model that was there goes on");
        ApiError::new(StatusCode::CONFLICT, "not_reloaded", message)
    })?;
    let digest = change.new.bundle.digest().to_owned();
    let previous_digest = change.old.bundle.digest().to_owned();
    Ok(Json(ReloadResponse {
        model: change.new.name.clone(),
        changed: digest != previous_digest,
        digest,
        previous_digest,
    }))
}
