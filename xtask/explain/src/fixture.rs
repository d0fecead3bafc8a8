//! A set of three, its service and its pods, as the tests of rules have them.

use serde_json::{Value as Json, json};

use crate::{Objects, Origin, explain};

/// The names of the troubles among some objects.
pub(crate) fn found(origin: Origin, all: Vec<Json>) -> Vec<&'static str> {
    explain(&Objects::new(origin, "shop", all)).iter().map(|trouble| trouble.rule).collect()
}

pub(crate) fn set(spec: Json, status: Json) -> Json {
    let mut set = json!({"kind": "StatefulSet", "metadata": {"name": "web", "uid": "s", "generation": 2}, "status": status,
        "spec": {"serviceName": "web", "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}}}});
    set["status"]["observedGeneration"] = json!(2);
    for (key, value) in spec.as_object().unwrap() {
        set["spec"][key] = value.clone();
    }
    set
}

pub(crate) fn updating() -> Json {
    json!({"currentRevision": "old", "updateRevision": "new", "updatedReplicas": 0})
}

pub(crate) fn service() -> Json {
    json!({"kind": "Service", "metadata": {"name": "web"}, "spec": {"clusterIP": "None", "selector": {"app": "web"}}})
}

pub(crate) fn pod(ordinal: i64, revision: &str, status: Json) -> Json {
    json!({"kind": "Pod", "metadata": {"name": format!("web-{ordinal}"), "ownerReferences": [{"uid": "s"}],
        "labels": {"app": "web", "controller-revision-hash": revision}}, "status": status})
}

pub(crate) fn is_ready() -> Json {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
}

pub(crate) fn can_t_pull() -> Json {
    json!({"containerStatuses": [{"image": "a:1", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}]})
}
