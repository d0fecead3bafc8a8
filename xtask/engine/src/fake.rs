//! An API server for tests of what we ask of one: it keeps namespaces, lists nothing else, and notes every request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use kube::client::Body;
use serde_json::{Value as Json, json};

/// Where namespaces are.
const NAMESPACES: &str = "/api/v1/namespaces/";

/// What it is told to answer instead: status and body of an answer, by method and path.
type Told = dyn Fn(&str, &str) -> Option<(u16, Json)> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Fake {
    asked: Arc<Mutex<Vec<String>>>,
    namespaces: Arc<Mutex<BTreeMap<String, Json>>>,
    told: Arc<Told>,
}

impl Fake {
    pub(crate) fn serving(told: impl Fn(&str, &str) -> Option<(u16, Json)> + Send + Sync + 'static) -> Self {
        Self { asked: Arc::default(), namespaces: Arc::default(), told: Arc::new(told) }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let fake = self.clone();
        let serve = move |request: Request<Body>| {
            let fake = fake.clone();
            async move { Ok::<_, std::convert::Infallible>(fake.answer(request).await) }
        };
        kube::Client::new(tower::service_fn(serve), "default")
    }

    /// The requests that began so.
    pub(crate) fn asked(&self, prefix: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|request| request.starts_with(prefix)).cloned().collect()
    }

    /// The namespaces there are.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.namespaces.lock().unwrap().keys().cloned().collect()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let (method, path) = (head.method.as_str(), head.uri.path());
        let query = head.uri.query().unwrap_or_default();
        self.asked.lock().unwrap().push(format!("{method} {path}"));
        let told = (self.told)(method, path);
        let (status, answer) = told.unwrap_or_else(|| self.of_namespaces(method, path, query, &body));
        // A watch that sees nothing: it is opened again.
        let body = if query.contains("watch=") { Vec::new() } else { answer.to_string().into_bytes() };
        Response::builder().status(status).body(Full::new(body.into())).unwrap()
    }

    fn of_namespaces(&self, method: &str, path: &str, query: &str, body: &[u8]) -> (u16, Json) {
        let mut namespaces = self.namespaces.lock().unwrap();
        let selected = |of: &str| -> Vec<(String, String)> {
            let selectors = query.split('&').filter_map(|pair| pair.strip_prefix(of)?.strip_prefix('='));
            let text =
                selectors.collect::<String>().replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
            let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        match (method, path.strip_prefix(NAMESPACES)) {
            ("POST", _) if path == "/api/v1/namespaces" => {
                let made: Json = serde_json::from_slice(body).unwrap();
                namespaces.insert(made["metadata"]["name"].as_str().unwrap().to_owned(), made.clone());
                (201, made)
            }
            ("DELETE", Some(name)) if !name.contains('/') => match namespaces.remove(name) {
                Some(namespace) => (200, namespace),
                None => (404, not_found(name)),
            },
            ("GET", _) if path == "/api/v1/namespaces" => {
                let (labels, fields) = (selected("labelSelector"), selected("fieldSelector"));
                let holds = |namespace: &&Json| {
                    let metadata = &namespace["metadata"];
                    labels.iter().all(|(key, value)| metadata["labels"][key] == **value)
                        && fields.iter().all(|(_, name)| metadata["name"] == **name)
                };
                (200, list(namespaces.values().filter(holds).cloned().collect()))
            }
            ("GET", Some(name)) if !name.contains('/') => match namespaces.get(name) {
                Some(namespace) => (200, namespace.clone()),
                None => (404, not_found(name)),
            },
            ("GET", Some(path)) if path.ends_with("/serviceaccounts") => {
                (200, list(vec![json!({"metadata": {"name": "default", "uid": "u"}})]))
            }
            _ => (200, list(Vec::new())),
        }
    }
}

fn list(items: Vec<Json>) -> Json {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})
}

fn not_found(name: &str) -> Json {
    json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": name})
}
