//! `POST /v1/admin/reload`: another model in the place of one, while requests go on.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tracing::Instrument as _;
use utoipa::ToSchema;

use super::{BadBody, Refused};
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
        Refused, BadBody,
        (status = 200, description = "The new model is served", body = ReloadResponse),
        (status = 404, description = "There is no such model", body = ErrorBody),
        (status = 403, description = "The server listens to other machines and has no token", body = ErrorBody),
        (status = 409, description = "The folder does not hold a sound model; the old one goes on", body = ErrorBody),
        (status = 422, description = "A field is unknown, or no name", body = ErrorBody),
    ),
)]
pub(crate) async fn reload(
    State(app): State<Arc<App>>,
    request: Request,
) -> ApiResult<Json<ReloadResponse>> {
    // A model may take longer to load than other requests may take; the body may not.
    let limit = app.config.timeout;
    let body = tokio::time::timeout(limit, Body::from_request(request, &())).await;
    let Body(ReloadRequest { model }) =
        body.map_err(|_| ApiError::timeout(limit.as_secs_f64()))??;
    // A task of its own: it ends, and is logged, whether or not the client waits.
    let task = async move { app.reload(model.as_deref()).await };
    let task = tokio::spawn(task.in_current_span());
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
