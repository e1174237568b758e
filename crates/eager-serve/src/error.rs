//! What goes wrong: on the way to a running server ([`ServeError`]), and with a request ([`ApiError`]).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Json;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use eager_bundle::BundleError;
use serde::Serialize;
use utoipa::ToSchema;

/// `Result` with this crate's error.
pub type Result<T> = std::result::Result<T, ServeError>;

/// Why a server does not start, or a model is not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; give another one with --bind, or stop what has it"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A bundle or run that cannot be opened.
    #[error("{source}")]
    Open {
        /// Its folder.
        folder: PathBuf,
        /// Why, with the place.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A bundle that was opened and does not answer as it should.
    #[error("{}: the model does not pass its check: {fault}", .folder.display())]
    Check {
        /// Its folder.
        folder: PathBuf,
        /// What it did.
        fault: String,
    },
    /// Two models of one name.
    #[error(
        "two models are named {name:?}; give them names: eager serve first=FOLDER second=FOLDER"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A token that cannot be used.
    #[error("the token of {origin} {fault}")]
    Token {
        /// Where it is from.
        origin: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The operating system refused a thread, a signal handler or a socket.
    #[error("cannot start the server: {0}")]
    System(#[from] std::io::Error),
}

/// A request that is not answered: a status, and words for the body.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    field: Option<String>,
    retry_after: Option<u32>,
}

/// The body of every answer that is an error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorText,
    /// The request's id, also in the header `x-request-id` and in the server's log.
    #[schema(example = "0191d3c2-7d8b-4f5e-9d0a-0f6f6f3f1a2b")]
    request_id: String,
}

/// What is wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorText {
    /// A word for programs.
    #[schema(example = "unknown_item")]
    code: &'static str,
    /// A sentence for people.
    #[schema(example = "item \"x\" is not in the catalogue of 12101 items")]
    message: String,
    /// Where in the request, if it is one place.
    #[schema(example = "history[2]")]
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

