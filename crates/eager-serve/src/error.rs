//! What goes wrong: on the way to a running server ([`ServeError`]), and with a request ([`ApiError`]).

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Json;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use eager_bundle::BundleError;
use eager_data::plain_words;
use serde::Serialize;
use serde_path_to_error::Path;
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
    /// A limit of [`Config`](crate::Config) that is none.
    #[error("{name} is {found}, expected 1 to {most}")]
    Limit {
        /// Its name there.
        name: &'static str,
        /// What it is.
        found: usize,
        /// What it may be at most.
        most: usize,
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

    /// A field that serde refuses, or misses, or has twice: its path, and serde's words.
    fn of_field(status: StatusCode, code: &'static str, path: &Path, words: &str) -> Self {
        let fault = Self::new(status, code, plain_words(words));
        match path.to_string() {
            path if path != "." => fault.at(path),
            _ => match named(words) {
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
            JsonRejection::JsonDataError(_) => {
                let status = rejection.status();
                match path_error::<serde_json::Error>(&rejection) {
                    Some(error) => {
                        let (path, error) = (error.path(), error.inner());
                        let words = error.to_string();
                        // A field is told by its path, not by line and column.
                        let place = format!(" at line {} column {}", error.line(), error.column());
                        let words = words.strip_suffix(&place).unwrap_or(&words);
                        Self::of_field(status, "bad_field", path, words)
                    }
                    None => Self::new(status, "bad_field", rejection.body_text()),
                }
            }
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
            Some(error) => {
                let words = error.inner().to_string();
                Self::of_field(status, code, error.path(), &words)
            }
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
            ErrorKind::Message(words) => fault(plain_words(&words)).at("stream"),
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

/// The field that serde misses, or has twice.
fn named(words: &str) -> Option<&str> {
    let mut starts = ["missing field `", "duplicate field `"].into_iter();
    let field = starts.find_map(|start| words.strip_prefix(start))?;
    field.strip_suffix('`')
}
