//! axum's extractors with our errors.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{ApiError, ApiResult};

/// A JSON object.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> ApiResult<Self> {
        // Of a body that is a list serde would take the fields in their order, which is no part of the interface.
        let Json(fields) = Json::<Map<String, Value>>::from_request(request, state).await?;
        let read = serde_path_to_error::deserialize(Value::Object(fields));
        read.map(Self).map_err(|error| {
            ApiError::of_field(StatusCode::UNPROCESSABLE_ENTITY, "bad_field", &error)
        })
    }
}

/// What stands behind the question mark.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub(crate) struct Params<T>(pub(crate) T);

/// A segment of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub(crate) struct Segment<T>(pub(crate) T);
