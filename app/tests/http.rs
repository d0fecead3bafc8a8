//! The whole router, no socket.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use counter::counter::Counter;
use counter::metrics::Metrics;
use counter::readiness::Readiness;
use counter::routes::{App, router};
use counter::settings::Identity;
use counter::store::Store;
use http_body_util::BodyExt;
use tempfile::TempDir;
use tower::ServiceExt;

struct Site {
    router: Router,
    app: App,
    unready_file: PathBuf,
    volume: TempDir,
}

impl Site {
    fn new() -> Self {
        Self::holding(0)
    }

    fn holding(visits: u64) -> Self {
        let volume = TempDir::new().unwrap();
        std::fs::write(volume.path().join("visits"), visits.to_string()).unwrap();
        let identity = Identity { pod: "counter-1".into(), hostname: "host-1".into(), revision: "v7".into() };
        let (store, visits) = Store::open(volume.path(), &identity).unwrap();
        let unready_file = volume.path().join("unready");
        let readiness = Arc::new(Readiness::new(unready_file.clone()));
        let metrics = Arc::new(Metrics::new(visits));
        let counter = Counter::start(store, visits, metrics.clone(), readiness.clone());
        let app = App::new(&identity, counter, metrics, readiness);
        Self { router: router(app.clone()), app, unready_file, volume }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
        let response = self.send(Method::GET, path, headers).await;
        (response.status(), text(response).await)
    }
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn json(body: &str) -> serde_json::Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("not JSON ({error}): {body}"))
}

const JSON: (&str, &str) = ("accept", "application/json");
const HTML: (&str, &str) = ("accept", "text/html");

#[tokio::test]
async fn a_visit_is_counted_answered_and_on_disk() {
    let site = Site::holding(41);
    let (status, body) = site.get("/", &[JSON]).await;
    assert_eq!(status, StatusCode::OK);
    let expected =
        serde_json::json!({"visits": 42, "pod": "counter-1", "hostname": "host-1", "revision": "v7"});
    assert_eq!(json(&body), expected);
    assert_eq!(std::fs::read_to_string(site.volume.path().join("visits")).unwrap(), "42\n");
}

#[tokio::test]
async fn the_front_page_is_html_unless_json_is_asked_for() {
    let site = Site::new();
    for (accept, html) in [("", true), ("*/*", true), ("text/html", true), ("application/json", false)] {
        let response = site.send(Method::GET, "/", &[("accept", accept)]).await;
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(response.headers()["cache-control"], "no-store");
        let body = text(response).await;
        assert_eq!(kind.starts_with("text/html"), html, "Accept: {accept}: {kind}");
        assert_eq!(body.starts_with("<!doctype html>"), html, "{body}");
    }
    let (_, page) = site.get("/", &[HTML]).await;
    for part in [">5<", "counter-1", "host-1", "v7"] {
        assert!(page.contains(part), "{part} is missing: {page}");
    }
    assert!(!page.contains("src=") && !page.contains("http"), "the page loads something: {page}");
}

#[tokio::test]
async fn reading_answers_json_to_a_plain_client_and_does_not_count() {
    let site = Site::holding(7);
    for _ in 0..3 {
        let (status, body) = site.get("/visits", &[("accept", "*/*")]).await;
        assert_eq!((status, json(&body)["visits"].as_u64()), (StatusCode::OK, Some(7)));
    }
    let (_, page) = site.get("/visits", &[HTML]).await;
    assert!(page.contains(">7<") && page.contains("does not count"), "{page}");
    assert_eq!(site.app.counter.read(), 7);
}

#[tokio::test]
async fn head_does_not_count_and_says_what_get_would() {
    let site = Site::holding(7);
    for path in ["/", "/visits", "/healthz", "/readyz", "/metrics", "/version"] {
        let response = site.send(Method::HEAD, path, &[]).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert!(response.headers().contains_key("content-type"), "{path}");
        assert_eq!(text(response).await, "", "{path}");
    }
    assert_eq!(site.app.counter.read(), 7);
}

