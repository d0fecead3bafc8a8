//! Questions to single objects, small and pure: a text in it, what a person means by "ready" and "rolled out", and what
//! a container waits for.

use serde_json::{Map, Value as Json};

/// The text at a JSON pointer; empty where there is none.
pub fn text<'a>(object: &'a Json, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Json::as_str).unwrap_or_default()
}

/// Whether a pod is ready and stays: its `Ready` condition is true and it is not being deleted.
///
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions>
pub fn ready(pod: &Json) -> bool {
    !going(pod) && condition(pod, "Ready").is_some_and(|condition| condition["status"] == "True")
}

/// Whether an object was asked to go.
pub fn going(object: &Json) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// The moments at which Helm runs an object, where it is a hook: <https://helm.sh/docs/topics/charts_hooks/>.
pub fn hook(object: &Json) -> Option<&str> {
    object.pointer("/metadata/annotations/helm.sh~1hook").and_then(Json::as_str)
}

/// A condition of an object's status, by its type.
pub fn condition<'a>(object: &'a Json, kind: &str) -> Option<&'a Json> {
    let conditions = object.pointer("/status/conditions").and_then(Json::as_array)?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// Whether labels have all that a selector asks for.
pub fn fits(selector: &Map<String, Json>, labels: &Json) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a StatefulSet or Deployment has done all that its spec asks for now.
///
/// A partition leaves the ordinals below it alone, and `OnDelete` leaves all of them:
/// <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#update-strategies>.
pub fn rolled_out(workload: &Json) -> bool {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Json::as_i64);
    let status = |name: &str| number(&format!("/status/{name}")).unwrap_or(0);
    let replicas = number("/spec/replicas").unwrap_or(1);
    let seen =
        number("/status/observedGeneration").is_some_and(|seen| Some(seen) >= number("/metadata/generation"));
    let on_delete = workload.pointer("/spec/updateStrategy/type").is_some_and(|kind| kind == "OnDelete");
    let partition = number("/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    let updated = if on_delete { 0 } else { (replicas - partition).max(0) };
    // With ordinals left alone the controller does not promote the update revision to the current one.
    let promoted = on_delete
        || partition > 0
        || workload.pointer("/status/currentRevision") == workload.pointer("/status/updateRevision");
    seen && promoted
        && status("replicas") == replicas
        && status("readyReplicas") == replicas
        && status("availableReplicas") == replicas
        && status("updatedReplicas") >= updated
}

/// A container that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// Its name.
    pub container: &'a str,
    /// Its image.
    pub image: &'a str,
    /// For what, in a word of the kubelet.
    pub reason: &'a str,
    /// For what, in its sentence.
    pub message: &'a str,
    /// How often it was started again.
    pub restarts: i64,
}

/// The containers of a pod that wait, those that run before the others first.
pub fn waiting(pod: &Json) -> impl Iterator<Item = Waiting<'_>> {
    statuses(pod).filter_map(|status| {
        let waiting = status.pointer("/state/waiting")?;
        Some(Waiting {
            container: text(status, "/name"),
            image: text(status, "/image"),
            reason: text(waiting, "/reason"),
            message: text(waiting, "/message"),
            restarts: status["restartCount"].as_i64().unwrap_or(0),
        })
    })
}

/// Whether a container of a pod ended with an error, and is or will be started again.
pub fn crashing(pod: &Json) -> bool {
    let ended = |status: &Json| status.pointer("/state/terminated/exitCode").is_some_and(|code| *code != 0);
    waiting(pod).any(|it| it.reason == "CrashLoopBackOff") || statuses(pod).any(ended)
}

fn statuses(pod: &Json) -> impl Iterator<Item = &Json> {
    let of = |pointer| pod.pointer(pointer).and_then(Json::as_array).into_iter().flatten();
    of("/status/initContainerStatuses").chain(of("/status/containerStatuses"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_that_waits_for_its_image_does_not_crash_and_one_that_ended_does() {
        let pod = |state: Json| json!({"status": {"containerStatuses": [{"name": "app", "image": "a:1", "state": state}]}});
        let pulling = pod(json!({"waiting": {"reason": "ErrImagePull", "message": "no"}}));
        assert_eq!(
            waiting(&pulling).map(|it| (it.container, it.reason)).collect::<Vec<_>>(),
            [("app", "ErrImagePull")]
        );
        assert!(!crashing(&pulling));
        assert!(crashing(&pod(json!({"waiting": {"reason": "CrashLoopBackOff"}}))));
        assert!(crashing(&pod(json!({"terminated": {"exitCode": 1}}))));
        assert!(!crashing(&pod(json!({"terminated": {"exitCode": 0}}))));
    }

    fn set(status: Json) -> Json {
        json!({"metadata": {"generation": 2}, "spec": {"replicas": 3, "updateStrategy": {"type": "RollingUpdate",
            "rollingUpdate": {"partition": 0}}}, "status": status})
    }

    fn full() -> Json {
        json!({"observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3,
            "updatedReplicas": 3, "currentRevision": "b", "updateRevision": "b"})
    }

    #[test]
    fn a_set_is_rolled_out_when_every_replica_is_ready_and_current() {
        assert!(rolled_out(&set(full())));
        for (field, value) in [
            ("observedGeneration", json!(1)),
            ("readyReplicas", json!(2)),
            ("updatedReplicas", json!(2)),
            ("currentRevision", json!("a")),
            ("replicas", json!(4)),
        ] {
            let mut status = full();
            status[field] = value;
            assert!(!rolled_out(&set(status)), "{field}");
        }
    }

    #[test]
    fn a_partition_counts_only_the_ordinals_above_it() {
        let mut workload = set(full());
        workload["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(2);
        workload["status"]["updatedReplicas"] = json!(1);
        workload["status"]["currentRevision"] = json!("a");
        assert!(rolled_out(&workload));
        workload["status"]["updatedReplicas"] = json!(0);
        assert!(!rolled_out(&workload));
    }

    #[test]
    fn a_set_scaled_to_nothing_is_rolled_out_when_no_pod_is_left() {
        let mut workload =
            set(json!({"observedGeneration": 2, "currentRevision": "b", "updateRevision": "b"}));
        workload["spec"]["replicas"] = json!(0);
        assert!(rolled_out(&workload));
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_not_ready() {
        let mut pod =
            json!({"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(ready(&pod));
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(!ready(&pod));
    }
}
