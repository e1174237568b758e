//! Which handler answers what, and what is done around every one of them.
//!
//! From the outside: request id → span and access log → counting, the bodies of errors → panics → (below `/v1`) token → time
//! limit, which a reload has for its body alone → handler.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{
    MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ApiError;
use crate::metrics::{Answered, Route};
use crate::{App, api, health, metrics, openapi, page};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything that a server answers.
pub fn router(app: Arc<App>) -> Router {
    let admin = OpenApiRouter::new()
        .routes(routes!(api::admin::reload))
        .route_layer(middleware::from_fn_with_state(app.clone(), admin_only));
    let v1 = OpenApiRouter::new()
        .routes(routes!(api::recommend::recommend))
        .routes(routes!(api::explain::explain))
        .routes(routes!(api::items::items))
        .routes(routes!(api::items::item))
        .routes(routes!(api::items::similar))
        .routes(routes!(api::categories::categories))
        .routes(routes!(api::tree::tree))
        .routes(routes!(api::models::models))
        .route_layer(middleware::from_fn_with_state(app.clone(), time_limit))
        .merge(admin)
        .route_layer(middleware::from_fn_with_state(app.clone(), with_token))
        .layer(DefaultBodyLimit::max(app.config.max_body));
    let health = OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz));
    let (documented, document) = OpenApiRouter::with_openapi(openapi::document())
        .merge(v1)
        .merge(health)
        .split_for_parts();
    documented
        .route("/metrics", axum::routing::get(metrics::metrics))
        .merge(openapi::router(&document))
        .merge(page::router())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(app.clone(), finish))
        .layer(middleware::map_response(page::guard))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_request(())
                .on_response(answered)
                .on_failure(()),
        )
        .layer(SetSensitiveRequestHeadersLayer::new([
            header::AUTHORIZATION,
        ]))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(middleware::map_request(sane_request_id))
        .with_state(app)
}

/// The request's id as text.
pub(crate) fn id(request_id: &RequestId) -> String {
    request_id
        .header_value()
        .to_str()
        .unwrap_or_default()
        .to_owned()
}

/// A client's id is kept if it is short and cannot be mistaken for anything else in a log.
async fn sane_request_id(mut request: Request) -> Request {
    let sane = |id: &[u8]| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
        (1..=128).contains(&id.len()) && id.iter().all(plain)
    };
    let mut ids = request.headers().get_all(&REQUEST_ID).iter();
    if let (Some(id), None) = (ids.next(), ids.next())
        && sane(id.as_bytes())
    {
        return request;
    }
    request.headers_mut().remove(&REQUEST_ID);
    request
}

fn span(request: &Request) -> Span {
    let id = request
        .extensions()
        .get::<RequestId>()
        .map(id)
        .unwrap_or_default();
    tracing::info_span!("request", %id, method = %request.method(), path = request.uri().path())
}

fn answered(response: &Response, latency: Duration, _: &Span) {
    let (status, ms) = (response.status().as_u16(), latency.as_secs_f64() * 1e3);
    tracing::info!(status, ms = (ms * 1e3).round() / 1e3, "answered");
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("the handler of this request panicked; the line before says where");
    let mut response = ApiError::internal().into_response();
    response.extensions_mut().insert(Panicked);
    response
}

/// Marks the answer of a handler that panicked, to be counted.
#[derive(Clone)]
struct Panicked;

/// Counts and times a request, and writes the body where its answer is an error.
async fn finish(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let metrics = &app.metrics;
    let _under_way = UnderWay::new(metrics.under_way.clone());
    let request_id = request
        .extensions()
        .get::<RequestId>()
        .map(id)
        .unwrap_or_default();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = match request.method().as_str() {
        method @ ("GET" | "POST" | "HEAD") => method.to_owned(),
        _ => "other".to_owned(),
    };
    let mut response = next.run(request).await;
    if response.extensions_mut().remove::<Panicked>().is_some() {
        metrics.panics.inc();
    }
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        tracing::debug!("{error:?}");
        let allow = response.headers_mut().remove(header::ALLOW);
        response = error.response(request_id);
        if let Some(methods) = allow {
            response.headers_mut().insert(header::ALLOW, methods);
        }
    }
    let status = response.status().as_u16();
    let seconds = started.elapsed().as_secs_f64();
    metrics
        .request_seconds
        .get_or_create(&Route {
            route: route.clone(),
        })
        .observe(seconds);
    metrics
        .requests
        .get_or_create(&Answered {
            route,
            method,
            status,
        })
        .inc();
    response
}

/// Counts down however the request ends.
struct UnderWay(prometheus_client::metrics::gauge::Gauge);

impl UnderWay {
    fn new(gauge: prometheus_client::metrics::gauge::Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn time_limit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let limit = app.config.timeout;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::timeout(limit.as_secs_f64()).into_response(),
    }
}

async fn with_token(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(token) = &app.config.token else {
        return next.run(request).await;
    };
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.split_once(' '));
    let code = match shown {
        Some((scheme, shown)) if scheme.eq_ignore_ascii_case("bearer") => {
            if token.is(shown.trim()) {
                return next.run(request).await;
            }
            "wrong_token"
        }
        _ => "no_token",
    };
    let message = "this server wants its token: send the header `authorization: Bearer …`";
    ApiError::new(StatusCode::UNAUTHORIZED, code, message).into_response()
}

async fn admin_only(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.config.admin {
        return next.run(request).await;
    }
    let message = "this server listens to other machines and has no token, so nobody may change its models by HTTP; \
                   start it with --token-file, or send it SIGHUP";
    ApiError::new(StatusCode::FORBIDDEN, "admin_is_off", message).into_response()
}

async fn no_route(request: Request) -> ApiError {
    let message = format!(
        "there is nothing at {:?}; /docs lists what there is",
        request.uri().path()
    );
    ApiError::not_found("not_found", message)
}

async fn no_method(request: Request) -> ApiError {
    let message = format!(
        "{} is not answered at {:?}",
        request.method(),
        request.uri().path()
    );
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    )
}