#[tokio::test]
async fn fetching_ahead_does_not_count_and_is_not_kept_by_the_browser() {
    let site = Site::holding(7);
    for header in [
        ("sec-purpose", "prefetch"),
        ("sec-purpose", "prefetch;prerender"),
        ("purpose", "prefetch"),
        ("x-moz", "prefetch"),
    ] {
        let (status, body) = site.get("/", &[header, JSON]).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{header:?}");
        assert!(json(&body)["error"].as_str().unwrap().contains("not a visit"), "{body}");
    }
    assert_eq!(site.app.counter.read(), 7);
}

#[tokio::test]
async fn unknown_routes_and_wrong_methods_answer_in_the_format_asked_for() {
    let site = Site::holding(7);
    for (method, path, status) in [
        (Method::GET, "/nowhere", StatusCode::NOT_FOUND),
        (Method::POST, "/nowhere", StatusCode::NOT_FOUND),
        (Method::GET, "/visits/", StatusCode::NOT_FOUND),
        (Method::POST, "/", StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, "/visits", StatusCode::METHOD_NOT_ALLOWED),
        (Method::OPTIONS, "/metrics", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let response = site.send(method.clone(), path, &[JSON]).await;
        assert_eq!(response.status(), status, "{method} {path}");
        if status == StatusCode::METHOD_NOT_ALLOWED {
            assert_eq!(response.headers()["allow"], "GET,HEAD", "{method} {path}");
        }
        let body = text(response).await;
        assert!(json(&body)["error"].is_string() && json(&body)["next"].is_string(), "{body}");

        let page = text(site.send(method.clone(), path, &[HTML]).await).await;
        assert!(page.starts_with("<!doctype html>") && page.contains(status.as_str()), "{page}");
    }
    assert_eq!(site.app.counter.read(), 7);
}

#[tokio::test]
async fn readiness_is_gone_while_the_file_exists_and_then_back() {
    let site = Site::new();
    assert_eq!(site.get("/readyz", &[]).await.0, StatusCode::OK);
    std::fs::write(&site.unready_file, "").unwrap();
    let (status, body) = site.get("/readyz", &[]).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(json(&body)["error"].as_str().unwrap().contains("unready exists"), "{body}");
    // Unready is not dead, and who comes anyway is counted.
    assert_eq!(site.get("/healthz", &[]).await, (StatusCode::OK, "ok\n".to_owned()));
    assert_eq!(site.get("/", &[]).await.0, StatusCode::OK);
    std::fs::remove_file(&site.unready_file).unwrap();
    assert_eq!(site.get("/readyz", &[]).await, (StatusCode::OK, "ready\n".to_owned()));
}

#[tokio::test]
async fn a_full_count_refuses_visits_and_keeps_its_number() {
    let site = Site::holding(u64::MAX - 1);
    let (status, body) = site.get("/", &[JSON]).await;
    assert_eq!((status, json(&body)["visits"].as_u64()), (StatusCode::OK, Some(u64::MAX)));
    for _ in 0..2 {
        let (status, body) = site.get("/", &[JSON]).await;
        assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE);
        assert!(json(&body)["error"].as_str().unwrap().contains("largest value"), "{body}");
    }
    let (_, body) = site.get("/visits", &[]).await;
    assert_eq!(json(&body)["visits"].as_u64(), Some(u64::MAX));
    assert_eq!(
        std::fs::read_to_string(site.volume.path().join("visits")).unwrap(),
        format!("{}\n", u64::MAX)
    );
    assert_eq!(site.get("/readyz", &[]).await.0, StatusCode::OK, "the disk is well");
}