pub(crate) type ApiResult<T> = std::result::Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            field: None,
            retry_after: None,
        }
    }

    pub(crate) fn at(self, field: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..self
        }
    }

    /// What the request asks cannot be answered, though it has the right form.
    pub(crate) fn invalid(
        field: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message).at(field)
    }

    /// A field that serde refuses, or misses.
    pub(crate) fn of_field<E: fmt::Display>(
        status: StatusCode,
        code: &'static str,
        error: &serde_path_to_error::Error<E>,
    ) -> Self {
        let words = error.inner().to_string();
        let fault = Self::new(status, code, plain(&words));
        let named = || in_quotes(&words, MISSING).or_else(|| in_quotes(&words, TWICE));
        match error.path().to_string() {
            path if path != "." => fault.at(path),
            _ => match named() {
                Some(field) => fault.at(field),
                None => fault,
            },
        }
    }

    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// The queue is full.
    pub(crate) fn busy(waiting: usize) -> Self {
        let message = format!(
            "{waiting} requests are waiting already, as many as may; ask again in a moment"
        );
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", message)
        }
    }

    pub(crate) fn timeout(seconds: f64) -> Self {
        let message = format!(
            "no answer within {seconds} s; the server has too much to do, or the body came too slowly"
        );
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", message)
        }
    }

    /// A fault of ours: the log has it under the request's id.
    pub(crate) fn internal() -> Self {
        let message = "the server failed to answer; its log has the reason under this request's id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// The whole answer.
    pub(crate) fn response(self, request_id: String) -> Response {
        let body = ErrorBody {
            error: ErrorText {
                code: self.code,
                message: self.message,
                field: self.field,
            },
            request_id,
        };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// Only the status yet: the body is written where the request's id is known, in [`crate::router`].
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Whether the error came out of a query or of the server.
impl From<BundleError> for ApiError {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::UnknownItem { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unknown_item",
                error.to_string(),
            ),
            BundleError::UnknownCategory { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unknown_category",
                error.to_string(),
            ),
            error => {
                tracing::error!("{error}");
                Self::internal()
            }
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match &rejection {
            JsonRejection::MissingJsonContentType(_) => Self::new(
                rejection.status(),
                "not_json",
                "the body has to be JSON, and the header `content-type: application/json` has to say so",
            ),
            JsonRejection::BytesRejection(_)
                if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE =>
            {
                Self::new(
                    rejection.status(),
                    "too_large",
                    "the body is longer than this server takes",
                )
            }
            JsonRejection::BytesRejection(_) => Self::new(
                rejection.status(),
                "bad_body",
                format!("the body could not be read: {}", rejection.body_text()),
            ),
            // Of an object any fields are read at first.
            JsonRejection::JsonDataError(_) => Self::new(
                rejection.status(),
                "bad_field",
                "the body has to be a JSON object; /docs lists its fields",
            ),
            _ => match path_error::<serde_json::Error>(&rejection) {
                Some(error) => Self::new(rejection.status(), "bad_json", error.inner().to_string()),
                None => Self::new(rejection.status(), "bad_json", rejection.body_text()),
            },
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        let (status, code) = (StatusCode::BAD_REQUEST, "bad_query");
        match path_error::<serde::de::value::Error>(&rejection) {
            Some(error) => Self::of_field(status, code, error),
            None => Self::new(status, code, rejection.body_text()),
        }
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        let fault = |words: String| Self::new(StatusCode::BAD_REQUEST, "bad_path", words);
        let kind = match rejection {
            PathRejection::FailedToDeserializePathParams(error) => error.into_kind(),
            other => return fault(other.body_text()),
        };
        match kind {
            ErrorKind::InvalidUtf8InPathParam { key } => {
                fault("the segment is not UTF-8".to_owned()).at(key)
            }
            // An id may be any text: the stream alone is one of a few.
            ErrorKind::Message(words) => fault(plain(&words)).at("stream"),
            other => fault(other.to_string()),
        }
    }
}

/// serde's error with the path to where it happened, which axum keeps behind two others.
fn path_error<'a, E: std::error::Error + 'static>(
    rejection: &'a (dyn std::error::Error + 'static),
) -> Option<&'a serde_path_to_error::Error<E>> {
    let mut error = Some(rejection);
    while let Some(this) = error {
        if let Some(found) = this.downcast_ref() {
            return Some(found);
        }
        error = this.source();
    }
    None
}

const MISSING: &str = "missing field";
const TWICE: &str = "duplicate field";

/// What serde says, in words that are not Rust's.
fn plain(words: &str) -> String {
    const COUNT: &str = "a whole number from 0 up";
    if let Some(field) = in_quotes(words, MISSING) {
        return format!("{field} is missing");
    }
    if let Some(field) = in_quotes(words, TWICE) {
        return format!("{field} is there twice");
    }
    let Some((found, expected)) = words.rsplit_once(", expected ") else {
        return match words {
            // Numbers of a query are read by Rust itself.
            "invalid digit found in string" | "cannot parse integer from empty string" => {
                format!("expected {COUNT}")
            }
            "number too large to fit in target type" => "the number is too large".to_owned(),
            other => other.to_owned(),
        };
    };
    let expected = match expected {
        "usize" => COUNT,
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "string or map" => "a string",
        other => other,
    };
    let found = match found.split_once(": ") {
        Some(("invalid type" | "invalid value", value)) => {
            let value = match value {
                "map" => "an object",
                "sequence" => "a list",
                other => other,
            };
            format!("found {value}")
        }
        _ => match found.strip_prefix("unknown variant ") {
            Some(name) => format!("there is no {name}"),
            None => found.to_owned(),
        },
    };
    format!("{found}, expected {expected}")
}

/// The name in `words`, where they are `start` and a name in back quotes.
fn in_quotes<'a>(words: &'a str, start: &str) -> Option<&'a str> {
    let name = words.strip_prefix(start)?.trim_start();
    name.strip_prefix('`')?.strip_suffix('`')
}
