//! What a server counts and times, in the text form that Prometheus reads.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::models::Models;
use crate::{App, error::ApiError};

/// From 0.25 ms, twice as long each, to 16 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.00025, 2.0, 17))
}

/// Of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Answered {
    pub(crate) route: String,
    pub(crate) method: String,
    pub(crate) status: u16,
}

/// Of a request's time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Route {
    pub(crate) route: String,
}

/// Of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reload {
    pub(crate) model: String,
    pub(crate) result: &'static str,
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Family<Answered, Counter>,
    pub(crate) request_seconds: Family<Route, Histogram, fn() -> Histogram>,
    pub(crate) under_way: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) queue: Gauge,
    pub(crate) waited: Histogram,
    pub(crate) batches: Histogram,
    pub(crate) computed: Histogram,
    pub(crate) cancelled: Counter,
    pub(crate) panics: Counter,
    pub(crate) reloads: Family<Reload, Counter>,
}

impl Metrics {
    pub(crate) fn new(models: &Arc<Models>) -> Self {
        let mut registry = Registry::with_prefix("eager");
        let made = Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            under_way: Gauge::default(),
            connections: Gauge::default(),
            queue: Gauge::default(),
            waited: seconds(),
            batches: Histogram::new(exponential_buckets(1.0, 2.0, 8)),
            computed: seconds(),
            cancelled: Counter::default(),
            panics: Counter::default(),
            reloads: Family::default(),
            registry: Registry::default(),
        };
        let r = &mut registry;
        r.register("http_requests", "Requests answered", made.requests.clone());
        let help = "Time from a request's head to its answer";
        r.register_with_unit(
            "http_request",
            help,
            Unit::Seconds,
            made.request_seconds.clone(),
        );
        r.register(
            "http_requests_under_way",
            "Requests under way",
            made.under_way.clone(),
        );
        r.register(
            "http_connections",
            "Connections open",
            made.connections.clone(),
        );
        r.register(
            "queue_length",
            "Requests waiting for a worker",
            made.queue.clone(),
        );
        let help = "Time that a request waited for a worker";
        r.register_with_unit("queue_wait", help, Unit::Seconds, made.waited.clone());
        r.register("batch_queries", "Queries of a pass", made.batches.clone());
        r.register_with_unit(
            "batch",
            "Time of a pass",
            Unit::Seconds,
            made.computed.clone(),
        );
        let help = "Requests whose client left before a worker was free";
        r.register("cancelled", help, made.cancelled.clone());
        r.register(
            "panics",
            "Panics caught; each is a fault to report",
            made.panics.clone(),
        );
        r.register(
            "reloads",
            "Reloads by model and result",
            made.reloads.clone(),
        );
        r.register_collector(Box::new(OfModels(models.clone())));
        registry.register_collector(Box::new(Process));
        Self { registry, ..made }
    }

    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// What the models are now.
#[derive(Debug)]
struct OfModels(Arc<Models>);

impl Collector for OfModels {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let help = "Items of the model with this digest, which is served now";
        let mut family = encoder.encode_descriptor("model_items", help, None, MetricType::Gauge)?;
        for model in self.0.all() {
            let labels = [
                ("model", model.name.as_str()),
                ("digest", model.bundle.digest()),
            ];
            let items = ConstGauge::new(model.bundle.items().len() as i64);
            items.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// What the process uses.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(bytes) = resident_bytes() else {
            return Ok(());
        };
        let help = "Memory that the process has in use";
        let gauge = ConstGauge::new(bytes);
        let unit = Some(&Unit::Bytes);
        gauge.encode(encoder.encode_descriptor("resident_memory", help, unit, MetricType::Gauge)?)
    }
}

/// Linux says it in kB, in a line of `/proc/self/status`; elsewhere it is not known.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Counts and times for Prometheus
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let text = app.metrics.text().map_err(|_| ApiError::internal())?;
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok::<_, ApiError>(([(header::CONTENT_TYPE, form)], text))
}
