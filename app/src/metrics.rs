//! What Prometheus may know about this process.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::store::{StoreError, Synced};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds, from a read out of memory to a disk in trouble.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Upper bounds in visits per write.
const VISITS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    visits: Counter,
    requests: Family<Request, Counter>,
    latency: Family<Route, Histogram>,
    batch: Histogram,
    file_sync: Histogram,
    write: Histogram,
    disk_errors: Family<Step, Counter>,
    /// Open connections.
    pub connections: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: String,
    method: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    step: String,
}

impl Metrics {
    /// Metrics of a counter that starts with `visits`.
    pub fn new(visits: u64) -> Self {
        let mut registry = Registry::with_prefix("counter");
        let seconds = || Histogram::new(SECONDS);
        let metrics = Self {
            visits: Counter::default(),
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            batch: Histogram::new(VISITS),
            file_sync: seconds(),
            write: seconds(),
            disk_errors: Family::default(),
            connections: Gauge::default(),
            registry: Registry::default(),
        };
        metrics.visits.inc_by(visits);
        registry.register(
            "visits",
            "Visits on disk, those of earlier processes included",
            metrics.visits.clone(),
        );
        registry.register("requests", "Answers by route, method and status", metrics.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "From a request's headers to its answer",
            Unit::Seconds,
            metrics.latency.clone(),
        );
        registry.register("write_batch_visits", "Visits that shared a write", metrics.batch.clone());
        registry.register_with_unit(
            "fsync",
            "Writing and syncing the record",
            Unit::Seconds,
            metrics.file_sync.clone(),
        );
        registry.register_with_unit(
            "write",
            "A whole write: the record synced, and visits shows it",
            Unit::Seconds,
            metrics.write.clone(),
        );
        registry.register("disk_errors", "Writes the disk refused, by step", metrics.disk_errors.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        Self { registry, ..metrics }
    }

    /// One write of `visits` visits reached the disk.
    pub fn wrote(&self, visits: usize, synced: Synced) {
        self.visits.inc_by(visits as u64);
        self.batch.observe(visits as f64);
        self.file_sync.observe(synced.file.as_secs_f64());
        self.write.observe(synced.whole.as_secs_f64());
    }

    /// One write did not.
    pub fn disk_failed(&self, error: &StoreError) {
        self.disk_errors.get_or_create(&Step { step: error.step().to_owned() }).inc();
    }

    /// One request was answered. `route` is a known route, never a path a client made up.
    pub fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let request = Request { route: route.to_owned(), method: method.to_owned(), status };
        self.requests.get_or_create(&request).inc();
        self.latency.get_or_create(&Route { route: route.to_owned() }).observe(took.as_secs_f64());
    }

    /// The exposition, as [`CONTENT_TYPE`].
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(8192);
        encode(&mut text, &self.registry).expect("a String takes everything");
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