#[tokio::test]
async fn a_batch_is_counted_up_to_the_last_number_there_is() {
    let site = Site::holding(u64::MAX - 3);
    let visits: Vec<_> = (0..16)
        .map(|_| {
            let counter = site.app.counter.clone();
            tokio::spawn(async move { counter.visit().await })
        })
        .collect();
    let mut numbers = Vec::new();
    for visit in visits {
        numbers.extend(visit.await.unwrap().ok());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, [u64::MAX - 2, u64::MAX - 1, u64::MAX]);
}

#[tokio::test(flavor = "multi_thread")]
async fn visits_at_once_get_a_number_each_and_share_writes() {
    let site = Site::new();
    let visits: Vec<_> = (0..500)
        .map(|_| {
            let counter = site.app.counter.clone();
            tokio::spawn(async move { counter.visit().await.unwrap() })
        })
        .collect();
    let mut numbers = Vec::new();
    for visit in visits {
        numbers.push(visit.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=500).collect::<Vec<u64>>());
    let writes = sample(&site.app.metrics.text(), "counter_write_batch_visits_count");
    assert!(writes < 250.0, "500 visits at once took {writes} writes");
}

#[tokio::test]
async fn a_closed_counter_refuses_visits_after_saving_those_that_wait() {
    let site = Site::new();
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let counter = site.app.counter.clone();
            tokio::spawn(async move { counter.visit().await })
        })
        .collect();
    tokio::task::yield_now().await;
    site.app.counter.close().await;
    for visit in waiting {
        visit.await.unwrap().unwrap();
    }
    assert_eq!(std::fs::read_to_string(site.volume.path().join("visits")).unwrap(), "20\n");
    let (status, body) = site.get("/", &[JSON]).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(json(&body)["error"].as_str().unwrap().contains("not counted"), "{body}");
}

#[tokio::test]
async fn metrics_count_by_known_routes_only() {
    let site = Site::holding(7);
    for path in ["/", "/", "/visits", "/made-up-1", "/made-up-2"] {
        site.get(path, &[JSON]).await;
    }
    site.send(Method::from_bytes(b"MADEUP").unwrap(), "/", &[]).await;
    let response = site.send(Method::GET, "/metrics", &[]).await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let metrics = text(response).await;
    for (name, expected) in [
        ("counter_visits_total", 9.0),
        ("counter_requests_total{route=\"/\",method=\"GET\",status=\"200\"}", 2.0),
        ("counter_requests_total{route=\"/visits\",method=\"GET\",status=\"200\"}", 1.0),
        ("counter_requests_total{route=\"other\",method=\"GET\",status=\"404\"}", 2.0),
        ("counter_requests_total{route=\"/\",method=\"other\",status=\"405\"}", 1.0),
        ("counter_request_duration_seconds_count{route=\"/\"}", 3.0),
        ("counter_write_batch_visits_sum", 2.0),
        ("counter_fsync_seconds_count", 2.0),
    ] {
        assert_eq!(sample(&metrics, name), expected, "{name}");
    }
    assert!(!metrics.contains("made-up") && !metrics.contains("MADEUP"), "{metrics}");
}

fn sample(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
}

#[tokio::test]
async fn version_tells_the_program_and_the_revision() {
    let (status, body) = Site::new().get("/version", &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(json(&body), serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "revision": "v7"}));
}

#[tokio::test]
async fn standing_in_for_another_app_it_answers_what_is_asked_and_counts_only_visits() {
    let site = Site::new();
    assert_eq!(site.get("/health", &[]).await.0, StatusCode::NOT_FOUND);
    let router = router(site.app.clone().standing_in(true));
    let other = Site { router, ..site };
    assert_eq!(other.get("/api/v1/health", &[]).await, (StatusCode::OK, "ok\n".to_owned()));
    assert_eq!(json(&other.get("/visits", &[JSON]).await.1)["visits"], 0);
    other.get("/", &[]).await;
    assert_eq!(json(&other.get("/visits", &[JSON]).await.1)["visits"], 1);
}
