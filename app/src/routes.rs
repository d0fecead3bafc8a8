//! Which path does what: handlers of a few lines.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use crate::accept::Format;
use crate::counter::Counter;
use crate::error::AppError;
use crate::metrics::{self, Metrics};
use crate::page::Pages;
use crate::readiness::Readiness;
use crate::settings::Identity;

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct App {
    /// The count.
    pub counter: Counter,
    /// Counted about requests and writes.
    pub metrics: Arc<Metrics>,
    /// Whether there should be traffic.
    pub readiness: Arc<Readiness>,
    identity: Arc<Identity>,
    pages: Arc<Pages>,
    stands_in: bool,
}

impl App {
    /// The app of one process.
    pub fn new(
        identity: &Identity,
        counter: Counter,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
    ) -> Self {
        let pages = Arc::new(Pages::new(identity));
        Self { counter, metrics, readiness, identity: Arc::new(identity.clone()), pages, stands_in: false }
    }

    /// The same, answering whatever another app's probes and hooks ask, when it stands in for one.
    #[must_use]
    pub fn standing_in(self, stands_in: bool) -> Self {
        Self { stands_in, ..self }
    }
}

/// All routes. `HEAD` is written out: left to the framework it would run the handler of `GET`, and count.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/", get(visit).head(read_page))
        .route("/visits", get(read).head(read))
        .route("/healthz", get("ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(exposition))
        .route("/version", get(version))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

async fn visit(State(app): State<App>, headers: HeaderMap) -> Response {
    let format = Format::asked(&headers, Format::Html);
    if is_prefetch(&headers) {
        return AppError::Prefetch.respond(format, &app.pages);
    }
    match app.counter.visit().await {
        Ok(visits) => app.number(format, visits, Pages::counted),
        Err(error) => AppError::from(error).respond(format, &app.pages),
    }
}

async fn read_page(State(app): State<App>, headers: HeaderMap) -> Response {
    app.number(Format::asked(&headers, Format::Html), app.counter.read(), Pages::read)
}

async fn read(State(app): State<App>, headers: HeaderMap) -> Response {
    app.number(Format::asked(&headers, Format::Json), app.counter.read(), Pages::read)
}

async fn ready(State(app): State<App>, headers: HeaderMap) -> Response {
    match app.readiness.reason() {
        None => "ready\n".into_response(),
        Some(reason) => AppError::Unready(reason).respond(Format::asked(&headers, Format::Json), &app.pages),
    }
}

async fn exposition(State(app): State<App>) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], app.metrics.text()).into_response()
}

async fn version(State(app): State<App>) -> Response {
    let version =
        serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "revision": app.identity.revision });
    ([(CONTENT_TYPE, "application/json")], format!("{version}\n")).into_response()
}

async fn unknown_route(State(app): State<App>, headers: HeaderMap) -> Response {
    if app.stands_in {
        return "ok\n".into_response();
    }
    AppError::UnknownRoute.respond(Format::asked(&headers, Format::Json), &app.pages)
}

async fn wrong_method(State(app): State<App>, headers: HeaderMap) -> Response {
    AppError::WrongMethod.respond(Format::asked(&headers, Format::Json), &app.pages)
}

impl App {
    fn number(&self, format: Format, visits: u64, page: fn(&Pages, u64) -> String) -> Response {
        match format {
            Format::Html => {
                let style_only = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                let headers = [
                    (CONTENT_TYPE, "text/html; charset=utf-8"),
                    (CONTENT_SECURITY_POLICY, style_only),
                    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                ];
                (headers, page(&self.pages, visits)).into_response()
            }
            Format::Json => {
                let Identity { pod, hostname, revision } = &*self.identity;
                let view = View { visits, pod, hostname, revision };
                let mut body = serde_json::to_string(&view).expect("numbers and strings are JSON");
                body.push('\n');
                ([(CONTENT_TYPE, "application/json")], body).into_response()
            }
        }
    }
}

#[derive(Serialize)]
struct View<'a> {
    visits: u64,
    pod: &'a str,
    hostname: &'a str,
    revision: &'a str,
}

/// Chromium and Firefox say `Sec-Purpose`, older ones `Purpose` or `X-Moz`.
fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-moz"].iter().any(|name| {
        let value = headers.get(*name).map(HeaderValue::as_bytes).unwrap_or_default();
        value.len() >= 8 && value[..8].eq_ignore_ascii_case(b"prefetch")
    })
}

/// Around every request: headers that all answers have, the metrics, and a line at debug.
async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    // A number somebody kept is a wrong number.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Sec-Purpose"));
    // The path and method of a stranger must not become labels without end.
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let method = match method.as_str() {
        known @ ("GET" | "HEAD") => known,
        _ => "other",
    };
    let took = started.elapsed();
    app.metrics.answered(route, method, response.status().as_u16(), took);
    tracing::debug!(
        method,
        route,
        status = response.status().as_u16(),
        took_us = took.as_micros() as u64,
        "answered"
    );
    response
}
